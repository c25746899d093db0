//! JSON documents that carry their own checksum.
//!
//! Comes in: a small record (manifest, claim, pin). Goes out: a JSON file that any tool can read, of which not one byte
//! can change unnoticed. What must hold: [`open`] accepts exactly the bytes that [`seal`] made.
//!
//! ```json
//! {
//!   "piton": "manifest",
//!   "version": 1,
//!   "body": { … },
//!   "xxh3_128": "0123456789abcdef0123456789abcdef"
//! }
//! ```
//! The digest is XXH3-128 of all bytes before the comma in front of `"xxh3_128"`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

/// Why a sealed document was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SealError {
    /// Its bytes are not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// It is whole, but of a version that this library does not know.
    #[error("it is version {found} of a {kind}; this library reads versions up to {known}: use a newer Piton")]
    Version {
        /// The kind of document.
        kind: String,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<T> {
    piton: String,
    version: u32,
    body: T,
    xxh3_128: String,
}

fn suffix(text: &[u8]) -> String {
    format!(",\n  \"xxh3_128\": \"{:032x}\"\n}}\n", xxh3_128(text))
}

/// The bytes of a document of `kind` and `version` with `body` in it.
///
/// # Errors
/// Those of serde where `body` can't be JSON.
pub fn seal<T: Serialize>(kind: &str, version: u32, body: &T) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_string_pretty(body)?.replace('\n', "\n  ");
    let mut text = format!("{{\n  \"piton\": \"{kind}\",\n  \"version\": {version},\n  \"body\": {body}").into_bytes();
    let suffix = suffix(&text);
    text.extend_from_slice(suffix.as_bytes());
    Ok(text)
}

/// The body of a document that [`seal`] made, of any version up to `version`.
///
/// # Errors
/// [`SealError`] where it is damaged, or of another kind or version.
pub fn open<T: DeserializeOwned>(kind: &str, version: u32, bytes: &[u8]) -> Result<T, SealError> {
    let damaged = |what: &str| SealError::Damaged(what.to_owned());
    let length = suffix(b"").len();
    let Some(split) = bytes.len().checked_sub(length) else {
        return Err(SealError::Damaged(format!("{} bytes are too few for a {kind}", bytes.len())));
    };
    let (text, end) = bytes.split_at(split);
    if end != suffix(text).as_bytes() {
        return Err(damaged("its checksum does not match its content"));
    }
    // The version first: a later one may have another body.
    let head: Document<serde::de::IgnoredAny> =
        serde_json::from_slice(bytes).map_err(|error| SealError::Damaged(error.to_string()))?;
    let _ = (head.body, head.xxh3_128);
    if head.piton != kind {
        return Err(SealError::Damaged(format!("it is a {}, not a {kind}", head.piton)));
    }
    if !(1..=version).contains(&head.version) {
        return Err(SealError::Version { kind: kind.to_owned(), found: head.version, known: version });
    }
    let document: Document<T> = serde_json::from_slice(bytes).map_err(|error| SealError::Damaged(error.to_string()))?;
    Ok(document.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_flipped_bit_and_every_length_is_noticed() {
        let body = vec![("depth".to_owned(), 7u64), ("flow".to_owned(), 9)];
        let sealed = seal("manifest", 1, &body).unwrap();
        assert_eq!(open::<Vec<(String, u64)>>("manifest", 1, &sealed), Ok(body));
        for position in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[position] ^= 1 << bit;
                assert!(open::<Vec<(String, u64)>>("manifest", 1, &altered).is_err(), "byte {position}, bit {bit}");
            }
            assert!(open::<Vec<(String, u64)>>("manifest", 1, &sealed[..position]).is_err());
        }
        assert!(serde_json::from_slice::<serde_json::Value>(&sealed).is_ok());
    }

    #[test]
    fn another_kind_or_version_is_named() {
        let sealed = seal("claim", 2, &1).unwrap();
        assert_eq!(open::<i32>("claim", 3, &sealed), Ok(1), "an older one than is written now");
        assert!(matches!(open::<i32>("manifest", 2, &sealed), Err(SealError::Damaged(_))));
        let error = open::<i32>("claim", 1, &sealed).unwrap_err();
        assert_eq!(error, SealError::Version { kind: "claim".into(), found: 2, known: 1 });
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(open::<serde_json::Value>("manifest", 1, &bytes).is_err());
        }
    }
}

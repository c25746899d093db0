//! The secret of a job: 32 random bytes that its supervisor and its agents know, and nobody else.
//!
//! Comes in: a file that only its owner may read, or the environment. Goes out: the secret. What must hold: it never stands on a
//! command line, where everybody on the node can read it, nor in any text that this program shows.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A job's secret.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(io::Error),
    /// The file can't be read or written.
    #[error("the secret in {} cannot be used: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("others may read the secret in {}: it needs mode 0600 and must be yours; `chmod 600` it, or make a new one", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// What was found is no secret.
    #[error("{place} holds no secret: 64 hexadecimal digits are expected")]
    Malformed {
        /// The file or variable.
        place: String,
    },
}

/// Fills 32 bytes with random numbers of the system.
pub(super) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(bytes)
}

impl Secret {
    /// The environment variable that hands it to a child.
    pub const VARIABLE: &'static str = "PITON_INTERNAL_SECRET";

    /// A new one.
    ///
    /// # Errors
    /// [`SecretError::Random`].
    pub fn generate() -> Result<Self, SecretError> {
        random().map(Self).map_err(SecretError::Random)
    }

    /// The one that the environment hands over, where it does.
    ///
    /// # Errors
    /// [`SecretError::Malformed`].
    pub fn from_environment() -> Result<Option<Self>, SecretError> {
        let Some(text) = std::env::var_os(Self::VARIABLE) else { return Ok(None) };
        let malformed = || SecretError::Malformed { place: Self::VARIABLE.to_owned() };
        text.to_str().and_then(Self::from_hex).map(Some).ok_or_else(malformed)
    }

    /// The one in a file, which must be the user's and readable by nobody else.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(failed)?;
        // Of the file that is open, not of the name, which may mean another by now.
        let metadata = file.metadata().map_err(failed)?;
        let own = nix::unistd::geteuid().as_raw();
        if !metadata.is_file() || metadata.mode() & 0o077 != 0 || metadata.uid() != own {
            return Err(SecretError::Open { path: path.to_path_buf() });
        }
        let mut text = String::new();
        file.take(256).read_to_string(&mut text).map_err(failed)?;
        Self::from_hex(text.trim()).ok_or_else(|| SecretError::Malformed { place: path.display().to_string() })
    }

    /// Writes it to a file that is not there yet, for the user alone.
    ///
    /// # Errors
    /// [`SecretError::File`].
    pub fn write(&self, path: &Path) -> Result<(), SecretError> {
        let failed = |source| SecretError::File { path: path.to_path_buf(), source };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(format!("{}\n", self.to_hex()).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// For [`Self::VARIABLE`] of a child's environment, and for nothing else.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// 32 bytes that only follow from the secret, both nonces and the context.
    pub(super) fn derive(&self, context: &'static str, agent: &[u8; 32], supervisor: &[u8; 32]) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key(context);
        hash.update(&self.0).update(agent).update(supervisor);
        hash.finalize().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_for_others_to_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let secret = Secret::generate().unwrap();
        secret.write(&path).unwrap();
        assert_eq!(Secret::read(&path).unwrap().to_hex(), secret.to_hex());
        assert!(matches!(secret.write(&path), Err(SecretError::File { .. })));
        for mode in [0o640, 0o604, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Secret::read(&path), Err(SecretError::Open { .. })), "{mode:o}");
        }
        assert!(matches!(Secret::read(folder.path()), Err(SecretError::Open { .. })));
        assert!(!format!("{secret:?}").contains(&secret.to_hex()[..4]));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in
            ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"+0".repeat(32), &"\u{e9}".repeat(32)]
        {
            assert!(Secret::from_hex(text).is_none(), "{text}");
        }
        assert!(Secret::from_hex(&"aB".repeat(32)).is_some());
    }
}

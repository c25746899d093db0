//! A mail, as `sendmail -t` takes it.
//!
//! Comes in: addresses (checked when the settings were read) and a letter. Goes out: headers and body. What must hold: nothing of an alert can
//! become a header or end them; every line is short enough for mail, whatever an alert says (RFC 5322, 2.1.1).

use super::{Letter, body};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes of text in one encoded word: with its frame and the header's name, a line has no more than 76 characters then (RFC 2047, section 2).
const WORD_BYTES: usize = 39;
/// Characters of base64 in a line.
const LINE: usize = 76;
const SUBJECT_LONGEST: usize = 200;

/// The whole mail. Who it is from is for `sendmail` to say.
pub(super) fn message(addresses: &[String], letter: &Letter, external_url: &str) -> String {
    let to: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let encoded = STANDARD.encode(body::lines(letter, external_url));
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(LINE).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!(
        "To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{}\n",
        to.join(",\n "),
        header_text(&format!("[piton] {}", body::subject(letter))),
        lines.join("\n"),
    )
}

/// Text for a header: as it is where it is short, printable and plain, as encoded words otherwise.
fn header_text(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_LONGEST).collect();
    // What looks like an encoded word must not be taken for one.
    if text.len() <= 60 && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && !text.contains("=?") {
        return text;
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if word.len() + c.len_utf8() > WORD_BYTES {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\n ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader of mails makes of it.
    fn decoded(text: &str) -> String {
        if !text.starts_with("=?") {
            return text.to_owned();
        }
        let word = |word: &str| {
            let inner = word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap().to_owned();
            String::from_utf8(STANDARD.decode(inner).unwrap()).unwrap()
        };
        text.split("\n ").map(word).collect()
    }

    proptest! {
        #[test]
        fn no_text_becomes_another_header(text in any::<String>()) {
            let header = header_text(&text);
            for line in header.split('\n') {
                prop_assert!(line.len() <= 67 && line.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{:?}", line);
            }
            prop_assert!(header.split('\n').skip(1).all(|line| line.starts_with(" =?")));
            let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_LONGEST).collect();
            prop_assert_eq!(decoded(&header), clean);
        }
    }

    #[test]
    fn line_ends_do_not_end_the_subject() {
        let header = header_text("lost\r\nBcc: other@site.org\r\n\r\nbody");
        assert_eq!(header, "lost  Bcc: other@site.org    body");
        assert_eq!(decoded(&header_text("=?utf-8?Q?x?=")), "=?utf-8?Q?x?=");
    }
}

//! Who is let in, and how often.
//!
//! Comes in: where a request comes from, and what its head says. Goes out: whether it may go on. What must hold: tokens are compared in constant time, and stand
//! in no message; without a token only names of this machine are answered to, so that a name that somebody else's server gives out for
//! it (DNS rebinding) opens nothing; what is remembered of askers is bounded.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

/// Requests that one address may make at once, and in a second.
const BURST: f64 = 60.0;
const RATE: f64 = 20.0;
/// Addresses that are remembered.
const ASKERS: usize = 4096;
/// A token has so many letters.
const SHORTEST: usize = 16;
const LONGEST: usize = 256;

/// What lets askers in from beyond this machine.
#[derive(Clone)]
pub struct Token(blake3::Hash, String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file can't be read.
    #[error("the token's file {path} can't be read: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("others may read the token's file {path}: make it yours alone by `chmod 600`")]
    Open {
        /// Which.
        path: String,
    },
    /// It holds none.
    #[error(
        "{path} holds no token: {SHORTEST} to {LONGEST} letters, digits, `-`, `_` or `.`, as `openssl rand -hex 16` makes them"
    )]
    Unfit {
        /// Which.
        path: String,
    },
}

impl Token {
    /// One of these letters; `None`: it is too short, too long, or has letters that an address can't bear.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (SHORTEST..=LONGEST).contains(&text.len()) && text.chars().all(fit);
        fits.then(|| Self(blake3::hash(text.as_bytes()), text.to_owned()))
    }

    /// The first line of a file that nobody else may read.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        use std::io::Read as _;
        use std::os::unix::fs::PermissionsExt as _;
        let name = path.display().to_string();
        let failed = |source| TokenError::File { path: path.display().to_string(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(TokenError::Open { path: name });
        }
        let mut text = String::new();
        file.take(LONGEST as u64 + 2).read_to_string(&mut text).map_err(failed)?;
        Self::new(text.lines().next().unwrap_or_default().trim()).ok_or(TokenError::Unfit { path: name })
    }

    /// Its letters.
    #[must_use]
    pub fn letters(&self) -> &str {
        &self.1
    }

    fn is(&self, text: &str) -> bool {
        // Hashes are compared in constant time.
        self.0 == blake3::hash(text.as_bytes())
    }
}

/// What a request's head says of who asks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Credentials<'a> {
    /// `Host`.
    pub host: Option<&'a str>,
    /// `Authorization`.
    pub authorization: Option<&'a str>,
    /// `Cookie`.
    pub cookie: Option<&'a str>,
    /// What stands after the path's `?`.
    pub query: Option<&'a str>,
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    In,
    /// It may, and the browser is to keep the token, so that it need not stand in the address.
    Keep,
    /// It must show the token.
    NoToken,
    /// It means another machine.
    WrongHost,
    /// It comes too often.
    TooOften,
}

/// The name of the cookie that a browser keeps the token in.
pub(super) const COOKIE: &str = "piton_token";

/// Lets in.
#[derive(Debug)]
pub(super) struct Gate {
    token: Option<Token>,
    askers: HashMap<IpAddr, (f64, Instant)>,
}

impl Gate {
    pub fn new(token: Option<Token>) -> Self {
        Self { token, askers: HashMap::new() }
    }

    /// Whether a request from there may go on.
    pub fn ask(&mut self, from: IpAddr, credentials: Credentials<'_>, now: Instant) -> Verdict {
        if !self.may_come(from, now) {
            return Verdict::TooOften;
        }
        let Some(token) = &self.token else {
            return if credentials.host.is_none_or(is_this_machine) { Verdict::In } else { Verdict::WrongHost };
        };
        let bearer = credentials.authorization.and_then(|text| text.strip_prefix("Bearer "));
        let pairs = credentials.cookie.into_iter().flat_map(|text| text.split(';'));
        let kept = pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == COOKIE);
        if bearer.is_some_and(|text| token.is(text.trim())) || kept.is_some_and(|(_, text)| token.is(text)) {
            return Verdict::In;
        }
        let pairs = credentials.query.into_iter().flat_map(|text| text.split('&'));
        let said = pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "token");
        if said.is_some_and(|(_, text)| token.is(text)) { Verdict::Keep } else { Verdict::NoToken }
    }

    fn may_come(&mut self, from: IpAddr, now: Instant) -> bool {
        if self.askers.len() >= ASKERS && !self.askers.contains_key(&from) {
            // Whoever has its whole allowance again is as good as new.
            self.askers.retain(|_, (left, at)| *left + RATE * now.duration_since(*at).as_secs_f64() < BURST);
            if self.askers.len() >= ASKERS {
                return false;
            }
        }
        let (left, at) = self.askers.entry(from).or_insert((BURST, now));
        *left = (*left + RATE * now.saturating_duration_since(*at).as_secs_f64()).min(BURST);
        *at = now;
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }
}

/// Whether a `Host` names this machine as seen from itself.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const TOKEN: &str = "0123456789abcdef";

    fn credentials(host: &str) -> Credentials<'_> {
        Credentials { host: Some(host), ..Credentials::default() }
    }

    #[test]
    fn without_a_token_only_this_machine_is_meant() {
        let now = Instant::now();
        for (host, verdict) in [
            ("127.0.0.1:9464", Verdict::In),
            ("localhost", Verdict::In),
            ("LOCALHOST:80", Verdict::In),
            ("[::1]:9464", Verdict::In),
            ("127.8.9.1", Verdict::In),
            ("evil.example", Verdict::WrongHost),
            ("localhost.evil.example:9464", Verdict::WrongHost),
            ("10.0.0.1:9464", Verdict::WrongHost),
            ("", Verdict::WrongHost),
        ] {
            assert_eq!(Gate::new(None).ask(HERE, credentials(host), now), verdict, "{host}");
        }
        assert_eq!(Gate::new(None).ask(HERE, Credentials::default(), now), Verdict::In, "HTTP/1.0 has no host");
    }

    #[test]
    fn a_token_is_taken_from_a_head_a_cookie_or_an_address() {
        let mut gate = Gate::new(Token::new(TOKEN));
        let now = Instant::now();
        let mut ask = |credentials| gate.ask(HERE, credentials, now);
        assert_eq!(ask(credentials("anywhere:1")), Verdict::NoToken);
        let bearer = |text| Credentials { authorization: Some(text), ..credentials("anywhere") };
        assert_eq!(ask(bearer("Bearer 0123456789abcdef")), Verdict::In);
        assert_eq!(ask(bearer("Bearer 0123456789abcdeg")), Verdict::NoToken);
        assert_eq!(ask(bearer("Basic 0123456789abcdef")), Verdict::NoToken);
        let cookie = |text| Credentials { cookie: Some(text), ..credentials("anywhere") };
        assert_eq!(ask(cookie("a=b; piton_token=0123456789abcdef")), Verdict::In);
        assert_eq!(ask(cookie("piton_token=x")), Verdict::NoToken);
        let query = |text| Credentials { query: Some(text), ..credentials("anywhere") };
        assert_eq!(ask(query("a=b&token=0123456789abcdef")), Verdict::Keep);
        assert_eq!(ask(query("token=")), Verdict::NoToken);
        assert!(!format!("{:?}", Token::new(TOKEN)).contains(TOKEN));
    }

    #[test]
    fn whoever_asks_too_often_waits_and_others_do_not() {
        let (mut gate, now) = (Gate::new(None), Instant::now());
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let mut ask = |from, at| gate.ask(from, credentials("localhost"), at);
        let verdicts: Vec<Verdict> = (0..100).map(|_| ask(HERE, now)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::In).count(), BURST as usize);
        assert_eq!(ask(other, now), Verdict::In);
        assert_eq!(ask(HERE, now + Duration::from_secs(1)), Verdict::In);
    }

    #[test]
    fn askers_are_bounded() {
        let (mut gate, now) = (Gate::new(None), Instant::now());
        for number in 0..3 * ASKERS as u32 {
            gate.ask(IpAddr::V4(Ipv4Addr::from_bits(number)), credentials("localhost"), now);
        }
        assert!(gate.askers.len() <= ASKERS);
        let later = now + Duration::from_secs(60);
        assert_eq!(gate.ask(HERE, credentials("localhost"), later), Verdict::In, "they are forgotten");
    }

    #[test]
    fn a_tokens_file_is_ones_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        write("0123456789abcdef\n", 0o600);
        assert_eq!(Token::read(&path).expect("a token").letters(), TOKEN);
        write("0123456789abcdef\n", 0o644);
        assert!(matches!(Token::read(&path), Err(TokenError::Open { .. })));
        for text in ["short", "with blank in it, and long", &"x".repeat(1000)] {
            write(text, 0o600);
            assert!(matches!(Token::read(&path), Err(TokenError::Unfit { .. })), "{text}");
        }
        assert!(matches!(Token::read(&folder.path().join("none")), Err(TokenError::File { .. })));
    }
}

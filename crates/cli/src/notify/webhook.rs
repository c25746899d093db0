//! Posting JSON to an address.
//!
//! Comes in: a body. Goes out: whether the other end took it. What must hold: every try ends in time; what another try may mend is tried
//! again, a few times, and nothing else; the address beyond its host is in no text, since chat services have their secret in it.

use super::{DeliveryError, shortened};
use piton::watch::alert::{Receiver, Way};
use serde_json::Value;
use std::io::Read;
use std::thread;
use std::time::Duration;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Error};

const TRIES: u32 = 3;
/// Bytes of an answer that are looked at.
const ANSWER_MOST: u64 = 2048;

/// An address that is posted to.
pub(super) struct Webhook {
    agent: Agent,
    url: String,
    place: String,
    pause: Duration,
}

impl Webhook {
    pub fn new(receiver: &Receiver, pause: Duration) -> Self {
        let url = if let Way::Webhook { url, .. } = &receiver.way { url.clone() } else { String::new() };
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs_f64(receiver.timeout)))
            .http_status_as_error(false)
            // A post that is sent elsewhere is no post any more.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("piton/", env!("CARGO_PKG_VERSION")))
            // The system's, so that a site's own authority is known.
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        Self { agent: config.into(), url, place: receiver.place(), pause }
    }

    /// Posts it; after how many tries it was taken.
    pub fn post(&self, body: &Value) -> Result<u32, DeliveryError> {
        let text = body.to_string();
        let mut tries = 1;
        loop {
            let error = match self.try_once(&text) {
                Ok(()) => return Ok(tries),
                Err((error, false)) => return Err(error),
                Err((error, true)) => error,
            };
            if tries == TRIES {
                return Err(error);
            }
            // Twice as long each time, and not all at once.
            thread::sleep(self.pause.mul_f64(f64::from(1 << (tries - 1)) * (0.5 + 0.5 * fastrand::f64())));
            tries += 1;
        }
    }

    /// The error says whether another try may mend it.
    fn try_once(&self, text: &str) -> Result<(), (DeliveryError, bool)> {
        let place = || self.place.clone();
        let unreachable = |error: Error| {
            let again = !matches!(error, Error::BadUri(_) | Error::Tls(_) | Error::Http(_) | Error::InvalidProxyUrl);
            let reason = match error {
                // These hold the address.
                Error::BadUri(_) | Error::RequireHttpsOnly(_) => "the address is not valid".to_owned(),
                error => error.to_string(),
            };
            (DeliveryError::Unreachable { place: place(), reason }, again)
        };
        let request = self.agent.post(&self.url).header("Content-Type", "application/json");
        let mut response = request.send(text).map_err(unreachable)?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let mut answer = Vec::new();
        // What it says only helps people.
        let _ = response.body_mut().as_reader().take(ANSWER_MOST).read_to_end(&mut answer);
        let again = status == 429 || status >= 500;
        Err((DeliveryError::Refused { place: place(), status, body: shortened(&answer) }, again))
    }
}

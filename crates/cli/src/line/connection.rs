//! One agent's connection, as the supervisor holds it.
//!
//! Comes in: bytes, as many as there are at the time. Goes out: messages that the agent sealed, and bytes for it. What must hold: what is
//! kept of unfinished frames and unsent bytes is bounded; before the agent has proved itself, that is a few dozen bytes.

use super::frame::FRAME_LIMIT;
use super::handshake::{self, Expected, HELLO, Keys, PROOF};
use super::message::{FromAgent, ToAgent};
use super::{Refusal, Secret};
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// What a look at a connection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// All that there was is read.
    Drained,
    /// There may be more, but others have a right to be read as well.
    More,
    /// The other end closed it.
    Closed,
}

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(super) enum Broken {
    Refused(Refusal),
    Failed,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[derive(Debug)]
enum Stage {
    Hello,
    Proof(Box<Expected>),
    Open(Keys),
    /// Between two of them.
    Spent,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub since: f64,
    /// Which node it is of, once it has said so.
    pub node: Option<usize>,
    /// Tells it from others that had the same place before.
    pub generation: u64,
    stage: Stage,
    /// The beginning of a message whose end is not here yet.
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream, from: SocketAddr, since: f64, generation: u64) -> Self {
        Self {
            stream,
            from,
            since,
            node: None,
            generation,
            stage: Stage::Hello,
            partial: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// Bytes that are kept for it.
    pub fn kept(&self) -> usize {
        self.partial.capacity() + self.unsent.capacity()
    }

    /// Reads what there is, `rounds` times at most, and hands on each message.
    pub fn read(
        &mut self,
        secret: &Secret,
        scratch: &mut [u8],
        rounds: usize,
        closed: bool,
        mut handle: impl FnMut(FromAgent),
    ) -> Result<Found, Broken> {
        for _ in 0..rounds {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Ok(Found::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Found::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Broken::Failed),
            };
            self.take(secret, &scratch[..count], &mut handle)?;
            // Of a stream that had less than was asked for nothing is left (epoll(7)): new bytes, or its end, wake us again. Where
            // its end is known to have come, it must be read.
            if count < scratch.len() && !closed {
                return Ok(Found::Drained);
            }
        }
        Ok(Found::More)
    }

    fn take(&mut self, secret: &Secret, bytes: &[u8], handle: &mut impl FnMut(FromAgent)) -> Result<(), Broken> {
        if self.partial.is_empty() {
            let used = self.messages(secret, bytes, handle)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let used = self.messages(secret, &partial, handle)?;
        if used < partial.len() {
            partial.drain(..used);
            // Less than a frame, whatever the capacity was for.
            partial.shrink_to(FRAME_LIMIT.min(2 * partial.len()));
            self.partial = partial;
        }
        Ok(())
    }

    /// Takes whole messages off the start of `bytes`; how many bytes they were.
    fn messages(&mut self, secret: &Secret, bytes: &[u8], handle: &mut impl FnMut(FromAgent)) -> Result<usize, Broken> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match std::mem::replace(&mut self.stage, Stage::Spent) {
                Stage::Hello => {
                    let Some(hello) = rest.first_chunk::<HELLO>() else {
                        self.stage = Stage::Hello;
                        return Ok(used);
                    };
                    let nonce = super::secret::random().map_err(|_| Broken::Failed)?;
                    let (answer, expected) = handshake::answer(secret, hello, &nonce)?;
                    self.stage = Stage::Proof(Box::new(expected));
                    used += HELLO;
                    self.write(&answer)?;
                }
                Stage::Proof(expected) => {
                    let Some(proof) = rest.first_chunk::<PROOF>() else {
                        self.stage = Stage::Proof(expected);
                        return Ok(used);
                    };
                    self.stage = Stage::Open(expected.check(proof)?);
                    used += PROOF;
                }
                Stage::Open(mut keys) => {
                    let opened = keys.opener.open(rest);
                    self.stage = Stage::Open(keys);
                    let Some((body, whole)) = opened? else { return Ok(used) };
                    handle(FromAgent::from_bytes(body).map_err(|_| Refusal::Message)?);
                    used += whole;
                }
                Stage::Spent => return Err(Broken::Failed),
            }
        }
    }

    /// Sends a message, or keeps what of it can't be sent at once; `most` bytes are kept at the most.
    pub fn send(&mut self, message: &ToAgent, most: usize) -> Result<(), Broken> {
        let body = message.to_bytes().map_err(|_| Refusal::Message)?;
        let Stage::Open(keys) = &mut self.stage else { return Err(Broken::Failed) };
        let mut frame = Vec::new();
        keys.sealer.seal(&body, &mut frame)?;
        if self.unsent.len() + frame.len() > most {
            return Err(Refusal::Backlog.into());
        }
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.unsent.is_empty() {
            let sent = write_some(&mut self.stream, bytes)?;
            self.unsent.extend_from_slice(&bytes[sent..]);
            Ok(())
        } else {
            self.unsent.extend_from_slice(bytes);
            self.flush()
        }
    }

    /// Sends what was kept, as far as it goes.
    pub fn flush(&mut self) -> Result<(), Broken> {
        if !self.unsent.is_empty() {
            let sent = write_some(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(())
    }
}

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Broken> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => return Err(Broken::Failed),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Broken::Failed),
        }
    }
    Ok(sent)
}

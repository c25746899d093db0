//! The line between the agents of a job's nodes and its supervisor: TCP, small binary frames, each sealed with the job's secret.
//!
//! Comes in: what an agent says of its node and ranks, and what the supervisor wants of it. Goes out: the same at the other end; and,
//! where an agent says nothing, that its node is silent or lost. What must hold: nothing is believed that was not sealed by somebody
//! who knows the secret, for this connection, at this place in it; a peer that is slow, silent, hostile or broken costs
//! bounded memory and time and delays nobody else; whoever sends never waits for the line; a supervisor that was late itself
//! stretches its limits before it calls a node lost, and asks a second way where it has one.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `secret.rs` | the job's secret, and how it gets to the agents |
//! | `handshake.rs` | how both ends prove that they know it |
//! | `frame.rs` | frames: length, counter, body, seal |
//! | `message.rs` | what is said |
//! | `receiver.rs`, `connection.rs` | the supervisor's end: all agents on one thread |
//! | `silence.rs` | how long an agent may say nothing |
//! | `confirm.rs` | asking a second way before a node is called lost |
//! | `sender.rs` | the agent's end |
//! | `simulate.rs` | many agents in one process, to measure and test the supervisor's end |
//!
//! # The bytes
//!
//! All numbers are little-endian. Version 1.
//!
//! A connection begins with three messages of fixed length. The agent says hello:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `PITNLINE` |
//! | 8 | 2 | version: 1 |
//! | 10 | 6 | zero |
//! | 16 | 32 | nonce of the agent, random |
//!
//! The supervisor answers, and so proves that it knows the secret:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `PITNLINE` |
//! | 8 | 2 | version: 1 |
//! | 10 | 6 | zero |
//! | 16 | 32 | nonce of the supervisor, random |
//! | 48 | 32 | derived by `piton line v1: proof of the supervisor` |
//!
//! The agent sends its own proof, 32 bytes derived by `piton line v1: proof of the agent`. From then on both send frames:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | length n of the body, at most 262,144 |
//! | 4 | 4 | zero |
//! | 8 | 8 | counter: 0 for the first frame of this direction, and one more for each |
//! | 16 | n | body: one message in [postcard](https://postcard.jamesmunns.com/wire-format)'s form |
//! | 16 + n | 32 | seal: BLAKE3, keyed with the key of the direction, of everything before it |
//!
//! Proofs and keys are BLAKE3 in its key derivation mode: a context, and as key material the secret, the agent's nonce and the
//! supervisor's, 96 bytes together. The keys' contexts are `piton line v1: from the agent` and `piton line v1: from the supervisor`. A frame of
//! another connection or direction, an altered one, and one left out, repeated or moved do not open, since key or counter are
//! others; the connection is then refused and closed. What is said is not hidden: it tells steps and temperatures of a job, on a
//! network that the job trusts with its data. Whoever can read the secret (the user, and root) is trusted.

mod confirm;
mod connection;
pub mod frame;
pub mod handshake;
mod message;
mod receiver;
mod secret;
mod sender;
mod silence;
pub mod simulate;

pub use confirm::{Confirm, Suspect, Verdict, by_connecting};
pub use message::{Attempt, FromAgent, Join, Life, MessageError, RankRecord, Report, ToAgent};
pub use receiver::{Counts, Event, Limits, NewSilence, Options, OrderError, Receiver, raise_descriptor_limit};
pub use secret::{Secret, SecretError};
pub use sender::{Sender, SenderOptions, SenderState};
pub use silence::{LearnedGaps, Silence};

/// Why a connection was refused or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The first bytes are not this protocol's.
    #[error("it does not speak Piton's protocol")]
    NotOurs,
    /// It speaks another version.
    #[error("it speaks version {0} of the protocol; this is version {version}", version = handshake::VERSION)]
    Version(u16),
    /// It does not know the job's secret.
    #[error("it does not know the job's secret")]
    Proof,
    /// It did not prove itself in time.
    #[error("it did not prove in time that it knows the job's secret")]
    TooSlow,
    /// Others came while it had not proved itself, and there was no room for all.
    #[error("too many others connected before it had proved that it knows the job's secret")]
    Crowded,
    /// There are as many connections, or nodes, as are allowed.
    #[error("there are too many connections")]
    TooMany,
    /// A frame says that it is longer than any may be.
    #[error("a frame is longer than any may be")]
    TooLong,
    /// A frame was altered on its way, or is not of this connection.
    #[error("a frame was altered, or is of another connection")]
    Seal,
    /// A frame was left out, repeated or moved.
    #[error("a frame was left out, repeated or moved")]
    Counter,
    /// A frame holds no message, or one with values that cannot be.
    #[error("a frame holds no message that can be meant")]
    Message,
    /// It reports before it says who it is, or says so twice.
    #[error("it does not say first, and once, who it is")]
    OutOfTurn,
    /// Another connection of the same node took its place.
    #[error("the node connected once more")]
    Replaced,
    /// It takes nothing in although much waits to be sent to it.
    #[error("it does not read what is sent to it")]
    Backlog,
}

#[cfg(test)]
mod tests;

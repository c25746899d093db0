//! How both ends prove that they know the secret, before anything else is said.
//!
//! Comes in: the bytes of the other end's messages. Goes out: the bytes of the answer, and the keys of the connection. What must hold:
//! no proof serves in another connection or direction; proofs are compared in constant time; no state of one end
//! depends on a lie of the other but that the handshake fails.

use super::frame::{Opener, Sealer};
use super::{Refusal, Secret};

/// The version of the protocol.
pub const VERSION: u16 = 1;

/// The length of the agent's hello.
pub const HELLO: usize = 48;
/// The length of the supervisor's answer.
pub const ANSWER: usize = 80;
/// The length of the agent's proof.
pub const PROOF: usize = 32;

const MAGIC: &[u8; 8] = b"PITNLINE";

/// Bytes that are random and never used twice.
pub type Nonce = [u8; 32];

/// What seals the frames that this end sends, and what opens the other's.
#[derive(Debug)]
pub struct Keys {
    /// For what is sent.
    pub sealer: Sealer,
    /// For what is received.
    pub opener: Opener,
}

/// What the supervisor expects after its answer.
#[derive(Debug)]
pub struct Expected {
    proof: [u8; PROOF],
    keys: Keys,
}

fn head(nonce: &Nonce) -> [u8; HELLO] {
    let mut bytes = [0; HELLO];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..].copy_from_slice(nonce);
    bytes
}

fn nonce_of(head: &[u8; HELLO]) -> Result<Nonce, Refusal> {
    if &head[..8] != MAGIC {
        return Err(Refusal::NotOurs);
    }
    let version = u16::from_le_bytes([head[8], head[9]]);
    if version != VERSION {
        return Err(Refusal::Version(version));
    }
    let mut nonce = [0; 32];
    nonce.copy_from_slice(&head[16..]);
    // What it has of ours, or was zeroed on the way, is no nonce.
    if head[10..16] != [0; 6] { Err(Refusal::NotOurs) } else { Ok(nonce) }
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    // These compare in constant time.
    blake3::Hash::from_bytes(*one) == blake3::Hash::from_bytes(*other)
}

/// The agent's first message.
#[must_use]
pub fn hello(nonce: &Nonce) -> [u8; HELLO] {
    head(nonce)
}

/// The supervisor's answer to a hello, with a new nonce of its own, and what it expects then.
///
/// # Errors
/// [`Refusal::NotOurs`], [`Refusal::Version`].
pub fn answer(secret: &Secret, hello: &[u8; HELLO], nonce: &Nonce) -> Result<([u8; ANSWER], Expected), Refusal> {
    let agent = nonce_of(hello)?;
    let mut bytes = [0; ANSWER];
    bytes[..HELLO].copy_from_slice(&head(nonce));
    bytes[HELLO..].copy_from_slice(&secret.derive("piton line v1: proof of the supervisor", &agent, nonce));
    let proof = secret.derive("piton line v1: proof of the agent", &agent, nonce);
    let sealer = Sealer::new(secret.derive("piton line v1: from the supervisor", &agent, nonce));
    let opener = Opener::new(secret.derive("piton line v1: from the agent", &agent, nonce));
    Ok((bytes, Expected { proof, keys: Keys { sealer, opener } }))
}

/// The agent's proof after the supervisor's answer to its hello with `nonce`.
///
/// # Errors
/// [`Refusal::NotOurs`], [`Refusal::Version`], and [`Refusal::Proof`] where the other end is not the job's supervisor.
pub fn prove(secret: &Secret, nonce: &Nonce, answer: &[u8; ANSWER]) -> Result<([u8; PROOF], Keys), Refusal> {
    let (mut start, mut proof) = ([0; HELLO], [0; PROOF]);
    start.copy_from_slice(&answer[..HELLO]);
    proof.copy_from_slice(&answer[HELLO..]);
    let supervisor = nonce_of(&start)?;
    if !same(&proof, &secret.derive("piton line v1: proof of the supervisor", nonce, &supervisor)) {
        return Err(Refusal::Proof);
    }
    let sealer = Sealer::new(secret.derive("piton line v1: from the agent", nonce, &supervisor));
    let opener = Opener::new(secret.derive("piton line v1: from the supervisor", nonce, &supervisor));
    Ok((secret.derive("piton line v1: proof of the agent", nonce, &supervisor), Keys { sealer, opener }))
}

impl Expected {
    /// The keys, if the agent's proof is right.
    ///
    /// # Errors
    /// [`Refusal::Proof`].
    pub fn check(self, proof: &[u8; PROOF]) -> Result<Keys, Refusal> {
        if same(proof, &self.proof) { Ok(self.keys) } else { Err(Refusal::Proof) }
    }
}

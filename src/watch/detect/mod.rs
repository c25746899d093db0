//! Detectors: what ranks and nodes do, turned into what is wrong with them.
//!
//! Comes in: what was seen, and when, by the caller's clock in seconds. Goes out: who is suspected, of what. What must hold: no clock and no
//! file is read here, so that every case can be played; whoever is accused has exceeded a limit of its own; where nobody can be
//! singled out, nobody is.

mod beats;
mod hang;
mod slow;

pub use beats::{BeatRules, Beats};
pub use hang::{Activity, Hang, HangClass, HangRules, InPhase, RankView, judge};
pub use slow::{Pace, Slow, Stragglers, Window};

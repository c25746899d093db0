//! What the program `piton` does besides its commands, for benches and tests to use as well.
//!
//! Comes in: reports of agents on other nodes. Goes out: what the supervisor sees of the nodes. What must hold: nothing here knows a command line or prints; whoever hangs at the other end
//! delays nobody here; everything that comes from a network is bounded before it is believed.
//!
//! | room | what for |
//! | --- | --- |
//! | [`mod@line`] | the connections between the agents and the supervisor of a job |

pub mod line;

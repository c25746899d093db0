//! Queries, metrics and the live page over HTTP.
//!
//! Comes in: connections. Goes out: what was looked up of one job. What must hold: nobody is answered from beyond this machine who does not know the token; a
//! page of another site that a browser shows learns nothing; what a request may take in bytes, time and number is bounded, and so is what all
//! of them may take together; looking things up is one thread's work, however many ask; the job never waits for any of it.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `server.rs` | connections and their limits |
//! | `gate.rs` | who is let in, and how often |
//! | `lookup.rs` | what is known, looked up anew when somebody asks and it is old |
//! | `routes.rs` | what is answered to which path |

mod gate;
mod lookup;
mod routes;
mod server;

pub use gate::{Token, TokenError};
pub use lookup::{Known, Lookup};
pub use server::{Options, Server, ServerError};

#[cfg(test)]
mod tests;

//! What logs tell: lines of the kernel's log and of the application's output, held against rules.
//!
//! Comes in: [rules](LogRules), the shipped ones and a site's own; lines of `/dev/kmsg` ([`KernelLog`]) and of files
//! ([`LogFile`]). Goes out: [`Finding`]s, each once for what one poll found, however often.
//! What must hold: a line may hold anything, and no line and no number of lines stalls or floods whoever asks: lines are cut, bytes and
//! findings of one poll are bounded, what is passed over is counted; a pattern takes time linear in the line's length, whatever a user
//! writes; a log that cannot be read is absent with a reason, never an error and never "all is well".
//!
//! | file | what is in it |
//! | --- | --- |
//! | `rule.rs` | one rule as a user writes it, and what is wrong with it |
//! | `rules.rs` | all rules together: which of them a line fires |
//! | `template.rs` | the summary with the captures in it |
//! | `defaults.toml` | the shipped rules, each with lines that fire it and lines that must not |
//! | `kernel.rs` | the kernel's log |
//! | `file.rs` | a log in a file |
//! | `tail.rs` | the lines that a file grows by |
//! | `gather.rs` | the findings of one poll |

mod file;
mod gather;
mod kernel;
mod rule;
mod rules;
mod tail;
mod template;

#[cfg(test)]
mod tests;

pub use file::LogFile;
pub use kernel::KernelLog;
pub use rule::{FaultClass, LogCase, LogRule, LogRulesError, LogSource, LogSources};
pub use rules::{BrokenSample, LogRules};

#[cfg(doc)]
use super::Finding;

/// Lines are looked at up to this length, in bytes; what is behind it is not.
pub const LONGEST_LINE: usize = 8 << 10;

//! Says that something can't be run here.

use std::io::Write;

/// Says so, so that the summary of all tests tells of it.
pub fn skipped(what: &str, reason: &str) {
    let line = format!("SKIPPED: {what}: {reason}");
    println!("{line}");
    if let Some(path) = std::env::var_os("PITON_TEST_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{line}");
    }
}

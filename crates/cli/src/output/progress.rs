//! Bars for what takes long.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of `steps` steps, on standard error; drawn only where that is a terminal.
#[must_use]
pub fn of_steps(steps: u64) -> ProgressBar {
    styled(steps, "{bar:30} {percent:>3} %  {eta} left")
}

/// A bar that counts bytes, on standard error; drawn only where that is a terminal.
#[must_use]
pub fn of_bytes(bytes: u64) -> ProgressBar {
    styled(bytes, "{bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left")
}

fn styled(length: u64, form: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style.progress_chars("█▌ "));
    }
    bar
}

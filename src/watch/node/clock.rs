//! The clock: how far it is off by its own account, and whether anybody keeps it right.
//!
//! Comes in: `adjtimex` with nothing to adjust, which any process may call. Goes out: `node_timex_*`.

use super::sink::Sink;

#[cfg(target_os = "linux")]
pub(super) fn sample(sink: &mut Sink) {
    use nix::libc;
    // SAFETY: a plain structure of numbers, for which zeros are valid; `modes` of 0 means that nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of ours, which outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return;
    }
    let unit = if timex.status & libc::STA_NANO != 0 { 1e-9 } else { 1e-6 };
    sink.gauge("node_timex_offset_seconds", &[], timex.offset as f64 * unit);
    sink.gauge("node_timex_maxerror_seconds", &[], timex.maxerror as f64 * 1e-6);
    sink.gauge("node_timex_estimated_error_seconds", &[], timex.esterror as f64 * 1e-6);
    sink.gauge("node_timex_sync_status", &[], f64::from(u8::from(state != libc::TIME_ERROR)));
    sink.gauge("node_timex_status", &[], f64::from(timex.status));
    // Scaled by 2¹⁶ parts per million.
    sink.gauge("node_timex_frequency_adjustment_ratio", &[], 1.0 + timex.freq as f64 / 65_536e6);
}

/// Other systems have no such call, or another one.
#[cfg(not(target_os = "linux"))]
pub(super) fn sample(_: &mut Sink) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn any_clock_knows_how_wrong_it_is() {
        let mut sink = Sink::default();
        sample(&mut sink);
        let samples = sink.into_samples();
        let value = |name: &str| samples.iter().find(|sample| sample.series.name == name).map(|sample| sample.value);
        assert!(value("node_timex_maxerror_seconds").unwrap() >= 0.0);
        assert!((value("node_timex_frequency_adjustment_ratio").unwrap() - 1.0).abs() < 1e-2);
    }
}

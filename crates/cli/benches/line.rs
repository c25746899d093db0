//! What the supervisor's end of the line costs with many agents, and how soon it misses lost ones.
//!
//! `cargo bench --bench line` runs 10,000 agents with 64 ranks each on the loopback interface, in a process of their own, for 90 s; `-- --agents
//! 500 --seconds 10` fewer. Twenty agents fail half-way: ten fall silent with their sockets open, ten close them. Prints one JSON line: the
//! receiver's share of a processor (user and system time of its thread by the time that all agents were there), how old reports
//! are when it has read them (percentiles, milliseconds), by how much it and the agents were late, and how long after its last report each
//! lost agent was missed. Fails where an agent is called lost that was not, or a lost one is not missed in its limit, or
//! reports don't arrive.

use nix::sys::resource::{UsageWho, getrusage};
use piton_cli::line::simulate::{self, Failure, Simulation};
use piton_cli::line::{Event, Options, Receiver, Secret, raise_descriptor_limit};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Not for people: the agents' process.
const AGENTS: &str = "--simulate-agents-of";

fn number(name: &str, default: u32) -> u32 {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
}

fn failures(agents: usize, periods: u32) -> Vec<(usize, u32, Failure)> {
    let place = |which: usize| (which * 2 + 1) * agents / 40;
    (0..20)
        .map(|which| (place(which), periods / 2, if which % 2 == 0 { Failure::Silent } else { Failure::Closed }))
        .collect()
}

/// The agents: prints what they did, as JSON.
fn agents(address: &str) -> Result<(), Box<dyn Error>> {
    let secret = Secret::from_environment()?.ok_or("no secret in the environment")?;
    let (agents, periods) = (number("--agents", 10_000) as usize, number("--seconds", 90));
    let simulation = Simulation {
        address: address.parse()?,
        agents,
        ranks: number("--ranks", 64),
        period: Duration::from_secs(1),
        periods,
        threads: 2,
        failures: failures(agents, periods),
        stop: Arc::default(),
    };
    let done = simulate::run(&simulation, &secret)?;
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{}", serde_json::json!([done.reports, done.bytes, done.latest, done.failed, seconds]));
    Ok(())
}

fn seconds(time: nix::sys::time::TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6
}

fn used() -> Result<(f64, f64), Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}

fn percentile(sorted: &[f32], share: f64) -> f32 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = raise_descriptor_limit()?;
    let address = number_text(AGENTS);
    if let Some(address) = address {
        return agents(&address);
    }
    let (count, periods) = (number("--agents", 10_000) as usize, number("--seconds", 90));
    assert!(descriptors > count as u64 + 100, "{count} agents need more than the {descriptors} descriptors allowed");
    let secret = Secret::generate()?;
    let mut receiver = Receiver::bind(simulate::loopback(), secret.clone(), Options::default())?;
    let child = Command::new(std::env::current_exe()?)
        .args([AGENTS, &receiver.address().to_string()])
        .args(std::env::args().skip(1).filter(|argument| argument != "--bench"))
        .env(Secret::VARIABLE, secret.to_hex())
        .stdout(Stdio::piped())
        .spawn()?;
    // It ends by itself, some seconds after the agents: the lost ones must be missed.
    let (waker, (done, agents_done)) = (receiver.waker(), std::sync::mpsc::channel());
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        let _ = waker.wake();
        output
    });
    let failed: HashSet<Arc<str>> =
        failures(count, periods).iter().map(|(number, _, _)| simulate::node(*number).into()).collect();
    let (mut ages, mut reports, mut joined): (Vec<f32>, u64, usize) = (Vec::new(), 0, 0);
    let mut lost: BTreeMap<Arc<str>, (u64, f64)> = BTreeMap::new();
    let mut false_losses: Vec<Arc<str>> = Vec::new();
    let mut left = 0;
    let (mut began, mut peak) = (None, 0);
    let mut ended = None;
    loop {
        for event in receiver.turn(Duration::from_millis(250))? {
            match event {
                Event::Joined { .. } => {
                    joined += 1;
                    peak = peak.max(receiver.connected());
                    if joined == count {
                        began = Some((used()?, receiver.now(), reports));
                        ages.clear();
                    }
                }
                Event::Report { report, .. } => {
                    reports += 1;
                    assert_eq!(report.ranks.len(), number("--ranks", 64) as usize);
                    ages.push(simulate::monotonic_ns().saturating_sub(report.mono_ns) as f32 * 1e-6);
                }
                Event::Lost { node, limit, .. } if failed.contains(&node) => {
                    lost.insert(node, (simulate::monotonic_ns(), limit));
                }
                // At the end of the simulation all go.
                Event::Lost { node, .. } if ended.is_none() => false_losses.push(node),
                Event::Left { node, .. } if failed.contains(&node) && !lost.contains_key(&node) => left += 1,
                Event::Refused { from, reason } => return Err(format!("{from} was refused: {reason}").into()),
                _ => {}
            }
        }
        if ended.is_none() && agents_done.try_recv().is_ok() {
            ended = Some((used()?, receiver.now()));
        }
        // What was sent arrives before the connections are seen to be closed.
        if ended.is_some() && receiver.connected() == 0 {
            break;
        }
    }
    let output = waiter.join().map_err(|_| "the waiting thread panicked")??;
    let (agent_reports, bytes, agents_latest, last, agents_seconds): (u64, u64, f64, Vec<(usize, u64)>, f64) =
        serde_json::from_slice(&output.stdout)?;
    let ((begun, at, before), (ended, until)) = (began.ok_or("not all agents came")?, ended.ok_or("it did not end")?);
    let time = until - at;
    ages.sort_unstable_by(f32::total_cmp);
    let last: HashMap<String, u64> = last.into_iter().map(|(number, last)| (simulate::node(number), last)).collect();
    let mut missed: Vec<f64> = Vec::new();
    let mut limits: Vec<f64> = Vec::new();
    for (node, (when, limit)) in &lost {
        missed.push(when.saturating_sub(last[&**node]) as f64 * 1e-9);
        limits.push(*limit);
    }
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let age = |share| round(f64::from(percentile(&ages, share)));
    println!(
        "{}",
        serde_json::json!({
            "agents": count, "ranks": number("--ranks", 64), "connections": peak, "seconds": round(time),
            "reports": reports, "reports_sent": agent_reports, "reports_per_second": round((reports - before) as f64 / time),
            "bytes_per_report": bytes / agent_reports.max(1),
            "receiver_core_share": round((ended.0 + ended.1 - begun.0 - begun.1) / time),
            "receiver_user_share": round((ended.0 - begun.0) / time),
            "receiver_system_share": round((ended.1 - begun.1) / time),
            "receiver_latest_seconds": round(receiver.counts().latest),
            "agents_core_seconds": round(agents_seconds), "agents_latest_seconds": round(agents_latest),
            "age_ms": {"p50": age(0.5), "p90": age(0.9), "p99": age(0.99), "p99.9": age(0.999), "most": age(1.0)},
            "failed": failed.len(), "missed": lost.len(), "closed_seen": left, "false_losses": false_losses.len(),
            "missed_after_seconds": {"least": round(missed.iter().copied().fold(f64::INFINITY, f64::min)), "most": round(missed.iter().copied().fold(0.0, f64::max))},
            "limit_seconds": {"least": round(limits.iter().copied().fold(f64::INFINITY, f64::min)), "most": round(limits.iter().copied().fold(0.0, f64::max))},
        })
    );
    assert!(false_losses.is_empty(), "called lost although they were not: {false_losses:?}");
    assert_eq!(
        (lost.len(), reports),
        (failed.len(), agent_reports),
        "lost agents that were missed; reports that arrived"
    );
    for (seconds, limit) in missed.iter().zip(&limits) {
        // It is looked at four times a second.
        assert!(seconds - limit < 1.0, "missed after {seconds} s, the limit being {limit} s");
    }
    Ok(())
}

fn number_text(name: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.get(arguments.iter().position(|argument| argument == name)? + 1).cloned()
}

//! How fast the simulator is, and what a decision of the scheduler takes.
//!
//! `cargo bench --bench schedule`. Prints a JSON line for each policy and each ratio of a checkpoint's cost to the mean time between
//! failures: how long ten million failures take on one core, with how many checkpoints.

use piton::schedule::simulate::{Fixed, Law, Model, Policy, Renewal, Simulation, Until};
use piton::schedule::{Belief, Costs, Guess, Rules, Scheduler, daly};
use std::hint::black_box;
use std::time::Instant;

const FAILURES: u64 = 10_000_000;

fn run(name: &str, law: Law, cost: f64, policy: impl Policy) {
    let costs = Costs { cost, latency: cost, restart: cost, downtime: cost };
    let failures = Renewal::new(law, 1.0, 1);
    let started = Instant::now();
    let mut job = Simulation::new(Model { costs, ..Model::default() }, failures, policy, 1);
    let outcome = job.run(Until::failures(FAILURES));
    let seconds = started.elapsed().as_secs_f64();
    println!(
        r#"{{"policy":"{name}","law":"{law:?}","cost_over_mtbf":{cost},"failures":{},"checkpoints":{},"seconds":{seconds:.2},"waste":{:.5}}}"#,
        outcome.failures,
        outcome.taken,
        outcome.waste()
    );
}

fn main() {
    for cost in [1e-4, 1e-2] {
        for law in [Law::Exponential, Law::Weibull(0.7)] {
            run("fixed", law, cost, Fixed::after_work(daly(cost, 1.0), cost));
        }
    }
    for law in [Law::Exponential, Law::Weibull(0.7)] {
        let cost = 1e-2;
        run(
            "scheduler",
            law,
            cost,
            Scheduler::new(Rules::default(), Belief::Job(1.0), 1.0, Guess { cost, latency: cost }),
        );
    }
    let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(1e5), 1.0, Guess::default());
    scheduler.started(0.0);
    scheduler.taken(1.0);
    scheduler.cost(0.1, 0.1);
    let (calls, started) = (10_000_000_u32, Instant::now());
    for call in 0..calls {
        black_box(scheduler.wants(black_box(1.0 + f64::from(call) * 1e-6)));
    }
    println!(r#"{{"decision_ns":{:.1}}}"#, started.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
}

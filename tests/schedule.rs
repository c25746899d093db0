//! The schedule against what it cannot know: policies that are told the truth, and failures that really happened.

use piton::schedule::simulate::{Fixed, Law, Model, Renewal, Simulation, Trace, TraceFile, Until, read_trace};
use piton::schedule::{Belief, Costs, Guess, Rules, Scheduler, daly};

const HOUR: f64 = 3600.0;

fn model(cost: f64) -> Model {
    Model { costs: Costs { cost, latency: cost, restart: cost, downtime: 120.0 }, ..Model::default() }
}

fn online(believed_mtbf: f64) -> Scheduler {
    Scheduler::new(Rules::default(), Belief::Job(believed_mtbf), 1.0, Guess::default())
}

/// How much more than one that knows the mean time between failures the scheduler wastes, over the first 20 failures and over the
/// next 180, on average over `paths` jobs.
fn regret(law: Law, prior: f64, cost: f64, paths: u64) -> (f64, f64) {
    let mtbf = 8.0 * HOUR;
    let mut sums = [[0.0; 2]; 2];
    for seed in 0..paths {
        let failures = || Renewal::new(law, mtbf, seed);
        let mut scheduler = Simulation::new(model(cost), failures(), online(prior * mtbf), 1);
        let mut knowing = Simulation::new(model(cost), failures(), Fixed::after_work(daly(cost, mtbf), cost), 1);
        let first = [scheduler.run(Until::failures(20)), knowing.run(Until::failures(20))];
        let all = [scheduler.run(Until::failures(200)), knowing.run(Until::failures(200))];
        for policy in 0..2 {
            sums[policy][0] += first[policy].waste();
            sums[policy][1] += all[policy].since(&first[policy]).waste();
        }
    }
    (sums[0][0] / sums[1][0] - 1.0, sums[0][1] / sums[1][1] - 1.0)
}

#[test]
fn little_is_lost_by_having_to_learn() {
    println!("| failures | prior | first 20 | after |");
    for law in [
        Law::Exponential,
        Law::Weibull(0.5),
        Law::Weibull(0.6),
        Law::Weibull(0.7),
        Law::Weibull(0.8),
        Law::Weibull(0.9),
        Law::Weibull(1.0),
    ] {
        for prior in [1.0, 10.0, 0.1] {
            let (first, after) = regret(law, prior, 300.0, 400);
            println!("| {law:?} | {prior} | {:+.1} % | {:+.1} % |", first * 100.0, after * 100.0);
            assert!(first < if prior == 1.0 { 0.15 } else { 0.30 } && after < 0.02, "{law:?} {prior}: {first} {after}");
        }
    }
}

/// What it costs, and what it saves, to take failures for bunched: how much more the scheduler wastes than Daly's interval, both
/// knowing the mean time between failures.
#[test]
fn taking_failures_for_bunched_pays() {
    println!("| failures | C | against Daly |");
    let (mtbf, paths) = (8.0 * HOUR, 200);
    for law in [
        Law::Exponential,
        Law::Weibull(0.9),
        Law::Weibull(0.8),
        Law::Weibull(0.7),
        Law::Weibull(0.6),
        Law::Weibull(0.5),
    ] {
        for cost in [30.0, 300.0] {
            let mut wastes = [0.0; 2];
            for seed in 0..paths {
                let failures = || Renewal::new(law, mtbf, seed);
                let mut scheduler = online(mtbf);
                scheduler.observe(1e4, 1e4 * mtbf);
                let until = Until::failures(200);
                wastes[0] += Simulation::new(model(cost), failures(), scheduler, 1).run(until).waste();
                let daly = Fixed::after_work(daly(cost, mtbf), cost);
                wastes[1] += Simulation::new(model(cost), failures(), daly, 1).run(until).waste();
            }
            let more = wastes[0] / wastes[1] - 1.0;
            println!("| {law:?} | {cost} s | {:+.1} % |", more * 100.0);
            let most = match law {
                Law::Weibull(shape) if shape < 0.75 => 0.0,
                _ => 0.01,
            };
            assert!(more < most, "{law:?} {cost}: {more}");
        }
    }
}

fn infinite_hbd() -> TraceFile {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/infinitehbd-fault-trace.json");
    let text = std::fs::read_to_string(path).expect("the trace is there");
    read_trace(&text).expect("it can be read")
}

/// The fixed interval that would have wasted least on these failures, and its waste.
fn best_in_hindsight(model: Model, failures: &[f64], until: Until) -> (f64, f64) {
    let at = |period: f64| Simulation::new(model, Trace::new(failures), Fixed::new(period), 1).run(until).waste();
    let periods = (0..=240).map(|place| 2.0 * model.costs.cost * 400f64.powf(f64::from(place) / 240.0));
    let tried = periods.map(|period| (period, at(period)));
    tried.min_by(|a, b| a.1.total_cmp(&b.1)).expect("some were tried")
}

#[test]
fn on_real_failures_it_comes_close_to_the_best_in_hindsight() {
    let trace = infinite_hbd();
    let all: Vec<usize> = (0..400).collect();
    println!("| nodes | C = R | failures | online | best fixed | at | 15 min | 1 h | 4 h |");
    for cost in [60.0, 300.0, 900.0] {
        let mut halves = [0.0; 2];
        for seed in 0..21 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut nodes = all.clone();
            random.shuffle(&mut nodes);
            nodes.truncate(if seed == 0 { 400 } else { 200 });
            let failures = trace.failures(|node| nodes.contains(&node));
            let until = Until::time(trace.span);
            // What is known of such nodes before: the default.
            let believed = Belief::Node(piton::schedule::NODE_MTBF_SECONDS, false);
            let scheduler = Scheduler::new(Rules::default(), believed, nodes.len() as f64, Guess::default());
            let online = Simulation::new(model(cost), Trace::new(&failures), scheduler, 1).run(until);
            let fixed = |work: f64| {
                let policy = Fixed::after_work(work, cost);
                Simulation::new(model(cost), Trace::new(&failures), policy, 1).run(until).waste() * 100.0
            };
            let (at, best) = best_in_hindsight(model(cost), &failures, until);
            let ratio = online.waste() / best;
            if seed < 3 {
                println!(
                    "| {} | {cost} | {} | {:.2} % | {:.2} % | {:.0} min | {:.2} % | {:.2} % | {:.2} % |",
                    nodes.len(),
                    online.failures,
                    online.waste() * 100.0,
                    best * 100.0,
                    at / 60.0,
                    fixed(900.0),
                    fixed(HOUR),
                    fixed(4.0 * HOUR)
                );
            }
            if seed == 0 {
                assert!(ratio < 1.05, "{ratio}");
            } else {
                halves[0] += ratio / 20.0;
                halves[1] = ratio.max(halves[1]);
            }
        }
        println!("20 random halves, C = {cost}: online / best fixed: mean {:.3}, worst {:.3}", halves[0], halves[1]);
        assert!(halves[0] < 1.05 && halves[1] < 1.10, "{halves:?}");
    }
}

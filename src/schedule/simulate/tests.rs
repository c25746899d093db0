use super::super::{Belief, Guess, Rules, daly, optimum, waste, waste_parts};
use super::*;
use proptest::prelude::*;

fn model(cost: f64, latency: f64, restart: f64, downtime: f64) -> Model {
    Model { costs: Costs { cost, latency, restart, downtime }, ..Model::default() }
}

fn assert_adds_up(outcome: &Outcome) {
    let parts = outcome.useful + outcome.checkpoints + outcome.lost + outcome.down + outcome.restarts;
    assert!((parts / outcome.time - 1.0).abs() < 1e-9, "{outcome:?}");
}

/// As [`Fixed`], without the short cut for it.
#[derive(Debug)]
struct Stepwise(Fixed);

impl Policy for Stepwise {
    fn computing(&mut self, now: f64, restart: Option<f64>) {
        self.0.computing(now, restart);
    }
    fn due(&self, now: f64) -> f64 {
        self.0.due(now)
    }
    fn taken(&mut self, now: f64) {
        self.0.taken(now);
    }
}

#[test]
fn the_closed_form_is_met() {
    // C/M from 10⁻⁵ to 0.3, L/M up to 0.03.
    let mut worst: f64 = 0.0;
    for (cost, latency) in
        [(1e-5, 1e-5), (1e-5, 1e-3), (1e-4, 3e-3), (1e-3, 1e-3), (1e-3, 0.03), (0.01, 0.03), (0.1, 0.1), (0.3, 0.3)]
    {
        let model = model(cost, latency, 0.002, 0.004);
        let work = optimum(cost, 1.0);
        let failures = Renewal::new(Law::Exponential, 1.0, 17);
        let outcome =
            Simulation::new(model, failures, Fixed::after_work(work, cost), 1).run(Until::failures(1_000_000));
        assert_adds_up(&outcome);
        let expected = waste(work, &model.costs, 1.0);
        let off = (outcome.waste() / expected - 1.0).abs();
        println!(
            "C/M = {cost:.0e}, L/M = {latency:.0e}: {:.5} simulated, {expected:.5} by the formula",
            outcome.waste()
        );
        worst = worst.max(off);
        let parts = waste_parts(work, &model.costs, 1.0);
        let restarts = (outcome.restarts + outcome.down) / outcome.time;
        assert!((restarts / parts.restarts - 1.0).abs() < 0.01, "{restarts} {parts:?}");
    }
    println!("at most {:.2} % apart", worst * 100.0);
    assert!(worst < 0.01, "{worst}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_short_cut_goes_the_same_way(
        cost in 0.001..0.2f64, more in 0.0..0.3f64, work in 0.02..1.0f64, seed: u64, shape in 0.5..1.5f64,
    ) {
        let model = model(cost, cost + more, 0.01, 0.02);
        let fixed = Fixed::after_work(work, cost);
        let run = |until: Until| {
            let failures = || Renewal::new(Law::Weibull(shape), 5.0, seed);
            let short = Simulation::new(model, failures(), fixed, 1).run(until);
            let long = Simulation::new(model, failures(), Stepwise(fixed), 1).run(until);
            (short, long)
        };
        for until in [Until::failures(50), Until::time(100.0), Until::work(77.0)] {
            let (short, long) = run(until);
            for (a, b) in [(short.time, long.time), (short.useful, long.useful), (short.checkpoints, long.checkpoints),
                (short.lost, long.lost), (short.down, long.down), (short.restarts, long.restarts)]
            {
                prop_assert!((a - b).abs() < 1e-6, "{:?} {:?}", short, long);
            }
            prop_assert_eq!((short.failures, short.taken), (long.failures, long.taken));
            assert_adds_up(&short);
        }
    }

    #[test]
    fn the_same_seed_goes_the_same_way_and_time_adds_up(seed: u64, sigma in 0.2..1.5f64, spares in 0..3u32, mean in 0.1..20.0f64) {
        let mut model = model(2.0, 5.0, 3.0, 10.0);
        model.repair = Some(Repair { law: Law::LogNormal(1.4), mean: 300.0, spares });
        model.far = Some(FarTier { every: 4, costs: Costs { cost: 6.0, latency: 20.0, restart: 9.0, downtime: 10.0 }, needed: 0.3 });
        model.steps = Some(Steps { mean, spread: mean * sigma });
        let run = || {
            let failures = Renewal::new(Law::Weibull(0.7), 800.0, seed).repeating(Repeats { probability: 0.08, within: 86_400.0 });
            let scheduler = Scheduler::new(Rules::default(), Belief::Job(1000.0), 1.0, Guess::default());
            Simulation::new(model, failures, scheduler, seed).run(Until::failures(30))
        };
        let outcome = run();
        assert_adds_up(&outcome);
        prop_assert_eq!(outcome, run());
        prop_assert!(outcome.failures >= 30 && outcome.useful > 0.0);
    }
}

#[test]
fn a_job_ends_where_it_is_told_to() {
    let simulation = || {
        let failures = Renewal::new(Law::Exponential, 100.0, 9);
        Simulation::new(model(1.0, 2.0, 1.0, 1.0), failures, Fixed::new(10.0), 1)
    };
    assert_eq!(simulation().run(Until::time(5000.0)).time, 5000.0);
    let outcome = simulation().run(Until::work(5000.0));
    assert!((outcome.useful - 5000.0).abs() < 1e-6 && outcome.time > 5000.0);
    // In pieces or at once.
    let (mut whole, mut pieces) = (simulation(), simulation());
    for failures in [3, 17, 40] {
        pieces.run(Until::failures(failures));
    }
    assert_eq!(pieces.run(Until::failures(60)), whole.run(Until::failures(60)));
}

#[test]
fn a_far_place_brings_back_what_the_near_one_lost() {
    let mut model = model(0.0, 0.0, 0.0, 0.0);
    model.far = Some(FarTier { every: 5, costs: Costs::default(), needed: 1.0 });
    let run = |model: Model| {
        let failures = Renewal::new(Law::Exponential, 1000.0, 2);
        Simulation::new(model, failures, Fixed::new(10.0), 3).run(Until::failures(20_000))
    };
    // A failure loses half of five intervals, or half of one.
    let far = run(model);
    assert!((far.lost / far.failures as f64 / 25.0 - 1.0).abs() < 0.05, "{far:?}");
    model.far = Some(FarTier { every: 5, costs: Costs::default(), needed: 0.0 });
    let near = run(model);
    assert!((near.lost / near.failures as f64 / 5.0 - 1.0).abs() < 0.05, "{near:?}");
}

#[test]
fn spares_are_waited_for_only_where_there_is_none() {
    let down = |spares: u32| {
        let mut model = model(1.0, 1.0, 1.0, 5.0);
        model.repair = Some(Repair { law: Law::Exponential, mean: 50.0, spares });
        let failures = Renewal::new(Law::Exponential, 1000.0, 2);
        let outcome = Simulation::new(model, failures, Fixed::new(50.0), 3).run(Until::failures(5000));
        outcome.down / outcome.failures as f64
    };
    assert!(down(10) == 5.0 && (5.0..9.0).contains(&down(1)) && (45.0..60.0).contains(&down(0)), "{}", down(1));
}

#[test]
fn a_scheduler_that_knows_all_does_as_well_as_the_fixed_optimum() {
    let (cost, mtbf) = (30.0, 3600.0);
    let model = model(cost, 60.0, 30.0, 60.0);
    let failures = || Renewal::new(Law::Exponential, mtbf, 4);
    let mut scheduler = Scheduler::new(Rules::default(), Belief::Job(mtbf), 1.0, Guess::default());
    // As if it had run before.
    scheduler.observe(1e6, 1e6 * mtbf);
    let online = Simulation::new(model, failures(), scheduler, 1).run(Until::failures(50_000));
    let fixed =
        Simulation::new(model, failures(), Fixed::after_work(daly(cost, mtbf), cost), 1).run(Until::failures(50_000));
    // What it costs to take failures for bunched that are not.
    assert!((online.waste() / fixed.waste() - 1.0).abs() < 6e-3, "{} {}", online.waste(), fixed.waste());
}

//! The computation: which interval wastes least, what others waste, and how long the job takes.

use super::Inputs;
use piton::schedule::simulate::{Failures, FarTier, Fixed, Model, Outcome, Policy, Renewal, Simulation, Trace, Until};
use piton::schedule::{
    Costs, Guess, Rules, Scheduler, TwoLevel, WasteParts, daly, two_level, waste, waste_parts, young,
};
use serde::Serialize;

/// Intervals that are tried for the best one.
const TRIED: usize = 201;
/// A job that wastes more than this never comes to its end.
const HOPELESS: f64 = 0.98;
/// Events that all simulated jobs together may take, about.
const EVENTS: f64 = 3e7;

/// What one interval wastes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row {
    pub interval_seconds: f64,
    pub waste: f64,
}

/// How much the interval and the waste change with one input.
#[derive(Debug, Clone, Serialize)]
pub struct Sensitivity {
    pub input: &'static str,
    /// With half of it, and with twice as much.
    pub half: Row,
    pub twice: Row,
}

/// How long the job takes, seconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TimeToSolution {
    pub p5: f64,
    pub median: f64,
    pub mean: f64,
    pub p95: f64,
    /// Jobs that were simulated for it.
    pub paths: usize,
    /// Allocations for the median, where they end.
    pub allocations: Option<u64>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    pub inputs: Inputs,
    /// Seconds of work between two checkpoints.
    pub young_seconds: f64,
    pub daly_seconds: f64,
    /// From one checkpoint's call to the next one's; no less than a commit takes.
    pub interval_seconds: f64,
    pub expected_waste: f64,
    pub parts: WasteParts,
    pub two_level: Option<TwoLevel>,
    pub sensitivity: Vec<Sensitivity>,
    /// Simulated: what Piton wastes, which learns how often the job fails; what Daly's interval wastes with the mean known; what the
    /// best fixed interval wastes, and which that is.
    pub online_waste: Option<f64>,
    pub young_daly_waste: Option<f64>,
    pub best_fixed_waste: Option<f64>,
    pub best_fixed_interval_s: Option<f64>,
    pub fixed: Vec<Row>,
    pub curve: Vec<Row>,
    pub failures: u64,
    pub online: Option<Outcome>,
    pub time_to_solution: Option<TimeToSolution>,
    pub seed: u64,
}

/// Work between two checkpoints where calls are so far apart.
fn work_of(interval: f64, cost: f64) -> f64 {
    (interval - cost).max(1e-3 * cost)
}

/// The interval from call to call, the expected waste and its parts.
fn best(costs: &Costs, mtbf: f64) -> (f64, f64, WasteParts) {
    // No other is begun while one is still being written.
    let interval = (daly(costs.cost, mtbf) + costs.cost).max(costs.latency);
    let work = work_of(interval, costs.cost);
    (interval, waste(work, costs, mtbf), waste_parts(work, costs, mtbf))
}

fn row(costs: &Costs, mtbf: f64) -> Row {
    let (interval_seconds, waste, _) = best(costs, mtbf);
    Row { interval_seconds, waste: finite(waste) }
}

/// What can't be computed any more is all waste.
fn finite(waste: f64) -> f64 {
    if waste.is_finite() { waste } else { 1.0 }
}

impl Study {
    /// Studies a job. `paths`: how many jobs are simulated for the time to solution. `progress` is told how much is done, 0 to 1.
    pub fn new(mut inputs: Inputs, paths: usize, seed: u64, progress: &mut dyn FnMut(f64)) -> Self {
        let mtbf = inputs.mtbf_seconds;
        let two = inputs.levels.map(|(near, far)| {
            let mut two = two_level(near, far);
            // The far place takes one no sooner than it has written the last.
            let least = (inputs.far_latency_seconds / (two.work + inputs.costs.cost)).ceil().max(1.0);
            two.far_every = two.far_every.max(least.min(1e6) as u32);
            two
        });
        if let (Some(TwoLevel { far_every: 1, .. }), Some((_, far))) = (two, inputs.levels) {
            (inputs.costs.latency, inputs.costs.restart) = (far.latency, far.restart);
        }
        let costs = inputs.costs;
        let (interval, expected, parts) = best(&costs, mtbf);
        let expected = finite(expected);
        let simulation = Simulations { inputs: &inputs, two, seed };
        let mut study = Self {
            young_seconds: young(costs.cost, mtbf),
            daly_seconds: daly(costs.cost, mtbf),
            interval_seconds: interval,
            expected_waste: expected,
            parts: if expected < 1.0 { parts } else { WasteParts::default() },
            two_level: two,
            sensitivity: sensitivity(&costs, mtbf),
            online_waste: None,
            young_daly_waste: None,
            best_fixed_waste: None,
            best_fixed_interval_s: None,
            fixed: Vec::new(),
            curve: Vec::new(),
            failures: 0,
            online: None,
            time_to_solution: None,
            seed,
            inputs: inputs.clone(),
        };
        if expected > HOPELESS && inputs.failures.is_none() {
            study.curve = simulation.curve_by_formula();
            return study;
        }
        simulation.fill(&mut study, paths, progress);
        study
    }
}

fn sensitivity(costs: &Costs, mtbf: f64) -> Vec<Sensitivity> {
    let with = |input: &'static str, change: &dyn Fn(&mut Costs, &mut f64, f64)| {
        let at = |factor: f64| {
            let (mut costs, mut mtbf) = (*costs, mtbf);
            change(&mut costs, &mut mtbf, factor);
            row(&costs, mtbf)
        };
        Sensitivity { input, half: at(0.5), twice: at(2.0) }
    };
    vec![
        with("time between failures", &|_, mtbf, factor| *mtbf *= factor),
        with("checkpoint cost", &|costs, _, factor| costs.cost *= factor),
        with("latency", &|costs, _, factor| costs.latency *= factor),
        with("restart cost", &|costs, _, factor| costs.restart *= factor),
        with("downtime", &|costs, _, factor| costs.downtime *= factor),
    ]
}

struct Simulations<'a> {
    inputs: &'a Inputs,
    two: Option<TwoLevel>,
    seed: u64,
}

impl Simulations<'_> {
    fn model(&self) -> Model {
        let far = self.two.filter(|two| two.far_every > 1).zip(self.inputs.levels).map(|(two, (_, far))| {
            let share = self.inputs.mtbf_seconds / far.mtbf;
            // Draining to it goes on behind the application's back.
            let costs = Costs { restart: far.restart, latency: self.inputs.far_latency_seconds, ..self.inputs.costs };
            FarTier { every: two.far_every, costs, needed: share }
        });
        Model { costs: self.inputs.costs, far, repair: self.inputs.repair, ..Model::default() }
    }

    /// One job under a policy: along the trace, or along failures drawn with this seed.
    fn job(&self, policy: impl Policy, seed: u64, until: Until) -> Outcome {
        match &self.inputs.failures {
            Some((times, span)) => {
                let until = Until { time: until.time.min(*span), ..until };
                self.run(Trace::new(times), policy, until)
            }
            None => {
                let failures = Renewal::new(self.inputs.law, self.inputs.mtbf_seconds, seed);
                match self.inputs.repeats {
                    Some(repeats) => self.run(failures.repeating(repeats), policy, until),
                    None => self.run(failures, policy, until),
                }
            }
        }
    }

    fn run(&self, failures: impl Failures, policy: impl Policy, until: Until) -> Outcome {
        Simulation::new(self.model(), failures, policy, self.seed).run(until)
    }

    fn scheduler(&self) -> Scheduler {
        Scheduler::new(Rules::default(), self.inputs.belief, self.inputs.nodes, self.guess())
    }

    fn guess(&self) -> Guess {
        Guess { cost: self.inputs.costs.cost, latency: self.inputs.costs.latency }
    }

    /// How long a comparison lasts: the trace, or so much work that chance matters little.
    fn long(&self) -> Until {
        match self.inputs.failures {
            Some(_) => Until::NEVER,
            // Two places are simulated checkpoint by checkpoint.
            None if self.two.is_some_and(|two| two.far_every > 1) => Until::failures(1_000),
            None => Until::failures(10_000),
        }
    }

    fn fixed(&self, interval: f64) -> f64 {
        let Costs { cost, .. } = self.inputs.costs;
        self.job(Fixed::after_work(work_of(interval, cost), cost), self.seed, self.long()).waste()
    }

    /// Intervals around the best, at equal ratios.
    fn intervals(&self) -> impl Iterator<Item = f64> + use<'_> {
        let Costs { cost, latency, .. } = self.inputs.costs;
        let middle = daly(cost, self.inputs.mtbf_seconds) + cost;
        let low = (middle / 20.0).max(latency).max(1.05 * cost);
        let high = (middle * 20.0).max(low * 4.0);
        (0..TRIED).map(move |place| low * (high / low).powf(place as f64 / (TRIED - 1) as f64))
    }

    fn curve_by_formula(&self) -> Vec<Row> {
        let waste_at = |interval: f64| {
            finite(waste(work_of(interval, self.inputs.costs.cost), &self.inputs.costs, self.inputs.mtbf_seconds))
        };
        self.intervals().map(|interval| Row { interval_seconds: interval, waste: waste_at(interval) }).collect()
    }

    fn fill(&self, study: &mut Study, paths: usize, progress: &mut dyn FnMut(f64)) {
        let Costs { cost, .. } = self.inputs.costs;
        let mut curve = Vec::new();
        for (place, interval) in self.intervals().enumerate() {
            curve.push(Row { interval_seconds: interval, waste: self.fixed(interval) });
            progress(0.5 * place as f64 / TRIED as f64);
        }
        let best = curve.iter().min_by(|a, b| a.waste.total_cmp(&b.waste)).copied();
        study.best_fixed_waste = best.map(|best| best.waste);
        study.best_fixed_interval_s = best.map(|best| best.interval_seconds);
        study.young_daly_waste = Some(self.fixed(daly(cost, self.inputs.mtbf_seconds) + cost));
        let fixed = self.inputs.fixed_seconds.iter();
        study.fixed = fixed.map(|interval| Row { interval_seconds: *interval, waste: self.fixed(*interval) }).collect();
        let online = self.job(self.scheduler(), self.seed, self.long());
        study.online_waste = Some(online.waste());
        study.failures = online.failures;
        study.online = Some(online);
        study.curve = curve;
        study.time_to_solution = self.times(study, paths, progress);
    }

    /// Simulates the job from beginning to end, often.
    fn times(&self, study: &Study, paths: usize, progress: &mut dyn FnMut(f64)) -> Option<TimeToSolution> {
        if self.inputs.failures.is_some() {
            return None;
        }
        let work = self.inputs.work_seconds;
        // Checkpoints and failures of one path.
        let events = work / (1.0 - study.expected_waste).max(0.01)
            * (1.0 / study.interval_seconds + 1.0 / self.inputs.mtbf_seconds);
        let paths = ((EVENTS / events.max(1.0)) as usize).clamp(1, paths.max(1));
        let mut times: Vec<f64> = Vec::with_capacity(paths);
        for path in 0..paths {
            let seed = self.seed.wrapping_add(1 + path as u64);
            times.push(self.job(self.scheduler(), seed, Until::work(work)).time);
            if path.is_multiple_of(16) {
                progress(0.5 + 0.5 * path as f64 / paths as f64);
            }
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        // At each allocation's end a checkpoint is waited for, and the next one begins by coming back from it.
        let between = self.inputs.costs.latency + self.inputs.costs.restart;
        let allocations = self.inputs.walltime_seconds.map(|walltime| (at(0.5) / (walltime - between)).ceil().max(1.0));
        let more = allocations.map_or(0.0, |count| (count - 1.0) * between);
        Some(TimeToSolution {
            p5: at(0.05) + more,
            median: at(0.5) + more,
            mean: mean + more,
            p95: at(0.95) + more,
            paths,
            allocations: allocations.map(|count| count as u64),
        })
    }
}

//! Any rank of three is killed at any call of its: of its communicator or its medium, on any of its threads.
//!
//! From the kill on nothing that the rank does has an effect. The others must neither hang nor fall over; and the next attempt
//! must come back with a committed checkpoint, all ranks at one step, and end with the same bits as if nothing had happened:
//! on the store as the kill left it, and as a power failure right after would.
//!
//! `PITON_TEST_LONG=1` kills at ten times as many points.

mod worlds;

use piton::comm::threads::Threads;
use piton::medium::recording::{Event, Image, KillSwitch, OperationKind, RecordingMedium};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worlds::{Facts, Plan, Seen, all_of, attempt, builder, each_rank, go_on, is_long, run, violation};

const WORLD: usize = 3;
const END: u64 = 13;
/// No run with a kill in it may take longer, whatever was killed: far more than all timeouts of it together.
const LONGEST: Duration = Duration::from_secs(60);

/// What a run that is going to be disturbed starts from, and what was promised before.
struct Base {
    image: Image,
    facts: Facts,
    plan: Plan,
}

/// A job's first start, a start after the job died, and one where the ranks share a file, on three ranks.
fn bases() -> Vec<Base> {
    let medium = RecordingMedium::with_folder("/scratch");
    let start = |arguments, until| Plan { arguments, until, finish: true };
    let mut bases = Vec::new();
    for (before, plan) in [
        (None, start(&[] as &[&str], END)),
        (Some(Plan { arguments: &[], until: 7, finish: false }), start(&["--resume"], END)),
        (None, start(&["--resume", "--piton.files=node"], END)),
    ] {
        if let Some(before) = before {
            run(&medium, WORLD, before).unwrap();
        }
        let image = medium.snapshot().live_image();
        let mut facts = Facts::default();
        facts.learn(&image, &notes(&medium), &mut HashSet::new());
        bases.push(Base { image, facts, plan });
    }
    bases
}

fn notes(medium: &RecordingMedium) -> Vec<String> {
    let note = |event| match event {
        Event::Note(note) => Some(note),
        Event::Operation(_) => None,
    };
    medium.events().into_iter().filter_map(note).collect()
}

/// What happens to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Nothing,
    /// The rank dies at this call.
    Kill(u64),
    /// This call of its communicator fails.
    Refuse(u64),
    /// The rank dies right after its operations of this role, counted from 1, have changed what is stored.
    KillAfter(&'static str, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    base: usize,
    rank: usize,
    harm: Harm,
    /// Seed of the delays; 0: none.
    delays: u64,
}

/// What became of a case.
struct Outcome {
    calls: Vec<u64>,
    place: Option<String>,
    took: Duration,
}

/// Plays a case, and everything that must hold after it.
fn play(base: &Base, case: Case) -> Result<Outcome, String> {
    let medium = RecordingMedium::from_image(&base.image);
    let switches: Vec<Arc<KillSwitch>> = (0..WORLD)
        .map(|rank| {
            let switch = match case.harm {
                Harm::Kill(call) if rank == case.rank => KillSwitch::at(call),
                _ => KillSwitch::new(),
            };
            Arc::new(if case.delays > 0 { switch.delayed(case.delays + rank as u64) } else { switch })
        })
        .collect();
    let ranks = Threads::world(WORLD).into_iter().zip(&switches).enumerate().map(|(number, (rank, switch))| {
        let rank = rank.with_switch(Arc::clone(switch));
        match case.harm {
            Harm::Refuse(call) if number == case.rank => rank.refusing(call),
            _ => rank,
        }
    });
    if let Harm::KillAfter(role, times) = case.harm {
        let (switch, seen) = (Arc::clone(&switches[case.rank]), AtomicU64::new(0));
        medium.sabotage(move |operation| {
            let hit = operation.rank == Some(case.rank) && operation.role() == role;
            if hit && seen.fetch_add(1, Ordering::Relaxed) + 1 == times {
                switch.throw(role);
            }
            false
        });
    }
    let (plan, notes_to, own) = (base.plan, medium.clone(), switches.clone());
    let start = Instant::now();
    let results = each_rank(ranks.collect(), move |rank| {
        let switch = Arc::clone(&own[piton::comm::Communicator::rank(&rank)]);
        let handle = notes_to.for_rank(piton::comm::Communicator::rank(&rank), Arc::clone(&switch));
        // Short, since whoever is lost is to be lost soon; nobody is lost where nothing is done, however busy the machine.
        let timeout = if case.harm == Harm::Nothing { "60s" } else { "1s" };
        let builder = builder(handle, plan.arguments).set("agreement_timeout", timeout).set("commit_timeout", timeout);
        attempt(builder, &notes_to, rank, plan, || !switch.is_thrown())
    })?;
    let took = start.elapsed();
    if took > LONGEST {
        return Err(format!("took {took:?}"));
    }
    let place = switches[case.rank].place();
    if case.harm == Harm::Nothing
        && let Some(Err(why)) = results.iter().find(|result| result.is_err())
    {
        return Err(format!("nothing was done to it, and yet: {why}"));
    }
    let said = |result: &Result<Seen, String>| result.as_ref().map_or_else(Clone::clone, |_| "all is well".to_owned());
    let said: Vec<String> = results.iter().map(said).collect();
    medium.heal();
    // Of the exact places there are few: time for a closer look.
    let bound = if is_long() && matches!(case.harm, Harm::KillAfter(..)) { 8 } else { 0 };
    after(base, &medium, bound).map_err(|why| format!("{why}; killed at {place:?}; the ranks said {said:?}"))?;
    Ok(Outcome { calls: switches.iter().map(|switch| switch.calls()).collect(), place, took })
}

/// What must hold after a run that was disturbed; of a power failure in the run after it, about `bound` states of each moment are
/// looked at, or the one that has nothing but what is durable.
fn after(base: &Base, medium: &RecordingMedium, bound: usize) -> Result<(), String> {
    let (mut facts, mut heard) = (base.facts.clone(), HashSet::new());
    facts.learn(&medium.snapshot().live_image(), &notes(medium), &mut heard);
    let broken = |when: &'static str| move |(what, why): worlds::Violation| format!("{when}: {what}: {why}");
    // The power fails as well.
    let durable = medium.snapshot().durable_image();
    if let Some(violation) = violation(&durable, &facts, WORLD) {
        return Err(broken("after the kill and a power failure")(violation));
    }
    let healthy = RecordingMedium::from_image(&durable);
    go_on(&healthy, &facts, WORLD, Some(END)).map_err(broken("going on after the kill and a power failure"))?;
    // It does not: what was not yet durable is seen, and must not be taken for it.
    medium.note("again");
    go_on(medium, &facts, WORLD, Some(END)).map_err(broken("going on after the kill"))?;
    let mut seen = HashSet::new();
    for point in medium.crash_points().iter().filter(|point| point.notes().iter().any(|note| note == "again")) {
        facts.learn(&point.snapshot().live_image(), point.notes(), &mut heard);
        let images = match bound {
            0 => vec![point.snapshot().durable_image()],
            _ => point.snapshot().crash_images(bound, 1),
        };
        for image in images.iter().filter(|image| seen.insert(image.digest())) {
            if let Some(violation) = violation(image, &facts, WORLD) {
                return Err(broken("a power failure during the next attempt")(violation));
            }
        }
    }
    let durable = RecordingMedium::from_image(&medium.snapshot().durable_image());
    go_on(&durable, &facts, WORLD, Some(END)).map_err(broken("a power failure after the next attempt"))?;
    Ok(())
}

/// `count` distinct cases of every base and rank, spread over all calls of the rank.
fn kills(calls: &[Vec<u64>], count: usize, random: &mut fastrand::Rng) -> Vec<Case> {
    let mut cases: BTreeSet<(usize, usize, u64)> = BTreeSet::new();
    let all: u64 = calls.iter().flatten().sum();
    while cases.len() < count.min(all as usize) {
        let mut at = random.u64(..all.max(1));
        'found: for (base, ranks) in calls.iter().enumerate() {
            for (rank, &calls) in ranks.iter().enumerate() {
                if at < calls {
                    cases.insert((base, rank, at + 1));
                    break 'found;
                }
                at -= calls;
            }
        }
    }
    let case = |(base, rank, call)| Case { base, rank, harm: Harm::Kill(call), delays: random.u64(..2) * call };
    cases.into_iter().map(case).collect()
}

fn play_all(bases: &[Base], cases: &[Case]) -> Vec<(Case, Outcome)> {
    let (done, start) = (Mutex::new(Vec::new()), Instant::now());
    let result = all_of(cases, 12, |case| {
        let outcome = play(&bases[case.base], *case).map_err(|why| format!("{case:?}: {why}"))?;
        done.lock().expect("no panic").push((*case, outcome));
        Ok::<(), String>(())
    });
    let done = done.into_inner().expect("no panic");
    println!("{} runs in {:.1?}; the longest:", done.len(), start.elapsed());
    let mut longest: Vec<_> = done.iter().map(|(case, outcome)| (outcome.took, case, &outcome.place)).collect();
    longest.sort();
    longest.iter().rev().take(3).for_each(|(took, case, place)| println!("  {took:.1?} for {case:?} at {place:?}"));
    if let Err(why) = result {
        panic!("{why}");
    }
    done
}

#[test]
fn any_rank_may_be_killed_anywhere() {
    let bases = bases();
    let healthy = |base| Case { base, rank: 0, harm: Harm::Nothing, delays: 0 };
    let calls: Vec<Vec<u64>> = (0..bases.len()).map(|base| play(&bases[base], healthy(base)).unwrap().calls).collect();
    println!("calls of each rank, from an empty store and with a resume: {calls:?}");
    let cases = kills(&calls, if is_long() { 2400 } else { 260 }, &mut fastrand::Rng::with_seed(2026));
    let done = play_all(&bases, &cases);
    // The order of a rank's threads varies, and a run may end before the call at which it was to be killed.
    let hit: Vec<_> = done.iter().filter_map(|(case, outcome)| Some((case, outcome.place.as_ref()?))).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    hit.iter().for_each(|(_, place)| *places.entry(place.as_str()).or_default() += 1);
    println!("{} distinct points hit, in {} distinct places:", hit.len(), places.len());
    places.iter().for_each(|(place, times)| println!("  {times:>4}  {place}"));
    assert!(hit.len() >= 200, "only {} of {} kills came about", hit.len(), cases.len());
    assert!(places.len() >= 20);
}

#[test]
fn ranks_may_be_slow_and_their_calls_may_fail() {
    let bases = bases();
    let mut random = fastrand::Rng::with_seed(7);
    let slow = (0..if is_long() { 100 } else { 8 }).map(|number| Case {
        base: number % bases.len(),
        rank: 0,
        harm: Harm::Nothing,
        delays: number as u64 + 1,
    });
    let mut cases: Vec<Case> = slow.collect();
    for number in 0..if is_long() { 200 } else { 30 } {
        let harm = Harm::Refuse(1 + random.u64(..40));
        cases.push(Case { base: number % bases.len(), rank: random.usize(..3), harm, delays: random.u64(..1000) });
    }
    play_all(&bases, &cases);
}

#[test]
fn what_a_killed_rank_left_in_the_page_cache_is_not_taken_for_durable() {
    let bases = bases();
    let mut cases = Vec::new();
    for (number, base) in bases.iter().enumerate() {
        let medium = RecordingMedium::from_image(&base.image);
        run(&medium, WORLD, base.plan).unwrap();
        let mut times: BTreeMap<(usize, String), u64> = BTreeMap::new();
        let names = |kind: OperationKind| {
            kind.is_change() && !matches!(kind, OperationKind::Sync | OperationKind::SyncDir | OperationKind::Write)
        };
        for operation in medium.operations().iter().filter(|operation| names(operation.kind)) {
            if let Some(rank) = operation.rank.filter(|rank| *rank < 2) {
                *times.entry((rank, operation.role())).or_default() += 1;
            }
        }
        for ((rank, role), times) in times {
            // A handful, for the life of the test.
            let role: &'static str = role.leak();
            for time in BTreeSet::from([1, times]) {
                cases.push(Case { base: number, rank, harm: Harm::KillAfter(role, time), delays: 0 });
            }
        }
    }
    let done = play_all(&bases, &cases);
    assert!(done.iter().filter(|(_, outcome)| outcome.place.is_some()).count() > 40, "hardly any came about");
}

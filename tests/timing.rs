//! Checkpoints at the right moment, in real sessions: nobody sets an interval.

mod support;

use piton::journal::{Event, Rule, Schedule};
use piton::schedule::{Ending, sentence};
use piton::store::Store;
use piton::{Checkpointer, Settled};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{JOB, Walk, builder, journal, world};

/// A step takes this long.
const STEP: Duration = Duration::from_millis(2);

/// Computes for as long as a step takes.
fn step(walk: &mut Walk) {
    let begun = Instant::now();
    while begun.elapsed() < STEP {
        walk.advance();
    }
}

/// Steps until `enough` says so, and which step that was; no test goes on for longer than a minute.
fn run(
    session: &mut Checkpointer,
    walk: &mut Walk,
    from: u64,
    mut enough: impl FnMut(&mut Checkpointer, u64, bool) -> bool,
) -> u64 {
    let begun = Instant::now();
    for at in from.. {
        step(walk);
        let tick = session.tick(at + 1, walk);
        assert_eq!(tick.problem(), None);
        if enough(session, at + 1, tick.frozen().is_some()) {
            return at + 1;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came of it");
    }
    unreachable!("steps never end")
}

fn scheduled(folder: &Path, epoch: u64) -> Vec<Schedule> {
    let events = journal(folder, epoch).into_iter();
    events.filter_map(|event| if let Event::Scheduled(schedule) = event { Some(*schedule) } else { None }).collect()
}

#[test]
fn without_a_word_of_the_user_the_interval_follows_from_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    world(2, |rank| {
        let mut session = builder(folder.path()).set("mtbf", "2s").set("round_target", "5ms").open(rank).unwrap();
        let mut walk = Walk::new(0, 1000);
        session.resume(&mut walk).unwrap();
        let mut frozen = 0;
        // Ranks stop at the same step: they freeze together.
        run(&mut session, &mut walk, 0, |_, _, now| {
            frozen += u32::from(now);
            frozen == 6
        });
        assert!(matches!(session.wait(), Settled::Committed(_)));
    });
    let said = scheduled(folder.path(), 1);
    assert_eq!(said[0].rule, Rule::Probe, "{said:?}");
    assert_eq!(said[0].blocked_seconds, None);
    let last = said.last().unwrap();
    assert!(last.blocked_seconds.is_some() && last.rule != Rule::Probe, "{said:?}");
    assert!(last.mtbf_seconds >= 2.0 && last.mtbf_low_seconds < last.mtbf_seconds && last.failures == 0.0, "{last:?}");
    println!("{}", sentence(last));
    let reasons = journal(folder.path(), 1).into_iter().filter_map(|event| match event {
        Event::CheckpointStarted { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reasons.into_iter().all(|reason| reason == "time"));
}

#[test]
fn attempts_that_died_count_and_costs_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    for epoch in 1..=3 {
        world(1, |rank| {
            let mut session = builder(folder.path()).set("mtbf", "3s").set("round_target", "5ms").open(rank).unwrap();
            let mut walk = Walk::new(0, 1000);
            let from = session.resume(&mut walk).unwrap().map_or(0, |at| at.step);
            // A checkpoint's cost is known with the shard; one more round tells it to the scheduler.
            let mut frozen = 0;
            let at = run(&mut session, &mut walk, from, |_, _, now| {
                frozen += u32::from(now);
                frozen == 2
            });
            session.wait();
            // What is lost with the attempt.
            let at = run(&mut session, &mut walk, at, |_, step, _| step >= at + 20);
            if epoch == 3 {
                session.request_halt();
                run(&mut session, &mut walk, at, |_, _, now| now);
                session.finish(&mut walk).unwrap();
            }
        });
    }
    let first = &scheduled(folder.path(), 1)[0];
    assert_eq!((first.rule, first.failures), (Rule::Probe, 0.0));
    let third = &scheduled(folder.path(), 3)[0];
    assert!(third.rule != Rule::Probe && third.failures == 2.0, "{third:?}");
    assert!(third.blocked_seconds.is_some() && third.restart_seconds.is_some() && third.observed_seconds > 0.0);
    let store = Store::new(Arc::new(piton::medium::RealMedium::default()), folder.path());
    let history = store.job(JOB).unwrap().history();
    let endings: Vec<Ending> = (0..3).map(|place| history.ending(place)).collect();
    assert_eq!(endings, [Ending::Failed, Ending::Failed, Ending::Halted]);
    let account = history.account();
    assert!(account.failures == 2 && account.taken >= 5 && account.lost > 0.0, "{account:?}");
    let parts = account.useful
        + account.blocked
        + account.slowed
        + account.lost
        + account.detecting
        + account.down
        + account.restarts;
    assert!((parts - account.time).abs() < 1e-6, "{account:?}");
}

#[test]
fn the_last_checkpoint_is_durable_before_the_allocation_ends_and_none_is_begun_after_it() {
    const END: Duration = Duration::from_secs(4);
    let folder = tempfile::tempdir().unwrap();
    world(1, |rank| {
        let end = format!("{}s", END.as_secs());
        let mut session = builder(folder.path())
            .set("mtbf", "1000d")
            .set("allocation_end", end)
            .set("round_target", "5ms")
            .open(rank)
            .unwrap();
        let mut walk = Walk::new(0, 1000);
        session.resume(&mut walk).unwrap();
        let begun = Instant::now();
        run(&mut session, &mut walk, 0, |_, _, _| begun.elapsed() > END);
    });
    let folder = folder.path().join(JOB).join("000001");
    let records = piton::journal::read(&piton::medium::RealMedium::default(), &folder).unwrap().records;
    let end = records.iter().find_map(|record| match record.event {
        Event::AttemptStarted { allocation_end, .. } => allocation_end,
        _ => None,
    });
    let at = |wanted: &'static str| {
        records.iter().filter(move |record| record.event.kind() == wanted).map(|record| record.at)
    };
    let (last, end) = (at("committed").next_back().expect("one was committed"), end.expect("it was said"));
    let left = last.until(end).as_secs_f64();
    // A second is kept free, and a little for the commit and two steps.
    assert!((0.5..3.0).contains(&left), "durable {left} s before the end");
    assert_eq!(at("checkpoint_started").count(), at("committed").count(), "none was begun in vain");
    let rules: Vec<Rule> = records
        .iter()
        .filter_map(|record| if let Event::Scheduled(schedule) = &record.event { Some(schedule.rule) } else { None })
        .collect();
    assert_eq!(rules.last(), Some(&Rule::TooLate), "{rules:?}");
}

#[test]
fn where_only_steps_are_wanted_a_last_checkpoint_is_taken_all_the_same() {
    const END: Duration = Duration::from_secs(3);
    let folder = tempfile::tempdir().unwrap();
    world(1, |rank| {
        let end = format!("{}s", END.as_secs());
        let builder = builder(folder.path()).every_steps(1_000_000).set("allocation_end", end);
        let mut session = builder.set("round_target", "5ms").open(rank).unwrap();
        let mut walk = Walk::new(0, 1000);
        session.resume(&mut walk).unwrap();
        let begun = Instant::now();
        run(&mut session, &mut walk, 0, |_, _, _| begun.elapsed() > END);
    });
    let committed = journal(folder.path(), 1).iter().filter(|event| matches!(event, Event::Committed { .. })).count();
    let rules: Vec<Rule> = scheduled(folder.path(), 1).iter().map(|schedule| schedule.rule).collect();
    // What commits take is known after the first: there may be time for another one.
    assert!((1..=3).contains(&committed), "{rules:?}");
    assert!(rules.first() == Some(&Rule::Last) && rules.last() == Some(&Rule::TooLate), "{rules:?}");
}

#[test]
fn a_foreseen_failure_brings_a_checkpoint_where_it_saves_more_than_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    world(2, |rank| {
        let first = piton::comm::Communicator::rank(&rank) == 0;
        // None is due by time, however slow the machine is.
        let builder = builder(folder.path()).set("mtbf", "1000d").set("every", "1h");
        let mut session = builder.set("round_target", "5ms").open(rank).unwrap();
        let mut walk = Walk::new(0, 1000);
        session.resume(&mut walk).unwrap();
        // Said by the rank that is not asked for the time.
        run(&mut session, &mut walk, 0, |session, at, now| {
            if at == 100 && !first {
                session.predict_failure(Some(Duration::from_secs(3600)));
            }
            now
        });
        session.wait();
    });
    let events = journal(folder.path(), 1);
    let reason = events.iter().find_map(|event| match event {
        Event::CheckpointStarted { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(reason, Some("prediction"));
    assert!(events.iter().any(|event| matches!(event, Event::Predicted { lead_seconds: Some(3600.0), .. })));
}

#[test]
fn a_sites_record_is_read_and_a_bad_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site.csv");
    let open = |text: &str| {
        std::fs::write(&site, text).unwrap();
        let store = folder.path().join("store");
        let mut results = world(1, |rank| {
            let opened = builder(&store).set("site_failures", site.display()).set("nodes", 10).open(rank);
            opened.map(|mut session| {
                let mut walk = Walk::new(0, 10);
                session.resume(&mut walk).unwrap();
                let _ = session.tick(1, &mut walk);
                let _ = session.finish(&mut walk);
            })
        });
        results.remove(0).map_err(|error| error.to_string())
    };
    let said = open("400, 348\n").unwrap_err();
    assert!(said.contains("site.csv: line 1: \"400, 348\" is not"), "{said}");
    open("# nodes, days, failures\n400, 348, 584\n").unwrap();
    let days = scheduled(&folder.path().join("store"), 1)[0].mtbf_seconds / 86_400.0;
    assert!((days - 23.8).abs() < 0.2, "{days}");
}

//! Stories of jobs that journals were written for by hand, and what is drawn from them.

use super::report;
use super::story::{State, Story};
use piton::ids::{CheckpointId, Epoch};
use piton::journal::{self, End, Event, JournalWriter, Record, WallTime};
use piton::medium::RealMedium;
use piton::reader::Reader;
use piton::store::{Claim, Store};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Journals of a job `walk`.
pub(super) struct Chronicle {
    folder: TempDir,
    lines: BTreeMap<(u64, String), Vec<(f64, String)>>,
    world: u32,
}

fn time(seconds: f64) -> WallTime {
    WallTime::from_unix_ms(1_800_000_000_000 + (seconds * 1e3).round() as i64)
}

impl Chronicle {
    fn new(world: u32) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), lines: BTreeMap::new(), world }
    }

    fn say(&mut self, epoch: u64, writer: &str, at: f64, event: Event) {
        let rank = writer.strip_prefix("rank-").and_then(|rank| rank.parse().ok());
        let lines = self.lines.entry((epoch, writer.to_owned())).or_default();
        let (seq, mono_ns) = (lines.len() as u64, 1 + (at * 1e9) as u64);
        let record = Record { v: journal::VERSION, at: time(at), mono_ns, epoch: Epoch(epoch), rank, seq, event };
        lines.push((at, serde_json::to_string(&record).expect("a record")));
    }

    fn rank(&mut self, epoch: u64, at: f64, event: Event) {
        self.say(epoch, &journal::rank_writer(0), at, event);
    }

    fn starts(&mut self, epoch: u64, at: f64, nodes: u32, from: Option<(u64, u64, u64)>) {
        let started = Event::AttemptStarted {
            job: "walk".into(),
            host: "n1".into(),
            pid: 1,
            world: self.world,
            program: "abc".into(),
            version: "0.1.0".into(),
            request: "latest".into(),
            boot_id: None,
            batch_job: Some("17".into()),
            batch_restarts: Some(0),
            allocation_end: None,
            nodes: Some(nodes),
        };
        self.rank(epoch, at, started);
        let (at, event) = match from {
            Some((epoch, id, step)) => {
                let (epoch, id) = (Epoch(epoch), CheckpointId(id));
                (at + 1.0, Event::Resumed { epoch, id, step, seconds: 0.5, bytes: 1, rolled_forward: false })
            }
            None => (at + 1.0, Event::FreshStart { reason: "nothing is there".into() }),
        };
        self.rank(epoch, at, event);
        let plan =
            Event::Plan { threads: 1, state_bytes: 1, arena_bytes: 1, chunk_bytes: 1, mpi: None, tracking: None };
        self.rank(epoch, at + 1.0, plan);
    }

    fn checkpoint(&mut self, epoch: u64, at: f64, id: u64, step: u64) {
        let id = CheckpointId(id);
        self.rank(epoch, at, Event::CheckpointStarted { id, tick: step, step, reason: "time".into() });
        self.rank(epoch, at, Event::Frozen { id, blocked_ns: 500_000_000, bytes: 1, copied_bytes: None });
        let slowed = Event::Slowed { id, seconds: 2.0, steps: 2, step_seconds: 1.0, lost_seconds: 0.25 };
        self.rank(epoch, at + 2.0, slowed);
        let commit_ns = 2_000_000_000;
        self.rank(
            epoch,
            at + 2.0,
            Event::Committed { id, step, commit_ns, bytes: 1 << 30, raw_bytes: 1 << 31, label: None },
        );
    }

    /// A failure as a supervisor tells of it.
    fn fails(&mut self, epoch: u64, number: u32, at: f64, class: &str, rank: u32, node: &str) {
        let summary = format!("rank {rank} on {node} is gone");
        let detected = Event::FailureDetected { failure: number, class: class.into(), summary };
        self.say(epoch, journal::SUPERVISOR, at, detected);
        let evidence = vec!["<b>signal</b> 9".to_owned()];
        let (rank, node) = (Some(rank), Some(node.to_owned()));
        self.say(epoch, journal::SUPERVISOR, at, Event::FailureLocated { failure: number, rank, node, evidence });
        self.say(
            epoch,
            journal::SUPERVISOR,
            at,
            Event::EndExplained { epoch: Epoch(epoch), failure: true, reason: class.into() },
        );
        let action = "launched again".to_owned();
        self.say(
            epoch,
            journal::SUPERVISOR,
            at + 0.5,
            Event::FailureHandled { failure: number, action, wait_seconds: None },
        );
    }

    fn recovers(&mut self, epoch: u64, number: u32, at: f64, step: u64, seconds: f64) {
        self.say(epoch, journal::SUPERVISOR, at, Event::FailureRecovered { failure: number, step, seconds });
    }

    fn store(&self) -> Store {
        Store::new(Arc::new(RealMedium::default()), self.folder.path())
    }

    fn path(&self, epoch: u64, writer: &str) -> PathBuf {
        let job = self.store().job("walk").expect("a good name");
        job.epoch_folder(Epoch(epoch)).join(journal::file_name(writer))
    }

    /// Writes the journals.
    fn write(&self) {
        std::fs::create_dir_all(self.folder.path().join("walk/claims")).expect("a folder");
        for ((epoch, writer), lines) in &self.lines {
            let path = self.path(*epoch, writer);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            let mut text = String::new();
            lines.iter().for_each(|(_, line)| writeln!(text, "{line}").expect("text"));
            std::fs::write(path, text).expect("a journal");
        }
    }

    fn told(&self) -> Story {
        let reader = Reader::open(&self.store(), "walk").expect("a job");
        Story::of(&reader, None).expect("a story").expect("an attempt")
    }

    pub(super) fn story(&self) -> Story {
        self.write();
        self.told()
    }
}

/// Three attempts on four nodes: a rank is killed in the first, a node lost in the second, and the third comes to the end.
pub(super) fn two_failures() -> Chronicle {
    let mut chronicle = Chronicle::new(8);
    chronicle.starts(1, 0.0, 4, None);
    chronicle.say(
        1,
        journal::SUPERVISOR,
        0.0,
        Event::Launched {
            launch: 1,
            launcher: "srun".into(),
            ranks: 8,
            nodes: ["n1", "n2", "n3", "n4"].map(str::to_owned).into(),
        },
    );
    chronicle.checkpoint(1, 20.0, 1, 18);
    chronicle.rank(1, 30.0, Event::Beat { step: 28 });
    chronicle.fails(1, 1, 31.0, "RankDied", 3, "n2");
    chronicle.starts(2, 33.0, 4, Some((1, 1, 18)));
    chronicle.recovers(1, 1, 36.0, 19, 5.0);
    chronicle.checkpoint(2, 55.0, 2, 38);
    chronicle.rank(2, 70.0, Event::Beat { step: 53 });
    chronicle.fails(2, 2, 75.0, "NodeLost", 5, "n3");
    chronicle.starts(3, 80.0, 3, Some((2, 2, 38)));
    chronicle.recovers(2, 2, 83.0, 39, 8.0);
    chronicle.rank(3, 100.0, Event::Beat { step: 57 });
    chronicle.rank(3, 101.0, Event::Finished { step: 58, epoch: None, id: None });
    chronicle.rank(3, 101.0, Event::AttemptEnded { how: End::Finished, step: 58 });
    chronicle
}

#[test]
fn a_rank_that_has_yet_to_resume_is_at_no_step() {
    let mut chronicle = two_failures();
    chronicle.rank(4, 110.0, Event::Beat { step: 0 });
    chronicle.starts(4, 110.0, 3, Some((2, 2, 38)));
    chronicle.rank(4, 115.0, Event::Beat { step: 40 });
    let story = chronicle.story();
    let steps = |place: usize| story.attempts[place].progress.iter().map(|at| at.step).collect::<Vec<_>>();
    assert_eq!(steps(3), [38, 40]);
    assert_eq!(steps(0), [18, 28]);
}

#[test]
fn a_story_tells_where_the_time_went_and_what_each_failure_cost() {
    let story = two_failures().story();
    assert_eq!((story.state, story.step, story.attempts.len()), (State::Finished, 58, 3));
    let parts = story.parts;
    let sum: f64 = parts.named().iter().map(|(_, seconds)| seconds).sum();
    assert!((sum - parts.all).abs() < 1e-6 && (parts.all - (4.0 * 80.0 + 3.0 * 21.0)).abs() < 1e-6, "{parts:?}");
    // From the checkpoint to the last step, less what its writing cost; on four nodes each.
    assert_eq!(parts.lost, 4.0 * (9.75 + 14.75));
    assert_eq!(parts.blocked, 4.0 * (0.5 + 0.5));
    assert_eq!(parts.detecting, 4.0 * (1.0 + 5.0));
    assert_eq!(parts.restarting, 4.0 * (2.0 + 2.0 + 2.0 + 5.0) + 3.0 * 2.0);
    assert_eq!(parts.waiting, 0.0);
    let told: Vec<_> =
        story.faults.iter().map(|fault| (fault.class.as_str(), fault.rank, fault.node.as_deref())).collect();
    assert_eq!(told, [("RankDied", Some(3), Some("n2")), ("NodeLost", Some(5), Some("n3"))]);
    let fault = &story.faults[1];
    let times = [fault.detect_seconds, fault.locate_seconds, fault.handle_seconds, fault.recover_seconds];
    assert_eq!(times, [5.0, 0.0, 0.5, 7.5].map(Some));
    assert_eq!((fault.lost_seconds, fault.recovered_step, fault.epoch), (Some(14.75), Some(39), 2));
    assert_eq!((story.mtbf.failures, story.mtbf.observed_seconds), (2, 30.0 + 37.0 + 21.0));
    let suspicious: Vec<&str> =
        story.nodes.iter().filter(|node| node.failures > 0).map(|node| node.name.as_str()).collect();
    assert_eq!(suspicious, ["n2", "n3"]);
    assert_eq!(story.doubts, Vec::<String>::new());
}

#[test]
fn a_report_names_everything_and_takes_nothing_for_markup() {
    let story = two_failures().story();
    let text = report::text(&story);
    for part in
        ["walk: finished at step 58", "RankDied", "NodeLost", "n3", "waiting", "mean time between failures: 44.0 s"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = report::html(&story);
    assert!(page.contains("&lt;b&gt;signal&lt;/b&gt; 9") && !page.contains("<b>signal"), "{page}");
    // Nothing is fetched from anywhere.
    assert!(["http:", "https:", " src=", " href=", "url("].iter().all(|part| !page.contains(part)), "{page}");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    if let Some(path) = std::env::var_os("PITON_TEST_PAGE") {
        std::fs::write(path, page).expect("a page");
    }
}

#[test]
fn a_journal_that_is_cut_off_or_missing_is_told_and_the_rest_is_right() {
    let chronicle = two_failures();
    chronicle.write();
    let whole = chronicle.told();
    // In the middle of its last line.
    let path = chronicle.path(3, &journal::rank_writer(0));
    let text = std::fs::read_to_string(&path).expect("a journal");
    std::fs::write(&path, &text[..text.len() - 30]).expect("a journal");
    let story = chronicle.told();
    assert!(story.doubts.iter().any(|doubt| doubt.contains("1 lines of journals are damaged")), "{:?}", story.doubts);
    assert_eq!((story.state, &story.faults), (State::Gone, &whole.faults));
    assert_eq!(story.attempts[..2], whole.attempts[..2]);
    // The second attempt is gone, with its folder: what it did is not known.
    std::fs::write(&path, text).expect("a journal");
    let second = chronicle.path(2, journal::SUPERVISOR);
    std::fs::remove_dir_all(second.parent().expect("a folder")).expect("a folder");
    let story = chronicle.told();
    assert!(story.doubts.iter().any(|doubt| doubt.contains("nothing is known of attempts 2")), "{:?}", story.doubts);
    // Nor what was lost of the first.
    let known = super::Fault { lost_seconds: None, ..whole.faults[0].clone() };
    assert_eq!(story.faults, [known]);
    let sum: f64 = story.parts.named().iter().map(|(_, seconds)| seconds).sum();
    assert!((sum - story.parts.all).abs() < 1e-6);
}

#[test]
fn a_failure_that_no_supervisor_saw_is_told_by_what_was_found() {
    let mut chronicle = Chronicle::new(4);
    chronicle.starts(1, 0.0, 1, None);
    chronicle.checkpoint(1, 10.0, 1, 8);
    chronicle.rank(1, 20.0, Event::Beat { step: 18 });
    for (at, severity, rank) in [(15.0, "warning", "1"), (21.5, "critical", "2"), (21.6, "critical", "3")] {
        let rule = if severity == "critical" { "RankDied" } else { "RankSlow" };
        let labels = [("rank", rank), ("node", "n1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = Event::Found {
            rule: rule.into(),
            severity: severity.into(),
            labels: labels.into(),
            summary: format!("rank {rank} died"),
            action: "stop_attempt".into(),
            since_seconds: None,
            evidence: vec!["signal 9".into()],
        };
        chronicle.rank(1, at, found);
    }
    chronicle.starts(2, 60.0, 1, Some((1, 1, 8)));
    chronicle.rank(2, 70.0, Event::Beat { step: 15 });
    let story = chronicle.story();
    let [fault] = story.faults.as_slice() else { panic!("{:?}", story.faults) };
    assert_eq!((fault.class.as_str(), fault.rank, fault.node.as_deref()), ("RankDied", Some(2), Some("n1")));
    assert_eq!((fault.detect_seconds, fault.lost_seconds, fault.recover_seconds), (Some(1.5), Some(9.75), Some(40.5)));
    // Nobody was there to start it again.
    assert_eq!((story.parts.waiting, story.parts.restarting), (0.0, 2.0 * 2.0 + 38.4));
    assert_eq!((fault.number, story.nodes[0].failures), (None, 1));
}

#[test]
fn a_program_that_took_a_number_is_no_attempt_that_is_missing() {
    let chronicle = two_failures();
    chronicle.write();
    let job = chronicle.store().job("walk").expect("a good name");
    let claim = job.claim(|epoch| Claim::of_program(epoch, "walk", 8)).expect("a number");
    assert_eq!(claim.epoch, Epoch(4));
    let medium = Arc::clone(job.medium());
    let journal = JournalWriter::open(medium, &job.epoch_folder(claim.epoch), claim.epoch, 0).expect("a journal");
    let (from_epoch, from, id) = (Epoch(2), CheckpointId(2), CheckpointId(3));
    journal.write(Event::Compacted { from_epoch, from, id, bytes: 1 });
    assert_eq!(chronicle.told().doubts, Vec::<String>::new());
}

#[test]
fn a_clock_that_jumps_is_told_and_spans_are_right() {
    let mut chronicle = two_failures();
    let whole = chronicle.story();
    // Back by an hour within the second attempt.
    let lines = chronicle.lines.get_mut(&(2, journal::rank_writer(0))).expect("a journal");
    for (at, line) in lines.iter_mut().skip(4) {
        *line = line.replace(&time(*at).to_string(), &time(*at - 3600.0).to_string());
    }
    let story = chronicle.story();
    assert!(story.doubts.iter().any(|doubt| doubt.contains("-3600 s during attempt 2")), "{:?}", story.doubts);
    assert_eq!((story.parts, &story.faults), (whole.parts, &whole.faults));
}

#[test]
fn weeks_with_hundreds_of_failures_and_ten_thousand_ranks_stay_small_and_quick() {
    let mut chronicle = Chronicle::new(10_000);
    let (mut at, mut id, mut step) = (0.0, 0, 0u64);
    let mut from = None;
    for epoch in 1..=300 {
        chronicle.starts(epoch, at, 1000, from);
        for _ in 0..10 {
            at += 700.0;
            (id, step) = (id + 1, step + 600);
            chronicle.checkpoint(epoch, at, id, step);
            from = Some((epoch, id, step));
        }
        at += 200.0;
        chronicle.rank(epoch, at, Event::Beat { step: step + 150 });
        chronicle.fails(
            epoch,
            u32::try_from(epoch).expect("few"),
            at + 3.0,
            "NodeLost",
            7,
            &format!("node{:04}", epoch % 50),
        );
        at += 20.0;
        chronicle.recovers(epoch, u32::try_from(epoch).expect("few"), at + 5.0, step + 1, 12.0);
    }
    let story = chronicle.story();
    assert_eq!((story.attempts.len(), story.faults.len()), (300, 300));
    let since = std::time::Instant::now();
    let page = report::html(&story);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    // A second is wanted of an optimised program on an idle machine.
    assert!(since.elapsed().as_secs_f64() < 20.0);
    let share = story.parts.share(story.parts.named().iter().map(|(_, seconds)| seconds).sum());
    assert!((share - 1.0).abs() < 1e-9);
    if let Some(path) = std::env::var_os("PITON_TEST_PAGE") {
        std::fs::write(PathBuf::from(path).with_extension("long.html"), page).expect("a page");
    }
}

/// A job of so many ranks on four nodes that runs, as a supervisor sees it; rank 2 is stopped, and rank 3 far behind.
pub(super) fn running(ranks: u32) -> super::Now {
    let rank = |rank: u32| super::RankNow {
        rank,
        node: Some(format!("n{}", 1 + rank % 4)),
        pid: 1000 + rank,
        presence: if rank == 2 { super::RankState::Stuck } else { super::RankState::Computing },
        step: if rank == 3 { 20 } else { 57 },
        step_seconds: Some(0.25),
        phase: Some("halo <exchange>".into()),
        silent_seconds: if rank == 2 { 9.5 } else { 0.1 },
        mean_step_seconds: Some(1.0),
        waiting_share: None,
        error: None,
    };
    let node = |number: u32| super::NodeNow {
        name: format!("n{number}"),
        state: if number == 4 { super::NodeState::Lost } else { super::NodeState::Computing },
        reason: (number == 4).then(|| "nothing is heard of it".to_owned()),
        ranks: (ranks / 4) as usize,
        heard_seconds: Some(0.5),
    };
    super::Now {
        job: "walk".into(),
        at: time(101.0),
        epoch: 3,
        state: State::Running,
        host: Some("n1".into()),
        world: Some(ranks),
        started: Some(time(80.0)),
        step: Some(20),
        ranks: (0..ranks).map(rank).collect(),
        nodes: (1..=4).map(node).collect(),
        watched: Some(true),
        checkpoint: Some(super::CheckpointNow { epoch: 2, id: 2, step: 38, age_seconds: 46.0 }),
        checkpoints: 2,
        chain: Vec::new(),
        schedule: Some("next in 10 s".into()),
        alerts: vec![super::AlertNow {
            since: time(95.0),
            rule: "RankStopped".into(),
            severity: "critical".into(),
            summary: "rank 2 is stopped <script>\u{1b}[31m".into(),
            labels: BTreeMap::from([("rank".to_owned(), "2".to_owned())]),
        }],
    }
}

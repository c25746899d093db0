use super::read::read_at_most;
use super::*;
use crate::ids::CheckpointId;
use crate::medium::{Entry, Medium, MediumRead, MediumWrite, RealMedium, Stat};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn schedule() -> Schedule {
    Schedule {
        rule: Rule::Daly,
        next_seconds: Some(5.0),
        interval_seconds: Some(305.0),
        optimum_seconds: Some(303.0),
        cost_seconds: 2.0,
        blocked_seconds: Some(1.5),
        slowed_seconds: Some(0.5),
        latency_seconds: None,
        restart_seconds: None,
        downtime_seconds: None,
        step_seconds: Some(0.25),
        mtbf_seconds: 3600.0,
        mtbf_low_seconds: 1800.0,
        mtbf_high_seconds: 7200.0,
        mtbf_now_seconds: Some(2000.0),
        failures: 3.0,
        observed_seconds: 1e4,
        recall: 0.0,
        waste: Some(0.01),
    }
}

/// One event of every kind that is written.
fn every_event() -> Vec<Event> {
    let (epoch, id, text) = (Epoch(3), CheckpointId(12), || "because".to_owned());
    vec![
        Event::AttemptStarted {
            job: text(),
            host: text(),
            pid: 1,
            world: 4,
            program: text(),
            version: text(),
            request: text(),
            boot_id: Some(text()),
            batch_job: None,
            batch_restarts: Some(2),
            allocation_end: Some(WallTime::from_unix_ms(1_800_000_000_000)),
            nodes: Some(4),
        },
        Event::TookOver { epoch },
        Event::Configuration { settings: BTreeMap::from([("keep".to_owned(), "3 (default)".to_owned())]) },
        Event::Plan { threads: 2, state_bytes: 1, arena_bytes: 2, chunk_bytes: 3, mpi: None, tracking: Some(text()) },
        Event::StagingPlan { state_bytes: 9, arena_bytes: 7, streamed_bytes: 2, limit_bytes: Some(8), why: text() },
        Event::TrackingOff { reason: text() },
        Event::Beat { step: u64::MAX },
        Event::Scheduled(Box::new(schedule())),
        Event::Predicted { lead_seconds: Some(2.5), what: text() },
        Event::Sampled {
            node: text(),
            gauges: BTreeMap::from([("node_load1".to_owned(), 0.5), (r#"a{b="c\"d"}"#.to_owned(), -1e300)]),
            counters: BTreeMap::from([("node_vmstat_oom_kill".to_owned(), 3.0)]),
        },
        Event::EndExplained { epoch, failure: true, reason: text() },
        Event::Found {
            rule: text(),
            severity: "critical".to_owned(),
            labels: BTreeMap::from([("rank".to_owned(), text())]),
            summary: text(),
            action: "stop_attempt".to_owned(),
            since_seconds: Some(1.75),
            evidence: vec![text(), String::new()],
        },
        Event::Over { rule: text(), labels: BTreeMap::new() },
        Event::Resumed { epoch, id, step: 9, seconds: 0.25, bytes: 7, rolled_forward: true },
        Event::FreshStart { reason: text() },
        Event::AlreadyFinished { epoch, id, step: 9 },
        Event::CandidateRejected { epoch, id, reason: text() },
        Event::SetAside { epoch, id, reason: text() },
        Event::RolledForward { epoch, id, step: 9 },
        Event::CheckpointStarted { id, tick: 1, step: 9, reason: text() },
        Event::Frozen { id, blocked_ns: 5, bytes: 7, copied_bytes: Some(6) },
        Event::ShardDurable {
            id,
            bytes: 7,
            raw_bytes: 9,
            seconds: 1.5,
            builds_on: Some(CheckpointId(1)),
            changed_share: Some(0.25),
        },
        Event::Committed { id, step: 9, commit_ns: 5, bytes: 7, raw_bytes: 9, label: Some(text()) },
        Event::Skipped { step: 9, reason: text() },
        Event::Dropped { id, reason: text() },
        Event::Problem { what: text(), detail: "quotes \" and\nlines \u{2028} and \u{0}".to_owned() },
        Event::Retired { epoch, id },
        Event::Cleaned { epoch, what: text() },
        Event::Archived { epochs: vec![epoch] },
        Event::RequestSeen { what: text() },
        Event::Launched { launch: 2, launcher: text(), ranks: 4, nodes: vec![text()] },
        Event::FailureDetected { failure: 1, class: text(), summary: text() },
        Event::FailureLocated { failure: 1, rank: Some(3), node: Some(text()), evidence: vec![text()] },
        Event::FailureHandled { failure: 1, action: text(), wait_seconds: Some(2.0) },
        Event::FailureRecovered { failure: 1, step: 9, seconds: 1.5 },
        Event::SupervisorEnded { outcome: text(), launches: 2 },
        Event::AgreementStopped { reason: text() },
        Event::Halted { step: 9 },
        Event::Finished { step: 9, epoch: Some(epoch), id: Some(id) },
        Event::Compacted { from_epoch: epoch, from: id, id, bytes: 8 },
        Event::Encoding {
            id,
            efforts: [("auto".to_owned(), "depth".to_owned())].into(),
            in_haste: [("fastest".to_owned(), "depth".to_owned())].into(),
            storage_bytes_per_second: 1e9,
            busy: 0.5,
            interval_seconds: 600.0,
            threads: Some(2),
            nice: Some(5),
            expected_bytes: Some(8),
            expected_seconds: Some(0.25),
        },
        Event::ValuesOutOfRange {
            id,
            field: "depth".into(),
            index: 17,
            component: Some(1),
            global: Some(vec![3, 0]),
            value: "NaN".into(),
            count: 5,
            bounds: "finite".into(),
        },
        Event::Slowed { id, seconds: 0.5, steps: 3, step_seconds: 0.125, lost_seconds: 0.125 },
        Event::AttemptEnded { how: End::Panicked, step: 9 },
        Event::AlertFiring {
            fingerprint: text(),
            rule: text(),
            severity: text(),
            labels: BTreeMap::from([("node".to_owned(), text())]),
            summary: text(),
            action: text(),
        },
        Event::AlertResolved { fingerprint: text(), rule: text(), labels: BTreeMap::new(), seconds: 0.5 },
        Event::Notified { receiver: text(), alerts: vec![text()], outcome: text() },
        Event::JournalGap { lost: 4 },
    ]
}

fn record(seq: u64, milliseconds: i64, event: Event) -> Record {
    let at = WallTime::from_unix_ms(milliseconds);
    Record { v: VERSION, at, mono_ns: 1, epoch: Epoch(3), rank: Some(0), seq, event }
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap() + "\n"
}

fn real() -> Arc<dyn Medium> {
    Arc::new(RealMedium::default())
}

fn put(folder: &Path, writer: &str, content: impl AsRef<[u8]>) {
    fs::write(folder.join(file_name(writer)), content).unwrap();
}

fn steps(journal: &Journal) -> Vec<u64> {
    let step = |record: &Record| match record.event {
        Event::Beat { step } => step,
        _ => u64::MAX,
    };
    journal.records.iter().map(step).collect()
}

#[test]
fn every_event_reads_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let writer = JournalWriter::open(real(), folder.path(), Epoch(3), 7).unwrap();
    for event in every_event() {
        writer.write(event);
    }
    writer.sync().unwrap();
    assert!(folder.path().join("journal.rank-00007.jsonl").is_file());
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    let events: Vec<_> = journal.records.iter().map(|record| record.event.clone()).collect();
    assert_eq!(events, every_event());
    assert_eq!((journal.damaged_lines, journal.newer_lines, journal.left_out_bytes), (0, 0, 0));
    for (seq, record) in journal.records.iter().enumerate() {
        assert_eq!((record.v, record.epoch, record.rank, record.seq), (1, Epoch(3), Some(7), seq as u64));
        assert!(!record.event.kind().is_empty());
    }
    assert!(journal.records.is_sorted_by_key(|record| record.mono_ns));
}

#[test]
fn every_kind_is_among_those_tested() {
    let mut kinds: Vec<_> = every_event().iter().map(Event::kind).collect();
    kinds.sort();
    kinds.dedup();
    // Serde lists the kinds that it knows in the error for one that it does not; `Unknown` hides that error, so the
    // source is asked.
    let source = include_str!("event.rs");
    let (_, variants) = source.split_once("pub enum Event {").unwrap();
    let (variants, _) = variants.split_once("\n}\n").unwrap();
    let is_variant =
        |line: &&str| line.starts_with("    ") && line.as_bytes().get(4).is_some_and(u8::is_ascii_uppercase);
    assert_eq!(kinds.len() + 1, variants.lines().filter(is_variant).count());
}

#[test]
fn a_line_is_what_the_documentation_says() {
    let documentation = include_str!("../journal.rs");
    let mut lines = documentation.lines().filter_map(|line| line.strip_prefix("//! "));
    let text = lines.find(|line| line.starts_with('{')).unwrap();
    let expected = record(0, 1_795_327_811_123, Event::Beat { step: 7 });
    assert_eq!(serde_json::from_str::<Record>(text).unwrap(), expected);
    assert_eq!(line(&expected).trim_end(), text);
}

#[test]
fn what_a_later_version_says_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let head = r#""at":"2026-11-22T06:10:11Z","mono_ns":1,"epoch":3,"seq":0,"node":"n7","event":"#;
    let unknown = format!(r#"{{"v":1,{head}{{"kind":"node_left","node":"n7","why":[1,2]}}}}"#);
    let reshaped = format!(r#"{{"v":1,{head}{{"kind":"beat","phase":"compute"}}}}"#);
    let newer = format!(r#"{{"v":2,{head}{{"kind":"beat","step":1}}}}"#);
    let newest = r#"{"v":9,"entirely":"different"}"#;
    put(folder.path(), "agent-n7", format!("{unknown}\n{reshaped}\n{newer}\n{newest}\n"));
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    assert_eq!((journal.records.len(), journal.damaged_lines, journal.newer_lines), (2, 0, 2));
    assert_eq!(journal.records[0].rank, None);
    assert_eq!((journal.records[0].event.kind(), journal.records[1].event.kind()), ("node_left".into(), "beat".into()));
    assert!(matches!(&journal.records[0].event, Event::Unknown(value) if value["why"][1] == 2));
    assert_eq!(serde_json::to_value(&journal.records[0].event).unwrap()["why"][1], 2);
}

#[test]
fn a_torn_or_damaged_line_costs_itself_only() {
    let folder = tempfile::tempdir().unwrap();
    let beat = |step| line(&record(step, 0, Event::Beat { step }));
    let long = format!("{{\"x\":\"{}\"}}\n", "y".repeat(3 * LINE_LIMIT));
    let torn = beat(9);
    let mut bytes =
        [beat(0), "garbage\n".into(), beat(1), long, "\n".into(), beat(2), "[1]\n".into()].concat().into_bytes();
    bytes.extend_from_slice(b"\xff\xfe\x00\n");
    bytes.extend_from_slice(&torn.as_bytes()[..torn.len() / 2]);
    put(folder.path(), "rank-00000", &bytes);
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    assert_eq!((steps(&journal), journal.damaged_lines), (vec![0, 1, 2], 5));
    // The next writer of the file starts on a line of its own and counts on.
    let writer = JournalWriter::open(real(), folder.path(), Epoch(3), 0).unwrap();
    writer.write(Event::Beat { step: 3 });
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    let mut found: Vec<_> = journal.records.iter().map(|record| record.seq).collect();
    found.sort_unstable();
    assert_eq!((found, journal.damaged_lines), (vec![0, 1, 2, 3], 5));
    // A last line of which only the end is missing says all it had to say.
    put(folder.path(), "rank-00000", beat(5).trim_end());
    assert_eq!(steps(&read(&RealMedium::default(), folder.path()).unwrap()), [5]);
}

#[test]
fn lines_as_long_as_allowed_are_read_and_longer_ones_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let of_detail = |len: usize| Event::Problem { what: "x".into(), detail: "y".repeat(len) };
    let empty = line(&record(0, 0, of_detail(0))).len() - 1;
    let fits = line(&record(0, 0, of_detail(LINE_LIMIT - empty)));
    assert_eq!(fits.len(), LINE_LIMIT + 1);
    put(folder.path(), "a", &fits);
    put(folder.path(), "b", line(&record(0, 0, of_detail(LINE_LIMIT - empty + 1))));
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    assert_eq!((journal.records.len(), journal.damaged_lines), (1, 1));
    let writer = JournalWriter::open(real(), folder.path(), Epoch(3), 0).unwrap();
    writer.write(of_detail(LINE_LIMIT));
    let last = tail(&RealMedium::default(), &folder.path().join(file_name("rank-00000"))).unwrap().record.unwrap();
    assert!(matches!(last.event, Event::Problem { detail, .. } if detail.contains("of kind problem")));
}

#[test]
fn writers_are_merged_by_time_and_each_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let beats = |times: &[(u64, i64)]| -> String {
        times.iter().map(|(step, at)| line(&record(*step, *at, Event::Beat { step: *step }))).collect()
    };
    // The clock of the first is set back after step 1.
    put(folder.path(), "rank-00000", beats(&[(0, 10), (1, 40), (2, 5), (3, 60)]));
    put(folder.path(), "rank-00001", beats(&[(10, 20), (11, 40), (12, 50)]));
    fs::write(folder.path().join("manifest.json"), "not a journal\n").unwrap();
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    assert_eq!(steps(&journal), [0, 10, 1, 2, 11, 12, 3]);
    assert_eq!(journal.damaged_lines, 0);
}

#[test]
fn of_too_much_the_newest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let all: String = (0..5000).map(|step| line(&record(step, 0, Event::Beat { step }))).collect();
    put(folder.path(), "rank-00000", &all);
    let limit = 100_000;
    let journal = read_at_most(&RealMedium::default(), folder.path(), limit).unwrap();
    assert_eq!(journal.left_out_bytes, all.len() as u64 - limit);
    assert_eq!(journal.damaged_lines, 0);
    let found = steps(&journal);
    assert_eq!((found.last(), found.is_sorted()), (Some(&4999), true));
    // All lines that lie wholly within the limit, however the cut falls.
    for cut in 0..150 {
        let limit = limit + cut;
        let whole = all[all.len() - limit as usize - 1..].split_once('\n').unwrap().1.lines().count();
        assert_eq!(steps(&read_at_most(&RealMedium::default(), folder.path(), limit).unwrap()).len(), whole, "{cut}");
    }
    let tail = tail(&RealMedium::default(), &folder.path().join(file_name("rank-00000"))).unwrap();
    assert_eq!((tail.writer.as_str(), tail.len), ("rank-00000", all.len() as u64));
    assert_eq!(tail.record, Some(record(4999, 0, Event::Beat { step: 4999 })));
    assert!(tail.modified.is_some());
    assert_eq!(tails(&RealMedium::default(), folder.path()).unwrap(), [tail]);
}

#[test]
fn a_folder_without_journals_is_empty_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(&RealMedium::default(), folder.path()).unwrap(), Journal::default());
    assert!(read(&RealMedium::default(), &folder.path().join("none")).is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    put(elsewhere.path(), "rank-00000", line(&record(0, 0, Event::Beat { step: 1 })));
    std::os::unix::fs::symlink(
        elsewhere.path().join(file_name("rank-00000")),
        folder.path().join(file_name("rank-00000")),
    )
    .unwrap();
    assert_eq!(read(&RealMedium::default(), folder.path()).unwrap(), Journal::default());
    assert!(JournalWriter::open(real(), folder.path(), Epoch(3), 0).is_err());
}

#[test]
fn threads_share_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let writer = JournalWriter::open(real(), folder.path(), Epoch(3), 0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = &writer;
            scope.spawn(move || (0..100).for_each(|step| writer.write(Event::Beat { step: thread * 1000 + step })));
        }
    });
    // Whoever came while another wrote has left its line to that other one, which took it.
    assert_eq!(writer.waiting(), 0);
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    assert_eq!((journal.records.len(), journal.damaged_lines), (400, 0));
    assert!(journal.records.iter().enumerate().all(|(at, record)| record.seq == at as u64));
}

/// The real files, but writing fails while `full` is set: half of what was to be written is then in the file.
#[derive(Debug, Default)]
struct Failing {
    real: RealMedium,
    full: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FailingWrite {
    real: Box<dyn MediumWrite>,
    full: Arc<AtomicBool>,
}

impl MediumWrite for FailingWrite {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            self.real.write_at(offset, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.real.write_at(offset, bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.real.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.real.sync()
    }
}

impl Medium for Failing {
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.real.create_dir(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn MediumWrite>> {
        self.real.create(path)
    }
    fn append(&self, path: &Path) -> io::Result<(Box<dyn MediumWrite>, u64)> {
        let (real, len) = self.real.append(path)?;
        Ok((Box::new(FailingWrite { real, full: Arc::clone(&self.full) }), len))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn MediumRead>> {
        self.real.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.real.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.real.remove_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.real.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.real.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.real.stat(path)
    }
    fn room(&self, path: &Path) -> io::Result<Option<u64>> {
        self.real.room(path)
    }
}

#[test]
fn what_cannot_be_written_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Failing::default());
    let full = Arc::clone(&medium.full);
    let writer = JournalWriter::open(medium, folder.path(), Epoch(3), 0).unwrap();
    writer.write(Event::Beat { step: 0 });
    full.store(true, Ordering::SeqCst);
    for step in 1..10 {
        writer.write(Event::Beat { step });
    }
    assert!(writer.sync().is_err());
    assert_eq!(writer.waiting(), 9);
    // Half a line is in the file now, as a reader sees.
    assert_eq!(read(&RealMedium::default(), folder.path()).unwrap().damaged_lines, 1);
    full.store(false, Ordering::SeqCst);
    writer.write(Event::Beat { step: 10 });
    writer.sync().unwrap();
    let journal = read(&RealMedium::default(), folder.path()).unwrap();
    assert_eq!((steps(&journal), journal.damaged_lines), ((0..=10).collect(), 0));
}

#[test]
fn what_is_lost_is_counted_where_it_is_missing() {
    for (count, detail) in [(3000, 1), (100, 60_000)] {
        let folder = tempfile::tempdir().unwrap();
        let medium = Arc::new(Failing::default());
        let full = Arc::clone(&medium.full);
        let writer = JournalWriter::open(medium, folder.path(), Epoch(3), 0).unwrap();
        writer.write(Event::Beat { step: 0 });
        full.store(true, Ordering::SeqCst);
        for _ in 0..count {
            writer.write(Event::Problem { what: "full".into(), detail: "x".repeat(detail) });
        }
        full.store(false, Ordering::SeqCst);
        writer.write(Event::AttemptEnded { how: End::Finished, step: 1 });
        let journal = read(&RealMedium::default(), folder.path()).unwrap();
        let Event::JournalGap { lost } = journal.records[1].event else { panic!("no gap: {:?}", journal.records[1]) };
        assert!(lost > 0 && journal.records.len() <= 1002);
        // Every number is either there or counted as lost.
        assert_eq!(journal.records[1].seq, lost);
        assert_eq!(lost + journal.records.len() as u64 - 1, count + 2);
        assert!(journal.records.is_sorted_by_key(|record| record.seq));
        assert!(matches!(journal.records.last().unwrap().event, Event::AttemptEnded { .. }));
        assert_eq!(journal.damaged_lines, 0);
    }
}

#[test]
fn a_journal_that_vanishes_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let attempt = folder.path().join("000003");
    let writer = JournalWriter::open_later(real(), &attempt, Epoch(3), 0);
    writer.write(Event::Beat { step: 0 });
    assert_eq!(writer.waiting(), 1);
    fs::create_dir(&attempt).unwrap();
    writer.write(Event::Beat { step: 1 });
    assert_eq!(steps(&read(&RealMedium::default(), &attempt).unwrap()), [0, 1]);
    fs::remove_dir_all(&attempt).unwrap();
    assert!(writer.sync().is_err());
    writer.write(Event::Beat { step: 2 });
    fs::create_dir(&attempt).unwrap();
    writer.sync().unwrap();
    writer.write(Event::Beat { step: 3 });
    assert_eq!(steps(&read(&RealMedium::default(), &attempt).unwrap()), [2, 3]);
}

#[test]
fn a_note_waits_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let writer = JournalWriter::open(real(), folder.path(), Epoch(3), 0).unwrap();
    writer.note(Event::Beat { step: 0 });
    assert_eq!((writer.waiting(), read(&RealMedium::default(), folder.path()).unwrap().records.len()), (1, 0));
    writer.flush();
    assert_eq!((writer.waiting(), read(&RealMedium::default(), folder.path()).unwrap().records.len()), (0, 1));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_counted(bytes: Vec<u8>, insert in 0_usize..200, cut in 0_usize..400) {
        let folder = tempfile::tempdir().unwrap();
        let lines = every_event().into_iter().map(|event| line(&record(0, 0, event)));
        let mut content = lines.collect::<String>().into_bytes();
        let at = insert * content.len() / 200;
        content.splice(at..(at + cut).min(content.len()), bytes.iter().copied());
        put(folder.path(), "rank-00000", &content);
        let journal = read(&RealMedium::default(), folder.path()).unwrap();
        let filled = |line: &&[u8]| !line.trim_ascii().is_empty();
        let lines = content.split(|byte| *byte == b'\n').filter(filled).count() as u64;
        prop_assert_eq!(journal.records.len() as u64 + journal.damaged_lines + journal.newer_lines, lines);
        prop_assert!(journal.records.len() + 6 >= every_event().len() - cut.div_ceil(60));
        tail(&RealMedium::default(), &folder.path().join(file_name("rank-00000"))).unwrap();
        put(folder.path(), "rank-00000", &bytes);
        let journal = read(&RealMedium::default(), folder.path()).unwrap();
        prop_assert!(journal.records.is_empty());
    }
}

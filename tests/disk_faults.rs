//! Whatever a file system does: the job computes on, the checkpoint before stands, the journal says why, and the next one
//! succeeds once all is well again.

mod support;

use nix::libc::{EIO, EMFILE, ENOSPC, ESTALE};
use piton::comm::{Communicator, Solo};
use piton::journal::Event;
use piton::medium::{Medium, RealMedium};
use piton::store::Store;
use piton::{Checkpointer, OpenError, Refusal, ResumeError, Settled};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{
    Barrier, Call, Faults, Faulty, JOB, Walk, builder, checkpoint, copy_folder, fast_folder, journal, leave, long,
    skip, world,
};

const RANKS: usize = 2;
const SIZE: usize = 20_000;
/// No tick may take longer, on however busy a machine; a call that hangs does so for 30 s.
const TICK_BOUND: Duration = Duration::from_secs(5);

/// Advances to `until`, and says what became of the checkpoint that fell due last.
fn advance(checkpointer: &mut Checkpointer, walk: &mut Walk, step: &mut u64, until: u64) -> (Settled, Option<String>) {
    let (mut settled, mut problem) = (Settled::Nothing, None);
    while *step < until {
        walk.advance();
        *step += 1;
        let started = Instant::now();
        let tick = checkpointer.tick(*step, walk);
        assert!(started.elapsed() < TICK_BOUND, "tick {step} took {:?}", started.elapsed());
        assert!(!tick.should_stop());
        problem = tick.problem().map(str::to_owned).or(problem);
        if tick.frozen().is_some() || tick.problem().is_some() {
            settled = checkpointer.wait();
        }
    }
    (settled, problem)
}

/// Resumes in a new attempt, and checks state and step.
fn check_resume(folder: &Path, expected: u64) {
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, SIZE);
        let mut checkpointer = builder(folder).open(rank).unwrap();
        let resumed = checkpointer.resume(&mut walk).unwrap();
        assert_eq!(resumed.map(|at| at.step), Some(expected));
        assert!(walk == Walk::after(number, SIZE, expected), "the state is altered");
    });
}

/// Waits until a checkpoint that was dropped has lost a shard, so that it can't be rolled forward: its remains are removed
/// behind the back of whoever waits for its fate.
fn wait_until_removed(folder: &Path, id: u64) {
    let until = Instant::now() + Duration::from_secs(20);
    let folder = checkpoint(folder, 1, id);
    let whole = || (0..RANKS).all(|rank| folder.join(format!("rank-{rank:05}.shard")).exists());
    while whole() {
        assert!(Instant::now() < until, "{} is still there", folder.display());
        std::thread::yield_now();
    }
}

/// What a file system does to a job, and what undoes it.
struct Trouble<'a> {
    begin: &'a (dyn Fn() + Sync),
    end: &'a (dyn Fn() + Sync),
    /// One of these words is in what the journal says about the checkpoint that was lost.
    words: &'a [&'a str],
    /// Whether the store can be read meanwhile.
    readable: bool,
}

/// The checkpoint that [`survive`] loses: it builds on the third, as the one after it does.
const LOST: u64 = 4;

/// A job of two ranks meets trouble between its third and its fourth checkpoint, and is rid of it before the fifth.
fn survive(folder: &Path, mediums: [Option<Arc<dyn Medium>>; RANKS], trouble: &Trouble<'_>) {
    let copy = fast_folder();
    let barrier = Barrier::new(RANKS);
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, SIZE);
        let mut builder = builder(folder).every_steps(10);
        if let Some(medium) = &mediums[number] {
            builder = builder.medium(Arc::clone(medium));
        }
        let mut checkpointer = builder.open(rank).unwrap();
        assert_eq!(checkpointer.resume(&mut walk).unwrap(), None);
        let mut step = 0;
        for until in [12, 22, 32] {
            let (settled, _) = advance(&mut checkpointer, &mut walk, &mut step, until);
            assert!(matches!(settled, Settled::Committed(_)), "{settled:?}");
        }
        barrier.wait();
        if number == 0 {
            (trouble.begin)();
        }
        barrier.wait();
        let (settled, _) = advance(&mut checkpointer, &mut walk, &mut step, 42);
        let Settled::Dropped { reason, .. } = &settled else { panic!("{settled:?}") };
        assert!(!reason.is_empty());
        barrier.wait();
        if number == 0 {
            wait_until_removed(folder, LOST);
            if trouble.readable {
                copy_folder(folder, copy.path());
            }
            (trouble.end)();
            if !trouble.readable {
                copy_folder(folder, copy.path());
            }
        }
        barrier.wait();
        let (settled, problem) = advance(&mut checkpointer, &mut walk, &mut step, 52);
        assert!(matches!(settled, Settled::Committed(_)), "{settled:?}");
        assert_eq!(problem, None);
        assert!(walk == Walk::after(number, SIZE, 52), "the computation itself was disturbed");
    });
    // What stood while the trouble lasted, and what stands now.
    check_resume(copy.path(), 30);
    let events = journal(folder, 1);
    let said: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Problem { what, detail } => Some(format!("{what}: {detail}")),
            Event::Dropped { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .collect();
    assert!(said.iter().any(|text| trouble.words.iter().any(|word| text.contains(word))), "{said:#?}");
    assert!(events.iter().any(|event| matches!(event, Event::Dropped { .. })), "{said:#?}");
    let built: Vec<(u64, Option<u64>)> = events
        .iter()
        .filter_map(|event| match event {
            Event::ShardDurable { id, builds_on, .. } => Some((id.0, builds_on.map(|parent| parent.0))),
            _ => None,
        })
        .collect();
    assert_eq!(built.iter().filter(|shard| **shard == (LOST + 1, Some(LOST - 1))).count(), RANKS, "{built:?}");
    check_resume(folder, 50);
}

// ---- real file systems ----

/// A file system of its own, in memory.
struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    fn mount(options: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let run = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        match run {
            Ok(output) if output.status.success() => Ok(Self { folder }),
            Ok(output) => Err(format!(
                "mounting is refused: {}",
                String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default()
            )),
            Err(error) => Err(format!("there is no program `mount`: {error}")),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(self.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a thread that was left behind may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Writes to `path` until nothing more goes in.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    for block in [1 << 16, 1 << 12, 1 << 9, 1] {
        while file.write_all(&vec![7; block]).is_ok() {}
    }
}

#[test]
fn a_full_disk() {
    let disk = match Tmpfs::mount("size=4m") {
        Ok(disk) => disk,
        Err(reason) => return skip("a_full_disk", &reason),
    };
    let filler = disk.path().join("filler");
    let (begin, end) = (|| fill(&filler), || fs::remove_file(&filler).unwrap());
    let words = ["has room for", "No space left"];
    let trouble = Trouble { begin: &begin, end: &end, words: &words, readable: true };
    survive(&disk.path().join("store"), [None, None], &trouble);
}

#[test]
fn a_disk_that_fills_up_while_a_shard_is_written() {
    let disk = match Tmpfs::mount("size=4m") {
        Ok(disk) => disk,
        Err(reason) => return skip("a_disk_that_fills_up_while_a_shard_is_written", &reason),
    };
    let filler = disk.path().join("filler");
    let faults = Faults::default();
    let begin = || {
        let filler = filler.clone();
        faults.before(|call, path| call == Call::Write && is_shard(path), move || fill(&filler));
    };
    let end = || fs::remove_file(&filler).unwrap();
    let trouble = Trouble { begin: &begin, end: &end, words: &["No space left"], readable: true };
    survive(&disk.path().join("store"), [None, Some(Faulty::medium(&faults))], &trouble);
}

#[test]
fn no_inodes_left() {
    let disk = match Tmpfs::mount("size=8m,nr_inodes=64") {
        Ok(disk) => disk,
        Err(reason) => return skip("no_inodes_left", &reason),
    };
    let fillers = disk.path().join("fillers");
    let begin = || {
        fs::create_dir(&fillers).unwrap();
        let created = (0..100).take_while(|n| fs::File::create(fillers.join(n.to_string())).is_ok()).count();
        assert!(created < 100, "there is no limit");
    };
    let end = || fs::remove_dir_all(&fillers).unwrap();
    let trouble = Trouble { begin: &begin, end: &end, words: &["No space left"], readable: true };
    survive(&disk.path().join("store"), [None, None], &trouble);
}

#[test]
fn a_file_system_that_becomes_read_only() {
    let disk = match Tmpfs::mount("size=8m") {
        Ok(disk) => disk,
        Err(reason) => return skip("a_file_system_that_becomes_read_only", &reason),
    };
    // A remount waits for no file that is open for writing, so the journals are closed by an error first.
    let faults = [Faults::default(), Faults::default()];
    let begin = || {
        let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).output().unwrap();
        if !remount.status.success() {
            // Files are open for writing: what a kernel does after an error of the disk, as seen from above.
            for faults in &faults {
                faults.fail(nix::libc::EROFS, u64::MAX, |call, _| {
                    !matches!(call, Call::Open | Call::Read | Call::List | Call::Stat)
                });
            }
        }
    };
    let end = || {
        faults.iter().for_each(Faults::heal);
        disk.remount("rw");
    };
    let trouble = Trouble { begin: &begin, end: &end, words: &["Read-only file system"], readable: true };
    let mediums = [Some(Faulty::medium(&faults[0])), Some(Faulty::medium(&faults[1]))];
    survive(&disk.path().join("store"), mediums, &trouble);
}

const UNPRIVILEGED: &str = "PITON_TEST_UNPRIVILEGED_FOLDER";

#[test]
fn no_permission() {
    if let Some(folder) = std::env::var_os(UNPRIVILEGED) {
        return without_permission(Path::new(&folder));
    }
    let scratch = tempfile::tempdir().unwrap();
    if !nix::unistd::geteuid().is_root() {
        return without_permission(scratch.path());
    }
    // Root may do anything, so the job runs as a child without privileges, from a copy that it may execute.
    const NOBODY: u32 = 65534;
    let program = scratch.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let folder = scratch.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for path in [scratch.path(), &program, &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut child = Command::new(&program);
    child.args(["--exact", "no_permission", "--nocapture"]).env(UNPRIVILEGED, &folder).current_dir(&folder);
    match child.uid(NOBODY).gid(NOBODY).output() {
        Ok(output) => assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => skip("no_permission", &format!("no child without privileges can be started: {error}")),
    }
}

fn without_permission(folder: &Path) {
    let store = folder.join("store");
    let epoch = store.join(JOB).join("000001");
    let mode = |mode| fs::set_permissions(&epoch, fs::Permissions::from_mode(mode)).unwrap();
    let (begin, end) = (|| mode(0o500), || mode(0o700));
    let trouble = Trouble { begin: &begin, end: &end, words: &["Permission denied"], readable: true };
    survive(&store, [None, None], &trouble);
}

#[test]
fn a_folder_removed_while_a_shard_is_written() {
    let folder = fast_folder();
    let faults = Faults::default();
    let begin = || {
        let doomed = checkpoint(folder.path(), 1, LOST);
        let action = move || fs::remove_dir_all(&doomed).unwrap();
        faults.before(|call, path| call == Call::Sync && is_shard(path), action);
    };
    let trouble = Trouble { begin: &begin, end: &|| {}, words: &["No such file"], readable: true };
    survive(folder.path(), [None, Some(Faulty::medium(&faults))], &trouble);
    assert_eq!(faults.hits(), 1);
}

/// A job that was taken over from meets this: the newer attempt retires what the older one is writing.
#[test]
fn a_shard_removed_after_it_was_written() {
    let folder = fast_folder();
    let faults = Faults::default();
    let begin = || {
        let doomed = checkpoint(folder.path(), 1, LOST).join("rank-00000.shard");
        let action = move || {
            let until = Instant::now() + Duration::from_secs(20);
            while fs::remove_file(&doomed).is_err() {
                assert!(Instant::now() < until, "{} never came", doomed.display());
                std::thread::yield_now();
            }
        };
        faults.before(|call, path| call == Call::Rename && is_shard(path), action);
    };
    let trouble = Trouble { begin: &begin, end: &|| {}, words: &["removed while it was written"], readable: true };
    let started = Instant::now();
    survive(folder.path(), [None, Some(Faulty::medium(&faults))], &trouble);
    assert_eq!(faults.hits(), 1);
    assert!(started.elapsed() < Duration::from_secs(60), "waited for a shard that never comes back");
}

#[test]
fn the_folder_of_the_attempt_removed_in_mid_run() {
    // The checkpoint before is gone with it, but those to come are not.
    let folder = fast_folder();
    let barrier = Barrier::new(RANKS);
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, SIZE);
        let mut checkpointer = builder(folder.path()).every_steps(10).open(rank).unwrap();
        assert_eq!(checkpointer.resume(&mut walk).unwrap(), None);
        let mut step = 0;
        let (settled, _) = advance(&mut checkpointer, &mut walk, &mut step, 12);
        assert!(matches!(settled, Settled::Committed(_)), "{settled:?}");
        barrier.wait();
        if number == 0 {
            fs::remove_dir_all(folder.path().join(JOB).join("000001")).unwrap();
        }
        barrier.wait();
        let (settled, _) = advance(&mut checkpointer, &mut walk, &mut step, 22);
        assert!(matches!(settled, Settled::Committed(_)), "{settled:?}");
    });
    check_resume(folder.path(), 20);
}

// ---- errors on demand ----

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_shard(path: &Path) -> bool {
    name(path).contains(".shard")
}

fn is_manifest(path: &Path) -> bool {
    name(path).starts_with("manifest.json")
}

fn is_checkpoint_folder(path: &Path) -> bool {
    path.parent().is_some_and(|parent| name(parent) == "000001")
}

fn is_attempt_folder(path: &Path) -> bool {
    name(path) == "000001"
}

type Matches = fn(Call, &Path) -> bool;

#[test]
fn one_error_costs_one_checkpoint() {
    // What is refused, with what, on which rank.
    let table: &[(&str, usize, i32, Matches)] = &[
        ("create a shard", 0, EMFILE, |call, path| call == Call::Create && is_shard(path)),
        ("create a shard", 1, EMFILE, |call, path| call == Call::Create && is_shard(path)),
        ("write a shard", 0, ENOSPC, |call, path| call == Call::Write && is_shard(path)),
        ("write a shard", 1, EIO, |call, path| call == Call::Write && is_shard(path)),
        ("sync a shard", 0, EIO, |call, path| call == Call::Sync && is_shard(path)),
        ("sync a shard", 1, EIO, |call, path| call == Call::Sync && is_shard(path)),
        ("rename a shard", 1, ESTALE, |call, path| call == Call::Rename && is_shard(path)),
        ("make the folder", 1, ESTALE, |call, path| call == Call::CreateDir && is_checkpoint_folder(path)),
        ("make the folder's name durable", 0, EIO, |call, path| call == Call::SyncDir && is_attempt_folder(path)),
        ("make the folder's name durable", 1, EIO, |call, path| call == Call::SyncDir && is_attempt_folder(path)),
        ("sync the folder", 0, EIO, |call, path| call == Call::SyncDir && is_checkpoint_folder(path)),
        ("read a shard to commit", 0, EIO, |call, path| call == Call::Read && is_shard(path)),
        ("create a manifest", 0, EMFILE, |call, path| call == Call::Create && is_manifest(path)),
        ("write a manifest", 0, ENOSPC, |call, path| call == Call::Write && is_manifest(path)),
        ("sync a manifest", 0, EIO, |call, path| call == Call::Sync && is_manifest(path)),
        ("rename a manifest", 0, ESTALE, |call, path| call == Call::Rename && is_manifest(path)),
    ];
    for &(what, rank, errno, matches) in table {
        println!("{what} on rank {rank}: errno {errno}");
        let folder = fast_folder();
        let faults = Faults::default();
        let (begin, end) = (|| faults.fail(errno, 1, matches), || faults.heal());
        let words = format!("(os error {errno})");
        let trouble = Trouble { begin: &begin, end: &end, words: &[&words], readable: true };
        let mut mediums = [None, None];
        mediums[rank] = Some(Faulty::medium(&faults));
        survive(folder.path(), mediums, &trouble);
        assert_eq!(faults.hits(), 1, "{what}");
    }
    println!("errors: {}", table.len());
}

#[test]
fn a_final_name_that_could_not_be_made_durable() {
    // The first rank sees the name, and may commit before it learns of the error: its own sync of the folder covers the
    // name. Whatever it says to have become of the checkpoint must be so.
    for _ in 0..5 {
        let folder = fast_folder();
        let faults = Faults::default();
        let outcomes = world(RANKS, |rank| {
            let number = rank.rank();
            let mut walk = Walk::new(number, SIZE);
            let mut builder = builder(folder.path()).every_steps(10);
            if number == 1 {
                builder = builder.medium(Faulty::medium(&faults));
                faults.fail(EIO, 1, |call, path| call == Call::SyncDir && is_checkpoint_folder(path));
            }
            let mut checkpointer = builder.open(rank).unwrap();
            assert_eq!(checkpointer.resume(&mut walk).unwrap(), None);
            let (settled, _) = advance(&mut checkpointer, &mut walk, &mut 0, 22);
            match settled {
                Settled::Committed(_) => 20,
                _ => {
                    wait_until_removed(folder.path(), 2);
                    10
                }
            }
        });
        assert_eq!(faults.hits(), 1);
        assert_eq!(outcomes[0], outcomes[1]);
        check_resume(folder.path(), outcomes[0]);
    }
}

#[test]
fn the_third_write_of_a_shard_fails() {
    // A state of several megabytes that does not compress is written in several pieces.
    let folder = fast_folder();
    let faults = Faults::default();
    let writes = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&writes);
    faults.fail(ENOSPC, 1, move |call, path| {
        let mut count = counted.lock().unwrap();
        *count += u32::from(call == Call::Write && is_shard(path));
        *count == 3 && call == Call::Write && is_shard(path)
    });
    let mut walk = Walk::after(0, 2_000_000, 1);
    let open = || builder(folder.path()).medium(Faulty::medium(&faults)).set("compression", "raw");
    let mut checkpointer = open().open(piton::comm::Solo::default()).unwrap();
    checkpointer.resume(&mut walk).unwrap();
    checkpointer.checkpoint_now(1, None, &mut walk).unwrap();
    let Settled::Dropped { reason, .. } = checkpointer.wait() else {
        panic!("after {} writes", writes.lock().unwrap())
    };
    assert!(reason.contains(&format!("(os error {ENOSPC})")), "{reason}");
    wait_until_removed(folder.path(), 1);
    checkpointer.checkpoint_now(1, None, &mut walk).unwrap();
    assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
}

#[test]
fn errors_that_cost_nothing() {
    let table: &[(&str, i32, u64, Matches)] = &[
        ("append to a journal", EMFILE, 3, |call, path| call == Call::Append && name(path).starts_with("journal")),
        ("write a journal", ENOSPC, 5, |call, path| call == Call::Write && name(path).starts_with("journal")),
        ("sync a journal", EIO, 9, |call, path| call == Call::Sync && name(path).starts_with("journal")),
        ("look for shards", ESTALE, 1, |call, path| call == Call::List && is_checkpoint_folder(path)),
        ("look for requests", EIO, 1, |call, path| call == Call::List && name(path) == "requests"),
        ("retire: list", EIO, 1, |call, path| call == Call::List && name(path) == "000001"),
        ("retire: remove", EIO, 1, |call, path| call == Call::RemoveFile && is_manifest(path)),
        ("the room", EIO, 1, |call, path| call == Call::Stat && is_checkpoint_folder(path)),
    ];
    for &(what, errno, times, matches) in table {
        println!("{what}: errno {errno}");
        let folder = fast_folder();
        let faults = Faults::default();
        let barrier = Barrier::new(RANKS);
        // A journal is opened once, at the beginning.
        let early = what == "append to a journal";
        if early {
            faults.fail(errno, times, matches);
        }
        world(RANKS, |rank| {
            let number = rank.rank();
            let mut walk = Walk::new(number, SIZE);
            let mut checkpointer = builder(folder.path())
                .every_steps(10)
                .set("request_poll", "10ms")
                // What others build on is not retired.
                .set("chain", 1)
                .medium(Faulty::medium(&faults))
                .open(rank)
                .unwrap();
            assert_eq!(checkpointer.resume(&mut walk).unwrap(), None);
            barrier.wait();
            if number == 0 && !early {
                faults.fail(errno, times, matches);
            }
            barrier.wait();
            let mut step = 0;
            for until in [12, 22, 32, 42] {
                let (settled, problem) = advance(&mut checkpointer, &mut walk, &mut step, until);
                assert!(matches!(settled, Settled::Committed(_)), "{what}: {settled:?}");
                assert_eq!(problem, None, "{what}");
            }
        });
        assert!(faults.hits() > 0, "{what}: nothing was hit");
        faults.heal();
        let events = journal(folder.path(), 1);
        let commits = events.iter().filter(|event| matches!(event, Event::Committed { .. })).count();
        assert_eq!(commits, 4, "{what}: the journal lacks some");
        let ends = events.iter().filter(|event| matches!(event, Event::AttemptEnded { .. })).count();
        assert_eq!(ends, RANKS, "{what}");
        // What could not be retired at first is, later.
        assert!(!checkpoint(folder.path(), 1, 1).exists() && !checkpoint(folder.path(), 1, 2).exists(), "{what}");
        check_resume(folder.path(), 40);
    }
}

#[test]
fn a_claim_that_fails_is_an_error_on_all_ranks() {
    let table: &[(&str, i32, Matches)] = &[
        ("make a folder", EIO, |call, path| call == Call::CreateDir && name(path) == "claims"),
        ("create a claim", EMFILE, |call, path| call == Call::Create && name(path).starts_with("claim-")),
        ("write a claim", ENOSPC, |call, path| call == Call::Write && name(path).starts_with("claim-")),
        ("sync a claim", EIO, |call, path| call == Call::Sync && name(path).starts_with("claim-")),
        ("link a claim", ESTALE, |call, path| call == Call::Link && name(path) == "000001.json"),
        ("sync the claims", EIO, |call, path| call == Call::SyncDir && name(path) == "claims"),
        ("make the attempt's folder", ENOSPC, |call, path| call == Call::CreateDir && name(path) == "000001"),
    ];
    for &(what, errno, matches) in table {
        let folder = fast_folder();
        let faults = Faults::default();
        faults.fail(errno, 1, matches);
        let open = |expect_refusal: bool| {
            world(RANKS, |rank| {
                let mut walk = Walk::new(rank.rank(), SIZE);
                let opened = builder(folder.path()).medium(Faulty::medium(&faults)).open(rank);
                if expect_refusal {
                    let Err(OpenError::Refused { refusal, message }) = opened else { panic!("{what}: not refused") };
                    assert_eq!(refusal, Refusal::Store);
                    assert!(message.contains(&format!("(os error {errno})")), "{what}: {message}");
                    assert!(message.contains(JOB), "{what}: {message} names no file");
                    return;
                }
                let mut checkpointer = opened.unwrap();
                checkpointer.resume(&mut walk).unwrap();
                checkpointer.checkpoint_now(0, None, &mut walk).unwrap();
                assert!(matches!(checkpointer.wait(), Settled::Committed(_)), "{what}");
            });
        };
        open(true);
        assert_eq!(faults.hits(), 1, "{what}");
        open(false);
        check_resume(folder.path(), 0);
    }
}

#[test]
fn what_cannot_be_read_just_now_is_tried_again() {
    let sound = fast_folder();
    world(RANKS, |rank| {
        let mut walk = Walk::new(rank.rank(), SIZE);
        let mut checkpointer = builder(sound.path()).every_steps(10).open(rank).unwrap();
        checkpointer.resume(&mut walk).unwrap();
        advance(&mut checkpointer, &mut walk, &mut 0, 22);
    });
    let in_second: Matches = |_, path| path.parent().is_some_and(is_checkpoint_folder);
    // What fails, how often, on which rank, and whether the newest is resumed all the same.
    type Row = (&'static str, i32, u64, usize, bool, Call, fn(&Path) -> bool);
    let table: [Row; 6] = [
        ("open a shard", EIO, 1, 1, true, Call::Open, is_shard),
        ("read a shard", ESTALE, 2, 0, true, Call::Read, is_shard),
        ("read a shard", EIO, 1, 1, true, Call::Read, is_shard),
        // Once to open the job, once to look for candidates.
        ("open a manifest", ESTALE, 2, 0, true, Call::Open, is_manifest),
        ("read a shard", EIO, u64::MAX, 1, false, Call::Read, is_shard),
        ("read a manifest", EIO, u64::MAX, 0, false, Call::Read, is_manifest),
    ];
    for (what, errno, times, on, succeeds, call, of) in table {
        println!("{what} on rank {on}: errno {errno}, {times} times");
        let folder = fast_folder();
        copy_folder(sound.path(), folder.path());
        let faults = Faults::default();
        faults.fail(errno, times, move |called, path| called == call && of(path) && in_second(called, path));
        let outcomes = world(RANKS, |rank| {
            let number = rank.rank();
            let mut walk = Walk::new(number, SIZE);
            let mut builder = builder(folder.path());
            if number == on {
                builder = builder.medium(Faulty::medium(&faults));
            }
            let mut checkpointer = builder.open(rank).unwrap();
            let resumed = checkpointer.resume(&mut walk);
            if let Ok(Some(at)) = &resumed {
                assert!(walk == Walk::after(number, SIZE, at.step));
            }
            resumed
        });
        assert!(faults.hits() >= times.min(3), "{what}");
        for outcome in outcomes {
            match outcome {
                Ok(at) => assert!(succeeds && at.map(|at| at.step) == Some(20), "{what}: {at:?}"),
                Err(ResumeError::Refused(message)) => {
                    assert!(!succeeds, "{what}: {message}");
                    assert!(message.contains("--resume=") && message.contains("(os error"), "{what}: {message}");
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
        // Nothing was wrong with it: it is not set aside.
        check_resume(folder.path(), 20);
    }
}

// ---- file systems that hang ----

/// A job one of whose ranks finds its file system hanging, in all calls that match, from step 12 on.
fn hang(stuck: usize, matches: Matches) {
    let folder = fast_folder();
    let faults = Faults::default();
    let barrier = Barrier::new(RANKS);
    let longest = Mutex::new(Duration::ZERO);
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, SIZE / 10);
        let mut builder = builder(folder.path()).every_steps(10).set("commit_timeout", "3s");
        if number == stuck {
            builder = builder.medium(Faulty::medium(&faults));
        }
        let mut checkpointer = builder.open(rank).unwrap();
        checkpointer.resume(&mut walk).unwrap();
        let mut step = 0;
        let (settled, _) = advance(&mut checkpointer, &mut walk, &mut step, 12);
        assert!(matches!(settled, Settled::Committed(_)), "{settled:?}");
        barrier.wait();
        if number == 0 {
            faults.hang(matches);
        }
        barrier.wait();
        let mut tick = |checkpointer: &mut Checkpointer, step: &mut u64| {
            walk.advance();
            *step += 1;
            let started = Instant::now();
            let tick = checkpointer.tick(*step, &mut walk);
            let took = started.elapsed();
            assert!(took < TICK_BOUND, "tick {step} took {took:?} on rank {number}");
            let mut longest = longest.lock().unwrap();
            *longest = took.max(*longest);
            tick.frozen()
        };
        // Checkpoint 2 is begun; those after it are skipped.
        let frozen: Vec<_> = (0..200).filter_map(|_| tick(&mut checkpointer, &mut step)).collect();
        assert!(!frozen.is_empty());
        if number == 0 {
            faults.wait_until_hanging();
        }
        barrier.wait();
        for _ in 0..100 {
            tick(&mut checkpointer, &mut step);
        }
        barrier.wait();
        if number == 0 {
            faults.heal();
        }
        // Later ones succeed.
        let until = Instant::now() + Duration::from_secs(25);
        loop {
            assert!(Instant::now() < until, "no checkpoint any more");
            if tick(&mut checkpointer, &mut step).is_some()
                && matches!(checkpointer.wait(), Settled::Committed(id) if id.0 > 2)
            {
                break;
            }
            // A step of a simulation.
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(!faults.expired(), "a call hung until the test gave up");
    println!("rank {stuck} hangs: the longest tick took {:?}", longest.lock().unwrap());
}

#[test]
fn a_rank_whose_shard_hangs() {
    hang(1, |call, path| call == Call::Write && is_shard(path));
}

#[test]
fn the_first_rank_whose_shard_hangs() {
    hang(0, |call, path| call == Call::Sync && is_shard(path));
}

#[test]
fn a_rank_whose_whole_file_system_hangs() {
    hang(1, |_, _| true);
}

#[test]
fn the_first_rank_whose_whole_file_system_hangs() {
    hang(0, |_, _| true);
}

#[test]
fn a_manifest_that_hangs() {
    hang(0, |call, path| call == Call::Sync && is_manifest(path));
}

/// A job that stood still while it committed, was taken over from, and goes on: what it could not commit was committed by the new
/// attempt, and is not its own any more.
#[test]
fn a_checkpoint_that_was_rolled_forward_is_not_removed_by_the_old_attempt() {
    let folder = fast_folder();
    let faults = Faults::default();
    let mut walk = Walk::new(0, SIZE);
    let mut old = builder(folder.path()).medium(Faulty::medium(&faults)).open(Solo::default()).unwrap();
    old.resume(&mut walk).unwrap();
    walk.advance();
    faults.hang(|call, path| call == Call::Create && is_manifest(path));
    let first = old.checkpoint_now(1, None, &mut walk).unwrap();
    faults.wait_until_hanging();
    let mut again = Walk::new(0, SIZE);
    let mut new = builder(folder.path()).open(Solo::default()).unwrap();
    assert_eq!(new.resume(&mut again).unwrap().map(|at| (at.checkpoint.id, at.step)), Some((first, 1)));
    faults.heal();
    assert!(matches!(old.wait(), Settled::Dropped { id, .. } if id == first));
    // The thread that would remove the first has done with it when it says what became of another.
    let second = old.checkpoint_now(2, None, &mut walk).unwrap();
    assert!(matches!(old.wait(), Settled::Dropped { id, .. } if id == second));
    assert!(checkpoint(folder.path(), 1, first.0).join("manifest.json").exists());
    // What it still computes is for nobody: it is told to stop.
    let begun = Instant::now();
    let mut step = 2;
    loop {
        step += 1;
        walk.advance();
        if old.tick(step, &mut walk).should_stop() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it goes on for ever");
    }
    drop(new);
    let mut last = Walk::new(0, SIZE);
    let mut checkpointer = builder(folder.path()).open(Solo::default()).unwrap();
    assert_eq!(checkpointer.resume(&mut last).unwrap().map(|at| at.step), Some(1));
    assert!(last == Walk::after(0, SIZE, 1));
}

#[test]
fn waiting_for_a_rank_that_hangs_ends_in_time() {
    let folder = fast_folder();
    let faults = Faults::default();
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, SIZE);
        let mut builder = builder(folder.path()).set("commit_timeout", "3s");
        if number == 1 {
            builder = builder.medium(Faulty::medium(&faults));
        }
        let mut checkpointer = builder.open(rank).unwrap();
        checkpointer.resume(&mut walk).unwrap();
        let first = checkpointer.checkpoint_now(1, None, &mut walk).unwrap();
        assert_eq!(checkpointer.wait(), Settled::Committed(first));
        if number == 1 {
            faults.hang(|_, path| is_shard(path));
        }
        let second = checkpointer.checkpoint_now(2, None, &mut walk).unwrap();
        let started = Instant::now();
        let settled = checkpointer.wait();
        assert!(matches!(&settled, Settled::Dropped { id, .. } if *id == second), "{settled:?}");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        // Nothing new can be begun meanwhile, and every rank is told.
        assert!(checkpointer.checkpoint_now(3, None, &mut walk).is_err());
        if number == 1 {
            faults.heal();
        }
        let until = Instant::now() + Duration::from_secs(25);
        let third = loop {
            assert!(Instant::now() < until, "no checkpoint any more");
            match checkpointer.checkpoint_now(4, None, &mut walk) {
                Ok(id) => break id,
                Err(_) => std::thread::yield_now(),
            }
        };
        assert_eq!(checkpointer.wait(), Settled::Committed(third));
    });
    assert!(!faults.expired());
    check_store(folder.path(), 2);
}

#[test]
fn a_job_ends_although_its_file_system_hangs() {
    let name = "a_job_ends_although_its_file_system_hangs";
    if !long() {
        return leave(name, "waits for half a minute");
    }
    let folder = fast_folder();
    let faults = Faults::default();
    let started = Instant::now();
    world(RANKS, |rank| {
        let number = rank.rank();
        let mut walk = Walk::new(number, SIZE);
        let mut builder = builder(folder.path()).set("commit_timeout", "3s");
        if number == 1 {
            builder = builder.medium(Faulty::medium(&faults));
        }
        let mut checkpointer = builder.open(rank).unwrap();
        checkpointer.resume(&mut walk).unwrap();
        walk.advance();
        let first = checkpointer.checkpoint_now(1, None, &mut walk).unwrap();
        assert_eq!(checkpointer.wait(), Settled::Committed(first));
        if number == 1 {
            faults.hang(|_, _| true);
        }
        let _ = checkpointer.tick(2, &mut walk);
        let error = checkpointer.finish(&mut walk).unwrap_err();
        assert!(matches!(error, piton::FinishError::NotCommitted(_)), "{error}");
    });
    println!("ended after {:?}", started.elapsed());
    assert!(!faults.expired(), "the end waited for the file system");
    faults.heal();
    check_resume(folder.path(), 1);
}

/// How many checkpoints are committed and nothing else is there.
fn check_store(folder: &Path, committed: usize) {
    let store = Store::new(Arc::new(RealMedium::default()), PathBuf::from(folder));
    let catalogue = store.job(JOB).unwrap().catalogue().unwrap();
    assert_eq!(catalogue.entries.iter().filter(|entry| entry.manifest().is_some()).count(), committed);
    assert_eq!(catalogue.entries.len(), committed, "{catalogue:?}");
}

//! How much memory checkpoints take, measured from outside: the most that a process ever held (VmHWM), and whether one lives
//! that a control group holds to its limit.

mod support;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use piton::comm::Solo;
use piton::journal::Event;
use piton::{Settled, State};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{builder, journal, leave, long, skip};

const CHILD: &str = "PITON_TEST_MEMORY";
/// How many bytes of address space the child may add to those of its state.
const SPACE: &str = "PITON_TEST_MEMORY_SPACE";
/// The control group that the child enters.
const GROUP: &str = "PITON_TEST_MEMORY_GROUP";
const MIB: u64 = 1 << 20;

#[derive(State)]
struct Large {
    field: Vec<u64>,
}

impl Large {
    /// Half of each number is noise, so that it is compressed a little, but not to nothing.
    fn fill(&mut self, step: u64) {
        let mut random = fastrand::Rng::with_seed(step);
        for (place, value) in self.field.iter_mut().enumerate() {
            *value = (place as u64) << 32 | random.u64(..1 << 32);
        }
    }

    fn is_filled(&self, step: u64) -> bool {
        let mut random = fastrand::Rng::with_seed(step);
        let expected = |place: usize, random: &mut fastrand::Rng| (place as u64) << 32 | random.u64(..1 << 32);
        self.field.iter().enumerate().all(|(place, value)| *value == expected(place, &mut random))
    }
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Two checkpoints and a resume, in this process.
fn job(folder: &Path, bytes: u64, staging_max: Option<&str>) {
    if let Some(group) = std::env::var_os(GROUP) {
        fs::write(Path::new(&group).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }
    let open = || {
        let builder = builder(folder).set("chunk", "1MiB");
        let builder = match staging_max {
            Some(limit) => builder.set("staging_max", limit),
            None => builder,
        };
        builder.open(Solo::default()).unwrap()
    };
    let mut state = Large { field: vec![0; (bytes / 8) as usize] };
    if let Ok(more) = std::env::var(SPACE) {
        let (space, most) = getrlimit(Resource::RLIMIT_AS).unwrap();
        assert!(space >= bytes * 8, "there is a limit already");
        setrlimit(Resource::RLIMIT_AS, status("VmSize").unwrap() + more.parse::<u64>().unwrap(), most).unwrap();
    }
    let mut checkpointer = open();
    assert_eq!(checkpointer.resume(&mut state).unwrap(), None);
    for step in 1..=2 {
        state.fill(step);
        let id = checkpointer.checkpoint_now(step, None, &mut state).unwrap();
        // The application computes on while the copy is written.
        state.field.fill(step);
        assert_eq!(checkpointer.wait(), Settled::Committed(id));
    }
    drop(checkpointer);
    let mut checkpointer = open();
    assert_eq!(checkpointer.resume(&mut state).unwrap().map(|at| at.step), Some(2));
    assert!(state.is_filled(2), "the state is altered");
    println!("VmHWM {}", status("VmHWM").unwrap());
}

/// Has a process of its own run [`job`] as `test` in the folder, with these variables besides, and gives the most that it held. In that
/// process itself it does so, and gives nothing.
fn run(test: &str, folder: &Path, bytes: u64, staging_max: Option<&str>, extra: &[(&str, &OsStr)]) -> Option<u64> {
    if let Ok(folder) = std::env::var(CHILD) {
        job(Path::new(&folder), bytes, staging_max);
        return None;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, folder).envs(extra.iter().copied());
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let held = text.lines().find_map(|line| line.split("VmHWM ").nth(1)?.trim().parse().ok());
    assert!(held.is_some(), "{text}");
    held
}

fn measure(test: &str, bytes: u64, staging_max: Option<u64>, most: u64) {
    if status("VmHWM").is_none() {
        return skip(test, "this system does not say how much memory a process held");
    }
    let folder = tempfile::tempdir().unwrap();
    let staging = staging_max.map(|limit| limit.to_string());
    let Some(held) = run(test, folder.path(), bytes, staging.as_deref(), &[]) else { return };
    println!(
        "state {} MiB, staging {}: at most {} MiB held, {} MiB allowed",
        bytes / MIB,
        staging_max.map_or("as large".to_owned(), |limit| format!("{} KiB", limit >> 10)),
        held.div_ceil(MIB),
        most / MIB
    );
    assert!(held <= most, "{held} bytes were held, {most} are allowed");
}

/// A control group below that of this process, or beside it where the system gives memory to groups there only.
struct Group(PathBuf);

impl Group {
    fn new(name: &str, limit: u64) -> Result<Self, String> {
        let text = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (own, mounts) = (text("/proc/self/cgroup")?, text("/proc/self/mountinfo")?);
        let has_memory = |list: &str| list.split(',').any(|item| item == "memory");
        // Version 1 has a hierarchy for memory alone, version 2 one for everything. The last is what nothing is swapped by.
        let kinds = [
            ("cgroup", "memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", limit)),
            ("cgroup2", "memory.max", ("memory.swap.max", 0)),
        ];
        let mut reason = "this process is in no control group with memory".to_owned();
        for (kind, file, (swap_file, swap)) in kinds {
            let two = kind == "cgroup2";
            let group = own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                (if two { controllers.is_empty() } else { has_memory(controllers) }).then_some(path)
            });
            let mount = mounts.lines().find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
                let fits = after.next() == Some(kind) && (two || has_memory(after.nth(1)?));
                fits.then_some((before.next()?, before.next()?))
            });
            let (Some(group), Some((root, point))) = (group, mount) else { continue };
            let inside = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
            for above in inside.ancestors() {
                let folder = Path::new(point).join(above).join(format!("piton-test-{}-{name}", std::process::id()));
                if let Err(error) = fs::create_dir(&folder) {
                    reason = format!("{}: {error}", folder.display());
                    continue;
                }
                let group = Self(folder);
                match fs::write(group.0.join(file), limit.to_string()) {
                    Ok(()) => {
                        // Without swap on the machine the file may be missing.
                        let _ = fs::write(group.0.join(swap_file), swap.to_string());
                        return Ok(group);
                    }
                    Err(error) => reason = format!("{}: {error}", group.0.join(file).display()),
                }
            }
        }
        Err(reason)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty again, since the child was waited for.
        if let Err(error) = fs::remove_dir(&self.0) {
            println!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// The job in a control group of `limit` bytes, and its plan in either attempt: streamed bytes, arena, limit, and why.
fn confined(test: &str, bytes: u64, staging_max: Option<&str>, limit: u64) -> Option<[(u64, u64, u64, String); 2]> {
    let is_child = std::env::var_os(CHILD).is_some();
    let group = match is_child {
        true => None,
        false => match Group::new(test, limit) {
            Ok(group) => Some(group),
            Err(reason) => {
                skip(test, &format!("no control group can be made: {reason}"));
                return None;
            }
        },
    };
    // On a disk: files in memory would count as the group's.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let entered = group.as_ref().map(|group| (GROUP, group.0.as_os_str()));
    let held = run(test, folder.path(), bytes, staging_max, entered.as_slice())?;
    assert!(held <= limit, "{held} of {limit}");
    let plan = |epoch| {
        let plan = journal(folder.path(), epoch).into_iter().find_map(|event| match event {
            Event::StagingPlan { state_bytes, arena_bytes, streamed_bytes, limit_bytes, why } => {
                assert!(state_bytes >= bytes && arena_bytes + streamed_bytes >= state_bytes);
                println!(
                    "state {} MiB, group of {} MiB, attempt {epoch}: {} MiB streamed, {why}; at most {} MiB held",
                    bytes / MIB,
                    limit / MIB,
                    streamed_bytes / MIB,
                    held / MIB
                );
                Some((streamed_bytes, arena_bytes, limit_bytes?, why))
            }
            _ => None,
        });
        plan.expect("the journal has a plan with a limit")
    };
    Some([plan(1), plan(2)])
}

#[test]
fn a_state_whose_copy_a_control_group_has_no_room_for() {
    let (state, limit) = (256 * MIB, 400 * MIB);
    let name = "a_state_whose_copy_a_control_group_has_no_room_for";
    for (streamed, arena, most, why) in confined(name, state, None, limit).into_iter().flatten() {
        assert!(streamed > 0 && arena <= most && most < limit - state, "{streamed} {arena} {most}");
        assert!(why.starts_with("auto; what control group ") && why.contains("piton-test-"), "{why}");
    }
}

#[test]
fn a_state_whose_copy_the_system_does_not_map() {
    let (name, state) = ("a_state_whose_copy_the_system_does_not_map", 256 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let space = (state - 16 * MIB).to_string();
    // Else the C library takes 64 MiB of address space for each thread, as the threads happen to run.
    let extra = [(SPACE, OsStr::new(&space)), ("MALLOC_ARENA_MAX", OsStr::new("1"))];
    let Some(_) = run(name, folder.path(), state, Some("1GiB"), &extra) else { return };
    let plans = journal(folder.path(), 1).into_iter().filter_map(|event| match event {
        Event::StagingPlan { arena_bytes, streamed_bytes, limit_bytes, why, .. } => {
            Some((arena_bytes, streamed_bytes, limit_bytes, why))
        }
        _ => None,
    });
    let plans: Vec<_> = plans.collect();
    let [(_, 0, Some(_), _), (arena, streamed, Some(limit), why)] = plans.as_slice() else { panic!("{plans:?}") };
    // Half of 128 MiB, the first half that is given.
    assert!(*limit == 64 * MIB && arena <= limit && *streamed >= state - limit, "{plans:?}");
    assert!(why.starts_with("half of what the system gives: "), "{why}");
}

#[test]
fn a_share_of_a_control_group() {
    let limit = 192 * MIB;
    for (streamed, arena, most, why) in
        confined("a_share_of_a_control_group", 32 * MIB, Some("12.5%"), limit).into_iter().flatten()
    {
        assert_eq!(most, limit / 8);
        assert!(streamed > 0 && arena <= most, "{streamed} {arena}");
        assert!(why.starts_with("12.5% of the memory of control group "), "{why}");
    }
}

#[test]
fn a_state_and_its_copy() {
    measure("a_state_and_its_copy", 64 * MIB, None, 2 * 64 * MIB + 64 * MIB);
}

#[test]
fn a_state_and_a_tenth_of_a_copy() {
    let state = 64 * MIB;
    measure("a_state_and_a_tenth_of_a_copy", state, Some(state / 10), state + state / 10 + 64 * MIB);
}

#[test]
fn a_large_state_and_its_copy() {
    let name = "a_large_state_and_its_copy";
    if !long() {
        return leave(name, "takes minutes and 8 GiB of memory");
    }
    measure(name, 4096 * MIB, None, 2 * 4096 * MIB + 64 * MIB);
}

#[test]
fn a_large_state_and_a_tenth_of_a_copy() {
    let name = "a_large_state_and_a_tenth_of_a_copy";
    if !long() {
        return leave(name, "takes minutes and 5 GiB of memory");
    }
    let state = 4096 * MIB;
    measure(name, state, Some(state / 10), state + state / 10 + 64 * MIB);
}

//! How much memory checkpoints take, measured from outside: the most that a process ever held (VmHWM).

mod support;

use piton::comm::Solo;
use piton::{Settled, State};
use std::path::Path;
use std::process::Command;
use support::{Random, builder, leave, long, skip};

const CHILD: &str = "PITON_TEST_MEMORY";
const MIB: u64 = 1 << 20;

#[derive(State)]
struct Large {
    field: Vec<u64>,
}

impl Large {
    /// Half of each number is noise, so that it is compressed a little, but not to nothing.
    fn fill(&mut self, step: u64) {
        let mut random = Random(step);
        for (place, value) in self.field.iter_mut().enumerate() {
            *value = (place as u64) << 32 | random.below(1 << 32) as u64;
        }
    }

    fn is_filled(&self, step: u64) -> bool {
        let mut random = Random(step);
        let expected = |place: usize, random: &mut Random| (place as u64) << 32 | random.below(1 << 32) as u64;
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
fn job(folder: &Path, bytes: u64, staging_max: Option<u64>) {
    let open = || {
        let builder = builder(folder).set("chunk", "1MiB");
        let builder = match staging_max {
            Some(limit) => builder.set("staging_max", limit),
            None => builder,
        };
        builder.open(Solo::default()).unwrap()
    };
    let mut state = Large { field: vec![0; (bytes / 8) as usize] };
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

fn measure(test: &str, bytes: u64, staging_max: Option<u64>, most: u64) {
    if let Ok(folder) = std::env::var(CHILD) {
        return job(Path::new(&folder), bytes, staging_max);
    }
    if status("VmHWM").is_none() {
        return skip(test, "this system does not say how much memory a process held");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", test, "--nocapture"]).env(CHILD, folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let held: u64 = text.lines().find_map(|line| line.split("VmHWM ").nth(1)?.trim().parse().ok()).unwrap();
    println!(
        "state {} MiB, staging {}: at most {} MiB held, {} MiB allowed",
        bytes / MIB,
        staging_max.map_or("as large".to_owned(), |limit| format!("{} KiB", limit >> 10)),
        held.div_ceil(MIB),
        most / MIB
    );
    assert!(held <= most, "{held} bytes were held, {most} are allowed");
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

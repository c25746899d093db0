//! `piton export`, `pin`, `prune`, `rm`, `checkpoint`, `halt` and `journal` on real stores and running jobs.

mod common;

use common::{GLOBAL, Walk, checkpoint, fails, json, ok, piton, sea, sea_at, walk};
use piton::Checkpointer;
use piton::comm::Solo;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Header and data of a NumPy file.
fn npy(path: &Path) -> (String, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0);
    (String::from_utf8(bytes[10..10 + length].to_vec()).unwrap(), bytes[10 + length..].to_vec())
}

#[test]
fn export_assembles_the_ranks_without_halos() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sea(folder, &[], 25);
    let text = ok(folder, &["export", "sea", "latest", "--region", "sea"]);
    assert!(text.contains("60 × 500 of f64, to sea-2-sea.npy"), "{text}");
    let path = folder.join("sea-2-sea.npy");
    let (header, data) = npy(&path);
    assert_eq!(header.trim_end(), "{'descr': '<f8', 'fortran_order': False, 'shape': (60, 500), }");
    let [rows, columns] = GLOBAL;
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let expected: Vec<u8> = places.flat_map(|(row, column)| sea_at(row, column, 20).to_le_bytes()).collect();
    assert!(data == expected, "the assembled array differs");
    let script = "import ast, sys\nb = open(sys.argv[1], 'rb').read()\nn = int.from_bytes(b[8:10], 'little')\n\
                  print(ast.literal_eval(b[10:10 + n].decode('latin1'))['shape'])\ntry:\n    import numpy\n\
                  except ImportError:\n    sys.exit()\nassert numpy.load(sys.argv[1]).shape == (60, 500)";
    if let Ok(output) = Command::new("python3").args(["-c", script]).arg(&path).output() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "(60, 500)\n", "{complaint}");
        assert!(output.status.success(), "{complaint}");
    }

    // Never over what is there, and nothing is left behind.
    let (_, complaint) = fails(folder, &["export", "1", "--region", "sea", "-o", "sea-2-sea.npy"], 2);
    assert!(complaint.contains("--force"), "{complaint}");
    assert!(npy(&path).1 == expected);
    ok(folder, &["export", "1", "--region", "sea", "-o", "sea-2-sea.npy", "--force"]);
    assert!(npy(&path).1 != expected);

    // One rank's own has its halo.
    ok(folder, &["export", "2", "--region", "sea", "--rank", "1", "--output", "one.npy"]);
    assert_eq!(npy(&folder.join("one.npy")).1.len(), 62 * 252 * 8);
    let (_, complaint) = fails(folder, &["export", "2", "--region", "drops"], 2);
    assert!(complaint.contains("--rank"), "{complaint}");
    let drops = json(folder, &["export", "2", "--region", "drops", "--rank", "1"]);
    assert_eq!((&drops["shape"], &drops["file"]), (&serde_json::json!([1010, 2]), &"sea-2-drops-rank-1.npy".into()));
    let (_, complaint) = fails(folder, &["export", "2", "--region", "see"], 1);
    assert!(complaint.contains("sea, drops, time, dx"), "{complaint}");
    fails(folder, &["export", "2", "--region", "time"], 2);
    fails(folder, &["export", "2", "--region", "sea", "--rank", "2"], 1);
    let shard = checkpoint(folder, "sea", 1, 2).join("rank-00000.shard");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[600] ^= 1;
    fs::write(&shard, bytes).unwrap();
    fails(folder, &["export", "2", "--region", "sea", "--output", "damaged.npy"], 1);
    let mut left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["one.npy", "sea", "sea-2-drops-rank-1.npy", "sea-2-sea.npy"]);
}

/// The ids that are left.
fn ids(folder: &Path) -> Vec<u64> {
    let list = json(folder, &["ls", "walk"]);
    list["checkpoints"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

#[test]
fn prune_keeps_the_newest_the_pinned_and_the_sound() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    walk(folder, &[], 6);
    assert!(ok(folder, &["pin", "2", "--note", "of note"]).contains("walk 1/2: pinned"));
    assert!(ok(folder, &["ls"]).contains("pinned"));
    fs::remove_file(checkpoint(folder, "walk", 1, 1).join("manifest.json")).unwrap();
    fs::write(checkpoint(folder, "walk", 1, 1).join("rank-00000.shard.tmp"), b"torn").unwrap();
    let text = ok(folder, &["prune", "--dry-run", "--keep", "2"]);
    assert!(text.contains("would remove 3 checkpoints"), "{text}");
    assert_eq!(ids(folder).len(), 6);
    // The two newest are damaged: the newest that is whole stays as well.
    for id in [5, 6] {
        let shard = checkpoint(folder, "walk", 1, id).join("rank-00000.shard");
        let mut bytes = fs::read(&shard).unwrap();
        bytes[600] ^= 1;
        fs::write(&shard, bytes).unwrap();
    }
    let removed = json(folder, &["prune", "--keep", "2", "--yes"]);
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2, "{removed}");
    assert_eq!(ids(folder), [2, 4, 5, 6]);
    ok(folder, &["pin", "2", "--remove"]);
    assert!(ok(folder, &["pin", "walk", "2", "--remove"]).contains("was not pinned"));
    ok(folder, &["prune", "--keep", "2"]);
    assert_eq!(ids(folder), [4, 5, 6]);
    let shard = checkpoint(folder, "walk", 1, 4).join("rank-00000.shard");
    fs::write(shard, b"gone").unwrap();
    let text = ok(folder, &["prune", "--keep", "1"]);
    assert!(text.contains("no checkpoint could be verified"), "{text}");
    assert_eq!(ids(folder), [4, 5, 6], "nothing committed goes where nothing is known to be whole");
}

#[test]
fn rm_refuses_what_would_be_missed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    walk(folder, &[], 4);
    ok(folder, &["pin", "walk", "1"]);
    assert!(fails(folder, &["rm", "1"], 2).1.contains("pinned"));
    assert!(fails(folder, &["rm", "walk", "2", "1"], 2).1.contains("pinned"));
    assert_eq!(ids(folder), [1, 2, 3, 4], "all or nothing");
    assert!(ok(folder, &["rm", "2", "1/3"]).contains("removed 2 checkpoints: 1/2, 1/3"));
    ok(folder, &["rm", "1", "--force"]);
    assert!(fails(folder, &["rm", "latest"], 2).1.contains("no committed checkpoint would be left"));
    fails(folder, &["rm", "3"], 1);
    assert!(fails(folder, &["rm", "walk"], 2).1.contains("name the checkpoints"));
    assert_eq!(ids(folder), [4]);

    // What belongs to an attempt that runs is left to it.
    let mut state = Walk::new();
    let mut checkpointer = common::walk_open(folder, &["--resume"]);
    checkpointer.resume(&mut state).unwrap();
    for step in 5..=8 {
        let _ = checkpointer.tick(step, &mut state);
        checkpointer.wait();
    }
    assert_eq!(ids(folder), [4, 5, 6, 7, 8]);
    assert!(fails(folder, &["rm", "5"], 2).1.contains("attempt 2 seems to run"));
    let text = ok(folder, &["prune", "--keep", "1"]);
    assert!(text.contains("is left to it"), "{text}");
    assert_eq!(ids(folder), [5, 6, 7, 8]);
    drop(checkpointer);
    ok(folder, &["prune", "--keep", "1"]);
    assert_eq!(ids(folder), [8]);
}

/// Runs a job that computes until it is told to stop, by a request or at the end of `with`, which is given the folder.
fn running(with: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (enough, started) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let job = scope.spawn(|| {
            let mut state = Walk::new();
            let mut checkpointer: Checkpointer = Checkpointer::builder("walk")
                .dir(folder)
                .set("every", "off")
                .set("log", "quiet")
                .set("request_poll", "10ms")
                .set("round_target", "1ms")
                .open(Solo::default())
                .unwrap();
            checkpointer.resume(&mut state).unwrap();
            started.store(true, Ordering::Release);
            let mut step = 0;
            while !enough.load(Ordering::Acquire) {
                step += 1;
                if checkpointer.tick(step, &mut state).should_stop() {
                    checkpointer.finish(&mut state).unwrap();
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        while !started.load(Ordering::Acquire) && !job.is_finished() {
            std::thread::yield_now();
        }
        // The job must end even where `with` fails, or the test would never.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| with(folder)));
        enough.store(true, Ordering::Release);
        job.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_running_job_is_asked_for_a_checkpoint_and_to_halt() {
    running(|folder| {
        let answer = json(folder, &["checkpoint", "--wait", "--timeout", "60s"]);
        assert_eq!((&answer["result"], &answer["checkpoint"]), (&"committed".into(), &1.into()), "{answer}");
        let text = ok(folder, &["checkpoint", "walk", "--wait"]);
        assert!(
            text.contains("asked for a checkpoint") && text.contains("walk: committed, checkpoint 2, step "),
            "{text}"
        );
        let text = ok(folder, &["halt", "--wait"]);
        assert!(text.contains("walk: halted, checkpoint 3"), "{text}");
        // It has ended: nobody is there to ask.
        let (text, complaint) = fails(folder, &["halt"], 1);
        assert!(text.is_empty() && complaint.contains("no attempt of job \"walk\" seems to run"), "{complaint}");
        assert_eq!(fs::read_dir(folder.join("walk/requests")).unwrap().count(), 0, "nothing is left behind");
        assert!(ok(folder, &["checkpoint", "--force"]).contains("asked for a checkpoint"));
        let answer = json(folder, &["checkpoint", "--force", "--wait", "--timeout", "300ms"]);
        assert_eq!(answer["result"], "timeout");
        assert_eq!(
            fs::read_dir(folder.join("walk/requests")).unwrap().count(),
            1,
            "the one that was waited for is taken back"
        );
    });
}

#[test]
fn the_journal_tells_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sea(folder, &[], 12);
    sea(folder, &["--resume"], 22);
    let text = ok(folder, &["journal"]);
    for part in [
        "sea, attempt 1\n",
        "sea, attempt 2\n",
        "resumed from checkpoint 1/1: 10 steps skipped",
        "checkpoint 2 committed: step 20",
        "rank 1 ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let second = ok(folder, &["journal", "sea", "--epoch", "2", "--kind", "committed", "--json"]);
    let lines: Vec<serde_json::Value> = second.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["event"]["kind"], &lines[0]["event"]["step"]), (&"committed".into(), &20.into()));
    let (text, complaint) = fails(folder, &["journal", "--kind", "eruption", "--json"], 1);
    assert!(text.is_empty() && complaint.contains("no such event"), "{complaint}");
    assert_eq!(piton(folder, &["journal", "--epoch", "9"]).status.code(), Some(1));
}

/// A state of which a step changes a part.
#[derive(piton::State)]
struct Slow {
    field: Vec<f64>,
    step: u64,
}

#[test]
fn compact_makes_the_newest_complete_and_prune_then_needs_no_chain() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let state = |step: u64| {
        let field = (0..40_000u64).map(|i| (i as f64).sin() + if i < step * 10 { step as f64 } else { 0.0 }).collect();
        Slow { field, step }
    };
    let mut session = Checkpointer::builder("slow").dir(folder).set("log", "quiet").open(Solo::default()).unwrap();
    session.resume(&mut state(0)).unwrap();
    for step in 1..=5 {
        session.checkpoint_now(step, None, &mut state(step)).unwrap();
        session.wait();
    }
    let (_, complaint) = fails(folder, &["compact"], 2);
    assert!(complaint.contains("seems to run"), "{complaint}");
    session.finish(&mut state(5)).unwrap();

    let shown = json(folder, &["show", "slow", "latest"]);
    assert_eq!(shown["parents"], serde_json::json!([2, 3, 4]));
    let (_, complaint) = fails(folder, &["rm", "3"], 2);
    assert!(complaint.contains("holds chunks of checkpoint 4"), "{complaint}");
    let compacted = json(folder, &["compact", "slow"]);
    assert_eq!(compacted["to"], serde_json::json!({"epoch": 2, "id": 6}));
    assert_eq!(compacted["changed"], true);
    assert!(ok(folder, &["journal", "slow"]).contains("written once more as checkpoint 6"));
    assert!(ok(folder, &["verify"]).contains("sound"));
    let pruned = json(folder, &["prune", "--keep", "1", "--yes"]);
    assert_eq!(pruned["problems"], serde_json::json!([]));
    let left: Vec<u64> = {
        let list = json(folder, &["ls", "slow"]);
        list["checkpoints"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(left, [6]);
    assert_eq!(json(folder, &["compact"])["changed"], false);
    // It still is the end of the job, with the same state.
    let mut session =
        Checkpointer::builder("slow").dir(folder).set("log", "quiet").args(["--resume"]).open(Solo::default()).unwrap();
    let mut slow = state(0);
    let resumed = session.resume(&mut slow).unwrap().unwrap();
    assert!(resumed.finished);
    assert_eq!((resumed.step, slow.step, slow.field == state(5).field), (5, 5, true));
}

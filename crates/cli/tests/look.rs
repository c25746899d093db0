//! `piton ls`, `show` and `verify` on real stores.

mod common;

use common::{checkpoint, fails, json, ok, sea, walk};
use piton::comm::Solo;
use piton::{Checkpointer, Settled, State};
use std::fs;

#[test]
fn ls_lists_checkpoints_with_their_state() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_, complaint) = fails(folder, &["ls"], 2);
    assert!(complaint.starts_with("piton: ") && complaint.contains("holds no job"), "{complaint}");
    sea(folder, &[], 35);
    let text = ok(folder, &["ls"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("sea  "), "{text}");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>()[..4], ["id", "step", "age", "ranks"]);
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[4].contains("30") && lines[4].contains("committed") && lines[4].contains("KiB"), "{text}");

    sea(folder, &["--resume"], 45);
    fs::remove_file(checkpoint(folder, "sea", 1, 1).join("manifest.json")).unwrap();
    fs::remove_file(checkpoint(folder, "sea", 1, 2).join("manifest.json")).unwrap();
    fs::remove_file(checkpoint(folder, "sea", 1, 2).join("rank-00000.shard")).unwrap();
    let manifest = checkpoint(folder, "sea", 1, 3).join("manifest.json");
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[40] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    let list = json(folder, &["ls", "sea"]);
    assert_eq!(list["job"], "sea");
    let states: Vec<_> = list["checkpoints"].as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["complete", "partial", "damaged", "committed"]);
    assert_eq!((&list["checkpoints"][3]["epoch"], &list["checkpoints"][3]["step"]), (&2.into(), &40.into()));
    assert!(list["checkpoints"][0]["raw_bytes"].as_u64().unwrap() > 200_000);
    let text = ok(folder, &["ls"]);
    for part in ["epoch", "complete (not committed)", "partial (1 shard there)", "damaged"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(ok(folder, &["ls", "--color", "always"]).contains('\u{1b}'));
}

#[derive(State)]
struct Gas {
    #[piton(finite, within = "0.0..=10.0")]
    pressure: Vec<f64>,
}

#[test]
fn ls_and_show_tell_of_values_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut gas = Gas { pressure: vec![1.0; 1000] };
    let mut checkpointer = Checkpointer::builder("gas").dir(folder).set("log", "quiet").open(Solo::default()).unwrap();
    checkpointer.resume(&mut gas).unwrap();
    for step in 1..=2 {
        checkpointer.checkpoint_now(step, None, &mut gas).unwrap();
        assert!(matches!(checkpointer.wait(), Settled::Committed(_)));
        (gas.pressure[42], gas.pressure[77]) = (f64::NAN, 11.0);
    }
    drop(checkpointer);
    let list = json(folder, &["ls", "gas"]);
    let suspect = |row: usize| list["checkpoints"][row]["suspect"].clone();
    assert_eq!((suspect(0).is_null(), suspect(1).is_string()), (true, true), "{list}");
    let text = ok(folder, &["ls"]);
    assert!(text.contains("committed, suspect") && text.contains("\"pressure\" has NaN at [42]"), "{text}");
    let shown = json(folder, &["show", "gas", "2"]);
    let wrong = &shown["out_of_range"][0];
    assert_eq!(
        (&wrong["field"], &wrong["index"], &wrong["value"], &wrong["count"]),
        (&"pressure".into(), &42.into(), &"NaN".into(), &2.into())
    );
    let text = ok(folder, &["show", "gas", "2"]);
    assert!(text.contains("suspect") && text.contains("rank 0: pressure has NaN at [42], and should be"), "{text}");
    assert!(!ok(folder, &["show", "gas", "1"]).contains("suspect"));
    let text = ok(folder, &["journal", "gas"]);
    assert!(
        text.contains("checkpoint 2: pressure has NaN at [42]; 2 numbers not finite and within 0.0..=10.0"),
        "{text}"
    );
    ok(folder, &["verify", "gas"]);
}

#[test]
fn several_jobs_are_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sea(folder, &[], 10);
    walk(folder, &[], 3);
    let text = ok(folder, &["ls"]);
    assert!(text.starts_with("2 jobs in ") && text.contains("\nsea ") && text.contains("\nwalk "), "{text}");
    let jobs = json(folder, &["ls"]);
    assert_eq!(jobs["jobs"][1]["job"], "walk");
    assert_eq!((&jobs["jobs"][1]["newest"]["step"], &jobs["jobs"][1]["state"]), (&3.into(), &"stopped".into()));
    let (_, complaint) = fails(folder, &["show"], 2);
    assert!(complaint.contains("name one of sea, walk"), "{complaint}");
    let (_, complaint) = fails(folder, &["ls", "lake"], 1);
    assert!(complaint.contains("no job \"lake\"") && complaint.contains("sea, walk"), "{complaint}");
}

#[test]
fn show_tells_what_is_in_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sea(folder, &[], 35);
    let text = ok(folder, &["show"]);
    for part in
        ["sea: checkpoint 3 (epoch 1) at step 30, 2 ranks", "60 × 500 global", "1000 to 1010 a rank", "blocked "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let shown = json(folder, &["show", "sea", "latest"]);
    let region = &shown["regions"][0];
    assert_eq!((&region["name"], &region["statistics"][0]["count"]), (&"sea".into(), &30_000.into()));
    // Halos, which hold 10⁹, are left out.
    let most = region["statistics"][0]["max"].as_f64().unwrap();
    assert!((1.0..1.1).contains(&most), "{most}");
    assert_eq!(shown["regions"][1]["statistics"][1]["component"], "[1]");
    assert!(shown["timings"]["blocked_seconds"].as_f64().unwrap() > 0.0);
    assert!(shown["timings"]["commit_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(shown["shards"].as_array().unwrap().len(), 2);
    assert_eq!(json(folder, &["show", "1/2", "--quick"])["regions"][0]["statistics"], serde_json::json!([]));
    let (_, complaint) = fails(folder, &["show", "9"], 1);
    assert!(complaint.contains("no checkpoint 9") && complaint.contains("1/3"), "{complaint}");
}

/// Large enough that a shard tells how fast the storage is.
#[derive(State)]
struct Noise {
    noise: Vec<u64>,
}

#[test]
fn show_tells_how_a_checkpoint_was_encoded_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Noise that no filter makes smaller (splitmix64).
    let mix = |place: u64| {
        let z = (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut state = Noise { noise: (0..1 << 20).map(mix).collect() };
    let builder = Checkpointer::builder("noise").dir(folder).set("every", "off").set("log", "quiet").set("chain", 1);
    let mut checkpointer = builder.open(Solo::default()).unwrap();
    checkpointer.resume(&mut state).unwrap();
    for step in 1..=2 {
        let id = checkpointer.checkpoint_now(step, None, &mut state).unwrap();
        assert_eq!(checkpointer.wait(), Settled::Committed(id));
    }
    drop(checkpointer);
    assert_eq!(
        json(folder, &["show", "1", "--quick"])["encoding"],
        serde_json::Value::Null,
        "nothing was measured yet"
    );
    let shown = json(folder, &["show", "2"]);
    let encoding = &shown["encoding"];
    assert!(encoding["storage_bytes_per_second"].as_f64().unwrap() > 0.0, "{encoding}");
    assert!(
        encoding["threads"].as_u64() >= Some(1) && encoding["expected_bytes"].as_u64() >= Some(8 << 20),
        "{encoding}"
    );
    let effort = shown["regions"][0]["effort"].as_str().unwrap();
    assert!(["raw", "fastest", "auto", "thorough", "smallest"].contains(&effort), "{effort}");
    let text = ok(folder, &["show", "2", "--quick"]);
    assert!(text.contains("storage took ") && text.contains(effort), "{text}");
    println!("{text}");
}

#[test]
fn verify_names_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sea(folder, &[], 35);
    let before = files(folder);
    let text = ok(folder, &["verify"]);
    assert_eq!(text.lines().filter(|line| line.contains(": sound, ")).count(), 3, "{text}");
    assert_eq!(files(folder), before, "nothing is written");

    let shard = checkpoint(folder, "sea", 1, 2).join("rank-00001.shard");
    let sound = fs::read(&shard).unwrap();
    let mut bytes = sound.clone();
    // The header is 512 bytes long, and the chunks begin behind it.
    bytes[600] ^= 4;
    fs::write(&shard, &bytes).unwrap();
    let (text, _) = fails(folder, &["verify", "sea"], 1);
    let line = text.lines().find(|line| line.starts_with("  rank 1: region ")).unwrap();
    assert!(line.contains("offset "), "{line}");
    let found = json(folder, &["verify", "sea", "2"]);
    let problem = &found["checkpoints"][0]["problems"][0];
    assert_eq!((&found["result"], &problem["rank"], &problem["damaged"]), (&"damaged".into(), &1.into(), &true.into()));
    assert!(problem["region"].is_string() && problem["offset"].is_u64() && problem["place"].as_u64() >= Some(512));
    assert!(ok(folder, &["verify", "3"]).contains("sound"));
    fails(folder, &["show", "2"], 1);

    // Cut off, then gone, then something that can't be read.
    fs::write(&shard, &sound[..sound.len() - 1]).unwrap();
    fails(folder, &["verify", "2"], 1);
    fs::remove_file(&shard).unwrap();
    let (text, _) = fails(folder, &["verify", "2"], 1);
    assert!(text.contains("rank-00001.shard is missing"), "{text}");
    fs::create_dir(&shard).unwrap();
    let (text, _) = fails(folder, &["verify"], 2);
    assert!(text.contains("sea 1/2: could not tell") && text.contains("sea 1/3: sound"), "{text}");
    fails(folder, &["verify", "7"], 1);
    fails(folder, &["verify", "--all", "2"], 2);
}

fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Option<std::time::SystemTime>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        found.push((entry.path(), entry.metadata().unwrap().modified().ok()));
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_store_is_found_as_the_library_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    walk(&folder.join("here"), &[], 1);
    let run = |set: &dyn Fn(&mut std::process::Command) -> &mut std::process::Command| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_piton"));
        command.env_remove("PITON_DIR").env_remove("PITON_CONFIG").current_dir(folder).arg("ls");
        let output = set(&mut command).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, complaint) = run(&|command| command);
    assert!(status == Some(2) && complaint.contains("no store at "), "{complaint}");
    assert_eq!(run(&|command| command.env("PITON_DIR", "here")).0, Some(0));
    fs::write(folder.join("piton.toml"), "dir = \"here\"\n").unwrap();
    assert_eq!(run(&|command| command).0, Some(0));
    fs::write(folder.join("piton.toml"), "dri = \"here\"\n").unwrap();
    let (status, complaint) = run(&|command| command);
    assert!(status == Some(2) && complaint.contains("dri") && complaint.contains("piton.toml"), "{complaint}");
}

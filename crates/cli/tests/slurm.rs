//! `piton slurm script` and `piton nodes`, without any Slurm.

mod common;

use common::{fails, json, ok};
use std::fs;
use std::process::Command;

const WORDS: [&str; 9] = ["slurm", "script", "--nodes", "5", "--ranks-per-node", "32", "--spares", "1", "--setup"];

#[test]
fn a_script_is_one_for_bash_with_options_for_sbatch() {
    let folder = tempfile::tempdir().unwrap();
    let all =
        [&WORDS[..], &["module load openmpi", "--option", "--mem=0", "--", "./sea", "--title", "a 'b' $c"]].concat();
    let script = ok(folder.path(), &all);
    for line in ["#SBATCH --nodes=5", "#SBATCH --mem=0", "module load openmpi", "#SBATCH --requeue"] {
        assert!(script.lines().any(|found| found == line), "{line}: {script}");
    }
    let answer: serde_json::Value =
        serde_json::from_str(&ok(folder.path(), &[&["--json"], &all[..]].concat())).unwrap();
    assert_eq!(answer["script"], script);
    // The shell hands on what was given, word by word.
    fs::write(folder.path().join("job.sh"), &script).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    fs::write(folder.path().join("piton"), "#!/bin/sh\nprintf '<%s>' \"$@\"\n").unwrap();
    fs::write(folder.path().join("module"), "#!/bin/sh\n").unwrap();
    for name in ["piton", "module"] {
        let mut mode = fs::metadata(folder.path().join(name)).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(folder.path().join(name), mode).unwrap();
    }
    let ran = Command::new("bash").arg(folder.path().join("job.sh")).env("PATH", path).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(said, "<run><--spares><1><--requeue><--resume><--><./sea><--title><a 'b' $c>");
}

#[test]
fn what_is_no_script_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (words, complaint) in [
        (&["--time", "soon"][..], "Slurm takes MINUTES"),
        (&["--spares", "1"], "leave none to compute on"),
        (&["--name", "a b"], "name \"a b\""),
        (&["--option", "-N 5"], "no option of sbatch"),
        (&["--time", "5", "--lead", "10min"], "has not begun"),
        (&["--chain", "--preemptible"], "cannot be used with"),
    ] {
        let (_, error) = fails(folder.path(), &[&["slurm", "script"], words].concat(), 2);
        assert!(error.contains(complaint), "{words:?}: {error}");
    }
}

#[test]
fn nodes_that_failed_are_listed_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    let words = |more: &[&'static str]| [&["nodes", "--dir", "store"], more].concat();
    assert!(ok(folder.path(), &words(&[])).contains("no node has failed"));
    let now = piton::journal::WallTime::now();
    let line =
        |node: &str| format!("{{\"at\":\"{now}\",\"node\":\"{node}\",\"what\":\"failed\",\"why\":\"RankDied\"}}\n");
    fs::write(store.join("nodes.jsonl"), [line("n1"), line("n2"), line("n2")].concat()).unwrap();
    let (text, _) = fails(folder.path(), &words(&[]), 1);
    assert!(text.contains("n2") && text.matches("left out").count() == 1 && text.contains("RankDied"), "{text}");
    assert!(ok(folder.path(), &words(&["clear", "n2"])).contains("n1"));
    let listed = json(folder.path(), &words(&[]));
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["quarantined"]), (1, &false.into()));
}

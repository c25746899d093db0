//! `piton alert test`: whether receivers can be told.

mod common;

use common::{fails, json, ok};
use std::fs;
use std::path::Path;

fn rules(folder: &Path) {
    fs::write(folder.join("pager"), "cat > body; echo paged\n").unwrap();
    fs::write(folder.join("broken"), "cat > /dev/null; echo 'no line' >&2; exit 7\n").unwrap();
    let text = "[alerts]\nsendmail = [\"sh\", \"pager\"]\n\
        [[alerts.receivers]]\nname = \"pager\"\ncommand = [\"sh\", \"pager\"]\n\
        [[alerts.receivers]]\nname = \"broken\"\ncommand = [\"sh\", \"broken\"]\n\
        [[alerts.receivers]]\nname = \"chat\"\nwebhook = \"http://127.0.0.1:1/secret\"\ntimeout = \"200ms\"\n";
    fs::write(folder.join("rules.toml"), text).unwrap();
}

#[test]
fn each_receiver_is_told_and_what_came_of_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    rules(folder.path());
    let (text, _) = fails(folder.path(), &["alert", "test", "--rules", "rules.toml"], 1);
    assert!(text.contains("told: paged") && text.contains("exit status: 7: no line"), "{text}");
    assert!(text.contains("webhook http://127.0.0.1:1/…") && !text.contains("secret"), "{text}");
    assert!(text.contains("2 receivers could not be told"), "{text}");
    let body: serde_json::Value = serde_json::from_slice(&fs::read(folder.path().join("body")).unwrap()).unwrap();
    assert_eq!((&body["version"], &body["commonLabels"]["alertname"]), (&"4".into(), &"PitonTest".into()));
    let one = ["alert", "test", "--rules", "rules.toml", "--receiver", "pager"];
    assert!(ok(folder.path(), &one).contains("paged"));
    let value = json(folder.path(), &one);
    assert_eq!((&value["receivers"][0]["receiver"], &value["receivers"][0]["told"]), (&"pager".into(), &true.into()));
}

#[test]
fn what_is_wrong_with_a_rule_file_is_said_by_line_or_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    let run = |arguments: &[&str]| {
        fails(folder.path(), &[&["alert", "test", "--rules", "rules.toml"], arguments].concat(), 2).1
    };
    assert!(run(&[]).contains("the rule file rules.toml cannot be read"));
    fs::write(&path, "[alerts]\nlimits = 3\n").unwrap();
    assert!(run(&[]).contains("rules.toml, line 2: unknown field `limits`"), "{}", run(&[]));
    fs::write(&path, "[[alerts.receivers]]\nname = \"a\"\nmail = [\"nobody\"]\n").unwrap();
    assert!(run(&[]).contains("`receivers.a.mail` cannot be \"nobody\""));
    fs::write(&path, "").unwrap();
    assert!(run(&[]).contains("names no receivers"));
    rules(folder.path());
    assert!(run(&["--receiver", "nobody"]).contains("it has: pager, broken, chat"));
}

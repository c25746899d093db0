//! Receivers that take, refuse, fail and hang: a real server, real commands.

use super::*;
use piton::watch::alert::{Alerts, Fingerprint, Why};
use piton::watch::{Action, Change, Finding, Labels, Severity};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::Receiver as Events;

const LONG: Duration = Duration::from_secs(60);

fn settings(text: &str) -> Settings {
    Settings::from_toml(text).unwrap()
}

fn notifier(settings: &Settings) -> (Notifier, Events<Notified>) {
    let (send, outcomes) = mpsc::channel();
    let told = move |notified| {
        let _ = send.send(notified);
    };
    (Notifier::with_pause(settings, told, Duration::from_millis(5)).unwrap(), outcomes)
}

fn finding(rank: usize, summary: &str) -> Finding {
    Finding {
        rule: "RankHangs".into(),
        severity: Severity::Critical,
        labels: Labels::from([("rank".into(), rank.to_string()), ("job".into(), "sea".into())]),
        summary: summary.into(),
        action: Action::StopAttempt,
        lasts: None,
    }
}

/// What alerts of these settings tell of ranks that hang, one of which is over already.
fn notification(settings: &Settings, ranks: usize, summary: &str) -> Notification {
    let mut alerts = Alerts::new(settings.clone());
    for rank in 0..ranks {
        alerts.take(100.0, Change::Raised(finding(rank, summary)));
    }
    let first = alerts.advance(100.0).notifications.remove(0);
    assert_eq!(first.why, Why::New);
    let over = finding(0, summary);
    alerts.take(160.0, Change::Cleared { rule: over.rule, labels: over.labels });
    alerts.advance(400.0).notifications.remove(0)
}

/// A script as words of a rule file. It is the shell's argument: a file that another thread's child still has open for writing
/// can't be started itself.
fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("script");
    fs::write(&path, format!("{text}\n")).unwrap();
    format!("\"/bin/sh\", \"{}\"", path.display())
}

/// Reads a request; its head and body.
fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let whole = end + 4 + length.parse::<usize>().unwrap();
            if bytes.len() >= whole {
                return (head, String::from_utf8(bytes[end + 4..whole].to_vec()).unwrap());
            }
        }
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the request ends early");
        bytes.extend_from_slice(&piece[..count]);
    }
}

/// A server that answers each request with the next of these statuses; the requests.
fn server(statuses: &'static [&'static str]) -> (String, Events<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, requests) = mpsc::channel();
    thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            send.send(request(&mut stream)).unwrap();
            let body = "what\u{1b}[31m is that?";
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (format!("http://{address}/services/T0/secret"), requests)
}

fn webhook(url: &str, more: &str) -> Settings {
    settings(&format!("[[alerts.receivers]]\nname = \"chat\"\nwebhook = \"{url}\"\n{more}\n"))
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Whether the body is as Alertmanager documents it (webhook version 4): all fields, and their types.
fn check_schema(body: &Value) {
    let expected = [
        "alerts",
        "commonAnnotations",
        "commonLabels",
        "externalURL",
        "groupKey",
        "groupLabels",
        "receiver",
        "status",
        "truncatedAlerts",
        "version",
    ];
    assert_eq!(keys(body), expected);
    assert_eq!(body["version"], "4");
    assert!(body["truncatedAlerts"].is_u64());
    let status = |value: &Value| assert!(value == "firing" || value == "resolved");
    status(&body["status"]);
    for text in ["receiver", "groupKey", "externalURL"] {
        assert!(body[text].is_string(), "{text}");
    }
    let texts = |value: &Value| assert!(value.as_object().unwrap().values().all(Value::is_string), "{value}");
    for map in ["groupLabels", "commonLabels", "commonAnnotations"] {
        texts(&body[map]);
    }
    for alert in body["alerts"].as_array().unwrap() {
        assert_eq!(
            keys(alert),
            ["annotations", "endsAt", "fingerprint", "generatorURL", "labels", "startsAt", "status"]
        );
        status(&alert["status"]);
        texts(&alert["labels"]);
        texts(&alert["annotations"]);
        assert!(alert["labels"]["alertname"].is_string());
        let fingerprint = alert["fingerprint"].as_str().unwrap();
        assert!(fingerprint.len() == 16 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let time = |value: &Value| value.as_str().unwrap().parse::<WallTime>();
        assert!(time(&alert["startsAt"]).is_ok());
        if alert["status"] == "firing" {
            assert_eq!(alert["endsAt"], "0001-01-01T00:00:00Z");
        } else {
            assert!(time(&alert["endsAt"]).is_ok());
        }
    }
}

#[test]
fn a_webhook_gets_what_alertmanager_would_send() {
    let (url, requests) = server(&["200 OK"]);
    let settings = webhook(&url, "[alerts]\nexternal_url = \"http://site.org/sea\"");
    let (notifier, outcomes) = notifier(&settings);
    notifier.send(notification(&settings, 3, "rank hangs"));
    let (head, body) = requests.recv_timeout(LONG).unwrap();
    assert!(
        head.starts_with("post /services/t0/secret http/1.1") && head.contains("content-type: application/json"),
        "{head}"
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    check_schema(&body);
    assert_eq!(
        (&body["status"], &body["receiver"], &body["externalURL"]),
        (&json!("firing"), &json!("chat"), &json!("http://site.org/sea"))
    );
    assert_eq!(body["groupLabels"], json!({"alertname": "RankHangs", "job": "sea"}));
    assert_eq!(body["commonLabels"], json!({"alertname": "RankHangs", "job": "sea", "severity": "critical"}));
    assert_eq!(body["commonAnnotations"], json!({"summary": "rank hangs", "action": "the attempt is ended"}));
    let statuses: Vec<&Value> = body["alerts"].as_array().unwrap().iter().map(|alert| &alert["status"]).collect();
    assert_eq!(statuses, ["firing", "firing", "resolved"]);
    let over = &body["alerts"][2];
    assert_eq!(over["fingerprint"], Fingerprint::of("RankHangs", &finding(0, "").labels).to_string());
    let time = |key: &str| over[key].as_str().unwrap().parse::<WallTime>().unwrap();
    let seconds = time("startsAt").until(time("endsAt")).as_secs_f64();
    assert!((seconds - 60.0).abs() < 0.01, "{seconds}");
    let notified = outcomes.recv_timeout(LONG).unwrap();
    assert_eq!(notified.outcome, Outcome::Told { tries: 1, answer: String::new() });
    assert!(
        matches!(notified.event(), Event::Notified { receiver, alerts, outcome } if receiver == "chat" && alerts.len() == 3 && outcome == "told")
    );
    assert!(notifier.finish(LONG));
}

#[test]
fn chats_get_text_and_bodies_are_bounded() {
    let (url, requests) = server(&["204 No Content"]);
    let settings = webhook(&url, "format = \"plain\"");
    let (notifier, outcomes) = notifier(&settings);
    let told = notification(&settings, 150, "line\nend");
    let letter = Letter { notification: told.clone(), at: WallTime::now() };
    let whole = body::alertmanager(&letter, "chat", "");
    check_schema(&whole);
    assert_eq!((whole["alerts"].as_array().unwrap().len(), &whole["truncatedAlerts"]), (100, &json!(50)));
    notifier.send(told);
    let body: Value = serde_json::from_str(&requests.recv_timeout(LONG).unwrap().1).unwrap();
    assert_eq!(keys(&body), ["text"]);
    let text = body["text"].as_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[101]), (102, "firing: RankHangs (149), critical, job sea", "and 50 more"));
    assert!(lines[1].starts_with("RankHangs (job=sea, rank=1): line end [critical, since "), "{}", lines[1]);
    assert!(matches!(outcomes.recv_timeout(LONG).unwrap().outcome, Outcome::Told { .. }));
}

#[test]
fn what_another_try_may_mend_is_tried_again() {
    let (url, requests) = server(&["503 Busy", "429 Too Many", "200 OK"]);
    let settings = webhook(&url, "");
    let (notifier, outcomes) = notifier(&settings);
    notifier.send(notification(&settings, 2, "x"));
    assert_eq!(outcomes.recv_timeout(LONG).unwrap().outcome, Outcome::Told { tries: 3, answer: String::new() });
    assert_eq!(requests.try_iter().count(), 3);
}

#[test]
fn what_it_can_not_mend_is_said_without_the_secret() {
    let (url, _requests) = server(&["404 Not Found"]);
    let settings = webhook(&url, "");
    let (first, outcomes) = notifier(&settings);
    first.send(notification(&settings, 2, "x"));
    let refused = outcomes.recv_timeout(LONG).unwrap().outcome.to_string();
    assert!(refused.contains("answered 404: what[31m is that?") && !refused.contains("secret"), "{refused}");
    // Nobody is there any more.
    let (second, outcomes) = notifier(&settings);
    second.send(notification(&settings, 2, "x"));
    let gone = outcomes.recv_timeout(LONG).unwrap().outcome.to_string();
    assert!(gone.starts_with("failed: webhook http://127.0.0.1:") && !gone.contains("secret"), "{gone}");
    // A redirect is not followed: a post would not be one any more.
    let (url, requests) = server(&["302 Found\r\nLocation: http://127.0.0.1:9/"]);
    let settings = webhook(&url, "");
    let (third, outcomes) = notifier(&settings);
    third.send(notification(&settings, 2, "x"));
    assert!(outcomes.recv_timeout(LONG).unwrap().outcome.to_string().contains("answered 302"));
    assert_eq!(requests.try_iter().count(), 1);
}

#[test]
fn tls_is_spoken_and_strangers_are_not_trusted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = webhook(&format!("https://{}/", listener.local_addr().unwrap()), "");
    let (notifier, outcomes) = notifier(&settings);
    notifier.send(notification(&settings, 2, "x"));
    let (mut stream, _) = listener.accept().unwrap();
    let mut hello = [0; 3];
    stream.read_exact(&mut hello).unwrap();
    // A handshake record of TLS.
    assert_eq!(hello, [0x16, 3, 1]);
    drop((stream, listener));
    assert!(matches!(outcomes.recv_timeout(LONG).unwrap().outcome, Outcome::Failed { .. }));
}

#[test]
fn a_receiver_that_hangs_delays_nobody() {
    // It takes the connection, and says nothing ever.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), "cat > /dev/null");
    let text = format!(
        "[[alerts.receivers]]\nname = \"hangs\"\nwebhook = \"http://{}/\"\ntimeout = \"10min\"\n\
         [[alerts.receivers]]\nname = \"works\"\ncommand = [{program}]\ntimeout = \"1min\"\n",
        listener.local_addr().unwrap()
    );
    let settings = settings(&text);
    let (notifier, outcomes) = notifier(&settings);
    for _ in 0..QUEUE_MOST {
        notifier.send(notification(&settings, 2, "x"));
    }
    for _ in 0..QUEUE_MOST {
        let notified = outcomes.recv_timeout(LONG).unwrap();
        assert_eq!((notified.receiver.as_str(), notified.outcome.to_string().as_str()), ("works", "told"));
    }
    // What finds no room is counted; handing it in takes no time.
    let start = Instant::now();
    let one = notification(&settings, 2, "x");
    for _ in 0..1000 {
        notifier.send(Notification { receivers: vec!["hangs".into()], ..one.clone() });
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!((999..=1000).contains(&notifier.dropped()), "{}", notifier.dropped());
    assert!(!notifier.finish(Duration::from_millis(10)));
}

#[test]
fn what_was_dropped_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let program =
        script(folder.path(), &format!("cat > /dev/null; while [ ! -e {} ]; do sleep 0.01; done", gate.display()));
    let settings =
        settings(&format!("[[alerts.receivers]]\nname = \"slow\"\ncommand = [{program}]\ntimeout = \"1min\"\n"));
    let (notifier, outcomes) = notifier(&settings);
    let one = notification(&settings, 2, "x");
    for _ in 0..QUEUE_MOST + 10 {
        notifier.send(one.clone());
    }
    let dropped = notifier.dropped();
    assert!((9..=10).contains(&dropped), "{dropped}");
    fs::write(&gate, "").unwrap();
    assert!(notifier.finish(LONG));
    let said: Vec<Outcome> = outcomes.try_iter().map(|notified| notified.outcome).collect();
    assert!(said.contains(&Outcome::Dropped { count: dropped }), "{said:?}");
}

#[test]
fn a_command_gets_json_and_variables_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let program =
        script(folder.path(), &format!("cat > {path}/body; env > {path}/env; echo \"$1 sent\"; echo noise >&2"));
    let settings = settings(&format!("[[alerts.receivers]]\nname = \"page\"\ncommand = [{program}, \"$(touch x)\"]\n"));
    let (notifier, outcomes) = notifier(&settings);
    notifier.send(notification(&settings, 2, "x"));
    let outcome = outcomes.recv_timeout(LONG).unwrap().outcome;
    // The argument is an argument, not a command.
    assert_eq!(outcome.to_string(), "told: $(touch x) sent noise");
    check_schema(&serde_json::from_slice(&fs::read(folder.path().join("body")).unwrap()).unwrap());
    let variables = fs::read_to_string(folder.path().join("env")).unwrap();
    for line in ["ALERT_STATUS=firing", "ALERT_NAME=RankHangs", "ALERT_SEVERITY=critical", "ALERT_JOB=sea"] {
        assert!(variables.lines().any(|found| found == line), "{line} in {variables}");
    }
    // The job's secret stays with us.
    let secret = [(crate::line::Secret::VARIABLE, "ab".repeat(32))];
    let words = ["/bin/sh", "-c", "env"].map(str::to_owned);
    let printed = command::run(&words, Vec::new(), &secret, LONG).unwrap();
    assert!(printed.contains("PATH=") && !printed.contains("abab"), "{printed}");
}

#[test]
fn commands_that_fail_are_missing_or_hang_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(300);
    let run = |text: &str, limit: Duration| {
        let words = ["/bin/sh", "-c", text].map(str::to_owned);
        command::run(&words, vec![b'x'; 1 << 20], &[], limit)
    };
    let failed = run("echo no such pager >&2; exit 3", LONG).unwrap_err().to_string();
    assert!(failed.ends_with("ended with exit status: 3: no such pager"), "{failed}");
    let missing = command::run(&["/nonexistent/program".to_owned()], Vec::new(), &[], LONG).unwrap_err();
    assert!(matches!(missing, DeliveryError::Start { .. }));
    // It never reads, ignores requests to end, and so does its child, which holds the output open.
    let start = Instant::now();
    let hangs = format!("trap '' TERM; sleep 600 & echo $! > {}/child; wait; sleep 600", folder.path().display());
    assert!(matches!(run(&hangs, limit), Err(DeliveryError::Late { .. })));
    assert!(start.elapsed() < Duration::from_secs(30));
    let child: i32 = fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
    let gone = || {
        let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        state.is_empty() || state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    };
    while !gone() {
        assert!(start.elapsed() < LONG, "the command's child lives on");
        thread::sleep(Duration::from_millis(5));
    }
    // One that prints without end is read, and only the start is kept.
    let much = run(
        "cat > /dev/null; i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done",
        LONG,
    );
    assert!(much.unwrap().len() <= ANSWER_LONGEST);
    // One whose child keeps the output is not waited for.
    let start = Instant::now();
    run("cat > /dev/null; sleep 20 & exit 0", LONG).unwrap();
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_mail_has_its_headers_and_nobody_elses() {
    use base64::Engine;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let program = script(folder.path(), &format!("echo \"$@\" > {path}/arguments; cat > {path}/mail"));
    let settings = settings(&format!(
        "[alerts]\nsendmail = [{program}, \"-t\", \"-i\"]\n[[alerts.receivers]]\nname = \"people\"\nmail = [\"a@site.org\", \"b@site.org\"]\n"
    ));
    let (notifier, outcomes) = notifier(&settings);
    let mut told = notification(&settings, 2, "\u{fc}ber\r\n.\r\nBcc: other@site.org");
    for alert in told.firing.iter_mut().chain(&mut told.resolved) {
        alert.finding.rule = "R\r\nBcc: other@site.org\r\n\r\nbody".into();
    }
    notifier.send(told);
    assert_eq!(outcomes.recv_timeout(LONG).unwrap().outcome, Outcome::Told { tries: 1, answer: String::new() });
    assert_eq!(fs::read_to_string(folder.path().join("arguments")).unwrap(), "-t -i\n");
    let mail = fs::read_to_string(folder.path().join("mail")).unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    let names: Vec<&str> =
        head.lines().filter(|line| !line.starts_with(' ')).map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(names, ["To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]);
    assert!(head.starts_with("To: a@site.org,\n b@site.org\n"));
    assert!(mail.lines().all(|line| line.len() <= 78));
    let text = base64::engine::general_purpose::STANDARD.decode(body.replace('\n', "")).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("\u{fc}ber"));
}

#[test]
fn who_does_not_want_to_hear_of_the_end_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), &format!("cat >> {}/body", folder.path().display()));
    let settings =
        settings(&format!("[[alerts.receivers]]\nname = \"page\"\ncommand = [{program}]\nsend_resolved = false\n"));
    let (notifier, outcomes) = notifier(&settings);
    let told = notification(&settings, 2, "x");
    notifier.send(Notification { firing: Vec::new(), ..told.clone() });
    notifier.send(told);
    let notified = outcomes.recv_timeout(LONG).unwrap();
    assert_eq!(notified.alerts.len(), 1);
    let body: Value = serde_json::from_slice(&fs::read(folder.path().join("body")).unwrap()).unwrap();
    assert_eq!(body["alerts"].as_array().unwrap().len(), 1);
}

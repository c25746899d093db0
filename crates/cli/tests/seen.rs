//! A job as people and programs see it: the live page in a real browser, metrics scraped by a real Prometheus, `piton top` on a real terminal.

mod common;

use common::browser::{self, Browser};
use common::supervised::{PATIENCE, Supervised, strike, undisturbed};
use common::{piton, skipped};
use nix::sys::signal::Signal;
use piton::journal::WallTime;
use piton_cli::observe::http::{Lookup, Options, Server};
use piton_cli::observe::{Now, RankNow, RankState, State};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A program of the tests below.
#[test]
#[ignore = "a program of the other tests, which run it by name"]
fn a_job() {
    common::supervised::job();
}

/// A program that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A supervisor with a server on a port of its own, and its address.
fn shown(steps: u64) -> (Supervised, String) {
    // By time as well, so that there is an interval to show.
    let mut run = Supervised::start(steps, &[("PITON_HTTP", "127.0.0.1:0"), ("PITON_EVERY", "2s")]);
    let mut said = BufReader::new(run.child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says where");
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
    // What else it says must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (run, address)
}

/// What the server at `address` (`http://host:port/`) answers.
fn get(address: &str, path: &str) -> String {
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body")
}

/// Where pictures go that are to be looked at: a folder that PITON_TEST_PICTURES names, or one that is removed.
fn pictures() -> (PathBuf, Option<tempfile::TempDir>) {
    match std::env::var_os("PITON_TEST_PICTURES") {
        Some(folder) => (folder.into(), None),
        None => {
            let folder = tempfile::tempdir().expect("a folder");
            (folder.path().to_owned(), Some(folder))
        }
    }
}

#[test]
fn the_live_page_follows_a_job_through_a_stopped_rank_in_a_real_browser() {
    let Some(program) = browser::program() else { return skipped("the live page", "no chromium is installed") };
    let (mut run, address) = shown(8000);
    let (folder, _keep) = pictures();
    let mut page = Browser::start(program);
    page.screen(1100, 900, false, false);
    page.open(&address);
    let step = "Number(document.querySelector('#figures b').textContent.replace(/\\D/g, ''))";
    page.until(&format!("document.querySelector('#figures b') && {step} > 20"));
    page.until("at('timeline').querySelector('svg') && at('progress').querySelector('svg')");
    page.until("document.querySelectorAll('#taken tr').length > 1");
    page.until("document.querySelectorAll('#chain tr').length > 1 && at('chain').textContent.includes('committed')");
    // It updates by itself while the job runs.
    let (before, updates) = (page.evaluate(step), page.evaluate("Number(document.body.dataset.updates)"));
    page.until(&format!("{step} > {before} && Number(document.body.dataset.updates) > {updates}"));
    assert_eq!(page.evaluate("at('heat').dataset.kinds"), "0", "one rank, and it computes");
    page.picture(&folder.join("live.png"));
    // By the keyboard alone.
    page.evaluate("at('heat').focus()");
    page.press("ArrowRight");
    page.until("at('rank').textContent.startsWith('Rank 0 on ')");
    // A rank that is stopped is seen as such before it is given up, and the job goes on.
    let first = run.rank_at(50, 0);
    let struck = Instant::now();
    strike(first, Signal::SIGSTOP);
    page.until("at('heat').dataset.kinds === '3' || document.querySelectorAll('#faults tr').length > 0");
    println!("seen on the page {:.2} s after it was stopped", struck.elapsed().as_secs_f64());
    page.until("document.querySelectorAll('#faults tr').length === 1");
    println!("the failure is on the page {:.2} s after it", struck.elapsed().as_secs_f64());
    let row = page.evaluate("document.querySelector('#faults tr').textContent");
    assert!(row.as_str().is_some_and(|row| row.contains("RankStopped")), "{row}");
    page.until("document.querySelectorAll('#attempts tr').length === 2");
    // On a telephone nothing but tables and drawings, which scroll by themselves, is wider than the screen; nor in the dark.
    for (name, width, height, dark, phone) in [
        ("live-dark", 1100, 900, true, false),
        ("live-phone", 390, 844, false, true),
        ("live-phone-dark", 360, 740, true, true),
    ] {
        page.screen(width, height, dark, phone);
        page.until(&format!("window.innerWidth === {width}"));
        let fits = "document.documentElement.scrollWidth <= window.innerWidth";
        assert_eq!(page.evaluate(fits), true, "{name}: {}", page.evaluate("document.documentElement.scrollWidth"));
        let paper = page.evaluate("getComputedStyle(document.body).backgroundColor");
        assert_eq!(paper == "rgb(255, 255, 255)", !dark, "{name}: {paper}");
        page.picture(&folder.join(format!("{name}.png")));
    }
    page.screen(1100, 900, false, false);
    // The report, from the same server.
    page.open(&format!("{address}report"));
    page.until("document.querySelector('h1') && document.querySelectorAll('svg').length >= 3");
    page.open(&address);
    page.until("document.querySelectorAll('#faults tr').length === 1");
    assert_eq!(page.complaints, [] as [String; 0]);
    let (status, _) = run.wait();
    assert!(status.success(), "{status}");
    assert_eq!(run.result(), undisturbed(8000), "nobody who looked changed a bit");
    // The server has ended with the job, and the page says so.
    page.until("!at('stale').hidden && at('stale').textContent.startsWith('Not up to date')");
}

#[test]
fn a_supervisor_that_shows_its_job_hears_signals_as_ever() {
    let (mut run, _) = shown(60_000);
    run.rank_at(50, 0);
    run.signal(Signal::SIGTERM);
    let (status, _) = run.wait();
    assert_eq!(status.code(), Some(75), "a checkpoint, and then the end: {status}");
    assert_eq!(run.events("halted").len(), 1);
}

/// A Prometheus that scrapes `address` once a second, by the rules of `monitoring/`, once it is ready; and where it answers.
fn prometheus(address: &str, folder: &Path) -> (Ends, String) {
    let target = address.trim_start_matches("http://").trim_end_matches('/');
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../monitoring/piton-rules.yml");
    let config = folder.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n  - job_name: piton\n    \
         static_configs: [{{targets: ['{target}']}}]\n",
        rules.display()
    );
    std::fs::write(&config, text).expect("a file");
    // One that is free now; nobody else here takes it.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let (ends, since) = (Ends(child), Instant::now());
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < PATIENCE, "Prometheus does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    (ends, format!("http://127.0.0.1:{port}/"))
}

/// What Prometheus answers to a query.
fn query(prometheus: &str, expression: &str) -> Value {
    let quoted: String = expression
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let answer: Value = serde_json::from_str(&get(prometheus, &format!("/api/v1/query?query={quoted}"))).expect("JSON");
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    answer["data"]["result"].clone()
}

#[test]
fn a_real_prometheus_scrapes_it_and_answers_every_query_of_the_dashboard() {
    if !has("prometheus") || !has("promtool") {
        return skipped("metrics", "Prometheus is not installed");
    }
    let (mut run, address) = shown(60_000);
    let folder = tempfile::tempdir().expect("a folder");
    let (_ends, prometheus) = prometheus(&address, folder.path());
    // A failure, so that what tells of failures has something to tell.
    let first = run.rank_at(100, 0);
    strike(first, Signal::SIGKILL);
    run.rank_at(200, first);
    let until = |expression: &str| {
        let since = Instant::now();
        loop {
            let result = query(&prometheus, expression);
            if result.as_array().is_some_and(|result| !result.is_empty()) {
                return result;
            }
            assert!(since.elapsed() < PATIENCE, "nothing answers to {expression}: {}", get(&address, "/metrics"));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until("piton_faults_total{class=\"RankDied\"} == 1");
    assert_eq!(until("up{job=\"piton\"}")[0]["value"][1], "1");
    until("job_name:piton_job_waste:ratio");
    let board =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../monitoring/grafana-dashboard.json"));
    let board: Value = serde_json::from_str(&board.expect("a dashboard")).expect("JSON");
    let mut asked = 0;
    for panel in board["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("queries") {
            let expression = target["expr"].as_str().expect("a query").replace("$job_name", "walk");
            // Bounds that need several failures, and what has not happened yet, answer with nothing at first.
            until(&expression);
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
    // Lint of names, help and types, in the format that is for people and tools.
    let mut lint = Command::new("promtool");
    let mut lint = lint
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    lint.stdin.take().expect("a pipe").write_all(get(&address, "/metrics").as_bytes()).expect("it reads");
    let said = lint.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}

#[test]
fn the_rules_for_prometheus_do_what_they_say() {
    if !has("promtool") {
        return skipped("rules for Prometheus", "promtool is not installed");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../monitoring");
    for arguments in [["check", "rules", "piton-rules.yml"], ["test", "rules", "piton-rules.test.yml"]] {
        let said = Command::new("promtool").args(arguments).current_dir(&folder).output().expect("it starts");
        assert!(
            said.status.success(),
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    }
    let rules = std::fs::read_to_string(folder.join("piton-rules.yml")).expect("a file");
    let tests = std::fs::read_to_string(folder.join("piton-rules.test.yml")).expect("a file");
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} is played by no test");
    }
}

#[test]
fn a_textfile_is_whole_and_has_the_name_that_is_looked_for() {
    let mut run = Supervised::start(100, &[]);
    assert!(run.wait().0.success());
    let path = run.path().join("walk.prom");
    let write = |path: &Path| piton(run.path(), &["metrics", "walk", "--textfile", path.to_str().expect("a name")]);
    assert!(write(&path).status.success());
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains("piton_job_state{job_name=\"walk\",state=\"finished\"} 1\n"), "{text}");
    let refused = write(&run.path().join("walk.txt"));
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(".prom"));
    let left: Vec<_> =
        std::fs::read_dir(run.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".walk.prom")), "{left:?}");
    let printed = piton(run.path(), &["metrics", "walk", "--openmetrics"]);
    assert!(String::from_utf8_lossy(&printed.stdout).ends_with("# EOF\n"));
}

/// A server that shows a job of so many simulated ranks.
fn simulated(ranks: u32) -> Server {
    let now = computing(ranks);
    shows(move || Some(now.clone()))
}

/// A server of what `look` finds.
fn shows(mut look: impl FnMut() -> Option<Now> + Send + 'static) -> Server {
    let lookup = Lookup::start(move || Ok((look(), None))).expect("a thread");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Server::start(Options { listen, token: None }, lookup).expect("a server")
}

/// A job that computes, on nodes of 64 ranks, one of them stopped.
fn computing(ranks: u32) -> Now {
    let rank = |rank: u32| RankNow {
        rank,
        node: Some(format!("node{:03}", rank / 64)),
        pid: rank + 1,
        presence: if rank == 3 { RankState::Stuck } else { RankState::Computing },
        step: 1000 - u64::from(rank.is_multiple_of(3)),
        step_seconds: Some(0.1),
        phase: None,
        silent_seconds: 0.1,
        mean_step_seconds: Some(0.2),
        waiting_share: None,
        error: None,
    };
    Now {
        job: "large".into(),
        at: WallTime::now(),
        epoch: 1,
        state: State::Running,
        host: Some("node000".into()),
        world: Some(ranks),
        started: Some(WallTime::now()),
        step: Some(999),
        ranks: (0..ranks).map(rank).collect(),
        nodes: Vec::new(),
        watched: Some(true),
        checkpoint: None,
        checkpoints: 0,
        chain: Vec::new(),
        schedule: None,
        alerts: Vec::new(),
    }
}

#[test]
fn a_page_that_is_opened_before_the_first_attempt_waits_for_it() {
    let Some(program) = browser::program() else { return skipped("the live page", "no chromium is installed") };
    let is_there = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_there);
    let server = shows(move || asked.load(Ordering::Relaxed).then(|| computing(4)));
    let mut page = Browser::start(program);
    page.open(&format!("http://{}/", server.address()));
    page.until("Number(document.body.dataset.updates) >= 1");
    assert_eq!(page.evaluate("at('summary').textContent"), "No attempt of the job is known yet.");
    assert_eq!(page.evaluate("at('stale').hidden"), true, "there is nothing that could be out of date");
    is_there.store(true, Ordering::Relaxed);
    page.until("view && view.heat.presence.length === 4 && at('job').textContent === 'large'");
    assert_eq!(page.complaints, [] as [String; 0]);
}

#[test]
fn ten_thousand_ranks_are_drawn_within_a_second() {
    let Some(program) = browser::program() else { return skipped("the live page", "no chromium is installed") };
    let server = simulated(10_000);
    let address = format!("http://{}/", server.address());
    let view = get(&address, "/api/v1/view");
    println!("a view of 10,000 ranks has {} KiB", view.len() / 1024);
    assert!(view.len() < 1 << 20, "{}", view.len());
    let mut page = Browser::start(program);
    page.screen(1100, 900, false, false);
    page.open(&address);
    page.until("view && view.heat.presence.length === 10000");
    let drawn = "(() => { const since = performance.now(); show(); return performance.now() - since; })()";
    let mut times: Vec<f64> = (0..5).map(|_| page.evaluate(drawn).as_f64().expect("a time")).collect();
    times.sort_by(f64::total_cmp);
    println!("drawn in {:.0} ms (median of 5; most {:.0} ms)", times[2], times[4]);
    assert!(times[2] < 1000.0, "{times:?}");
    page.evaluate("at('heat').focus()");
    page.press("End");
    page.until("at('rank').textContent.startsWith('Rank 9999 on node156: computing')");
    for _ in 0..2 {
        page.press("ArrowLeft");
    }
    page.until("at('rank').textContent.startsWith('Rank 9997 on ')");
    let (folder, _keep) = pictures();
    page.picture(&folder.join("live-large.png"));
}

/// A terminal's server, which ends with the test.
struct Terminal(PathBuf);

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where all is well it has ended by itself.
        let _ = Command::new("tmux").arg("-S").arg(&self.0).arg("kill-server").stderr(Stdio::null()).status();
    }
}

#[test]
fn top_shows_a_job_on_small_and_large_terminals() {
    if !Command::new("tmux").arg("-V").output().is_ok_and(|said| said.status.success()) {
        return skipped("piton top", "tmux is not installed");
    }
    let (mut run, address) = shown(60_000);
    run.rank_at(50, 0);
    // The supervisor hears of the job a little later than the job computes.
    let since = Instant::now();
    while !get(&address, "/api/v1/view").starts_with('{') {
        assert!(since.elapsed() < PATIENCE, "the supervisor knows nothing of the job");
        std::thread::sleep(Duration::from_millis(100));
    }
    // A server each: one that ends takes no new sessions.
    let tmux = |name: &str, arguments: &[&str]| {
        let socket = run.path().join(name);
        let said = Command::new("tmux").arg("-S").arg(socket).arg("-f").arg("/dev/null").args(arguments).output();
        String::from_utf8_lossy(&said.expect("tmux").stdout).into_owned()
    };
    let program = env!("CARGO_BIN_EXE_piton");
    let local = format!("{program} --dir {} top walk", run.path().display());
    let remote = format!("{program} top --url {address}");
    let (few, many) = (simulated(4), simulated(4096));
    let of = |server: &Server| format!("{program} top --url http://{}", server.address());
    let walk = ["walk, attempt 1: running", "rank 0 on "];
    let large = ["large, attempt 1: running", "rank 0 on node000: computing, step 999, 1 behind"];
    for (name, command, (width, height), words) in [
        ("store", &local, ("80", "24"), walk),
        ("server", &remote, ("200", "60"), walk),
        ("few-small", &of(&few), ("80", "24"), large),
        ("few-large", &of(&few), ("200", "60"), large),
        ("many-small", &of(&many), ("80", "24"), large),
        ("many-large", &of(&many), ("200", "60"), large),
    ] {
        let _ends = Terminal(run.path().join(name));
        tmux(name, &["new-session", "-d", "-s", name, "-x", width, "-y", height, command]);
        let since = Instant::now();
        let screen = || tmux(name, &["capture-pane", "-p", "-t", name]);
        let wait = |words: &str| {
            loop {
                let text = screen();
                if text.contains(words) {
                    return text;
                }
                assert!(since.elapsed() < PATIENCE, "{name}: {words:?} does not come:\n{text}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        wait(words[0]);
        // The last of a screen: then it is whole.
        let text = wait("look again");
        assert!(
            text.contains("Checkpoints") && text.contains("Nodes") && text.contains("nothing is known to be wrong"),
            "{text}"
        );
        tmux(name, &["send-keys", "-t", name, "Right"]);
        let text = wait(words[1]);
        // One is the legend's.
        let is_wide = |line: &str| line.chars().count() <= width.parse().unwrap_or(0);
        assert!(text.lines().all(is_wide) && text.matches('X').count() == 1 + usize::from(words == large), "{text}");
        println!("{name}:\n{text}");
        tmux(name, &["send-keys", "-t", name, "q"]);
        let gone = || !tmux(name, &["list-sessions"]).contains(&format!("{name}:"));
        while !gone() {
            assert!(since.elapsed() < PATIENCE, "{name} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // Without a terminal it says so.
    let refused = piton(run.path(), &["top", "walk"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("terminal"));
}

//! Whoever asks over a real socket, rightly and wrongly.

use super::routes::{Query, answer};
use super::*;
use crate::observe::tests::{running, two_failures};
use crate::observe::{Now, Story, View};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOKEN: &str = "0123456789abcdef";
const BOUND: Duration = Duration::from_secs(60);

fn known() -> Known {
    Known { now: Some(running(8)), story: Some(Arc::new(two_failures().story())), at: None, problem: None }
}

fn server(token: Option<&str>, listen: [u8; 4]) -> Result<Server, ServerError> {
    let known = known();
    let lookup = Lookup::start(move || {
        Ok::<(Option<Now>, Option<Story>), _>((known.now.clone(), known.story.as_deref().cloned()))
    });
    let listen = SocketAddr::from((Ipv4Addr::from(listen), 0));
    Server::start(Options { listen, token: token.and_then(Token::new) }, lookup.expect("a thread"))
}

/// What the server answers to these bytes, until it closes.
fn say(server: &Server, bytes: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.address().port())).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a limit");
    stream.write_all(bytes.as_bytes()).expect("it reads");
    let mut answer = String::new();
    // One that is refused in the middle may end with a reset.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn get(server: &Server, path: &str, heads: &str) -> String {
    say(server, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{heads}\r\n"))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn every_path_answers_with_what_it_is_for() {
    let known = known();
    let ask = |path| answer(&Query { path, accept: "" }, &known);
    for path in
        ["/", "/live.js", "/live.css", "/report", "/metrics", "/healthz", "/api/v1", "/live/timeline", "/live/progress"]
    {
        let answered = ask(path);
        assert!(answered.status == 200 && !answered.body.is_empty(), "{path}: {answered:?}");
    }
    let now: Now = serde_json::from_str(&ask("/api/v1/now").body).expect("JSON");
    assert_eq!(Some(&now), known.now.as_ref());
    let view: View = serde_json::from_str(&ask("/api/v1/view").body).expect("JSON");
    assert_eq!((view.heat.presence.as_str(), view.heat.behind[3], view.failures), ("ccSccccc", 37, 2));
    assert!(view.now.ranks.is_empty(), "they are columns");
    let report: serde_json::Value = serde_json::from_str(&ask("/api/v1/report").body).expect("JSON");
    assert_eq!(report["faults"][1]["class"], "NodeLost");
    for path in ["/nothing", "/../etc/passwd", "//", "/api/v2/now", "/live"] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
    // The page itself holds nothing of the job, and nothing of any other place.
    let page = ask("/").body + &ask("/live.js").body + &ask("/live.css").body;
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("walk"));
    assert!(!ask("/").body.contains("style=") && !ask("/").body.contains("<script>"), "the policy forbids it");
}

#[test]
fn before_there_is_anything_it_says_so() {
    let nothing = Known::default();
    let broken = Known { problem: Some("the store hangs".into()), ..Known::default() };
    let ask = |path, known| answer(&Query { path, accept: "" }, known).status;
    assert_eq!((ask("/api/v1/now", &nothing), ask("/report", &nothing), ask("/healthz", &nothing)), (404, 404, 200));
    assert_eq!((ask("/api/v1/now", &broken), ask("/report", &broken), ask("/healthz", &broken)), (503, 503, 503));
    assert_eq!((ask("/", &broken), ask("/metrics", &broken)), (200, 200));
    // The page is open before the job is there, which is no mistake.
    assert_eq!(answer(&Query { path: "/api/v1/view", accept: "" }, &nothing).body, "null");
    assert_eq!(ask("/api/v1/view", &broken), 503);
}

#[test]
fn metrics_tell_of_the_job_in_both_formats() {
    let known = known();
    let text = answer(&Query { path: "/metrics", accept: "" }, &known);
    assert_eq!(text.content_type, "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "piton_job_state{job_name=\"walk\",state=\"running\"} 1",
        "piton_ranks{job_name=\"walk\",presence=\"stuck\"} 1",
        "piton_rank_heartbeat_age_seconds{job_name=\"walk\",agg=\"max\"} 9.5",
        "piton_rank_worst_info{job_name=\"walk\",rank=\"3\",node=\"n4\"} 1",
        "piton_nodes{job_name=\"walk\",state=\"lost\"} 1",
        "piton_alerts{job_name=\"walk\",severity=\"critical\"} 1",
        "piton_faults_total{job_name=\"walk\",class=\"RankDied\"} 1",
        "piton_failures_total{job_name=\"walk\"} 2",
        "piton_checkpoints_total{job_name=\"walk\"} 2",
        "piton_checkpoint_last_step{job_name=\"walk\"} 38",
    ] {
        assert!(text.body.contains(&format!("\n{line}\n")), "{line}: {}", text.body);
    }
    assert!(!text.body.contains("rank=\"0\""), "no label for each rank");
    let accept = "application/openmetrics-text;version=1.0.0";
    let open = answer(&Query { path: "/metrics", accept }, &known);
    assert!(open.content_type.starts_with(accept.split(';').next().expect("a kind")));
    assert!(open.body.ends_with("# EOF\n") && open.body.contains("# TYPE piton_failures counter\n"));
    // Each family once, its samples after its type.
    for body in [&text.body, &open.body] {
        let mut families: Vec<&str> =
            body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
    }
}

#[test]
fn it_answers_over_a_socket_with_what_keeps_browsers_safe() {
    let server = server(None, [127, 0, 0, 1]).expect("a server");
    let answer = get(&server, "/api/v1/now", "");
    assert_eq!(status(&answer), 200, "{answer}");
    for head in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "content-type: application/json",
    ] {
        assert!(answer.contains(head), "{head}: {answer}");
    }
    assert!(get(&server, "/healthz", "").ends_with("\r\n\r\nok\n"));
    let head = say(&server, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(status(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
    let two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(say(&server, two).matches("HTTP/1.1 200").count(), 2);
}

#[test]
fn what_nobody_should_ask_is_refused() {
    let server = server(None, [127, 0, 0, 1]).expect("a server");
    let long = "x".repeat(3000);
    let many: String = (0..100).map(|number| format!("X-{number}: y\r\n")).collect();
    let huge = format!("X: {}\r\n", "y".repeat(40_000));
    for (bytes, wanted) in [
        (
            "POST /api/v1/now HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
                .to_owned(),
            vec![405],
        ),
        ("DELETE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), vec![405]),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(), vec![421]),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), vec![414]),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), vec![431, 400]),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{huge}\r\n"), vec![431, 400]),
        ("nonsense\r\n\r\n".to_owned(), vec![400]),
    ] {
        let answer = say(&server, &bytes);
        // What it refuses before it has read all may come as a reset.
        assert!(
            answer.is_empty() && wanted.contains(&431) || wanted.contains(&status(&answer)),
            "{wanted:?}: {answer:?}"
        );
    }
    assert_eq!(status(&get(&server, "/healthz", "")), 200, "it is none the worse for it");
}

#[test]
fn beyond_this_machine_the_token_is_shown() {
    let error = server(None, [0, 0, 0, 0]).expect_err("everybody could ask");
    assert!(matches!(error, ServerError::NeedsToken(_)), "{error}");
    let server = server(Some(TOKEN), [0, 0, 0, 0]).expect("a server");
    assert!(!server.url().contains("0.0.0.0") && server.url().ends_with(&format!(":{}/", server.address().port())));
    for path in ["/", "/metrics", "/healthz", "/live.js", "/nothing"] {
        let answer = get(&server, path, "");
        assert!(status(&answer) == 401 && answer.contains("www-authenticate: Bearer"), "{answer}");
    }
    assert_eq!(status(&get(&server, "/metrics", "Authorization: Bearer 0123456789abcdef\r\n")), 200);
    // A browser keeps it, and asks again without it in the address; it is never sent to another place.
    for (path, place) in
        [("/?token=0123456789abcdef", "/"), ("//evil.example/?token=0123456789abcdef", "/evil.example/")]
    {
        let kept = get(&server, path, "");
        assert!(status(&kept) == 303 && kept.contains(&format!("location: {place}\r\n")), "{kept}");
        assert!(kept.contains("set-cookie: piton_token=0123456789abcdef; HttpOnly; SameSite=Strict"), "{kept}");
    }
    assert_eq!(status(&get(&server, "/", "Cookie: piton_token=0123456789abcdef\r\n")), 200);
}

#[test]
fn slow_and_silent_ones_hold_up_nobody() {
    let server = server(None, [127, 0, 0, 1]).expect("a server");
    let port = server.address().port();
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").expect("it reads");
    }
    let began = Instant::now();
    assert_eq!(status(&get(&server, "/healthz", "")), 200);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // They are let go.
    for mut stream in slow {
        stream.set_read_timeout(Some(BOUND)).expect("a limit");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
}

#[test]
fn looking_up_is_one_threads_work_and_what_fails_is_said() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let lookup = Lookup::start(move || match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Ok((Some(running(4)), None)),
        _ => anyhow::bail!("the store hangs"),
    });
    let lookup = lookup.expect("a thread");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime.block_on(lookup.known());
    assert!(first.now.is_some() && first.problem.is_none());
    for _ in 0..100 {
        assert!(runtime.block_on(lookup.known()).now.is_some());
    }
    assert!(looks.load(Ordering::SeqCst) < 50, "it was fresh nearly always");
    let since = Instant::now();
    let failed = loop {
        let known = runtime.block_on(lookup.known());
        if known.problem.is_some() {
            break known;
        }
        assert!(since.elapsed() < BOUND);
    };
    assert!(failed.now.is_some(), "what was known is shown still");
}

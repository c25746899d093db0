//! The line as a whole, and what hostile or broken peers can do to it.

use super::frame::{BODY_LIMIT, FRAME_LIMIT, HEADER, Opener, SEAL, Sealer};
use super::handshake::{ANSWER, HELLO, PROOF};
use super::simulate::{self, loopback};
use super::*;
use piton::watch::{Action, Change, Finding, Kind, Labels, Severity};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Nothing here takes as long unless it hangs.
const LONG: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options::default()
}

fn receiver(options: Options) -> (Receiver, Secret) {
    let secret = Secret::generate().unwrap();
    (Receiver::bind(loopback(), secret.clone(), options).unwrap(), secret)
}

fn join_as(node: &str) -> Join {
    Join { node: node.into(), boot_id: "b1".into(), pid: 7, port: 0, version: "0.1.0".into() }
}

/// Takes turns until `wanted` says of an event that it was waited for; all events up to it.
fn until(receiver: &mut Receiver, mut wanted: impl FnMut(&Event) -> bool) -> Vec<Event> {
    let (start, mut all) = (Instant::now(), Vec::new());
    while start.elapsed() < LONG {
        let events = receiver.turn(Duration::from_millis(50)).unwrap();
        let found = events.iter().any(&mut wanted);
        all.extend(events);
        if found {
            return all;
        }
    }
    panic!("it did not happen; but {all:?}");
}

fn is_refused(wanted: Refusal) -> impl FnMut(&Event) -> bool {
    move |event| matches!(event, Event::Refused { reason, .. } if *reason == wanted)
}

fn joined(event: &Event) -> bool {
    matches!(event, Event::Joined { .. })
}

/// An agent by hand: its stream and keys, after the handshake with a receiver that is turned meanwhile.
fn shaken(receiver: &mut Receiver, secret: &Secret) -> (TcpStream, handshake::Keys) {
    let stream = TcpStream::connect(receiver.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let nonce = [7; 32];
    (&stream).write_all(&handshake::hello(&nonce)).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; ANSWER];
    while answer.len() < ANSWER {
        receiver.turn(Duration::from_millis(5)).unwrap();
        if let Ok(count) = (&stream).read(&mut piece) {
            answer.extend_from_slice(&piece[..count]);
        }
    }
    let (proof, keys) = handshake::prove(secret, &nonce, answer[..].try_into().unwrap()).unwrap();
    (&stream).write_all(&proof).unwrap();
    (stream, keys)
}

fn sealed(keys: &mut handshake::Keys, message: &FromAgent) -> Vec<u8> {
    let mut frame = Vec::new();
    keys.sealer.seal(&message.to_bytes().unwrap(), &mut frame).unwrap();
    frame
}

fn finding(rule: &str) -> Finding {
    let labels = Labels::from([("node".to_owned(), "n1".to_owned())]);
    let (rule, summary) = (rule.to_owned(), "so it is".to_owned());
    Finding { rule, severity: Severity::Critical, labels, summary, action: Action::MarkNode, lasts: None }
}

#[test]
fn what_is_said_at_one_end_is_heard_at_the_other() {
    let (mut receiver, secret) = receiver(options());
    let (order, orders) = mpsc::channel();
    let address = receiver.address().to_string();
    let sender = Sender::start(address, secret, join_as("n1"), SenderOptions::default(), move |told| {
        order.send(told).unwrap();
    })
    .unwrap();
    let report = Report {
        sequence: 1,
        mono_ns: 5,
        late: 0.25,
        attempt: Some(Attempt { launch: 2, job: "sea".into(), store: "/scratch".into(), epoch: 7, world: 4 }),
        ranks: vec![RankRecord {
            rank: 3,
            pid: 9,
            life: Life::Stuck,
            age_ms: 20,
            step: 77,
            steps: 70,
            phase: 2,
            step_seconds: 0.5,
            compute_seconds: 0.25,
        }],
        changes: vec![
            Change::Raised(finding("A")),
            Change::Raised(Finding { lasts: Some(2.0), ..finding("B") }),
            Change::Cleared { rule: "C".into(), labels: Labels::new() },
        ],
        samples: vec![("node_load1".into(), Kind::Gauge, 2.5)],
    };
    sender.report(report.clone());
    let events = until(&mut receiver, |event| matches!(event, Event::Report { .. }));
    assert!(
        matches!(&events[0], Event::Joined { node, join, same_boot: None, .. } if &**node == "n1" && *join == join_as("n1"))
    );
    let heard =
        events.iter().find_map(|event| if let Event::Report { report, .. } = event { Some(report) } else { None });
    assert_eq!(heard, Some(&report));
    receiver.order("n1", &ToAgent::StopAttempt { launch: 1, reason: "it hangs".into(), grace: 2.0 }).unwrap();
    assert_eq!(receiver.order_all(&ToAgent::DumpStacks { rank: Some(3) }), 1);
    assert_eq!(receiver.order("n2", &ToAgent::DumpStacks { rank: None }), Err(OrderError::NotConnected));
    let told = orders.recv_timeout(LONG).unwrap();
    assert_eq!(told, ToAgent::StopAttempt { launch: 1, reason: "it hangs".into(), grace: 2.0 });
    assert_eq!(orders.recv_timeout(LONG).unwrap(), ToAgent::DumpStacks { rank: Some(3) });
    sender.stacks(3, "main\nstep\n".into());
    until(&mut receiver, |event| matches!(event, Event::Stacks { rank: 3, text, .. } if text == "main\nstep\n"));
    receiver.order("n1", &ToAgent::Ping { token: receiver.now().to_bits() }).unwrap();
    until(&mut receiver, |event| matches!(event, Event::Round { seconds, .. } if (0.0..60.0).contains(seconds)));
    let state = sender.state();
    assert!(state.connected && state.connections == 1 && state.dropped == 0 && state.problem.is_none());
    let closing = std::thread::spawn(move || sender.close(LONG));
    until(&mut receiver, |event| matches!(event, Event::Left { orderly: true, .. }));
    assert!(closing.join().unwrap());
    assert_eq!(receiver.connected(), 0);
}

#[test]
fn after_a_break_the_supervisor_hears_all_that_stands() {
    let (mut first, secret) = receiver(options());
    let address = first.address();
    let quick = SenderOptions {
        retry_first: Duration::from_millis(5),
        retry_most: Duration::from_millis(20),
        ..SenderOptions::default()
    };
    let sender = Sender::start(address.to_string(), secret.clone(), join_as("n1"), quick, |_| {}).unwrap();
    let found = vec![
        Change::Raised(finding("A")),
        Change::Raised(finding("B")),
        Change::Cleared { rule: "A".into(), labels: finding("A").labels },
    ];
    sender.report(Report { changes: found, ..Report::default() });
    until(&mut first, |event| matches!(event, Event::Report { .. }));
    drop(first);
    // With nobody there, reports pile up and are bounded; what they found is not lost.
    let start = Instant::now();
    while sender.state().connected && start.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(1));
    }
    for sequence in 2..500 {
        let changes = vec![Change::Cleared { rule: format!("R{sequence}"), labels: Labels::new() }];
        sender.report(Report { sequence, changes, ..Report::default() });
    }
    assert!(sender.state().dropped >= 400);
    let mut second = Receiver::bind(address, secret, options()).unwrap();
    let events = until(&mut second, |event| matches!(event, Event::Report { report, .. } if report.sequence == 499));
    assert!(matches!(&events[1], Event::Standing { changes, .. } if *changes == [Change::Raised(finding("B"))]));
    let cleared: usize = events
        .iter()
        .map(|event| match event {
            Event::Changes { changes, .. } => changes.len(),
            Event::Report { report, .. } => report.changes.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(cleared, 498);
    assert_eq!(sender.state().connections, 2);
}

#[test]
fn who_does_not_know_the_secret_is_refused_at_either_end() {
    let (mut receiver, _) = receiver(options());
    let other = Secret::generate().unwrap();
    let stream = TcpStream::connect(receiver.address()).unwrap();
    (&stream).write_all(&handshake::hello(&[1; 32])).unwrap();
    let mut answer = [0; ANSWER];
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut have = 0;
    while have < ANSWER {
        receiver.turn(Duration::from_millis(5)).unwrap();
        have += (&stream).read(&mut answer[have..]).unwrap_or(0);
    }
    // The agent sees that this is not its supervisor.
    assert_eq!(handshake::prove(&other, &[1; 32], &answer).unwrap_err(), Refusal::Proof);
    // And a made-up proof is none.
    (&stream).write_all(&[9; PROOF]).unwrap();
    until(&mut receiver, is_refused(Refusal::Proof));
    assert_eq!((receiver.connected(), receiver.counts().refused.values().sum::<u64>()), (0, 1));
}

#[test]
fn a_handshake_serves_once() {
    let secret = Secret::generate().unwrap();
    let (answer, expected) = handshake::answer(&secret, &handshake::hello(&[1; 32]), &[2; 32]).unwrap();
    let (proof, mut agent) = handshake::prove(&secret, &[1; 32], &answer).unwrap();
    let mut supervisor = expected.check(&proof).unwrap();
    // The same hello again, as whoever has listened can send it: another nonce, and the proof is another.
    let (_, again) = handshake::answer(&secret, &handshake::hello(&[1; 32]), &[3; 32]).unwrap();
    assert_eq!(again.check(&proof).unwrap_err(), Refusal::Proof);
    // An agent's frame does not open as the supervisor's, nor in another connection.
    let frame = sealed(&mut agent, &FromAgent::Bye);
    assert_eq!(agent.opener.open(&frame), Err(Refusal::Seal));
    let (answer, expected) = handshake::answer(&secret, &handshake::hello(&[1; 32]), &[4; 32]).unwrap();
    let (proof, _) = handshake::prove(&secret, &[1; 32], &answer).unwrap();
    assert_eq!(expected.check(&proof).unwrap().opener.open(&frame), Err(Refusal::Seal));
    assert!(supervisor.opener.open(&frame).unwrap().is_some());
    // Replayed.
    assert_eq!(supervisor.opener.open(&frame), Err(Refusal::Counter));
    // Other versions are refused by name.
    let mut hello = handshake::hello(&[1; 32]);
    hello[8] = 9;
    assert_eq!(handshake::answer(&secret, &hello, &[2; 32]).unwrap_err(), Refusal::Version(9));
}

#[test]
fn frames_altered_moved_or_repeated_end_the_connection() {
    let (mut receiver, secret) = receiver(options());
    type Spoil = fn(Vec<Vec<u8>>) -> Vec<u8>;
    let cases: [(Refusal, Spoil); 5] = [
        (Refusal::Seal, |mut frames| {
            frames[1][HEADER] ^= 1;
            frames.concat()
        }),
        (Refusal::Counter, |frames| [&frames[0][..], &frames[2], &frames[1]].concat()),
        (Refusal::Counter, |frames| [&frames[0][..], &frames[1], &frames[1]].concat()),
        (Refusal::Counter, |frames| [&frames[0][..], &frames[2]].concat()),
        (Refusal::TooLong, |frames| [&frames[0][..], &[0xff; 64]].concat()),
    ];
    for (reason, spoil) in cases {
        let (stream, mut keys) = shaken(&mut receiver, &secret);
        let report = |sequence| FromAgent::Report(Report { sequence, ..Report::default() });
        let said = [FromAgent::Join(join_as("n1")), report(1), report(2)];
        let frames = said.iter().map(|message| sealed(&mut keys, message)).collect();
        (&stream).write_all(&spoil(frames)).unwrap();
        until(&mut receiver, is_refused(reason));
    }
    // Out of turn: a report from nobody, and somebody who says so twice.
    for said in [vec![FromAgent::Bye], vec![FromAgent::Join(join_as("n1")), FromAgent::Join(join_as("n1"))]] {
        let (stream, mut keys) = shaken(&mut receiver, &secret);
        for message in &said {
            (&stream).write_all(&sealed(&mut keys, message)).unwrap();
        }
        until(&mut receiver, is_refused(Refusal::OutOfTurn));
    }
    // Sealed, but no message.
    let (stream, mut keys) = shaken(&mut receiver, &secret);
    let mut frame = Vec::new();
    keys.sealer.seal(&[0xee; 40], &mut frame).unwrap();
    (&stream).write_all(&frame).unwrap();
    until(&mut receiver, is_refused(Refusal::Message));
    assert_eq!(receiver.connected(), 0);
}

#[test]
fn the_newest_connection_of_a_node_stands() {
    let (mut receiver, secret) = receiver(options());
    let (first, mut keys) = shaken(&mut receiver, &secret);
    (&first).write_all(&sealed(&mut keys, &FromAgent::Join(join_as("n1")))).unwrap();
    until(&mut receiver, joined);
    let (second, mut keys) = shaken(&mut receiver, &secret);
    let join = Join { boot_id: "b2".into(), ..join_as("n1") };
    (&second).write_all(&sealed(&mut keys, &FromAgent::Join(join))).unwrap();
    let events = until(&mut receiver, |event| matches!(event, Event::Joined { same_boot: Some(false), .. }));
    assert!(events.iter().any(|event| matches!(event, Event::Refused { reason: Refusal::Replaced, .. })));
    assert!(!events.iter().any(|event| matches!(event, Event::Left { .. })));
    assert_eq!(receiver.connected(), 1);
}

#[test]
fn hostile_clients_cost_little_and_delay_nobody() {
    let limits = Limits { pending: 20, handshake: 2.0, ..Limits::default() };
    let (mut receiver, secret) = receiver(Options { limits, ..options() });
    let address = receiver.address();
    // Many that say nothing or half of something, one that talks nonsense without end, one that authenticates and stops amid a frame.
    let quiet: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in quiet.iter().step_by(2) {
        let _ = { stream }.write(&handshake::hello(&[1; 32])[..HELLO - 1]);
    }
    let noisy = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        while stream.write_all(&[0x55; 65536]).is_ok() {}
    });
    until(&mut receiver, is_refused(Refusal::Crowded));
    let (slow, mut slow_keys) = shaken(&mut receiver, &secret);
    let mut frame = sealed(&mut slow_keys, &FromAgent::Join(join_as("slow")));
    let mut big = Vec::new();
    slow_keys.sealer.seal(&vec![1; BODY_LIMIT], &mut big).unwrap();
    frame.extend_from_slice(&big[..big.len() - 1]);
    slow.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < frame.len() {
        sent += (&slow).write(&frame[sent..]).unwrap_or(0);
        receiver.turn(Duration::from_millis(1)).unwrap();
    }
    // In the middle of all this an honest agent is heard.
    let sender = Sender::start(address.to_string(), secret, join_as("n1"), SenderOptions::default(), |_| {}).unwrap();
    sender.report(Report::default());
    until(&mut receiver, |event| matches!(event, Event::Report { node, .. } if &**node == "n1"));
    assert!(receiver.kept_bytes() <= 2 * FRAME_LIMIT + 64 * 1024, "{}", receiver.kept_bytes());
    noisy.join().unwrap();
    while receiver.connected() > 2 {
        receiver.turn(Duration::from_millis(20)).unwrap();
    }
    let refused = &receiver.counts().refused;
    assert_eq!(refused[&Refusal::NotOurs.to_string()], 1);
    assert_eq!(refused[&Refusal::Crowded.to_string()] + refused[&Refusal::TooSlow.to_string()], 60, "{refused:?}");
}

#[test]
fn who_does_not_read_is_given_up() {
    let limits = Limits { unsent: 10_000, ..Limits::default() };
    let (mut receiver, secret) = receiver(Options { limits, ..options() });
    let (stream, mut keys) = shaken(&mut receiver, &secret);
    (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as("n1")))).unwrap();
    until(&mut receiver, joined);
    let order = ToAgent::Checkpoint { reason: "x".repeat(4096) };
    // Until the kernel's buffers are full as well: some megabytes.
    let sent = (0..100_000).take_while(|_| receiver.order("n1", &order).is_ok()).count();
    assert!(sent < 100_000 && receiver.kept_bytes() == 0);
    until(&mut receiver, is_refused(Refusal::Backlog));
}

#[test]
fn limits_of_connections_and_nodes_hold() {
    let limits = Limits { connections: 3, nodes: 1, ..Limits::default() };
    let (mut receiver, secret) = receiver(Options { limits, ..options() });
    let agents: Vec<_> = (0..2)
        .map(|number| {
            let (stream, mut keys) = shaken(&mut receiver, &secret);
            (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as(&format!("n{number}"))))).unwrap();
            (stream, keys)
        })
        .collect();
    until(&mut receiver, is_refused(Refusal::TooMany));
    let _more: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(receiver.address()).unwrap()).collect();
    until(&mut receiver, is_refused(Refusal::TooMany));
    assert_eq!((receiver.connected(), agents.len()), (3, 2));
}

/// An agent whose silence is noticed at once.
#[derive(Debug)]
struct Impatient;

impl Silence for Impatient {
    fn heard(&mut self, _: f64) {}

    fn limit(&self) -> f64 {
        0.3
    }
}

fn impatient(confirm: Option<(Confirm, f64)>) -> Options {
    Options { silence: Box::new(|_| Box::new(Impatient)), confirm, ..options() }
}

#[test]
fn silence_is_lost_only_if_no_second_way_says_otherwise() {
    let answers = |verdict: Verdict| -> Confirm {
        Box::new(move |suspects| {
            assert!(suspects.iter().all(|suspect| &*suspect.node == "n1" && suspect.seconds > 0.3));
            vec![verdict; suspects.len()]
        })
    };
    // A way that hangs has its time, and a way that panics none.
    let (hang, hung) = mpsc::channel::<()>();
    let hanging: Confirm = Box::new(move |_| {
        let _ = hung.recv();
        Vec::new()
    });
    type SecondWay = Option<(Confirm, f64)>;
    let cases: Vec<(SecondWay, Option<bool>)> = vec![
        (None, Some(false)),
        (Some((answers(Verdict::Gone), 60.0)), Some(true)),
        (Some((answers(Verdict::Unknown), 60.0)), Some(false)),
        (Some((answers(Verdict::Up), 60.0)), None),
        (Some((hanging, 0.3)), Some(false)),
        (Some((Box::new(|_| Vec::new()), 60.0)), Some(false)),
    ];
    for (confirm, expected) in cases {
        let (mut receiver, secret) = receiver(impatient(confirm));
        let (stream, mut keys) = shaken(&mut receiver, &secret);
        (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as("n1")))).unwrap();
        let events = until(&mut receiver, |event| matches!(event, Event::Lost { .. } | Event::Silent { .. }));
        match (events.last(), expected) {
            (Some(Event::Lost { confirmed, seconds, limit, .. }), Some(wanted)) => {
                assert!(*confirmed == wanted && seconds > limit && *limit >= 0.3);
            }
            (Some(Event::Silent { seconds, limit, .. }), None) => assert!(seconds > limit),
            (other, _) => panic!("{other:?} instead of {expected:?}"),
        }
        // It was not dead after all.
        (&stream).write_all(&sealed(&mut keys, &FromAgent::Report(Report::default()))).unwrap();
        until(&mut receiver, |event| matches!(event, Event::Back { seconds, .. } if *seconds > 0.3));
    }
    drop(hang);
}

#[test]
fn who_is_up_and_silent_for_too_long_is_lost_all_the_same() {
    let up: Confirm = Box::new(|suspects| vec![Verdict::Up; suspects.len()]);
    let (mut receiver, secret) = receiver(Options { silent_most: 1.0, ..impatient(Some((up, 60.0))) });
    let (stream, mut keys) = shaken(&mut receiver, &secret);
    (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as("n1")))).unwrap();
    let events = until(&mut receiver, |event| matches!(event, Event::Lost { .. }));
    assert!(events.iter().any(|event| matches!(event, Event::Silent { .. })), "{events:?}");
    let Some(Event::Lost { seconds, confirmed: false, .. }) = events.last() else { panic!("{events:?}") };
    assert!(*seconds > 1.0, "{seconds}");
}

#[test]
fn who_leaves_in_order_is_not_missed_and_who_just_closes_is() {
    let (mut receiver, secret) = receiver(impatient(None));
    let mut streams = BTreeMap::new();
    for node in ["orderly", "closes"] {
        let (stream, mut keys) = shaken(&mut receiver, &secret);
        (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as(node)))).unwrap();
        if node == "orderly" {
            (&stream).write_all(&sealed(&mut keys, &FromAgent::Bye)).unwrap();
        }
        streams.insert(node, stream);
    }
    drop(streams);
    let events = until(&mut receiver, |event| matches!(event, Event::Lost { .. }));
    let lost: Vec<&str> = events
        .iter()
        .filter_map(|event| if let Event::Lost { node, .. } = event { Some(&**node) } else { None })
        .collect();
    assert_eq!(lost, ["closes"]);
}

#[test]
fn a_late_observer_is_patient_instead_of_accusing() {
    let (mut receiver, secret) = receiver(impatient(None));
    let (stream, mut keys) = shaken(&mut receiver, &secret);
    (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as("n1")))).unwrap();
    until(&mut receiver, joined);
    // It was away for longer than any agent may be silent; what came meanwhile is read before anybody is judged.
    std::thread::sleep(Duration::from_millis(1500));
    (&stream).write_all(&sealed(&mut keys, &FromAgent::Report(Report::default()))).unwrap();
    let events = until(&mut receiver, |event| matches!(event, Event::Report { .. } | Event::Lost { .. }));
    assert!(!events.iter().any(|event| matches!(event, Event::Lost { .. })), "{events:?}");
    assert!(receiver.counts().latest > 1.0);
    // And for a while its limits are longer by as much.
    let events = until(&mut receiver, |event| matches!(event, Event::Lost { .. }));
    assert!(matches!(events.last(), Some(Event::Lost { limit, .. }) if *limit > 0.8), "{events:?}");
}

#[test]
fn an_agent_that_says_it_is_late_gets_more_time() {
    let (mut receiver, secret) = receiver(impatient(None));
    let (stream, mut keys) = shaken(&mut receiver, &secret);
    (&stream).write_all(&sealed(&mut keys, &FromAgent::Join(join_as("n1")))).unwrap();
    let report = Report { late: 1.0, ..Report::default() };
    (&stream).write_all(&sealed(&mut keys, &FromAgent::Report(report))).unwrap();
    let events = until(&mut receiver, |event| matches!(event, Event::Lost { .. }));
    assert!(matches!(events.last(), Some(Event::Lost { limit, .. }) if *limit >= 1.3), "{events:?}");
}

#[test]
fn connecting_tells_who_is_up() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let open = listener.local_addr().unwrap();
    let closed = {
        // A port that was just free.
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        listener.local_addr().unwrap()
    };
    let suspect = |address: Option<SocketAddr>| Suspect { node: "n1".into(), address, seconds: 5.0 };
    let suspects: Vec<Suspect> = [Some(open), Some(closed), None].into_iter().map(suspect).collect();
    // The node of a refused connection is up.
    assert_eq!(by_connecting(LONG)(&suspects), [Verdict::Up, Verdict::Up, Verdict::Unknown]);
    assert_eq!(by_connecting(Duration::ZERO)(&suspects), [Verdict::Unknown; 3]);
    assert_eq!(by_connecting(LONG)(&[]), []);
}

#[test]
fn many_agents_are_heard_and_lost_ones_missed() {
    let (mut receiver, secret) = receiver(options());
    let simulation = simulate::Simulation {
        address: receiver.address(),
        agents: 500,
        ranks: 64,
        period: Duration::from_secs(1),
        periods: 1000,
        threads: 2,
        failures: vec![(17, 2, simulate::Failure::Silent), (401, 2, simulate::Failure::Closed)],
        stop: Arc::default(),
    };
    let stop = Arc::clone(&simulation.stop);
    let agents = std::thread::spawn(move || simulate::run(&simulation, &secret));
    let (mut reports, mut lost, mut closed, start) = (0_u64, Vec::new(), 0, Instant::now());
    let mut turn = |receiver: &mut Receiver, lost: &mut Vec<(String, f64, f64)>| {
        for event in receiver.turn(Duration::from_millis(250)).unwrap() {
            match event {
                Event::Report { report, .. } => {
                    assert_eq!(report.ranks.len(), 64);
                    reports += 1;
                }
                Event::Lost { node, seconds, limit, .. } => lost.push((node.to_string(), seconds, limit)),
                Event::Refused { from, reason } => panic!("{from}: {reason}"),
                Event::Left { .. } => closed += 1,
                _ => {}
            }
        }
        (reports, closed)
    };
    while lost.len() < 2 && start.elapsed() < LONG {
        turn(&mut receiver, &mut lost);
    }
    lost.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = lost.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(names, ["node00017", "node00401"], "{lost:?}");
    // It is looked at four times a second, where the machine lets it.
    let late = receiver.counts().latest;
    assert!(lost.iter().all(|(_, seconds, limit)| seconds > limit && *seconds < limit + 1.0 + late), "{lost:?}");
    stop.store(true, Ordering::Relaxed);
    // All that was sent arrives before the last connection is seen to be closed.
    while turn(&mut receiver, &mut Vec::new()).1 < 500 {
        assert!(start.elapsed() < 2 * LONG);
    }
    let done = agents.join().unwrap().unwrap();
    assert_eq!(turn(&mut receiver, &mut Vec::new()).0, done.reports);
}

fn message() -> impl Strategy<Value = FromAgent> {
    let text = "[a-z]{0,12}";
    let labels = proptest::collection::btree_map(text, text, 0..4);
    let change = prop_oneof![
        (text, labels.clone(), text, proptest::option::of(0.0..1e6)).prop_map(|(rule, labels, summary, lasts)| {
            Change::Raised(Finding {
                rule,
                severity: Severity::Warning,
                labels,
                summary,
                action: Action::Checkpoint,
                lasts,
            })
        }),
        (text, labels).prop_map(|(rule, labels)| Change::Cleared { rule, labels }),
    ];
    let changes = proptest::collection::vec(change, 0..5);
    let record =
        (any::<u32>(), any::<u32>(), any::<u64>(), 0.0..1e6f32).prop_map(|(rank, age_ms, step, seconds)| RankRecord {
            rank,
            pid: 1,
            life: Life::Alive,
            age_ms,
            step,
            steps: step,
            phase: 3,
            step_seconds: seconds,
            compute_seconds: seconds,
        });
    let samples = proptest::collection::vec(("[a-z]{0,12}", Just(Kind::Counter), -1e9..1e9f64), 0..5);
    let report = (any::<u64>(), proptest::collection::vec(record, 0..20), changes.clone(), samples).prop_map(
        |(sequence, ranks, changes, samples)| {
            FromAgent::Report(Report { sequence, mono_ns: 1, late: 0.5, attempt: None, ranks, changes, samples })
        },
    );
    prop_oneof![
        report,
        changes.prop_map(FromAgent::Standing),
        any::<u64>().prop_map(|token| FromAgent::Pong { token }),
        ("[a-z0-9.-]{1,20}", any::<u16>()).prop_map(|(node, port)| FromAgent::Join(Join { port, ..join_as(&node) })),
        Just(FromAgent::Bye),
    ]
}

proptest! {
    #[test]
    fn messages_read_as_they_were_written(message in message()) {
        let bytes = message.to_bytes().unwrap();
        prop_assert_eq!(FromAgent::from_bytes(&bytes), Ok(message));
        // With more behind it, or less, it is none.
        prop_assert!(FromAgent::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_a_message_within_bounds_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        if let Ok(message) = FromAgent::from_bytes(&bytes) {
            // Whatever was read can be sent.
            prop_assert!(message.to_bytes().is_ok());
            if let FromAgent::Report(report) = &message {
                prop_assert!(report.samples.iter().all(|(.., value)| value.is_finite()));
                prop_assert!(report.ranks.iter().all(|record| record.step_seconds >= 0.0 && record.step_seconds.is_finite()));
            }
        }
        let _ = ToAgent::from_bytes(&bytes);
    }

    #[test]
    fn altered_or_cut_messages_never_panic(message in message(), place: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let mut bytes = message.to_bytes().unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= with;
        let _ = FromAgent::from_bytes(&bytes);
        let _ = FromAgent::from_bytes(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_bytes_open_to_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        match Opener::new([3; 32]).open(&bytes) {
            Ok(opened) => prop_assert!(opened.is_none() && bytes.len() < HEADER + length + SEAL || bytes.len() < 4),
            Err(reason) => prop_assert_eq!(reason, if length > BODY_LIMIT { Refusal::TooLong } else { Refusal::Seal }),
        }
    }

    #[test]
    fn a_frame_opens_whole_and_unaltered_only(body in proptest::collection::vec(any::<u8>(), 0..500), place: prop::sample::Index, with in 1..=255_u8) {
        let mut frame = Vec::new();
        Sealer::new([3; 32]).seal(&body, &mut frame).unwrap();
        prop_assert_eq!(Opener::new([3; 32]).open(&frame), Ok(Some((&body[..], frame.len()))));
        prop_assert_eq!(Opener::new([4; 32]).open(&frame), Err(Refusal::Seal));
        let place = place.index(frame.len());
        prop_assert_eq!(Opener::new([3; 32]).open(&frame[..place]), Ok(None));
        frame[place] ^= with;
        // A longer length waits for bytes that would have to fit the seal; nothing opens.
        prop_assert!(!matches!(Opener::new([3; 32]).open(&frame), Ok(Some(_))));
    }
}

#[test]
fn a_body_that_is_too_long_is_not_sealed() {
    let mut frame = vec![1];
    let mut sealer = Sealer::new([3; 32]);
    assert_eq!(sealer.seal(&vec![0; BODY_LIMIT + 1], &mut frame), Err(Refusal::TooLong));
    assert_eq!(frame, [1]);
    sealer.seal(&vec![0; BODY_LIMIT], &mut frame).unwrap();
    assert_eq!(frame.len(), 1 + FRAME_LIMIT);
}

#[test]
fn messages_beyond_their_bounds_are_refused() {
    let many =
        |count: usize| FromAgent::Changes(vec![Change::Cleared { rule: "A".into(), labels: Labels::new() }; count]);
    assert!(many(1024).to_bytes().is_ok());
    assert_eq!(many(1025).to_bytes(), Err(MessageError::TooMuch("findings")));
    for node in ["", "a b", "../x", "\u{e9}", "a\n"] {
        assert_eq!(FromAgent::Join(join_as(node)).to_bytes(), Err(MessageError::Malformed), "{node}");
    }
    assert_eq!(FromAgent::Join(join_as(&"a".repeat(256))).to_bytes(), Err(MessageError::TooMuch("letters")));
    assert_eq!(
        FromAgent::Stacks { rank: 1, text: "x".repeat(200_000) }.to_bytes(),
        Err(MessageError::TooMuch("letters"))
    );
}

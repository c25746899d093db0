//! What alerts do as time goes on.

use super::*;
use crate::journal::Event;
use crate::watch::{Action, Change, Finding, Labels, Severity};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const RECEIVER: &str = "[[alerts.receivers]]\nname = \"me\"\nmail = [\"me@site.org\"]\n";

fn settings(more: &str) -> Settings {
    Settings::from_toml(&format!("{more}\n{RECEIVER}")).unwrap()
}

fn alerts(more: &str) -> Alerts {
    Alerts::new(settings(more))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
}

fn finding(rule: &str, severity: Severity, pairs: &[(&str, &str)]) -> Finding {
    let (rule, labels, summary) = (rule.to_owned(), labels(pairs), format!("{rule} is so"));
    Finding { rule, severity, labels, summary, action: Action::Nothing, lasts: None }
}

fn raised(rule: &str, severity: Severity, pairs: &[(&str, &str)]) -> Change {
    Change::Raised(finding(rule, severity, pairs))
}

fn acting(rule: &str, action: Action, pairs: &[(&str, &str)]) -> Change {
    Change::Raised(Finding { action, ..finding(rule, Severity::Critical, pairs) })
}

fn cleared(rule: &str, pairs: &[(&str, &str)]) -> Change {
    Change::Cleared { rule: rule.to_owned(), labels: labels(pairs) }
}

fn rules(told: &[Alert]) -> Vec<&str> {
    told.iter().map(|alert| alert.finding.rule.as_str()).collect()
}

fn actions(turn: &Turn) -> Vec<(&str, Action)> {
    turn.actions.iter().map(|due| (due.alert.finding.rule.as_str(), due.action)).collect()
}

#[test]
fn the_defaults_are_sound_and_told_to_nobody_without_receivers() {
    let mut alerts = Alerts::new(Settings::defaults());
    assert!(alerts.settings().inhibit.len() >= 6 && alerts.settings().routes.len() == 1);
    alerts.take(0.0, raised("A", Severity::Critical, &[]));
    let turn = alerts.advance(0.0);
    assert_eq!((rules(&turn.firing), turn.notifications.len()), (vec!["A"], 0));
    // They can be taken as the start of a file of one's own.
    assert_eq!(
        Settings::from_toml(&Settings::defaults_toml().replace("inhibit_defaults = true", "inhibit_defaults = false")),
        Ok(Settings::defaults())
    );
}

#[test]
fn what_a_file_can_not_mean_is_refused_by_key() {
    let line = |text: &str| match Settings::from_toml(text) {
        Err(SettingsError::Syntax { line, .. }) => line,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(line("[alerts]\n\nlimits = 3"), 3);
    assert_eq!(line("[alerts]\ngroup_wait = 30"), 2);
    assert_eq!(line("[alerts]\ngroup_wait = \"900d\""), 2);
    assert_eq!(line("[alerts]\n[[alerts.routes]]\nmatch = [\"a=~b\"]\nreceivers = []"), 3);
    let wrong = |text: &str, expected: &str| match Settings::from_toml(text) {
        Err(SettingsError::Invalid { key, .. }) => assert_eq!(key, expected, "{text}"),
        other => panic!("{text}: {other:?}"),
    };
    wrong("[alerts]\nlimit = 1", "limit");
    wrong("[alerts]\nsendmail = []", "sendmail");
    wrong("[alerts]\nexternal_url = \"javascript:x\"", "external_url");
    let receiver = |text: &str| format!("[[alerts.receivers]]\nname = \"a\"\n{text}\n");
    wrong(&receiver(""), "receivers.a");
    wrong(&receiver("command = [\"x\"]\nmail = [\"a@b\"]"), "receivers.a");
    wrong(&receiver("command = []"), "receivers.a.command");
    wrong(&receiver("command = [\"a\\u0000\"]"), "receivers.a.command");
    wrong(&receiver("command = [\"a\"]\nformat = \"plain\""), "receivers.a.format");
    wrong(&receiver("command = [\"a\"]\ntimeout = \"0s\""), "receivers.a.timeout");
    for url in ["ftp://a/", "http://", "https:///x", "http://a b/", "http://a/\\r\\nX: y"] {
        wrong(&receiver(&format!("webhook = \"{url}\"")), "receivers.a.webhook");
    }
    for mail in ["", "a", "@b", "a@", "a@b@c", "-f@b", "a@b\\nBcc: c@d", "a@b,c@d", "A <a@b>", "\u{e9}@b"] {
        wrong(&receiver(&format!("mail = [\"{mail}\"]")), "receivers.a.mail");
    }
    wrong("[[alerts.receivers]]\nname = \"a b\"\nmail = [\"a@b\"]", "receivers.name");
    wrong(&receiver("mail = [\"a@b\"]").repeat(2), "receivers.name");
    wrong("[[alerts.routes]]\nreceivers = [\"nobody\"]", "routes.1.receivers");
    wrong("[alerts]\ngroup_by = [\"no label\"]", "routes.1.group_by");
    wrong("[alerts]\nrepeat_interval = \"1s\"", "routes.1.repeat_interval");
    wrong("[[alerts.inhibit]]\nsource = []\ntarget = [\"a=b\"]", "inhibit.1.source");
    // Other sections are others' business.
    assert!(Settings::from_toml("[[threshold]]\nname = \"x\"\n").is_ok());
}

#[test]
fn the_same_finding_is_the_same_alert() {
    let mut alerts = alerts("");
    alerts.take(1.0, raised("A", Severity::Warning, &[("node", "n1")]));
    alerts.take(2.0, raised("A", Severity::Warning, &[("node", "n1")]));
    let again = Finding { summary: "worse".into(), ..finding("A", Severity::Warning, &[("node", "n1")]) };
    alerts.take(3.0, Change::Raised(again));
    alerts.take(3.0, raised("A", Severity::Warning, &[("node", "n2")]));
    let turn = alerts.advance(3.0);
    assert_eq!(turn.firing.len(), 2);
    let mut firing = alerts.firing().filter(|alert| alert.labels()["node"] == "n1");
    let alert = firing.next().unwrap();
    assert_eq!((alert.since, alert.seen, alert.times, alert.finding.summary.as_str()), (1.0, 3.0, 3, "worse"));
    assert_eq!(alert.seconds(5.0), 4.0);
}

#[test]
fn warnings_wait_for_each_other_and_critical_ones_for_nobody() {
    let mut alerts = alerts("");
    for second in 0..29_u32 {
        let node = format!("n{second}");
        alerts.take(f64::from(second), raised("Hot", Severity::Warning, &[("node", &node)]));
        assert!(alerts.advance(f64::from(second)).notifications.is_empty());
    }
    assert_eq!(alerts.next(), Some(30.0));
    let turn = alerts.advance(30.0);
    assert_eq!(turn.notifications.len(), 1);
    let told = &turn.notifications[0];
    assert_eq!((told.why, told.firing.len(), &told.group), (Why::New, 29, &labels(&[("rule", "Hot")])));
    alerts.take(31.0, raised("Dead", Severity::Critical, &[]));
    assert_eq!(rules(&alerts.advance(31.0).notifications[0].firing), ["Dead"]);
    // One more of either: a while after the last word.
    alerts.take(32.0, raised("Hot", Severity::Warning, &[("node", "late")]));
    alerts.take(32.0, raised("Dead", Severity::Critical, &[("rank", "2")]));
    assert!(alerts.advance(60.9).notifications.is_empty());
    let told = alerts.advance(61.0).notifications;
    assert_eq!((told.len(), told[0].why, told[0].firing.len()), (1, Why::Changed, 2));
    let told = alerts.advance(330.0).notifications;
    assert_eq!((told.len(), told[0].why, told[0].firing.len()), (1, Why::Changed, 30));
}

#[test]
fn good_to_know_is_for_the_journal() {
    let mut alerts = alerts("");
    alerts.take(0.0, raised("A", Severity::Info, &[]));
    let turn = alerts.advance(0.0);
    assert!(matches!(&turn.events()[..], [Event::AlertFiring { severity, .. }] if severity == "info"));
    assert!(alerts.advance(1e6).notifications.is_empty());
    // Until it gets worse.
    alerts.take(1e6, raised("A", Severity::Critical, &[]));
    let turn = alerts.advance(1e6);
    assert_eq!((turn.firing.len(), turn.notifications.len()), (0, 1));
}

#[test]
fn what_lasts_ends_by_itself_at_its_time() {
    let mut alerts = alerts("");
    let lasting = Finding { lasts: Some(60.0), ..finding("A", Severity::Critical, &[]) };
    alerts.take(0.0, Change::Raised(lasting.clone()));
    assert_eq!(alerts.advance(0.0).notifications.len(), 1);
    alerts.take(50.0, Change::Raised(lasting.clone()));
    assert!(alerts.advance(109.0).resolved.is_empty());
    let turn = alerts.advance(112.0);
    assert_eq!((turn.resolved.len(), turn.resolved[0].ended), (1, Some(110.0)));
    assert!(matches!(turn.events()[..], [Event::AlertResolved { seconds: 110.0, .. }]));
    // Found again after its time: another firing, whether or not anybody looked meanwhile.
    alerts.take(200.0, Change::Raised(lasting.clone()));
    alerts.take(300.0, Change::Raised(lasting));
    let turn = alerts.advance(300.0);
    assert_eq!((turn.firing.len(), turn.resolved.len()), (2, 1));
}

#[test]
fn over_is_told_to_who_was_told() {
    let mut alerts = alerts("");
    alerts.take(0.0, raised("Brief", Severity::Warning, &[]));
    alerts.take(0.0, raised("Long", Severity::Warning, &[]));
    alerts.take(10.0, cleared("Brief", &[]));
    assert_eq!(rules(&alerts.advance(10.0).resolved), ["Brief"]);
    let told = alerts.advance(30.0).notifications;
    assert_eq!((told.len(), rules(&told[0].firing)), (1, vec!["Long"]));
    alerts.take(40.0, cleared("Long", &[]));
    alerts.take(40.0, cleared("Never", &[]));
    let told = alerts.advance(330.0).notifications;
    assert_eq!(
        (told.len(), told[0].why, rules(&told[0].resolved), told[0].firing.len()),
        (1, Why::Resolved, vec!["Long"], 0)
    );
    assert_eq!((alerts.next(), alerts.firing().count()), (None, 0));
}

#[test]
fn what_does_not_change_is_said_again_after_hours() {
    let mut alerts = alerts("");
    alerts.take(0.0, raised("A", Severity::Critical, &[]));
    let mut told = Vec::new();
    for minute in 0..600_u32 {
        told.extend(alerts.advance(f64::from(minute) * 60.0).notifications);
    }
    let when: Vec<(f64, Why)> = told.iter().map(|told| (told.at / 3600.0, told.why)).collect();
    assert_eq!(when, [(0.0, Why::New), (4.0, Why::Repeat), (8.0, Why::Repeat)]);
}

#[test]
fn a_lost_node_explains_its_ranks_and_only_its() {
    let mut alerts = alerts("");
    alerts.take(0.0, acting("NodeLost", Action::StopAttempt, &[("node", "n1")]));
    alerts.take(0.0, raised("RankSilent", Severity::Critical, &[("node", "n1"), ("rank", "3")]));
    alerts.take(0.0, raised("RankSilent", Severity::Critical, &[("node", "n2"), ("rank", "9")]));
    alerts.take(0.0, raised("RankSilent", Severity::Critical, &[("rank", "7")]));
    let turn = alerts.advance(0.0);
    assert_eq!(turn.firing.len(), 4);
    let told: Vec<usize> = turn.notifications.iter().map(|told| told.firing.len()).collect();
    assert_eq!(told, [1, 2]);
    let silent = Fingerprint::of("RankSilent", &labels(&[("node", "n1"), ("rank", "3")]));
    assert!(alerts.is_muted(silent));
    // The node is back, and the rank still silent.
    alerts.take(100.0, cleared("NodeLost", &[("node", "n1")]));
    let told = alerts.advance(100.0).notifications;
    assert_eq!((told.len(), told[0].firing.len()), (1, 3));
    assert!(!alerts.is_muted(silent));
}

#[test]
fn no_action_is_lost_because_another_alert_explains_it() {
    let mut alerts = alerts("");
    let n1 = [("node", "n1"), ("rank", "3")];
    alerts.take(0.0, acting("NodeLost", Action::StopAttempt, &n1[..1]));
    alerts.take(0.0, acting("RankHangs", Action::StopAttempt, &n1));
    alerts.take(0.0, acting("EccErrors", Action::MarkNode, &n1[..1]));
    alerts.take(0.0, acting("NodeHot", Action::Checkpoint, &n1[..1]));
    let due = alerts.advance(0.0);
    // The attempt is stopped once; that the node must be left out is something else.
    let mut done = actions(&due);
    done.sort_unstable_by_key(|(rule, _)| *rule);
    assert_eq!(done, [("EccErrors", Action::MarkNode), ("NodeLost", Action::StopAttempt)]);
    // Where the explanation goes away, the rest must be done.
    alerts.take(5.0, cleared("NodeLost", &n1[..1]));
    let mut done: Vec<Action> = alerts.advance(5.0).actions.iter().map(|due| due.action).collect();
    done.sort_unstable_by_key(|action| format!("{action:?}"));
    assert_eq!(done, [Action::Checkpoint, Action::StopAttempt]);
    assert!(alerts.advance(500.0).actions.is_empty());
}

#[test]
fn after_the_end_of_an_attempt_nothing_of_it_is_stopped() {
    let mut alerts = alerts("");
    alerts.take(0.0, raised("AttemptOver", Severity::Info, &[]));
    alerts.take(0.0, acting("RankDied", Action::StopAttempt, &[("rank", "1")]));
    let turn = alerts.advance(0.0);
    assert_eq!((turn.actions.len(), turn.notifications.len(), turn.firing.len()), (0, 0, 2));
}

#[test]
fn alerts_that_explain_each_other_are_muted_and_still_acted_on() {
    let rule = |source: &str, target: &str| {
        format!("[[alerts.inhibit]]\nsource = [\"rule={source}\"]\ntarget = [\"rule={target}\"]\n")
    };
    let mut alerts = alerts(&(rule("A", "B") + &rule("B", "A")));
    alerts.take(0.0, acting("A", Action::StopAttempt, &[]));
    alerts.take(0.0, acting("B", Action::StopAttempt, &[]));
    let turn = alerts.advance(0.0);
    assert_eq!((turn.notifications.len(), turn.actions.len()), (0, 2));
}

#[test]
fn an_action_comes_due_once_each_time_its_alert_fires() {
    let mut alerts = alerts("");
    let mut done = Vec::new();
    for second in 0..20_u32 {
        let now = f64::from(second);
        match second {
            7 => alerts.take(now, cleared("A", &[])),
            // It gets worse.
            12.. => alerts.take(now, acting("A", Action::StopAttempt, &[])),
            _ => alerts.take(now, acting("A", Action::Checkpoint, &[])),
        }
        done.extend(alerts.advance(now).actions.iter().map(|due| (second, due.action)));
    }
    assert_eq!(done, [(0, Action::Checkpoint), (8, Action::Checkpoint), (12, Action::StopAttempt)]);
}

#[test]
fn a_silence_keeps_from_telling_and_not_from_doing() {
    let mut alerts = alerts("");
    let matchers = vec!["node=n*".parse().unwrap()];
    let number = alerts.silence(Silence { matchers, from: None, until: Some(1000.0) });
    alerts.take(0.0, acting("A", Action::Checkpoint, &[("node", "n1")]));
    let turn = alerts.advance(0.0);
    assert_eq!((turn.actions.len(), turn.notifications.len()), (1, 0));
    assert!(alerts.is_muted(turn.firing[0].fingerprint) && alerts.silences().count() == 1);
    assert!(alerts.advance(999.0).notifications.is_empty());
    let told = alerts.advance(1300.0).notifications;
    assert_eq!((told.len(), told[0].why), (1, Why::New));
    assert!(!alerts.unsilence(number));
}

#[test]
fn routes_are_taken_in_their_order() {
    let text = "[[alerts.receivers]]\nname = \"pager\"\ncommand = [\"page\"]\n\
        [[alerts.routes]]\nmatch = [\"severity=critical\"]\nreceivers = [\"pager\"]\ncontinue = true\n\
        [[alerts.routes]]\nmatch = [\"node=*1\"]\nreceivers = [\"*\"]\ngroup_by = [\"node\"]\n\
        [[alerts.routes]]\nreceivers = [\"me\"]\n";
    let mut alerts = alerts(text);
    alerts.take(0.0, raised("A", Severity::Critical, &[("node", "n1")]));
    alerts.take(0.0, raised("A", Severity::Critical, &[("node", "n2")]));
    let told = alerts.advance(0.0).notifications;
    let told: Vec<(Vec<String>, usize)> = told.into_iter().map(|told| (told.receivers, told.firing.len())).collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(told, [(names(&["pager"]), 2), (names(&["me", "pager"]), 1), (names(&["me"]), 1)]);
}

#[test]
fn what_finds_no_room_is_counted_and_said_once() {
    let mut alerts = alerts("[alerts]\nlimit = 20");
    let mut told = Vec::new();
    for number in 0..1000_u32 {
        let number = number.to_string();
        alerts.take(0.0, raised("A", Severity::Warning, &[("n", &number)]));
        told.extend(alerts.advance(0.0).firing);
    }
    assert_eq!(told.len(), 19);
    assert_eq!((told[18].finding.rule.as_str(), alerts.left_out()), (OVERFLOW_RULE, 982));
    // There is some left for what matters most.
    alerts.take(1.0, acting("B", Action::StopAttempt, &[]));
    assert_eq!(alerts.advance(1.0).actions.len(), 1);
    for number in 0..1000_u32 {
        let number = number.to_string();
        alerts.take(2.0, cleared("A", &[("n", &number)]));
    }
    assert_eq!(alerts.advance(2.0).resolved.len(), 19);
    assert!(alerts.advance(3.0).is_empty());
    assert_eq!(rules(&alerts.firing().cloned().collect::<Vec<_>>()), ["B"]);
}

#[test]
fn long_texts_and_odd_times_are_bounded() {
    let mut alerts = alerts("").with_labels(labels(&[("job", "sea")]));
    let long = "\u{e9}".repeat(10_000);
    let many: Vec<(String, String)> = (0..100).map(|n| (format!("label{n}"), long.clone())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
    alerts.take(f64::NAN, raised(&long, Severity::Warning, &many));
    let turn = alerts.advance(f64::NEG_INFINITY);
    let alert = &turn.firing[0];
    assert!(alert.labels().len() <= 33 && alert.labels()["job"] == "sea" && alert.since.is_finite());
    assert!(serde_json::to_string(&turn.events()).unwrap().len() < 60_000);
    // What is cut when it is raised is cut when it is cleared.
    alerts.take(f64::INFINITY, cleared(&long, &many));
    assert_eq!(alerts.advance(0.0).resolved.len(), 1);
}

/// Something that happens to alerts.
#[derive(Debug, Clone)]
enum Step {
    Raise { alert: usize, critical: bool, lasts: Option<f64> },
    Clear { alert: usize },
    Wait { seconds: f64 },
}

const WORLD: [(&str, &[(&str, &str)]); 6] = [
    ("NodeLost", &[("node", "n1")]),
    ("RankSilent", &[("node", "n1"), ("rank", "1")]),
    ("RankSilent", &[("node", "n2"), ("rank", "2")]),
    ("RankDied", &[("node", "n2"), ("rank", "2")]),
    ("Hot", &[("node", "n1")]),
    ("Hot", &[("node", "n2")]),
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..WORLD.len(), any::<bool>(), proptest::option::of(1.0..400.0)).prop_map(|(alert, critical, lasts)| Step::Raise { alert, critical, lasts }),
        2 => (0..WORLD.len()).prop_map(|alert| Step::Clear { alert }),
        4 => (0.0..500.0).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1e4..3e4).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// What a receiver knows, and whether what it is told makes sense to it.
#[derive(Default)]
struct Reader {
    /// By group: what it believes to fire.
    fires: BTreeMap<String, BTreeSet<Fingerprint>>,
    /// By group: what it was told last, and when.
    last: BTreeMap<String, (Vec<(Fingerprint, Severity)>, f64)>,
}

impl Reader {
    fn is_told(&mut self, told: &Notification) {
        let fires = self.fires.entry(told.key.clone()).or_default();
        for alert in &told.resolved {
            assert!(fires.remove(&alert.fingerprint), "told to be over without having been told to fire: {told:?}");
        }
        let content: Vec<_> = told.firing.iter().map(|alert| (alert.fingerprint, alert.finding.severity)).collect();
        let new = told.firing.iter().any(|alert| !fires.contains(&alert.fingerprint));
        if let Some((before, at)) = self.last.get(&told.key)
            && told.resolved.is_empty()
            && !new
            && content.iter().all(|(of, severity)| before.iter().any(|(other, then)| of == other && severity <= then))
        {
            assert!(
                told.at - at >= 4.0 * 3600.0 && told.why == Why::Repeat,
                "said again after {} s: {told:?}",
                told.at - at
            );
        }
        assert!(!told.firing.is_empty() || !told.resolved.is_empty(), "nothing is told");
        assert_eq!(told.why == Why::New, fires.is_empty() && told.resolved.is_empty());
        fires.extend(told.firing.iter().map(|alert| alert.fingerprint));
        assert_eq!(told.why == Why::Resolved, fires.is_empty());
        self.last.insert(told.key.clone(), (content, told.at));
    }
}

/// Time goes by, and it is looked at the alerts as whoever uses them does: when they want it, and now and then.
fn pass(
    alerts: &mut Alerts,
    mut now: f64,
    until: f64,
    reader: &mut Reader,
    look: &mut impl FnMut(&mut Alerts, f64, &mut Reader),
) {
    while let Some(next) = alerts.next().filter(|next| *next <= until) {
        now = now.max(next);
        look(alerts, now, reader);
    }
    look(alerts, until, reader);
}

proptest! {
    #[test]
    fn whatever_happens_everybody_knows_in_the_end(steps in proptest::collection::vec(step(), 0..60)) {
        let mut alerts = alerts("");
        let (mut now, mut reader) = (0.0_f64, Reader::default());
        // By alert: whether it fires by what was journalled, and what came due since.
        let mut journalled: BTreeMap<Fingerprint, (bool, Vec<Action>)> = BTreeMap::new();
        let mut look = |alerts: &mut Alerts, now: f64, reader: &mut Reader| {
            let next = alerts.next();
            let turn = alerts.advance(now);
            assert!(turn.is_empty() || next.is_some_and(|next| next <= now), "{turn:?} was due at {next:?}");
            for told in &turn.notifications {
                reader.is_told(told);
            }
            let (begun, ended) = (turn.firing.iter().map(|a| (a.fingerprint, true)), turn.resolved.iter().map(|a| (a.fingerprint, false)));
            // Of one alert these alternate; the totals agree.
            let mut balance: BTreeMap<Fingerprint, i32> = BTreeMap::new();
            for (of, fires) in begun.chain(ended) {
                *balance.entry(of).or_default() += if fires { 1 } else { -1 };
                if fires {
                    journalled.entry(of).or_default().1.clear();
                }
            }
            for (of, change) in balance {
                let entry = &mut journalled.entry(of).or_default().0;
                let after = i32::from(*entry) + change;
                assert!(after == 0 || after == 1);
                *entry = after == 1;
            }
            for due in &turn.actions {
                let done = &mut journalled.entry(due.alert.fingerprint).or_default().1;
                assert!(!done.contains(&due.action), "{due:?} a second time");
                done.push(due.action);
            }
            let fires: BTreeSet<Fingerprint> = alerts.firing().map(|alert| alert.fingerprint).collect();
            assert_eq!(fires, journalled.iter().filter(|(_, (fires, _))| *fires).map(|(of, _)| *of).collect());
        };
        for step in steps {
            match step {
                Step::Raise { alert, critical, lasts } => {
                    let (rule, pairs) = WORLD[alert];
                    let severity = if critical { Severity::Critical } else { Severity::Warning };
                    let action = if critical { Action::StopAttempt } else { Action::Checkpoint };
                    alerts.take(now, Change::Raised(Finding { lasts, action, ..finding(rule, severity, pairs) }));
                }
                Step::Clear { alert } => {
                    let (rule, pairs) = WORLD[alert];
                    alerts.take(now, cleared(rule, pairs));
                }
                Step::Wait { seconds } => {
                    let until = now + seconds;
                    pass(&mut alerts, now, until, &mut reader, &mut look);
                    now = until;
                }
            }
        }
        look(&mut alerts, now, &mut reader);
        // What fires and is not muted is known a group's interval after the last alert that muted it was over at the latest.
        pass(&mut alerts, now, now + 701.0, &mut reader, &mut look);
        now += 701.0;
        for alert in alerts.firing() {
            let knows = reader.fires.values().any(|fires| fires.contains(&alert.fingerprint));
            prop_assert!(knows || alerts.is_muted(alert.fingerprint), "nobody knows of {:?}", alert);
        }
        // When all is over, everybody knows.
        for (rule, pairs) in WORLD {
            alerts.take(now, cleared(rule, pairs));
        }
        pass(&mut alerts, now, now + 301.0, &mut reader, &mut look);
        prop_assert!(reader.fires.values().all(BTreeSet::is_empty), "{:?}", reader.fires);
        prop_assert_eq!((alerts.firing().count(), alerts.next()), (0, None));
    }
}

//! What the journal says, as sentences.

use super::{Style, human};
use piton::ids::{CheckpointId, Epoch};
use piton::journal::{End, Event};
use std::collections::BTreeMap;

fn name(epoch: &Epoch, id: &CheckpointId) -> String {
    format!("checkpoint {epoch}/{id}")
}

/// An alert's rule and what it is about: `RankHangs{node="n1",rank="3"}`.
fn about(rule: &str, labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
    if labels.is_empty() { rule.to_owned() } else { format!("{rule}{{{}}}", labels.join(",")) }
}

fn nanoseconds(ns: u64) -> String {
    human::short(ns as f64 * 1e-9)
}

/// What happened, and how it should look. The text may hold anything that a file does.
#[must_use]
pub fn sentence(event: &Event) -> (String, Style) {
    let text = match event {
        Event::AttemptStarted { job, host, pid, world, request, .. } => {
            let ranks = human::count(*world as usize, "rank");
            format!("attempt of {job} started: {ranks}, process {pid} on {host}, resume: {request}")
        }
        Event::TookOver { epoch } => format!("took over from attempt {epoch}, which still seemed to run"),
        Event::Configuration { settings } if settings.is_empty() => "settings: all at their defaults".into(),
        Event::Configuration { settings } => {
            let settings: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("settings: {}", settings.join(", "))
        }
        Event::Plan { threads, state_bytes, arena_bytes, chunk_bytes, mpi, tracking } => {
            let (state, arena, chunk) =
                (human::size(*state_bytes), human::size(*arena_bytes), human::size(*chunk_bytes));
            let mpi = mpi.as_ref().map_or_else(String::new, |mpi| format!(", {mpi}"));
            let tracking = tracking.as_ref().map_or_else(String::new, |outcome| format!(", tracking {outcome}"));
            format!(
                "plan: state {state}, staging {arena}, chunks of {chunk}, {}{mpi}{tracking}",
                human::count(*threads as usize, "thread")
            )
        }
        Event::StagingPlan { state_bytes, arena_bytes, streamed_bytes, limit_bytes, why } => {
            let [state, arena, streamed] = [*state_bytes, *arena_bytes, *streamed_bytes].map(human::size);
            let limit = limit_bytes.map_or_else(String::new, |limit| format!(" of at most {}", human::size(limit)));
            let streamed = match streamed_bytes {
                0 => String::new(),
                _ => format!(", {streamed} written while the application waits"),
            };
            format!("staging: {arena}{limit} for a state of {state}{streamed}; {why}")
        }
        Event::TrackingOff { reason } => format!("everything is copied from now on: {reason}"),
        Event::Beat { step } => format!("at step {step}"),
        Event::Resumed { epoch, id, step, seconds, bytes, rolled_forward } => {
            let rolled = if *rolled_forward { ", rolled forward" } else { "" };
            let (size, time) = (human::size(*bytes), human::short(*seconds));
            format!("resumed from {}{rolled}: {step} steps skipped, {size} in {time}", name(epoch, id))
        }
        Event::FreshStart { reason } => format!("starts at the beginning: {reason}"),
        Event::AlreadyFinished { epoch, id, step } => {
            format!("the job had finished at step {step} with {}", name(epoch, id))
        }
        Event::CandidateRejected { epoch, id, reason } => format!("{} passed over: {reason}", name(epoch, id)),
        Event::SetAside { epoch, id, reason } => format!("{} set aside: {reason}", name(epoch, id)),
        Event::RolledForward { epoch, id, step } => format!("{} rolled forward, step {step}", name(epoch, id)),
        Event::CheckpointStarted { id, step, reason, .. } => format!("checkpoint {id} begun at step {step} ({reason})"),
        Event::Frozen { id, blocked_ns, bytes, copied_bytes } => {
            let copied = copied_bytes.filter(|copied| copied < bytes);
            let copied = copied.map_or_else(String::new, |copied| format!(" by copying {}", human::size(copied)));
            format!("checkpoint {id}: {} frozen{copied}, blocked {}", human::size(*bytes), nanoseconds(*blocked_ns))
        }
        Event::ShardDurable { id, bytes, raw_bytes, seconds, builds_on, changed_share } => {
            let (size, ratio) = (human::size(*bytes), human::ratio(*raw_bytes, *bytes));
            let on = builds_on.map_or_else(String::new, |on| format!(", on top of {on}"));
            let changed = changed_share.map_or_else(String::new, |share| format!(", {:.1} % changed", share * 100.0));
            format!("checkpoint {id}: shard of {size} ({ratio}) durable in {}{on}{changed}", human::short(*seconds))
        }
        Event::Encoding { id, efforts, in_haste, storage_bytes_per_second, busy, .. } => {
            let told = |efforts: &BTreeMap<String, String>| {
                let told: Vec<String> =
                    efforts.iter().map(|(effort, fields)| format!("{effort} for {fields}")).collect();
                told.join("; ")
            };
            let haste = match in_haste.is_empty() {
                true => String::new(),
                false => format!(" (while storage waits: {})", told(in_haste)),
            };
            format!(
                "checkpoint {id}: encoding {}{haste}, since storage takes {} a second and {:.0} % of that time is the application's",
                told(efforts),
                human::size(*storage_bytes_per_second as u64),
                busy * 100.0
            )
        }
        Event::ValuesOutOfRange { id, field, index, component, global, value, count, bounds } => {
            let place = format!("[{index}]{}", component.map_or_else(String::new, |number| format!("[{number}]")));
            let global = global.as_ref().map_or_else(String::new, |global| format!(", global {global:?}"));
            format!(
                "checkpoint {id}: {field} has {value} at {place}{global}; {} not {bounds}",
                human::count(*count as usize, "number")
            )
        }
        Event::Slowed { id, seconds, steps, lost_seconds, .. } => {
            let lost = human::short(lost_seconds.max(0.0));
            let steps = human::count(usize::try_from(*steps).unwrap_or(usize::MAX), "step");
            format!("checkpoint {id}: {lost} lost to it in {steps} of {} beside the writing", human::short(*seconds))
        }
        Event::Committed { id, step, commit_ns, bytes, raw_bytes, label } => {
            let (size, ratio) = (human::size(*bytes), human::ratio(*raw_bytes, *bytes));
            let label = label.as_ref().map_or_else(String::new, |label| format!(", {label:?}"));
            let time = nanoseconds(*commit_ns);
            format!("checkpoint {id} committed: step {step}, {size} ({ratio}), after {time}{label}")
        }
        Event::Scheduled(schedule) => piton::schedule::sentence(schedule),
        Event::Sampled { node, gauges, counters } => {
            format!("{node} measured: {} series", gauges.len() + counters.len())
        }
        Event::Predicted { lead_seconds, what } => {
            let lead = lead_seconds.map_or_else(String::new, |lead| format!(" in {}", human::short(lead)));
            format!("a failure is foreseen{lead}: {what}")
        }
        Event::EndExplained { epoch, failure, reason } => {
            let what = if *failure { "failed" } else { "ended without a failure" };
            format!("attempt {epoch} {what}: {reason}")
        }
        Event::Skipped { step, reason } => format!("a checkpoint skipped at step {step}: {reason}"),
        Event::Dropped { id, reason } => format!("checkpoint {id} given up: {reason}"),
        Event::Found { rule, severity, summary, .. } => format!("{severity} {rule}: {summary}"),
        Event::Over { rule, labels } => {
            let rank = labels.get("rank").map_or_else(String::new, |rank| format!(" (rank {rank})"));
            format!("{rule}{rank} is over")
        }
        Event::Problem { what, detail } => format!("{what}: {detail}"),
        Event::Retired { epoch, id } => format!("{} retired", name(epoch, id)),
        Event::Cleaned { epoch, what } => format!("left by attempt {epoch} and removed: {what}"),
        Event::Archived { epochs } => {
            let epochs: Vec<String> = epochs.iter().map(Epoch::to_string).collect();
            format!("attempts archived: {}", epochs.join(", "))
        }
        Event::Launched { launch, launcher, ranks, .. } => format!("launch {launch}: {ranks} ranks by {launcher}"),
        Event::FailureDetected { failure, summary, .. } => format!("failure {failure}: {summary}"),
        Event::FailureLocated { failure, rank, node, .. } => {
            let rank = rank.map_or_else(|| "no certain rank".to_owned(), |rank| format!("rank {rank}"));
            let node = node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
            format!("failure {failure} is of {rank}{node}")
        }
        Event::FailureHandled { failure, action, .. } => format!("failure {failure}: {action}"),
        Event::FailureRecovered { failure, step, seconds } => {
            format!("computing again at step {step}, {seconds:.1} s after failure {failure}")
        }
        Event::SupervisorEnded { outcome, launches } => {
            format!("the supervisor ends after {}: {outcome}", human::count(*launches as usize, "launch"))
        }
        Event::RequestSeen { what } => format!("request: {what}"),
        Event::AgreementStopped { reason } => format!("no more checkpoints in this attempt: {reason}"),
        Event::Halted { step } => format!("halted at step {step}"),
        Event::Compacted { from_epoch, from, id, bytes } => {
            format!(
                "{} written once more as checkpoint {id}, complete in itself, {}",
                name(from_epoch, from),
                human::size(*bytes)
            )
        }
        Event::Finished { step, epoch, id } => {
            let checkpoint = match (epoch, id) {
                (Some(epoch), Some(id)) => format!(" with {}", name(epoch, id)),
                (None, Some(id)) => format!(" with checkpoint {id}"),
                (_, None) => String::new(),
            };
            format!("finished at step {step}{checkpoint}")
        }
        Event::AttemptEnded { how, step } => {
            let how = match how {
                End::Finished => "finished",
                End::Halted => "halted",
                End::Dropped => "ended without finishing",
                End::Panicked => "ended by a panic",
            };
            format!("attempt {how} at step {step}")
        }
        Event::AlertFiring { rule, severity, labels, summary, action, .. } => {
            let action = if action == "nothing" { String::new() } else { format!("; action: {action}") };
            format!("alert, {severity}: {}: {summary}{action}", about(rule, labels))
        }
        Event::AlertResolved { rule, labels, seconds, .. } => {
            format!("alert over after {}: {}", human::short(*seconds), about(rule, labels))
        }
        Event::Notified { receiver, alerts, outcome } => {
            format!("{receiver} told of {}: {outcome}", human::count(alerts.len(), "alert"))
        }
        Event::JournalGap { lost } => format!("{lost} lines of the journal were lost"),
        other => serde_json::to_string(other).unwrap_or_else(|_| other.kind()),
    };
    let style = match event {
        Event::AlertFiring { severity, .. } if severity == "critical" => Style::Bad,
        Event::AlertFiring { severity, .. } if severity == "warning" => Style::Warning,
        Event::AlertResolved { .. } => Style::Good,
        Event::Notified { outcome, .. } if outcome.starts_with("told") => Style::Dim,
        Event::Notified { .. } => Style::Warning,
        Event::Committed { .. } | Event::Resumed { .. } | Event::Finished { .. } => Style::Good,
        Event::Found { severity, .. } if severity == "critical" => Style::Bad,
        Event::Found { .. } => Style::Warning,
        Event::Problem { .. }
        | Event::ValuesOutOfRange { .. }
        | Event::TrackingOff { .. }
        | Event::SetAside { .. }
        | Event::AgreementStopped { .. }
        | Event::JournalGap { .. } => Style::Bad,
        Event::Dropped { .. } | Event::Skipped { .. } | Event::CandidateRejected { .. } | Event::TookOver { .. } => {
            Style::Warning
        }
        Event::StagingPlan { streamed_bytes: 1.., .. } | Event::Predicted { .. } => Style::Warning,
        Event::Beat { .. }
        | Event::Sampled { .. }
        | Event::Configuration { .. }
        | Event::Plan { .. }
        | Event::StagingPlan { .. } => Style::Dim,
        _ => Style::Plain,
    };
    (text, style)
}

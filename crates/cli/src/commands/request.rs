//! `piton checkpoint` and `piton halt`: ask a running job.
//!
//! What must hold: where no attempt seems to run, nothing is left behind that a later one might obey.

use crate::exit::Outcome;
use crate::output::{Output, human};
use crate::{Common, jobs};
use piton::ids::{CheckpointId, Epoch};
use piton::journal::{self, End, Event};
use piton::store::{JobFolder, Liveness, ProcessIdentity, Request, RequestKind};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How often the journal is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What both commands take.
#[derive(Debug, clap::Args)]
struct Ask {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// How long to wait at most: a number with ms, s, min or h
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = time, requires = "wait")]
    timeout: Duration,
    /// Ask although no attempt seems to run
    #[arg(long)]
    force: bool,
}

/// Ask the running job for a checkpoint
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton checkpoint\n  piton checkpoint tsunami --wait --timeout 60s\n\n\
                  Exit status: 0 asked, or with --wait committed; 1 no attempt runs, or it was given up; 2 could not tell")]
pub struct Checkpoint {
    #[command(flatten)]
    ask: Ask,
}

/// Ask the running job for a checkpoint and then to stop
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton halt\n  piton halt tsunami --wait\n\n\
                  Exit status: 0 asked, or with --wait halted; 1 no attempt runs, or it was given up; 2 could not tell")]
pub struct Halt {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Serialize)]
struct Asked {
    job: String,
    request: RequestKind,
    /// The attempt that was asked; none where none seems to run.
    epoch: Option<Epoch>,
    asked: bool,
    /// With --wait: `committed`, `halted`, `finished`, `failed` or `timeout`.
    result: Option<&'static str>,
    checkpoint: Option<CheckpointId>,
    step: Option<u64>,
    detail: Option<String>,
}

impl Checkpoint {
    /// Asks, and waits if told to.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        self.ask.run(RequestKind::Checkpoint, common, output)
    }
}

impl Halt {
    /// Asks, and waits if told to.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        self.ask.run(RequestKind::Halt, common, output)
    }
}

/// How a wait ended.
#[derive(Debug, PartialEq)]
struct Answer {
    result: &'static str,
    checkpoint: Option<CheckpointId>,
    step: Option<u64>,
    detail: Option<String>,
}

impl Ask {
    fn run(&self, kind: RequestKind, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, settings) = jobs::open(common, self.job.as_deref())?;
        let job = reader.job();
        let what = match kind {
            RequestKind::Checkpoint => "a checkpoint",
            RequestKind::Halt => "a checkpoint and a halt",
        };
        let mut asked = Asked {
            job: job.name().to_owned(),
            request: kind,
            epoch: None,
            asked: false,
            result: None,
            checkpoint: None,
            step: None,
            detail: None,
        };
        let running = jobs::running(job)?;
        if running.is_none() && !self.force {
            if output.is_json() {
                output.json(&asked)?;
            }
            eprintln!("piton: no attempt of job {:?} seems to run, so nothing was asked", job.name());
            return Ok(Outcome::No);
        }
        let epoch = match &running {
            Some((epoch, _)) => Some(*epoch),
            None => job.newest_epoch()?,
        };
        // What the journal says from here on is what counts.
        let before = epoch.and_then(|epoch| journal::tail(&**job.medium(), &job.first_journal(epoch)).ok());
        let before = before.and_then(|tail| tail.record).map(|record| record.seq);
        let request = job.request(&Request { kind, by: jobs::who() })?;
        (asked.epoch, asked.asked) = (epoch, true);
        let of = epoch.map_or_else(String::new, |epoch| format!(" (attempt {epoch})"));
        if !output.is_json() {
            let poll = human::short(settings.request_poll.as_secs_f64());
            output.line(format!("{}{of}: asked for {what}; it looks every {poll}", job.name()))?;
            output.flush()?;
        }
        let mut outcome = Outcome::Done;
        if self.wait
            && let Some(epoch) = epoch
        {
            let answer = wait_for(job, epoch, before, kind, self.timeout)?;
            outcome = match answer.result {
                "timeout" => Outcome::Unknown,
                "failed" => Outcome::No,
                _ => Outcome::Done,
            };
            let mut detail = answer.detail;
            if outcome != Outcome::Done && job.withdraw_request(&request)? {
                detail = Some(format!("{}; the request is withdrawn", detail.unwrap_or_default()));
            }
            if !output.is_json() {
                output.line(sentence(job, answer.result, answer.checkpoint, answer.step, detail.as_deref()))?;
            }
            asked.result = Some(answer.result);
            (asked.checkpoint, asked.step, asked.detail) = (answer.checkpoint, answer.step, detail);
        }
        if output.is_json() {
            output.json(&asked)?;
        }
        Ok(outcome)
    }
}

fn sentence(
    job: &JobFolder,
    result: &str,
    checkpoint: Option<CheckpointId>,
    step: Option<u64>,
    detail: Option<&str>,
) -> String {
    let mut text = format!("{}: {result}", job.name());
    if let Some(id) = checkpoint {
        text.push_str(&format!(", checkpoint {id}"));
    }
    if let Some(step) = step {
        text.push_str(&format!(", step {step}"));
    }
    if let Some(detail) = detail {
        text.push_str(&format!(": {detail}"));
    }
    text
}

/// Follows the journal of the attempt's first rank until it tells the end of what was asked.
fn wait_for(
    job: &JobFolder,
    epoch: Epoch,
    before: Option<u64>,
    kind: RequestKind,
    timeout: Duration,
) -> anyhow::Result<Answer> {
    let deadline = Instant::now() + timeout;
    let path = job.first_journal(epoch);
    let claim = job.claims()?.into_iter().find_map(|(of, claim)| (of == epoch).then_some(claim.ok()?));
    let observer = ProcessIdentity::current();
    let (mut read, mut looked) = (0, Instant::now());
    loop {
        let len = job.medium().stat(&path).map_or(0, |stat| stat.len);
        if len != read {
            read = len;
            let mut events = Vec::new();
            let mut reader = journal::Reader::open(&**job.medium(), &path)?;
            while let Some(record) = reader.next_record()? {
                if before.is_none_or(|before| record.seq > before) {
                    events.push(record.event);
                }
            }
            if let Some(answer) = answer(&events, kind) {
                return Ok(answer);
            }
        } else if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            if claim.as_ref().is_some_and(|claim| claim.process.liveness(&observer) == Liveness::Gone) {
                return Ok(failed("the attempt's process is gone".into()));
            }
        }
        if Instant::now() >= deadline {
            let detail = format!("no answer within {}", human::short(timeout.as_secs_f64()));
            return Ok(Answer { result: "timeout", checkpoint: None, step: None, detail: Some(detail) });
        }
        std::thread::sleep(POLL);
    }
}

fn failed(detail: String) -> Answer {
    Answer { result: "failed", checkpoint: None, step: None, detail: Some(detail) }
}

/// What these events, all since the request was made, say about it.
fn answer(events: &[Event], kind: RequestKind) -> Option<Answer> {
    let seen = events.iter().position(|event| matches!(event, Event::RequestSeen { .. }));
    let (mut started, mut committed) = (Vec::new(), None);
    for (place, event) in events.iter().enumerate() {
        // A checkpoint that had begun before may be of a step that the user did not mean.
        let after = seen.is_some_and(|seen| place > seen);
        match event {
            Event::CheckpointStarted { id, .. } if after => started.push(*id),
            Event::Committed { id, step, .. } if started.contains(id) => {
                committed = Some((*id, *step));
                if kind == RequestKind::Checkpoint {
                    return Some(Answer {
                        result: "committed",
                        checkpoint: Some(*id),
                        step: Some(*step),
                        detail: None,
                    });
                }
            }
            Event::Dropped { id, reason } if started.contains(id) && kind == RequestKind::Checkpoint => {
                return Some(failed(format!("checkpoint {id} was given up: {reason}")));
            }
            Event::AgreementStopped { reason } if kind == RequestKind::Checkpoint => {
                return Some(failed(format!("there are no more checkpoints in this attempt: {reason}")));
            }
            Event::AttemptEnded { how, step } => {
                let result = match how {
                    End::Halted => "halted",
                    End::Finished => "finished",
                    _ => return Some(failed(format!("the attempt ended at step {step} without it"))),
                };
                if kind == RequestKind::Checkpoint && committed.is_none() && seen.is_none() {
                    return Some(failed(format!("the attempt {result} at step {step} before it saw the request")));
                }
                let checkpoint = committed.map(|(id, _)| id);
                return Some(Answer { result, checkpoint, step: Some(*step), detail: None });
            }
            _ => {}
        }
    }
    None
}

/// A time as a user writes it.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is no time: use a number with ms, s, min or h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    // A year is as good as for ever.
    Ok(Duration::from_millis(number.saturating_mul(milliseconds).min(365 * 24 * 3_600_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(id: u64) -> Event {
        Event::CheckpointStarted { id: CheckpointId(id), tick: 1, step: id, reason: "request".into() }
    }

    fn committed(id: u64) -> Event {
        let (bytes, raw_bytes) = (1, 1);
        Event::Committed { id: CheckpointId(id), step: id, commit_ns: 1, bytes, raw_bytes, label: None }
    }

    #[test]
    fn only_a_checkpoint_that_began_after_the_request_answers_it() {
        let seen = || Event::RequestSeen { what: "Checkpoint by me".into() };
        let kind = RequestKind::Checkpoint;
        assert_eq!(answer(&[started(1), seen(), committed(1)], kind), None);
        let found = answer(&[started(1), seen(), committed(1), started(2), committed(2)], kind).unwrap();
        assert_eq!((found.result, found.checkpoint), ("committed", Some(CheckpointId(2))));
        let dropped = Event::Dropped { id: CheckpointId(2), reason: "no room".into() };
        assert_eq!(answer(&[seen(), started(2), dropped], kind).unwrap().result, "failed");
        let events = [seen(), started(2), committed(2)];
        assert_eq!(answer(&events, RequestKind::Halt), None);
        let ended = Event::AttemptEnded { how: End::Halted, step: 2 };
        let found = answer(&[seen(), started(2), committed(2), ended], RequestKind::Halt).unwrap();
        assert_eq!((found.result, found.checkpoint), ("halted", Some(CheckpointId(2))));
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(time("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        assert!(["", "s", "1 d", "-1s", "99999999999999999999s"].iter().all(|text| time(text).is_err()));
    }
}

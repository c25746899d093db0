//! Which job and which checkpoints a command line means.
//!
//! Comes in: the store of the settings, and words. Goes out: the job, opened, and the checkpoints.
//! What must hold: a job may be left out only where there is one in the store; nothing in the store is changed.

use crate::Common;
use anyhow::{Context, bail};
use piton::config::Settings;
use piton::ids::Epoch;
use piton::medium::{Access, RealMedium};
use piton::reader::{Reader, Selection};
use piton::store::{Claim, JobFolder, ProcessIdentity, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The store, with the settings that lead to it.
pub fn store(common: &Common, job: Option<&str>) -> anyhow::Result<(Store, Settings)> {
    let settings = common.settings(job)?;
    Ok((store_of(&settings), settings))
}

fn store_of(settings: &Settings) -> Store {
    let access = if settings.group { Access::Group } else { Access::Private };
    Store::new(Arc::new(RealMedium::new(access)), &settings.dir)
}

/// The names of all jobs in the store, of which there must be one at least.
pub fn names(store: &Store) -> anyhow::Result<Vec<String>> {
    let root = store.root().display();
    let names = match store.jobs() {
        Err(error) if error.is_absence() => {
            bail!("there is no store at {root}: name it with --dir, PITON_DIR or piton.toml")
        }
        names => names?,
    };
    if names.is_empty() {
        bail!("the store {root} holds no job: name another one with --dir, PITON_DIR or piton.toml");
    }
    Ok(names)
}

/// The job of that name; without one, the only one in the store.
pub fn open(common: &Common, job: Option<&str>) -> anyhow::Result<(Reader, Settings)> {
    let (store, settings) = store(common, job)?;
    // A store that is not there says more than a job that is not.
    let names = names(&store)?;
    match (job, names.as_slice()) {
        (Some(job), _) => Ok((Reader::open(&store, job)?, settings)),
        // Its own settings may be other ones than those of no job.
        (None, [only]) => Ok((Reader::open(&store, only)?, common.settings(Some(only))?)),
        (None, names) => {
            let root = store.root().display();
            bail!("the store {root} holds several jobs: name one of {}", names.join(", "))
        }
    }
}

/// A job of the store that the settings name.
pub fn reader(settings: &Settings, job: &str) -> anyhow::Result<Reader> {
    Ok(Reader::open(&store_of(settings), job)?)
}

/// Tells `[JOB] [CHECKPOINT…]` apart: the first word is a job where it can't be a checkpoint, or, with `two`, another one
/// follows that is.
pub fn split(words: &[String]) -> (Option<&str>, &[String]) {
    match words {
        [job, rest @ ..] if !is_selection(job) => (Some(job), rest),
        rest => (None, rest),
    }
}

/// As [`split`], for commands that take one checkpoint at most: of two words the first is always the job.
pub fn split_one(words: &[String]) -> (Option<&str>, Option<&str>) {
    match words {
        [job, checkpoint, ..] => (Some(job), Some(checkpoint)),
        [one] if is_selection(one) => (None, Some(one)),
        [job] => (Some(job), None),
        [] => (None, None),
    }
}

fn is_selection(word: &str) -> bool {
    word.parse::<Selection>().is_ok()
}

/// The checkpoint that a word means.
pub fn selection(word: &str) -> anyhow::Result<Selection> {
    word.parse().with_context(|| format!("{word:?} names no checkpoint: use ID, EPOCH/ID or latest"))
}

/// The newest attempt of the job that seems to run still, if any, and why it seems so.
pub fn running(job: &JobFolder) -> anyhow::Result<Option<(Epoch, String)>> {
    let mut claims = job.claims()?.into_iter().rev();
    Ok(claims.find_map(|(epoch, claim)| Some((epoch, evidence(job, claim)?))))
}

/// The attempt that seems to run still, if any.
pub fn running_epoch(job: &JobFolder) -> anyhow::Result<Option<Epoch>> {
    Ok(running(job)?.map(|(epoch, _)| epoch))
}

/// Those of the attempts `epochs` that seem to run still, and why it seems so.
pub fn running_among(job: &JobFolder, epochs: &BTreeSet<Epoch>) -> anyhow::Result<BTreeMap<Epoch, String>> {
    let claims = job.claims()?.into_iter().filter(|(epoch, _)| epochs.contains(epoch));
    Ok(claims.filter_map(|(epoch, claim)| Some((epoch, evidence(job, claim)?))).collect())
}

fn evidence(job: &JobFolder, claim: Result<Claim, StoreError>) -> Option<String> {
    match claim {
        Ok(claim) => job.evidence_of_life(&claim, &ProcessIdentity::current()),
        // Removed in the meantime.
        Err(error) if error.is_absence() => None,
        Err(error) => Some(format!("its claim can't be read: {error}")),
    }
}

/// How old something is that was made then.
pub fn age(unix_ms: u64) -> Duration {
    Duration::from_millis(piton::store::unix_milliseconds().saturating_sub(unix_ms))
}

/// Who asks: `user@host`.
pub fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
    format!("{user}@{}", ProcessIdentity::current().host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(split_one(&words("tsunami 3")), (Some("tsunami"), Some("3")));
        assert_eq!(split_one(&words("2/3")), (None, Some("2/3")));
        assert_eq!(split_one(&words("latest")), (None, Some("latest")));
        assert_eq!(split_one(&words("tsunami")), (Some("tsunami"), None));
        assert_eq!(split_one(&words("12 3")), (Some("12"), Some("3")));
        assert_eq!(split(&words("tsunami 3 4")), (Some("tsunami"), &words("3 4")[..]));
        assert_eq!(split(&words("3 1/4")), (None, &words("3 1/4")[..]));
        assert!(selection("1/x").is_err());
    }
}

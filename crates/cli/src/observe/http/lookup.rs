//! What is known of the job, looked up anew when somebody asks and it is old.
//!
//! Comes in: a way to look. Goes out: the newest that was found. What must hold: one look at a time, on a thread of its own, whoever asks; what takes long to look
//! up is looked up less often; where looking fails, or hangs, what was known before is shown, with the reason.

use crate::observe::{Now, Story};
use crate::signals::spawn_deaf;
use piton::journal::WallTime;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What is no older is fresh enough, and what takes longer to look up than a fifth of its age is, too.
const FRESH: Duration = Duration::from_millis(900);
const EFFORT: u32 = 5;
/// Whoever asks waits so long for something fresh, and takes what there is then.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of a job.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// How it is; none: it has no attempt yet.
    pub now: Option<Now>,
    /// What became of it.
    pub story: Option<Arc<Story>>,
    /// When this was looked up.
    pub at: Option<WallTime>,
    /// Why the newest look found nothing.
    pub problem: Option<String>,
}

/// Looks it up.
pub struct Lookup {
    known: watch::Receiver<Arc<Known>>,
    ask: SyncSender<()>,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    took: Duration,
}

impl State {
    fn is_fresh(&self) -> bool {
        self.looked.is_some_and(|at| at.elapsed() < FRESH.max(EFFORT * self.took))
    }
}

impl Lookup {
    /// Starts the thread; it ends with the lookup. `look` finds out how the job is and what became of it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        mut look: impl FnMut() -> anyhow::Result<(Option<Now>, Option<Story>)> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tell, known) = watch::channel(Arc::new(Known::default()));
        let (ask, asked) = sync_channel(1);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let run = move || {
            for () in asked {
                let began = Instant::now();
                let found = look();
                let mut known: Known = (**tell.borrow()).clone();
                match found {
                    Ok((now, story)) => {
                        known = Known { now, story: story.map(Arc::new), at: Some(WallTime::now()), problem: None };
                    }
                    Err(error) => known.problem = Some(crate::human::whole(&error)),
                }
                {
                    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    (state.looked, state.took) = (Some(Instant::now()), began.elapsed());
                }
                if tell.send(Arc::new(known)).is_err() {
                    return;
                }
            }
        };
        spawn_deaf("piton-lookup", run)?;
        Ok(Self { known, ask, state })
    }

    /// What is known, fresh where that can be had soon.
    pub async fn known(&self) -> Arc<Known> {
        let mut known = self.known.clone();
        known.mark_unchanged();
        if !self.state.lock().unwrap_or_else(PoisonError::into_inner).is_fresh() {
            // One that waits already is as good.
            let _ = self.ask.try_send(());
            // What there is must do where it takes too long.
            let _ = tokio::time::timeout(PATIENCE, known.changed()).await;
        }
        let newest = known.borrow();
        Arc::clone(&newest)
    }
}

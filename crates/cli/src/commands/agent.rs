//! `piton agent`: watches the ranks of a job, and their node, from outside of them.

use crate::agent::{self, Reporter, Run};
use crate::exit::Outcome;
use crate::output::{Output, Style, events};
use crate::{Common, jobs};
use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use piton::journal::{Event, JournalWriter, WallTime};
use piton::medium::{Access, RealMedium};
use piton::store::{JobFolder, Store};
use piton::watch::board::{Board, folder, store_path};
use piton::watch::{Action, Guard, GuardOptions, Round, Rules, Sample};
use piton_cli::clerk::Clerk;
use piton_cli::leftovers::{self, Places};
use piton_cli::notify::Notifier;
use piton_cli::signals::Signals;
use piton_cli::supervise::allocation::job_of_process;
use piton_cli::supervise::rescue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks for a board while there is none.
const LOOK: Duration = Duration::from_millis(100);
/// How long receivers get to be told of the last alerts.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long the store gets for what is left to be written.
const STORE_LAST: Duration = Duration::from_secs(2);
/// Values in one record of the journal: several records hold a large node.
const VALUES: usize = 400;

/// Watch the ranks of a job on this node, and the node itself: who died, hangs, is stopped or slow, and what is wrong around them
///
/// A rank of each node does so by itself; this goes before it, sees what befalls all ranks, shows the stacks of those that hang (by
/// eu-stack or gdb, where one of them is installed), and tells the receivers that the rule file names (setting `rules`). What it finds goes to
/// the job's journal, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton agent tsunami\n  piton agent tsunami --until-over --json\n  \
                        srun --overlap --ntasks-per-node=1 piton agent tsunami --until-over &\n  \
                        piton agent tsunami --record 1min\n\n\
                        Exit status: 0 the ranks have ended, and nothing critical was found; 1 something was; 2 could not be done")]
pub struct Agent {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// End when the ranks of an attempt have ended, in place of waiting for the next attempt
    #[arg(long)]
    until_over: bool,
    /// Write the node's values to the journal this often, for `piton rules test --replay`
    #[arg(long, value_name = "TIME", value_parser = humantime)]
    record: Option<Duration>,
    /// Report to the supervisor there; the job's secret is in PITON_INTERNAL_SECRET or in --secret
    #[arg(long, value_name = "HOST:PORT")]
    supervisor: Option<String>,
    /// The file that holds the job's secret, readable for its owner only
    #[arg(long, value_name = "FILE", requires = "supervisor")]
    secret: Option<PathBuf>,
    /// Watch every launch of this run of the supervisor, end ranks as it orders, and leave when it does
    #[arg(long, value_name = "NUMBER", requires = "supervisor", conflicts_with = "job", value_parser = run_number)]
    run: Option<u64>,
    /// Give the Slurm job back where the supervisor is gone with the node that it was on
    #[arg(long, requires = "run")]
    rescue: bool,
}

fn run_number(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16)
        .ok()
        .filter(|run| *run != 0)
        .ok_or_else(|| "a hexadecimal number is wanted".to_owned())
}

fn humantime(text: &str) -> Result<Duration, String> {
    let time = piton::config::parse_time(text)?;
    if time.is_zero() { Err("more than nothing is wanted".to_owned()) } else { Ok(time) }
}

/// What is kept over the attempts that it watches.
struct Watch<'a> {
    arguments: &'a Agent,
    options: GuardOptions,
    period: Duration,
    reporter: Option<Reporter>,
    critical: bool,
}

impl Agent {
    /// Watches; with `--json`, what it sees comes a line each, as the journal has it.
    ///
    /// # Errors
    /// What is wrong with the configuration, the rule file or the store.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        if let Some(run) = self.run {
            return self.supervised(run, common, output);
        }
        let (store, settings) = jobs::store(common, self.job.as_deref())?;
        let job = match &self.job {
            Some(job) => store.job(job)?,
            None => jobs::open(common, None)?.0.job().clone(),
        };
        let Some(folder) = folder(&settings.board) else {
            bail!("the setting `board` is `off`: ranks are not to be seen");
        };
        let options = GuardOptions::by(&settings, Rules::by(&settings)?);
        let root = store.root().to_owned();
        let reporter = match &self.supervisor {
            Some(address) => Some(Reporter::start(address, self.secret.as_deref(), None, &options.rules)?.0),
            None => None,
        };
        let mut watch = Watch { arguments: self, options, period: settings.watch_period, reporter, critical: false };
        let mut over: Option<PathBuf> = None;
        loop {
            let board = newest(&folder, job.name(), &root, over.as_deref());
            over = board.path().map(Path::to_path_buf);
            watch.attempt(board, &job, output)?;
            if self.until_over {
                if let Some(reporter) = watch.reporter {
                    reporter.close(LAST_WORDS);
                }
                return Ok(if watch.critical { Outcome::No } else { Outcome::Done });
            }
        }
    }

    /// Watches launch after launch of a supervisor's run, of whatever job it is.
    fn supervised(&self, run: u64, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let settings = common.settings(None)?;
        let Some(boards) = folder(&settings.board) else {
            bail!("the setting `board` is `off`: ranks are not to be seen");
        };
        let Some(address) = &self.supervisor else { bail!("a run is of a supervisor: name it by --supervisor") };
        let run = Run { number: run, boards };
        let signals = Signals::hold(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
        let options = GuardOptions::by(&settings, Rules::by(&settings)?);
        let (reporter, leave) = Reporter::start(address, self.secret.as_deref(), Some(run.clone()), &options.rules)?;
        let told = Arc::new(AtomicBool::new(false));
        let is_told = Arc::clone(&told);
        signals.listen(move |_| {
            told.store(true, Ordering::Relaxed);
            leave.ask();
        })?;
        let (period, reporter) = (settings.watch_period, Some(reporter));
        let mut watch = Watch { arguments: self, options, period, reporter, critical: false };
        let mut last: Option<Board> = None;
        loop {
            let next = last.as_ref().map_or(0, |board| board.supervised().launch) + 1;
            let Some(reporter) = &mut watch.reporter else { bail!("no line to the supervisor") };
            reporter.obey(None);
            if reporter.leaves() {
                break;
            }
            let Some(board) = run.boards(next).next_back() else {
                reporter.idle(last.as_ref());
                let mut polled = [PollFd::new(reporter.wake(), PollFlags::POLLIN)];
                let _ = poll(&mut polled, PollTimeout::try_from(LOOK / 2).unwrap_or(PollTimeout::NONE));
                continue;
            };
            // The same file, so that what became of the ranks can be told when they are gone.
            last = board.path().and_then(|path| Board::open(path).ok());
            watch.options.tiers = vec![board.store()];
            let job = Store::new(Arc::new(RealMedium::new(Access::Private)), board.store()).job(&board.job())?;
            watch.attempt(board, &job, output)?;
        }
        // Ranks that were killed could not take theirs away.
        run.boards(0).filter(agent::are_gone).for_each(|board| board.remove());
        let _ = leftovers::remove(&Places::of_node(Some(run.boards.clone())));
        let Some(reporter) = watch.reporter else { return Ok(Outcome::Done) };
        let is_orphaned = reporter.is_orphaned();
        reporter.close(Duration::from_secs(1));
        if let Some((job, restarts)) = job_of_process().filter(|_| self.rescue && is_orphaned)
            && rescue::requeue_if_lost(&job, restarts, || is_told.load(Ordering::Relaxed))
        {
            eprintln!("piton agent: the node of the script of job {job} is lost: the job was given back to Slurm");
        }
        Ok(Outcome::Done)
    }
}

impl Watch<'_> {
    /// Watches the ranks on one board until all of them are gone, or the agent is to leave.
    fn attempt(&mut self, board: Board, job: &JobFolder, output: &mut Output) -> anyhow::Result<()> {
        let (epoch, host, slots) = (board.epoch(), board.host(), board.slots());
        let folder = job.epoch_folder(epoch);
        let writer = JournalWriter::of_writer(Arc::clone(job.medium()), &folder, epoch, &format!("agent-{host}"));
        let journal = Arc::new(writer);
        let told = Arc::clone(&journal);
        let alerts = &self.options.rules.alerts;
        let notifier = Notifier::start(alerts, move |notified| told.write(notified.event())).context("no threads")?;
        if !output.is_json() {
            output.line(format!("watching {slots} ranks of {}, attempt {epoch}, on {host}", job.name()))?;
            output.flush()?;
        }
        let (clerk, flushing) = (Clerk::start((), drop).context("no thread")?, Arc::new(AtomicBool::new(false)));
        let mut guard = Guard::new(board, self.options.clone());
        if let Some(reporter) = &mut self.reporter {
            reporter.begin();
        }
        let mut recorded: Option<Instant> = None;
        loop {
            if let Some(reporter) = &mut self.reporter {
                reporter.obey(Some((guard.agent().board(), job)));
                if self.arguments.run.is_some() && reporter.ends(guard.agent().board()) {
                    guard.expect_ends();
                }
            }
            let round = guard.look(agent::with_stacks);
            if let Some(reporter) = &mut self.reporter {
                reporter.report(&guard, &round);
            }
            for event in round.events() {
                self.critical |= matches!(&event, Event::AlertFiring { severity, .. } if severity == "critical");
                print(&event, output)?;
                journal.note(event);
            }
            act(&round, job, &clerk);
            if let (Some(every), Some(samples)) = (self.arguments.record, &round.samples)
                && recorded.is_none_or(|at| at.elapsed() >= every)
            {
                recorded = Some(Instant::now());
                record(samples, &host).into_iter().for_each(|event| journal.note(event));
            }
            // One at a time: where it hangs, the rest waits in the journal's own bounds.
            if journal.waiting() > 0 && !flushing.swap(true, Ordering::Relaxed) {
                let (journal, flushing) = (Arc::clone(&journal), Arc::clone(&flushing));
                clerk.later(move |()| {
                    journal.flush();
                    flushing.store(false, Ordering::Relaxed);
                });
            }
            round.turn.notifications.into_iter().for_each(|notification| notifier.send(notification));
            if guard.agent().is_over() || self.reporter.as_ref().is_some_and(Reporter::leaves) {
                break;
            }
            let wake = self.reporter.as_ref().map(Reporter::wake);
            let _ = guard.wait(self.period, wake);
        }
        if let Some(reporter) = &mut self.reporter {
            let changes = guard.leave().into_iter().map(|seen| seen.change).collect();
            reporter.ended(guard.agent().board(), changes);
        }
        match self.arguments.run {
            // The next launch may be there already.
            Some(_) => drop(std::thread::spawn(move || notifier.finish(LAST_WORDS))),
            None => drop(notifier.finish(LAST_WORDS)),
        }
        clerk.later(move |()| {
            // Whatever could not be written stays unsaid.
            let _ = journal.sync();
        });
        clerk.finish(STORE_LAST);
        Ok(())
    }
}

/// What alerts ask for and can be done from here.
fn act(round: &Round, job: &JobFolder, clerk: &Clerk) {
    if round.turn.actions.iter().any(|due| due.action == Action::Checkpoint) {
        let (job, request) = (job.clone(), agent::checkpoint(format!("an alert, {}", jobs::who())));
        clerk.later(move |()| {
            // A store that can't be written now gets no checkpoint either.
            let _ = job.request(&request);
        });
    }
}

/// The board of the newest attempt that has ranks on this node; waits for one that is not `over`.
fn newest(folder: &Path, job: &str, store: &Path, over: Option<&Path>) -> Board {
    loop {
        // The store may come into being only now.
        let found = Board::find(folder, Some((job, &store_path(store))));
        if let Some((_, board)) = found.into_iter().next_back().filter(|(path, _)| Some(path.as_path()) != over) {
            return board;
        }
        std::thread::sleep(LOOK);
    }
}

fn record(samples: &[Sample], node: &str) -> Vec<Event> {
    let records = samples.chunks(VALUES).map(|samples| {
        let (mut gauges, mut counters) = (BTreeMap::new(), BTreeMap::new());
        for sample in samples {
            let values = match sample.kind {
                piton::watch::Kind::Gauge => &mut gauges,
                piton::watch::Kind::Counter => &mut counters,
            };
            values.insert(sample.series.to_string(), sample.value);
        }
        Event::Sampled { node: node.to_owned(), gauges, counters }
    });
    records.collect()
}

fn print(event: &Event, output: &mut Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json_line(event)?;
    } else {
        let (text, style) = events::sentence(event);
        let when = output.paint(&WallTime::now().to_string(), Style::Dim);
        let text = output.paint(&text.replace('\n', " "), style);
        output.text(&format!("{when}  {text}\n"))?;
        if let Event::Found { evidence, .. } = event {
            evidence.iter().try_for_each(|line| output.line(format!("    {line}")))?;
        }
    }
    output.flush()?;
    Ok(())
}

//! `piton top`: a job on a full screen of text, as it goes on.

use super::serve::{self, Whose};
use crate::exit::Outcome;
use crate::output::Output;
use crate::{Common, jobs};
use anyhow::{Context, bail};
use piton_cli::observe::http::Token;
use piton_cli::observe::top::{Choice, EVERY, draw};
use piton_cli::observe::{Now, View};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a supervisor may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of its answer: ten thousand ranks take a few hundred KiB.
const LONGEST: u64 = 16 << 20;

/// Show a job on the whole screen, as it goes on: ranks, nodes, checkpoints, and what is wrong
///
/// It shows the ranks of the node that it runs on. Those of all nodes the supervisor knows: give its address (`piton run` with the setting `http`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton top\n  piton top tsunami\n  piton top --url http://127.0.0.1:9464\n  \
                        piton top --url http://node17:9464 --token-file ~/.piton-token\n\n\
                        Keys: q ends it, arrows choose a rank, r looks again.\n\
                        Exit status: 0 it was ended; 1 the job has made no attempt; 2 could not be done")]
pub struct Top {
    /// The job, which may be left out where the store holds one
    #[arg(conflicts_with = "url")]
    job: Option<String>,
    /// Ask the server at this address, in place of the store
    #[arg(long, value_name = "ADDRESS")]
    url: Option<String>,
    /// The file with the token that the server wants
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
}

type Looked = anyhow::Result<Option<View>>;

impl Top {
    /// Shows it until it is told to end.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store; there is no terminal.
    pub fn run(&self, common: &Common, output: &Output) -> anyhow::Result<Outcome> {
        if output.is_json() || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            bail!("it needs a terminal; `piton status --json --watch` says the same to programs");
        }
        let mut look = self.looker(common)?;
        // What is wrong from the start is said on the ordinary screen.
        let Some(first) = look()? else {
            eprintln!("piton: the job has made no attempt yet");
            return Ok(Outcome::No);
        };
        let (ask, asked) = sync_channel::<()>(1);
        let (tell, told) = sync_channel(1);
        let run = move || {
            for () in asked {
                if tell.send(look()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("piton-look".to_owned()).spawn(run).context("no thread")?;
        let choice = Choice { coloured: output.colours(), ..Choice::default() };
        // A panic brings the ordinary screen back, too.
        let mut terminal = ratatui::try_init().context("the terminal can't be used")?;
        let shown = show(&mut terminal, first, choice, &ask, &told);
        ratatui::restore();
        shown.map(|()| Outcome::Done)
    }

    fn looker(&self, common: &Common) -> anyhow::Result<Box<dyn FnMut() -> Looked + Send>> {
        if let Some(url) = &self.url {
            let token = self.token_file.as_deref().map(Token::read).transpose()?;
            let address = format!("{}/api/v1/view", url.trim_end_matches('/'));
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .timeout_global(Some(PATIENCE))
                .max_redirects(0)
                .http_status_as_error(false)
                .build()
                .into();
            return Ok(Box::new(move || fetch(&agent, &address, token.as_ref())));
        }
        let (reader, settings) = jobs::open(common, self.job.as_deref())?;
        let whose = Whose::Job(reader.job().name().to_owned());
        Ok(Box::new(move || {
            let (now, story) = serve::look(&settings, &whose)?;
            Ok(now.map(|now: Now| View::of(&now, story.as_ref())))
        }))
    }
}

fn fetch(agent: &ureq::Agent, address: &str, token: Option<&Token>) -> Looked {
    let mut request = agent.get(address);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {}", token.letters()));
    }
    let mut answer = request.call().with_context(|| format!("{address} does not answer"))?;
    let status = answer.status().as_u16();
    let text = answer.body_mut().with_config().limit(LONGEST).read_to_string();
    let text = text.with_context(|| format!("the answer of {address} can't be read"))?;
    match status {
        // Null before the first attempt.
        200 => serde_json::from_str(&text).with_context(|| format!("{address} answers something else")),
        _ => bail!("{address} answers {status}: {}", text.trim()),
    }
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    first: View,
    mut choice: Choice,
    ask: &SyncSender<()>,
    told: &Receiver<Looked>,
) -> anyhow::Result<()> {
    let (mut view, mut asked) = (first, Instant::now());
    loop {
        match told.try_recv() {
            Ok(Ok(Some(newer))) => (view, choice.problem) = (newer, None),
            Ok(Ok(None)) => choice.problem = Some("the job is gone".to_owned()),
            Ok(Err(error)) => choice.problem = Some(piton_cli::human::whole(&error)),
            Err(_) => {}
        }
        terminal.draw(|frame| draw(frame, &view, &choice)).context("the terminal can't be drawn on")?;
        if asked.elapsed() >= EVERY {
            asked = Instant::now();
            // One that is under way is as good.
            let _ = ask.try_send(());
        }
        if !event::poll(Duration::from_millis(200)).context("the terminal can't be read")? {
            continue;
        }
        let Event::Key(key) = event::read().context("the terminal can't be read")? else { continue };
        let (count, width) =
            (view.heat.presence.len(), isize::from(i16::try_from(terminal.size()?.width).unwrap_or(80)));
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
            KeyCode::Char('r') => drop(ask.try_send(())),
            KeyCode::Right => choice.go(1, count),
            KeyCode::Left => choice.go(-1, count),
            KeyCode::Down => choice.go(width, count),
            KeyCode::Up => choice.go(-width, count),
            _ => {}
        }
    }
}

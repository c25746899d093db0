//! `piton serve`: a job's live page, queries and metrics over HTTP.

use crate::exit::Outcome;
use crate::output::Output;
use crate::{Common, jobs};
use anyhow::Context;
use nix::sys::signal::Signal;
use piton::config::{Listen, Settings};
use piton_cli::observe::http::{Lookup, Options, Server, Token};
use piton_cli::observe::{Live, Now, Story};
use piton_cli::signals::Signals;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

/// Where it listens where nobody says anything else; the port after those of Prometheus's own exporters.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Show a job to browsers, scripts and Prometheus: a live page, queries and metrics over HTTP
///
/// What it shows is drawn from the store, and from the ranks of the node that it runs on. `piton run` with the setting `http` shows the ranks of all nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  piton serve tsunami\n  piton serve tsunami --listen 127.0.0.1:0\n  \
                        piton serve tsunami --listen 0.0.0.0:9464 --token-file ~/.piton-token\n  \
                        curl -s http://127.0.0.1:9464/api/v1/now | jq .step\n  \
                        curl -s http://127.0.0.1:9464/metrics\n\n\
                        From another machine, without opening anything: ssh -L 9464:127.0.0.1:9464 login-node, then http://127.0.0.1:9464/\n\
                        Exit status: 0 it was told to end; 2 could not be done")]
pub struct Serve {
    /// The job, which may be left out where the store holds one
    job: Option<String>,
    /// Where to listen, in place of the setting `http` (and of 127.0.0.1:9464); port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// A file, readable for you alone, with the token that others must show, in place of the setting `http_token`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Serve {
    /// Serves until it is told to end.
    ///
    /// # Errors
    /// What is wrong with the configuration or the store; it can't listen there.
    pub fn run(&self, common: &Common, output: &mut Output) -> anyhow::Result<Outcome> {
        let (reader, settings) = jobs::open(common, self.job.as_deref())?;
        let job = reader.job().name().to_owned();
        let signals = Signals::hold(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        let listen = self.listen.unwrap_or(match settings.http {
            Listen::At(address) => address,
            Listen::Off => USUAL,
        });
        let token = self.token_file.as_deref().unwrap_or(&settings.http_token);
        let server = start(listen, token, settings.clone(), Whose::Job(job.clone()))?;
        let url = server.url();
        if output.is_json() {
            output.json(&serde_json::json!({ "job": job, "address": url }))?;
        } else {
            output.line(format!("{job}: {url}  (metrics at /metrics, queries at /api/v1; Ctrl-C ends it)"))?;
        }
        output.flush()?;
        let (told, tell) = channel();
        signals.listen(move |_| {
            // Whoever ends already needs to hear it no more.
            let _ = told.send(());
        })?;
        let _ = tell.recv();
        drop(server);
        Ok(Outcome::Done)
    }
}

/// What a server shows.
pub enum Whose {
    /// A job of the store that the settings name.
    Job(String),
    /// The one that a supervisor of this process runs, and what that knows of it.
    Run(Live),
}

/// Starts a server.
pub fn start(listen: SocketAddr, token: &Path, settings: Settings, whose: Whose) -> anyhow::Result<Server> {
    let token = if token.as_os_str().is_empty() { None } else { Some(Token::read(token)?) };
    let look = move || look(&settings, &whose);
    let lookup = Lookup::start(look).context("no thread")?;
    Ok(Server::start(Options { listen, token }, lookup)?)
}

/// How the job is, and what became of it.
pub fn look(settings: &Settings, whose: &Whose) -> anyhow::Result<(Option<Now>, Option<Story>)> {
    let mut settings = settings.clone();
    let (job, live) = match whose {
        Whose::Job(job) => (job.clone(), None),
        Whose::Run(live) => {
            // Its ranks have not said yet who they are.
            let Some((job, dir)) = live.job() else { return Ok((None, None)) };
            settings.dir = dir;
            (job, Some(live))
        }
    };
    let reader = jobs::reader(&settings, &job)?;
    let running = jobs::running_epoch(reader.job())?;
    Ok((Now::of(&reader, &settings, running, live)?, Story::of(&reader, running)?))
}

//! What is answered to which path.
//!
//! Comes in: a path, and what is known. Goes out: an answer. What must hold: no answer depends on anything but these; whatever journals hold stands in JSON, in a label, or
//! escaped in a page.

use super::lookup::Known;
use crate::observe::report::{self, charts};
use crate::observe::{View, metrics};
use serde::Serialize;

/// Scripts and styles of our own only, and no other site's pages around ours.
const STRICT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The report bears its own, since it is one file.
const ONE_FILE: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
                        form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("../page/index.html");
const SCRIPT: &str = include_str!("../page/live.js");
const STYLE: &str = concat!(include_str!("../report/page.css"), include_str!("../page/live.css"));

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    /// The path.
    pub path: &'a str,
    /// What kinds of answers are understood.
    pub accept: &'a str,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub policy: &'static str,
    pub body: String,
}

impl Answer {
    fn new(content_type: &'static str, body: String) -> Self {
        Self { status: 200, content_type, policy: STRICT, body }
    }

    pub fn text(status: u16, text: &str) -> Self {
        Self { status, ..Self::new("text/plain; charset=utf-8", format!("{text}\n")) }
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self::new("application/json", body),
            Err(error) => Self::text(500, &format!("it can't be put in JSON: {error}")),
        }
    }
}

/// The paths, for whoever asks what there is.
const PATHS: [(&str, &str); 7] = [
    ("/", "the live page"),
    ("/report", "the report, as a page"),
    ("/metrics", "for Prometheus, as text or OpenMetrics"),
    ("/healthz", "whether this server can look"),
    ("/api/v1/now", "how the job is: ranks, nodes, the newest checkpoint, alerts"),
    ("/api/v1/report", "all that became of it: attempts, parts of the time, failures, alerts, nodes"),
    ("/api/v1/view", "what the live page shows; null before the first attempt"),
];

/// The answer.
pub(super) fn answer(query: &Query<'_>, known: &Known) -> Answer {
    let story = known.story.as_deref();
    let nothing = || {
        let why = known.problem.as_deref().unwrap_or("no attempt of the job is known yet");
        Answer::text(if known.problem.is_some() { 503 } else { 404 }, why)
    };
    match query.path {
        "/" | "/index.html" => Answer::new("text/html; charset=utf-8", PAGE.to_owned()),
        "/live.js" => Answer::new("text/javascript; charset=utf-8", SCRIPT.to_owned()),
        "/live.css" => Answer::new("text/css; charset=utf-8", STYLE.to_owned()),
        "/healthz" => match &known.problem {
            Some(problem) => Answer::text(503, problem),
            None => Answer::text(200, "ok"),
        },
        "/metrics" => {
            let format = metrics::Format::accepted(query.accept);
            let body = metrics::text(known.now.as_ref(), story, format);
            Answer::new(format.content_type(), body)
        }
        "/api" | "/api/" | "/api/v1" | "/api/v1/" => {
            Answer::json(&PATHS.iter().copied().collect::<std::collections::BTreeMap<_, _>>())
        }
        "/report" => story.map_or_else(nothing, |story| Answer {
            policy: ONE_FILE,
            ..Answer::new("text/html; charset=utf-8", report::html(story))
        }),
        "/api/v1/now" => known.now.as_ref().map_or_else(nothing, Answer::json),
        "/api/v1/report" => story.map_or_else(nothing, Answer::json),
        "/api/v1/view" => match &known.now {
            Some(now) => Answer::json(&View::of(now, story)),
            // A page that is opened as soon as there is an address is no mistake, which browsers would take any other status for.
            None if known.problem.is_none() => Answer::json(&None::<View>),
            None => nothing(),
        },
        "/live/timeline" => drawing(story.map(charts::timeline)),
        "/live/progress" => drawing(story.map(charts::progress)),
        _ => Answer::text(404, "there is nothing here; /api/v1 says what there is"),
    }
}

/// For the live page to put in its place, with its styles; nothing where nothing is known yet.
fn drawing(svg: Option<String>) -> Answer {
    Answer::new("text/html; charset=utf-8", svg.unwrap_or_default())
}

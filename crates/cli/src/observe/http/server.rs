//! Connections and their limits.
//!
//! Comes in: connections. Goes out: answers. What must hold: one thread does it all, and none of it waits for one peer; a head has its bytes and its time, a body
//! is never read, an answer has its time; there are so many connections and no more.

use super::gate::{COOKIE, Credentials, Gate, Token, Verdict};
use super::lookup::Lookup;
use super::routes::{self, Answer, Query};
use crate::signals::spawn_deaf;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use piton::watch::process;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// Connections at a time.
const CONNECTIONS: usize = 128;
/// How long a head may take, and one connection with all its requests: a browser comes again.
const HEAD: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(60);
/// What a head may hold: bytes and lines.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_LINES: usize = 64;
/// What an address may have after its host, in bytes.
const PATH_LONGEST: usize = 2048;

/// How the server is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// What others must show; needed where others than this machine can reach it.
    pub token: Option<Token>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Everybody could ask.
    #[error(
        "{0} can be reached from other machines: that needs a token (--token-file, setting `http_token`), or listen on 127.0.0.1"
    )]
    NeedsToken(SocketAddr),
    /// It can't listen there.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread, or nothing to poll with.
    #[error("cannot start the server: {0}")]
    System(std::io::Error),
}

/// A server that runs, on a thread of its own, until this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(options: Options, lookup: Lookup) -> Result<Self, ServerError> {
        let Options { listen, token } = options;
        if token.is_none() && !listen.ip().is_loopback() {
            return Err(ServerError::NeedsToken(listen));
        }
        let failed = |source| ServerError::Listen { listen, source };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::System)?;
        let (stop, stopped) = oneshot::channel();
        let shared =
            Arc::new(Shared { lookup, gate: Mutex::new(Gate::new(token)), is_open: !listen.ip().is_loopback() });
        let run = move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
            // A look that hangs keeps nobody here.
            runtime.shutdown_background();
        };
        let thread = spawn_deaf("piton-http", run).map_err(ServerError::System)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for a browser; one that listens everywhere has the name of this machine.
    #[must_use]
    pub fn url(&self) -> String {
        match self.address.ip().is_unspecified() {
            true => format!("http://{}:{}/", process::host_name(), self.address.port()),
            false => format!("http://{}/", self.address),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended by itself otherwise.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    lookup: Lookup,
    gate: Mutex<Gate>,
    /// Whether others than this machine can reach it.
    is_open: bool,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Whoever finds no room waits in the system's queue, which is bounded as well.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    converse(stream, from.ip(), shared).await;
                    drop(place);
                });
            }
            // There are no descriptors, most likely.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: TcpStream, from: IpAddr, shared: Arc<Shared>) {
    // Answers are short; where it does not work they are a little later.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&request, from, &shared).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever breaks off, or is too slow, is none of our business.
    let _ = tokio::time::timeout(CONNECTION, connection).await;
}

async fn answer(request: &Request<Incoming>, from: IpAddr, shared: &Shared) -> Response<Full<Bytes>> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (path, query) = (request.uri().path(), request.uri().query());
    let credentials = Credentials {
        host: text(header::HOST),
        authorization: text(header::AUTHORIZATION),
        cookie: text(header::COOKIE),
        query,
    };
    let verdict = shared.gate.lock().unwrap_or_else(PoisonError::into_inner).ask(from, credentials, Instant::now());
    let refused = match verdict {
        Verdict::TooOften => Some((StatusCode::TOO_MANY_REQUESTS, "too many requests: try again in a second")),
        Verdict::WrongHost => Some((StatusCode::MISDIRECTED_REQUEST, "ask for 127.0.0.1 or localhost")),
        Verdict::NoToken => {
            Some((StatusCode::UNAUTHORIZED, "show the token: `Authorization: Bearer …`, or `?token=…` in a browser"))
        }
        _ if path.len() + query.map_or(0, str::len) > PATH_LONGEST => {
            Some((StatusCode::URI_TOO_LONG, "the address is too long"))
        }
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            Some((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered: nothing can be changed here"))
        }
        Verdict::In | Verdict::Keep => None,
    };
    if let Some((status, why)) = refused {
        let mut response = respond(Answer::text(status.as_u16(), why), shared);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        return response;
    }
    if verdict == Verdict::Keep {
        return keep(path, query.unwrap_or_default(), shared);
    }
    let accept = text(header::ACCEPT).unwrap_or_default();
    let known = shared.lookup.known().await;
    respond(routes::answer(&Query { path, accept }, &known), shared)
}

/// Has the browser keep the token, and ask again without it in the address.
fn keep(path: &str, query: &str, shared: &Shared) -> Response<Full<Bytes>> {
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or_default();
    let mut response = respond(Answer::text(303, "the token is kept"), shared);
    // Two slashes would name another machine.
    let path = format!("/{}", path.trim_start_matches('/'));
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
    // Letters of a token and of a path fit; of anything else nothing is kept.
    if let (Ok(cookie), Ok(path)) = (HeaderValue::try_from(cookie), HeaderValue::try_from(path)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        response.headers_mut().insert(header::LOCATION, path);
    }
    response
}

fn respond(answer: Answer, shared: &Shared) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::CONTENT_TYPE, answer.content_type);
    set(header::CACHE_CONTROL, if shared.is_open { "private, no-store" } else { "no-store" });
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, answer.policy);
    response
}

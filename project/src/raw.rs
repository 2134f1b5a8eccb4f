//! The raw file server: the files below the home over HTTP, for the proxy.
//!
//! It sees the path as the browser wrote it, `{base}/{project_id}/raw/{path}`. Whoever reaches its port must know a token
//! that follows from the project's secret, because every user of the machine reaches a port of the loopback.

mod listing;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dialtone_proxy::ProjectId;
use dialtone_proxy::files::{Content, FileError, Folder, Head, head};
use futures_util::stream::{self, Stream};
use http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::home::Home;
use crate::patient::Patient;
use crate::transfer::hex;

/// The header in which the proxy shows the token.
pub use dialtone_proxy::targets::TOKEN_HEADER;

/// How long a client may take for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// How much of a file is read at once, in bytes.
const READ_LEN: usize = 256 << 10;

/// How long is waited before a connection is accepted again when that failed, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The token of the raw file server of a project with this secret. It says nothing about the secret itself.
pub fn token_of(secret: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(b"dialtone raw file server\0");
    digest.update(secret.as_bytes());
    hex(&digest.finalize())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Raw {
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    /// How long a client may take nothing of an answer.
    stall_max: Duration,
}

#[derive(Debug)]
struct Shared {
    base: String,
    project: ProjectId,
    home: Home,
    files: Folder,
    /// `None` lets everybody in.
    token: Option<String>,
    entries_max: usize,
}

impl Raw {
    pub(crate) async fn bind(config: &Config, home: Home, secret: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind((config.host, config.raw_port)).await?;
        let files = Folder::open(home.root())?;
        let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        let shared = Shared {
            base: config.base_path.clone(),
            project: config.place.project_id().parse().map_err(invalid)?,
            home,
            files,
            token: (!config.raw_is_open).then(|| token_of(secret)),
            entries_max: config.limits.entries_max,
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
            connections: Arc::new(Semaphore::new(config.limits.raw_connections_max)),
            stall_max: config.timing.transfer_idle,
        })
    }

    pub(crate) fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is stopped; what is under way then ends.
    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Some((socket, permit)) = accepted else {
                continue;
            };
            let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
            let socket = Patient::new(socket, self.stall_max);
            drop(tasks.spawn(async move {
                tokio::select! {
                    () = serve(socket, shared) => {}
                    () = stop.cancelled() => {}
                }
                drop(permit);
            }));
        }
    }

    async fn accept(&self) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        // It is never closed.
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((socket, _peer)) => Some((socket, permit)),
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

async fn serve(socket: Patient<TcpStream>, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the raw file server broke off");
    }
}

async fn answer<B>(shared: &Arc<Shared>, request: &Request<B>) -> Response<Body> {
    if !shared.lets_in(request.headers()) {
        return said(
            StatusCode::UNAUTHORIZED,
            "the project's token is missing or wrong\n",
        );
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "files are only read here\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    let path = request.uri().path();
    let Some(rest) = shared.within(path) else {
        return said(
            StatusCode::NOT_FOUND,
            "this is not a path of the project's files\n",
        );
    };
    let Ok(file) = dialtone_proxy::path::relative(rest) else {
        return said(StatusCode::BAD_REQUEST, "the path makes no sense\n");
    };
    let opened = {
        let (shared, file) = (Arc::clone(shared), file.clone());
        tokio::task::spawn_blocking(move || shared.files.file(&file)).await
    };
    match opened {
        Ok(Ok(opened)) => {
            let Head { response, bytes } = head(request, &file, &opened);
            let wants_body = request.method() == Method::GET && response.status().is_success();
            let len = bytes.end - bytes.start;
            let mut response = response.map(|()| {
                if wants_body {
                    sent(opened.content, bytes)
                } else {
                    text("")
                }
            });
            if response.status().is_success() {
                response.headers_mut().insert(CONTENT_LENGTH, len.into());
            }
            response
        }
        Ok(Err(FileError::Folder)) if !path.ends_with('/') => {
            let mut moved = said(StatusCode::PERMANENT_REDIRECT, "");
            let to = HeaderValue::from_str(&format!("{path}/"));
            // It came as a path of a request, and so can stand in a header.
            if let Ok(to) = to {
                moved.headers_mut().insert(LOCATION, to);
            }
            moved
        }
        Ok(Err(FileError::Folder)) => folder(shared, file).await,
        Ok(Err(FileError::NotFound)) => said(StatusCode::NOT_FOUND, "there is no such file\n"),
        Ok(Err(error @ (FileError::Io(_) | FileError::NotRunning))) => {
            tracing::debug!(%error, "a file cannot be read");
            said(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the file cannot be read\n",
            )
        }
        Err(error) => {
            tracing::error!(%error, "opening a file failed");
            said(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the file cannot be read\n",
            )
        }
    }
}

async fn folder(shared: &Arc<Shared>, path: String) -> Response<Body> {
    let shared = Arc::clone(shared);
    let page =
        tokio::task::spawn_blocking(move || listing::page(&shared.home, &path, shared.entries_max));
    match page.await {
        Ok(Ok(page)) => {
            let mut response = said(StatusCode::OK, &page);
            listing::describe(response.headers_mut());
            response
        }
        Ok(Err(error)) => said(StatusCode::NOT_FOUND, &format!("{error}\n")),
        Err(error) => {
            tracing::error!(%error, "listing a folder failed");
            said(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the folder cannot be listed\n",
            )
        }
    }
}

impl Shared {
    /// What follows `{base}/{project_id}/raw/`.
    fn within<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.base.as_str())?.strip_prefix('/')?;
        let (project, rest) = rest.split_once('/')?;
        if project.parse() != Ok(self.project) {
            return None;
        }
        rest.strip_prefix("raw/")
            .or_else(|| (rest == "raw").then_some(""))
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let is_token = |shown: Vec<u8>| bool::from(shown.ct_eq(token.as_bytes()));
        shows(headers, token) || authorization(headers).is_some_and(is_token)
    }
}

/// Whether somebody shows the token as the proxy does.
pub(crate) fn shows(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(TOKEN_HEADER);
    shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token.as_bytes())))
}

/// A bearer's token, or the name that HTTP's basic authentication gives.
fn authorization(headers: &HeaderMap) -> Option<Vec<u8>> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    decoded
        .split(|byte| *byte == b':')
        .next()
        .map(<[u8]>::to_vec)
}

/// A short text as an answer.
fn said(status: StatusCode, what: &str) -> Response<Body> {
    let mut response = Response::new(text(what));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn text(what: &str) -> Body {
    Full::new(Bytes::copy_from_slice(what.as_bytes()))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Part of a file, read as fast as the client takes it.
fn sent(content: Arc<dyn Content>, bytes: Range<u64>) -> Body {
    StreamBody::new(pieces(content, bytes)).boxed_unsync()
}

fn pieces(
    content: Arc<dyn Content>,
    bytes: Range<u64>,
) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> {
    stream::try_unfold((content, bytes), |(content, mut left)| async move {
        let len = left.end - left.start;
        if len == 0 {
            return Ok(None);
        }
        let len_max = usize::try_from(len).unwrap_or(READ_LEN).min(READ_LEN);
        let read = Arc::clone(&content).read(left.start, len_max).await?;
        if read.is_empty() {
            // Its length has been told: whoever gets less must notice.
            return Err("the file has become shorter".into());
        }
        left.start += read.len() as u64;
        Ok(Some((Frame::data(read), (content, left))))
    })
}

/// The address, or the loopback for one that means all.
pub(crate) fn shown(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], addr.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_from_secrets() {
        assert_eq!(token_of("a"), token_of("a"));
        assert_ne!(token_of("a"), token_of("b"));
        assert_eq!(token_of("a").len(), 64);
    }

    #[test]
    fn tokens_are_read_from_each_place_where_they_may_stand() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            authorization(&headers).map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("basic YWJjOg==").as_deref(), Some("abc"), "abc:");
        assert_eq!(of("Digest abc"), None);
        assert_eq!(of("Basic !"), None);
    }
}

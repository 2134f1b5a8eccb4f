//! Files of a project, downloaded: whole or in part, and again only when they have changed.
//!
//! Whatever a file holds, a browser never runs it as a page of this site: what is not known to be harmless is an
//! attachment, nothing is guessed from the content, and the rest is shown in a sandbox.

mod body;
pub(crate) use body::FileBody;

mod condition;
mod folder;
mod kind;
mod range;
pub use folder::Folder;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::condition::{Condition, Validators};
use self::range::Wanted;
use crate::access::Answer;
use crate::body::{Body, Watch};
use crate::error::Refusal;
use crate::project::ProjectId;
use crate::site::Site;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is none, or it may not be read, or it is not within the project.
    #[error("there is no file at this path")]
    NotFound,
    /// The path names a folder.
    #[error("the path names a folder")]
    Folder,
    /// The project does not run, and its files cannot be had without it.
    #[error("the project is not running")]
    NotRunning,
    /// Reading failed.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

/// An open file.
pub struct Opened {
    /// Its length, in bytes.
    pub len: u64,
    /// When it was changed last.
    pub modified: Option<SystemTime>,
    /// A text that is another one whenever the content is: letters, digits and hyphens. Without one, a part of the file
    /// cannot be asked for safely.
    pub version: Option<String>,
    /// The bytes.
    pub content: Arc<dyn Content>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The bytes of an open file.
pub trait Content: Send + Sync + 'static {
    /// At most `len_max` bytes from this place on; none at the end.
    fn read(self: Arc<Self>, at: u64, len_max: usize) -> Answer<'static, io::Result<Bytes>>;
}

/// Opens the files of projects.
pub trait Files: Send + Sync + 'static {
    /// Opens a file; the path is relative to the project's home and has no segment that climbs.
    fn open<'a>(
        &'a self,
        project: ProjectId,
        path: &'a str,
    ) -> Answer<'a, Result<Opened, FileError>>;
}

/// What a request for a file is answered with: all but the bytes.
#[derive(Debug)]
pub struct Head {
    /// Status and headers.
    pub response: Response<()>,
    /// Which bytes of the file are sent; none where there is only a status to be told.
    pub bytes: Range<u64>,
}

/// Decides how a request for an open file is answered: conditions, ranges, and the headers that keep a browser from
/// running it. The last segment of `path` is the name under which it is saved.
pub fn head<B>(request: &Request<B>, path: &str, opened: &Opened) -> Head {
    let download = request.uri().query().is_some_and(asks_for_download);
    let mut response = Response::new(());
    let validators = Validators::of(opened);
    describe(response.headers_mut(), path, &validators, download);
    let part = match validators.check(request.headers()) {
        Condition::Send => range::wanted(request.headers(), &validators, opened.len),
        Condition::NotModified => return empty(response, StatusCode::NOT_MODIFIED),
        Condition::Failed => return empty(response, StatusCode::PRECONDITION_FAILED),
    };
    match part {
        Wanted::Whole => Head {
            response,
            bytes: 0..opened.len,
        },
        Wanted::Part(bytes) => {
            let range = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, opened.len);
            put(response.headers_mut(), CONTENT_RANGE, &range);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            Head { response, bytes }
        }
        Wanted::Impossible => {
            let range = format!("bytes */{}", opened.len);
            put(response.headers_mut(), CONTENT_RANGE, &range);
            response.headers_mut().remove(CONTENT_DISPOSITION);
            empty(response, StatusCode::RANGE_NOT_SATISFIABLE)
        }
    }
}

fn empty(mut response: Response<()>, status: StatusCode) -> Head {
    *response.status_mut() = status;
    Head {
        response,
        bytes: 0..0,
    }
}

/// Answers a request for a file.
pub(crate) async fn answer<B>(
    site: &Site,
    request: &Request<B>,
    project: ProjectId,
    path: &str,
    ended: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Refusal::Method(request.method().clone()));
    }
    let opened = site.files.open(project, path).await.map_err(refusal)?;
    let Head { response, bytes } = head(request, path, &opened);
    if response.status().is_success() {
        let watch = Watch::new(site.config.timing.answer_idle, Some(ended));
        let body = Body::file(FileBody::new(opened.content, bytes, watch));
        return Ok(response.map(|()| body));
    }
    Ok(response.map(|()| Body::empty()))
}

fn refusal(error: FileError) -> Refusal {
    match error {
        FileError::NotFound => Refusal::NoFile,
        FileError::Folder => Refusal::Folder,
        FileError::NotRunning => Refusal::NotRunning,
        FileError::Io(error) => {
            tracing::debug!(%error, "a file cannot be read");
            Refusal::Unreadable
        }
    }
}

fn asks_for_download(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some("download"))
}

fn describe(headers: &mut HeaderMap, path: &str, validators: &Validators, download: bool) {
    let name = path.rsplit('/').next().unwrap_or_default();
    let kind = kind::of(name);
    put(headers, CONTENT_TYPE, kind.name());
    let place = if download || !kind.is_harmless() {
        "attachment"
    } else {
        "inline"
    };
    put(
        headers,
        CONTENT_DISPOSITION,
        &format!("{place}; filename*=UTF-8''{}", kind::encoded(name)),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(etag) = validators.etag() {
        put(headers, ETAG, etag);
    }
    if let Some(modified) = validators.modified() {
        put(headers, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
}

fn put(headers: &mut HeaderMap, name: http::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

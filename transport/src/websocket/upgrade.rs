//! The HTTP half of a WebSocket: who is let through, what the others are told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsStream, server};

use super::io::{ReadIo, WriteIo, split_any, split_tcp};
use super::{Role, SUBPROTOCOL};
use crate::connection::{Connection, Info, Kind};
use crate::error::HandshakeError;

/// Appended to the key before hashing (RFC 6455 §1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request was not upgraded; [`response`](Self::response) tells the peer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// An ordinary HTTP request.
    #[error(
        "this is a Dialtone broker: connect with a WebSocket (subprotocol dialtone.1), for example by `dialtone sub`"
    )]
    NotAnUpgrade,
    /// Not the path that the listener serves.
    #[error("no WebSocket is served at this path")]
    Path,
    /// A WebSocket version other than 13.
    #[error("WebSocket version 13 is spoken here")]
    Version,
    /// The key is missing or is not 16 bytes in Base64.
    #[error("Sec-WebSocket-Key is missing or not 16 bytes in Base64")]
    Key,
    /// Subprotocols were offered, but not ours.
    #[error("none of the offered subprotocols is spoken here; spoken is dialtone.1")]
    Subprotocol,
    /// A browser sent cookies from a page of another site.
    #[error("this origin may not connect with cookies")]
    Origin,
}

impl UpgradeError {
    /// The HTTP status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Key | Self::Subprotocol => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    /// The answer for the peer: the status and the reason as text.
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(format!("{self}\n"))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// A request that passed: the answer, and what is kept of it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) response: Response<Full<Bytes>>,
    pub(crate) headers: HeaderMap,
}

/// Checks an upgrade request and prepares the answer to it.
pub(crate) fn check<B>(
    request: &Request<B>,
    path: &str,
    origins: &[String],
) -> Result<Accepted, UpgradeError> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && request.version() >= Version::HTTP_11
        && has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &CONNECTION, "upgrade");
    if !is_upgrade {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if path != "/"
        && request
            .uri()
            .path_and_query()
            .is_none_or(|asked| asked != path && asked.path() != path)
    {
        return Err(UpgradeError::Path);
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(UpgradeError::Version);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .ok_or(UpgradeError::Key)?;
    if key.len() != 24 || BASE64.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err(UpgradeError::Key);
    }
    let offered = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
    if offered && !has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(UpgradeError::Subprotocol);
    }
    if !origin_may_connect(headers, origins) {
        return Err(UpgradeError::Origin);
    }
    Ok(Accepted {
        response: switch(key, offered),
        headers: keep(headers),
    })
}

/// The answer that makes it a WebSocket.
fn switch(key: &[u8], name_protocol: bool) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    let accept = HeaderValue::try_from(accept_for(key)).expect("Base64 is ASCII");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if name_protocol {
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    response
}

/// What the server answers to a key.
pub fn accept_for(key: &[u8]) -> String {
    BASE64.encode(
        Sha1::new()
            .chain_update(key)
            .chain_update(KEY_SUFFIX)
            .finalize(),
    )
}

/// Whether a comma-separated header names `token`, in any case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Cookies are sent by browsers whoever wrote the page, so the page must be of this host or of an allowed one.
pub fn origin_may_connect(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    if !headers.contains_key(COOKIE) {
        return true;
    }
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let same_host = || {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let from = origin.split_once("://").map(|(_scheme, host)| host);
        matches!((host, from), (Some(host), Some(from)) if host.eq_ignore_ascii_case(from))
    };
    origins
        .iter()
        .any(|allowed| allowed.eq_ignore_ascii_case(origin))
        || same_host()
}

/// Copies the headers that mean something to the application.
///
/// The originals are slices of hyper's read buffer, which they would keep alive.
fn keep(headers: &HeaderMap) -> HeaderMap {
    let spent = [
        CONNECTION,
        UPGRADE,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_EXTENSIONS,
    ];
    let mut kept = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !spent.contains(name)) {
        let name = HeaderName::from_bytes(name.as_str().as_bytes())
            .expect("a name that was parsed before");
        let value =
            HeaderValue::from_bytes(value.as_bytes()).expect("a value that was parsed before");
        kept.append(name, value);
    }
    kept
}

/// A WebSocket in the making inside somebody else's hyper server, see [`upgrade()`].
#[derive(Debug)]
pub struct Upgrade {
    on: hyper::upgrade::OnUpgrade,
    headers: HeaderMap,
}

/// Checks a request to somebody else's hyper server, for one port that serves more than `WebSocket`s.
///
/// Send the response; await [`Upgrade::connect`] elsewhere, since it completes after the response is sent. The
/// server's connection must be served `with_upgrades`. The path is the caller's business; `allowed_origins` is as in
/// [`ListenOptions`](crate::ListenOptions::allowed_origins).
///
/// # Errors
/// If the request is no upgrade to this protocol; send [`UpgradeError::response`] then.
pub fn upgrade<B>(
    request: &mut Request<B>,
    allowed_origins: &[String],
) -> Result<(Response<Full<Bytes>>, Upgrade), UpgradeError> {
    let accepted = check(request, "/", allowed_origins)?;
    let on = hyper::upgrade::on(request);
    Ok((
        accepted.response,
        Upgrade {
            on,
            headers: accepted.headers,
        },
    ))
}

impl Upgrade {
    /// Waits until the response is sent and takes the socket over.
    ///
    /// # Errors
    /// If the server does not let go of the socket.
    pub async fn connect(self) -> Result<Connection, HandshakeError> {
        let (io, early, mut info) = take_over(self.on.await?);
        info.headers = self.headers;
        let (receiver, sender) = super::over(io, early, Role::Server);
        Ok(Connection::websocket(info, receiver, sender))
    }
}

/// Recovers the socket itself where its type is known: plain TCP is then as cheap as on our own listener, and of TLS it
/// is known who is at the other end.
fn take_over(upgraded: Upgraded) -> ((ReadIo, WriteIo), Bytes, Info) {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            let info = Info::of_tcp(Kind::WebSocket, &stream);
            return (split_tcp(stream), parts.read_buf, info);
        }
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<server::TlsStream<TcpStream>>>() {
        Ok(parts) => {
            let stream = TlsStream::from(parts.io.into_inner());
            let info = Info::of_tls(Kind::WebSocket, &stream);
            (split_any(stream), parts.read_buf, info)
        }
        Err(upgraded) => (
            split_any(TokioIo::new(upgraded)),
            Bytes::new(),
            Info::new(Kind::WebSocket),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(changes: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::get("/path").body(()).unwrap();
        let usual = [
            ("host", "example.org:4480"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "other, dialtone.1"),
        ];
        for &(name, value) in usual.iter().chain(changes) {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
            if value.is_empty() {
                request.headers_mut().remove(name);
            }
        }
        request
    }

    #[track_caller]
    fn refuse(changes: &[(&'static str, &'static str)], why: UpgradeError) {
        assert_eq!(check(&request(changes), "/", &[]).unwrap_err(), why);
    }

    #[test]
    fn example_of_the_rfc_is_accepted() {
        let accepted = check(&request(&[("cookie", "a=b")]), "/", &[]).unwrap();
        let headers = accepted.response.headers();
        assert_eq!(
            headers[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
        assert_eq!(accepted.headers["cookie"], "a=b");
        assert!(!accepted.headers.contains_key(SEC_WEBSOCKET_KEY));
    }

    #[test]
    fn client_without_subprotocols_gets_none() {
        let accepted = check(&request(&[("sec-websocket-protocol", "")]), "/path", &[]).unwrap();
        assert!(
            !accepted
                .response
                .headers()
                .contains_key(SEC_WEBSOCKET_PROTOCOL)
        );
    }

    #[test]
    fn others_are_told_why() {
        refuse(&[("upgrade", "")], UpgradeError::NotAnUpgrade);
        refuse(&[("connection", "close")], UpgradeError::NotAnUpgrade);
        refuse(&[("sec-websocket-version", "8")], UpgradeError::Version);
        refuse(
            &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")],
            UpgradeError::Key,
        );
        refuse(
            &[("sec-websocket-protocol", "dialtone.2")],
            UpgradeError::Subprotocol,
        );
        assert_eq!(
            check(&request(&[]), "/elsewhere", &[]).unwrap_err(),
            UpgradeError::Path
        );
    }

    #[test]
    fn origin_counts_only_with_cookies() {
        let foreign = ("origin", "https://evil.example");
        let cookie = ("cookie", "a=b");
        refuse(&[foreign, cookie], UpgradeError::Origin);
        assert!(check(&request(&[foreign]), "/", &[]).is_ok());
        assert!(
            check(
                &request(&[foreign, cookie]),
                "/",
                &["https://evil.example".to_owned()]
            )
            .is_ok()
        );
        assert!(
            check(
                &request(&[("origin", "http://example.org:4480"), cookie]),
                "/",
                &[]
            )
            .is_ok()
        );
    }
}

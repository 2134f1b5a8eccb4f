//! From HTTP to a WebSocket: both ends are taken out of HTTP, and what is said from there on passes as bytes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::headers::has_token;
use crate::metrics::add;
use crate::quiet::Quiet;
use crate::record::Record;
use crate::socket::Socket;
use crate::tunnel::{self, End, Side};

/// Both ends of a WebSocket, as soon as HTTP lets the client's go.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) server: (TcpStream, Bytes),
    /// Ends it when access does.
    pub(crate) ended: Option<CancellationToken>,
}

/// Whether a server's `101` says what was asked for.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// The answer that has the client switch.
pub(crate) fn switching(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Tunnel {
    /// Passes bytes on until one end has no more, or access ends.
    pub(crate) fn start(self, mut record: Box<Record>) {
        record.becomes_tunnel();
        let site = Arc::clone(&record.site);
        let tracker = site.tracker.clone();
        tracker.spawn(async move {
            let cut = Quiet::new(site.cut.child_token().cancelled_owned());
            // Dropping the future closes both ends.
            let is_cut = tokio::select! {
                biased;
                () = self.run(&mut record) => false,
                () = cut => true,
            };
            if is_cut {
                record.entry.code = "cut";
            }
        });
    }

    async fn run(self, record: &mut Record) {
        let client = match self.client.await {
            Ok(client) => client_of(client),
            Err(error) => {
                tracing::debug!(%error, "a connection was lost while it became a WebSocket");
                None
            }
        };
        let Some(client) = client else {
            record.entry.code = "broken";
            return;
        };
        let server = Side::new(self.server.0, self.server.1);
        let idle_max = record.site.config.timing.tunnel_idle;
        let ended = self.ended.unwrap_or_default();
        let passed = tunnel::pass(client, server, idle_max, &ended).await;
        record.entry.received = passed.from_client;
        record.entry.sent = passed.from_server;
        record.entry.code = match passed.end {
            End::Closed => "",
            End::Broken => "closed",
            End::Silent => "tunnel_idle",
            End::Access => {
                add(&record.metrics().ended, 1);
                "ended"
            }
        };
    }
}

fn client_of(upgraded: Upgraded) -> Option<Side<Socket>> {
    let parts = auto::upgrade::downcast::<TokioIo<Socket>>(upgraded).ok()?;
    let mut socket = parts.io.into_inner();
    socket.leaves_http();
    Some(Side::new(socket, parts.read_buf))
}

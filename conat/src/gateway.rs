//! From an HTTP request to a Socket.IO client: what a web server calls for the path of Socket.IO.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_transport::websocket::{accept_for, origin_may_connect};
use dialtone_transport::{Info, Kind};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::address::client_address;
use crate::broker::Broker;
use crate::config::Config;
use crate::connection::{self, Parts};
use crate::registry::Registry;
use crate::session::{Node, Session, Setup};

/// Serves Socket.IO clients. Clones share everything.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Arc<Config>,
    path: String,
    node: Arc<Node>,
    broker: Arc<dyn Broker>,
    registry: Arc<Registry>,
    tasks: TaskTracker,
}

/// From where a request came.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address of the socket.
    pub remote: SocketAddr,
    /// The address at this end.
    pub local: Option<SocketAddr>,
    /// Whether nobody on the way can read along.
    pub encrypted: bool,
}

/// Why a request is not served, as Engine.IO says it.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    Transport,
    Version,
    Handshake,
    Forbidden,
}

impl Gateway {
    /// In front of a broker.
    pub fn new(
        config: Config,
        node: Node,
        registry: Arc<Registry>,
        broker: Arc<dyn Broker>,
    ) -> Self {
        Self(Arc::new(Inner {
            path: config.path(),
            config: Arc::new(config),
            node: Arc::new(node),
            broker,
            registry,
            tasks: TaskTracker::new(),
        }))
    }

    /// Bounds and times.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The broker as clients are told.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// Who is connected.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// Waits until all connections have ended, which they do when the broker ends them.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Whether a path is that of Socket.IO.
    pub fn is_at(&self, path: &str) -> bool {
        path.strip_suffix('/').unwrap_or(path) == self.0.path
    }

    /// Answers a request for the path of Socket.IO (see [`is_at`](Self::is_at)), which is to be a request as hyper gives
    /// it to a service, of a connection that is served with upgrades. The client is served on the runtime of the caller
    /// until it leaves; [`ended`](Self::ended) waits for all of them.
    ///
    /// ```no_run
    /// # use dialtone_conat::gateway::{Gateway, Peer};
    /// # fn own_page() -> http::Response<http_body_util::Full<bytes::Bytes>> { http::Response::default() }
    /// fn answer<B>(gateway: &Gateway, request: http::Request<B>, peer: Peer) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    ///     if gateway.is_at(request.uri().path()) {
    ///         return gateway.handle(request, peer);
    ///     }
    ///     own_page()
    /// }
    /// ```
    pub fn handle<B>(&self, mut request: Request<B>, peer: Peer) -> Response<Full<Bytes>> {
        let key = match self.check(&request) {
            Ok(key) => key,
            Err(refusal) => return refusal.response(),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let headers = std::mem::take(request.headers_mut());
        let gateway = self.clone();
        self.0.tasks.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    gateway.serve(TokioIo::new(upgraded), headers, peer).await;
                }
                Err(error) => tracing::debug!(%error, "the client left before it was upgraded"),
            }
        });
        switch(key.as_bytes())
    }

    fn check<B>(&self, request: &Request<B>) -> Result<HeaderValue, Refusal> {
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str, value: &str| {
            query
                .split('&')
                .any(|pair| pair.split_once('=') == Some((name, value)))
        };
        if !has("EIO", "4") {
            return Err(Refusal::Version);
        }
        let headers = request.headers();
        let is_upgrade = headers.get(UPGRADE).is_some_and(|value| {
            value
                .to_str()
                .is_ok_and(|value| value.eq_ignore_ascii_case("websocket"))
        });
        if !has("transport", "websocket") || !is_upgrade {
            return Err(Refusal::Transport);
        }
        if headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_none_or(|version| version != "13")
        {
            return Err(Refusal::Handshake);
        }
        if !origin_may_connect(headers, &self.0.config.allowed_origins) {
            return Err(Refusal::Forbidden);
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Handshake)?;
        if key.len() != 24 {
            return Err(Refusal::Handshake);
        }
        Ok(key.clone())
    }

    async fn serve<S>(&self, stream: S, headers: HeaderMap, peer: Peer)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let inner = &self.0;
        let seat = inner
            .registry
            .enter(client_address(&headers, peer.remote.ip()));
        let setup = Setup {
            config: Arc::clone(&inner.config),
            node: Arc::clone(&inner.node),
            member: Arc::clone(seat.member()),
            patterns: Arc::clone(inner.registry.patterns()),
            seed: rand::random(),
        };
        let info = Info {
            kind: Kind::SocketIo,
            encrypted: peer.encrypted,
            remote: Some(peer.remote),
            local: peer.local,
            headers,
            client_certificates: Vec::new(),
            channel_binding: None,
            rebind: None,
        };
        let now = tokio::time::Instant::now().into_std();
        connection::serve(Parts {
            stream,
            payload_max: inner.config.max_payload,
            info,
            session: Session::new(setup, now),
            seat,
            broker: Arc::clone(&inner.broker),
        })
        .await;
    }
}

impl Refusal {
    fn response(self) -> Response<Full<Bytes>> {
        let (status, code, message) = match self {
            Self::Transport => (StatusCode::BAD_REQUEST, 0, "Transport unknown"),
            Self::Version => (StatusCode::BAD_REQUEST, 5, "Unsupported protocol version"),
            Self::Handshake => (StatusCode::BAD_REQUEST, 3, "Bad request"),
            Self::Forbidden => (StatusCode::FORBIDDEN, 4, "Forbidden"),
        };
        let text = json!({ "code": code, "message": message }).to_string();
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// The answer that makes it a WebSocket. Compression is not spoken: what is offered is declined by silence.
fn switch(key: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept_for(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

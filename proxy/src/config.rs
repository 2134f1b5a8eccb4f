//! Every bound of the proxy and everything that can be set, as plain data.

use std::net::SocketAddr;
use std::time::Duration;

use dialtone_transport::tls::ServerTls;
use tokio::runtime::Handle;

use crate::headers::request::Names;
use crate::separate::Separate;

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; port 0 takes any free port.
    pub addr: SocketAddr,
    /// The certificate; without one, HTTP is spoken without encryption.
    pub tls: Option<ServerTls>,
    /// Leads whoever comes without encryption to this port of the same host, encrypted; 0: that of the first address
    /// that is.
    pub https_port: Option<u16>,
}

/// What can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// The path below which everything lies: empty, or with a slash in front and none at the end.
    pub base: String,
    /// The runtimes on which connections live, each best with one thread. Empty: the one that [`Proxy::run`](crate::Proxy::run) is called on.
    pub shards: Vec<Handle>,
    /// The brokers behind `{base}/conat/`; empty: there is nothing.
    pub brokers: Vec<SocketAddr>,
    /// The server that answers whatever is neither a project's nor a broker's, which gets all cookies: the pages of the
    /// site.
    pub pages: Option<SocketAddr>,
    /// Which credentials are ours.
    pub names: Names,
    /// Web origins whose pages may open web sockets, beside those of the same host.
    pub allowed_origins: Vec<String>,
    /// Whether `Forwarded` and `X-Forwarded-*` of requests are believed: a trusted proxy stands in front.
    pub trust_forwarded: bool,
    /// The same for requests that come from this machine alone.
    pub trust_local: bool,
    /// Where browsers without credentials are sent; `None` shows them a page.
    pub sign_in: Option<String>,
    /// Where the servers of projects are, if that is not the site's own host.
    pub separate: Option<Separate>,
    /// How long browsers that came encrypted are told to come encrypted only (RFC 6797); `None`: they are told nothing.
    pub hsts: Option<Duration>,
    /// How long an answer of [`Access`](crate::Access) is used. Live connections are asked about again as often.
    pub access_ttl: Duration,
    /// How long a refusal of it is used.
    pub refusal_ttl: Duration,
    /// How long an address that [`Targets`](crate::Targets) gave is used.
    pub target_ttl: Duration,
    /// How long requests in progress and web sockets may go on when the proxy stops.
    pub drain_grace: Duration,
    /// Deadlines.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            base: String::new(),
            shards: Vec::new(),
            brokers: Vec::new(),
            pages: None,
            names: Names::default(),
            allowed_origins: Vec::new(),
            trust_forwarded: false,
            trust_local: false,
            sign_in: None,
            separate: None,
            hsts: None,
            access_ttl: Duration::from_mins(1),
            refusal_ttl: Duration::from_secs(10),
            target_ttl: Duration::from_secs(30),
            drain_grace: Duration::from_secs(10),
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}

/// Deadlines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For the TLS handshake of a client.
    pub handshake: Duration,
    /// For the whole head of a request, from the end of the one before: how long a connection may be idle, and what a
    /// client can gain by sending its head slowly.
    pub head: Duration,
    /// How long a client may take for the next part of a request's body.
    pub upload_idle: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub client_stall: Duration,
    /// For a connection to a project's server.
    pub connect: Duration,
    /// For the first byte of an answer, from the end of the request.
    pub first_byte: Duration,
    /// How long a server may be silent within an answer.
    pub answer_idle: Duration,
    /// How long a WebSocket may be silent in both directions; zero: for ever.
    pub tunnel_idle: Duration,
    /// How long a connection to a server is kept for the next request.
    pub pool_idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_mins(1),
            upload_idle: Duration::from_mins(1),
            client_stall: Duration::from_mins(1),
            connect: Duration::from_secs(5),
            // Notebooks and reports compute before they answer.
            first_byte: Duration::from_mins(5),
            answer_idle: Duration::from_mins(30),
            tunnel_idle: Duration::from_hours(24),
            // Below the five seconds after which Node closes idle connections, which would meet our next request.
            pool_idle: Duration::from_secs(4),
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "each is a bound, and says so")]
pub struct Limits {
    /// Connections of clients at the same time; further ones wait in the kernel's queue.
    pub connections_max: u32,
    /// Requests and web sockets in progress within one project.
    pub project_requests_max: u32,
    /// Longest head of a request, in bytes.
    pub head_len_max: u32,
    /// Most headers of a request.
    pub headers_max: u16,
    /// Longest body of a request, in bytes; zero: no limit.
    pub body_len_max: u64,
    /// Streams of an HTTP/2 connection at the same time.
    pub streams_max: u32,
    /// Longest head of an answer, in bytes.
    pub answer_head_len_max: u32,
    /// Most headers of an answer.
    pub answer_headers_max: u16,
    /// Bytes of one body that are read ahead, each way.
    pub buffer_len_max: u32,
    /// Connections that are kept for one server and shard.
    pub pool_per_server_max: u32,
    /// Connections that are kept altogether for each shard.
    pub pool_max: u32,
    /// Answers of [`Access`](crate::Access) and of [`Targets`](crate::Targets) that are kept, each.
    pub answers_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            project_requests_max: 1_000,
            head_len_max: 64 << 10,
            headers_max: 128,
            body_len_max: 0,
            streams_max: 128,
            answer_head_len_max: 64 << 10,
            answer_headers_max: 128,
            buffer_len_max: 256 << 10,
            pool_per_server_max: 64,
            pool_max: 4_096,
            answers_max: 20_000,
        }
    }
}

//! One look at a broker through its monitoring server, and the rates between two looks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::streams::{PersistNode, StreamFlow};
use crate::exit::Failure;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Longest answer, in bytes: a page of connections takes some 500 KiB.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// The address of a monitoring server.
#[derive(Debug)]
pub(super) struct Monitor {
    authority: String,
}

/// The order of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    MessagesOut,
    MessagesIn,
    Pending,
    Subscriptions,
    Id,
}

impl Sort {
    const ALL: [Self; 5] = [
        Self::MessagesOut,
        Self::MessagesIn,
        Self::Pending,
        Self::Subscriptions,
        Self::Id,
    ];

    /// What the monitoring server calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MessagesOut => "messages_out",
            Self::MessagesIn => "messages_in",
            Self::Pending => "pending",
            Self::Subscriptions => "subscriptions",
            Self::Id => "id",
        }
    }

    pub(super) fn next(self) -> Self {
        Self::ALL
            .into_iter()
            .cycle()
            .skip_while(|one| *one != self)
            .nth(1)
            .unwrap_or(self)
    }

    pub(super) fn previous(self) -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .cycle()
            .skip_while(|one| *one != self)
            .nth(1)
            .unwrap_or(self)
    }
}

/// What `/varz` says, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) node: String,
    pub(super) server: String,
    pub(super) uptime_s: u64,
    pub(super) draining: bool,
    pub(super) connections: u64,
    pub(super) subscriptions: u64,
    pub(super) outbox_bytes: u64,
    pub(super) slow_consumers_total: u64,
    pub(super) stalls_total: u64,
    pub(super) throttles_total: u64,
    pub(super) dropped_total: u64,
    pub(super) auth_failures_total: u64,
    pub(super) denied_total: u64,
    pub(super) violations_total: u64,
    pub(super) messages_in_total: u64,
    pub(super) bytes_in_total: u64,
    pub(super) messages_out_total: u64,
    pub(super) bytes_out_total: u64,
    pub(super) process: Process,
}

/// What the operating system says about the broker.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) resident_memory_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
}

/// What `/connz` says about a connection, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) identity: String,
    pub(super) client: String,
    pub(super) transport: String,
    pub(super) remote: Option<String>,
    pub(super) age_s: u64,
    pub(super) subscriptions: u64,
    pub(super) messages_in: u64,
    pub(super) bytes_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_out: u64,
    pub(super) pending_bytes: u64,
    pub(super) dropped: u64,
    pub(super) slow: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    connections: Vec<Connection>,
}

/// What the monitoring server said at one time.
#[derive(Debug, Clone)]
pub(super) struct Look {
    at: Instant,
    status: Status,
    /// The node of persist, where there is one.
    streams: Option<PersistNode>,
    connections: Vec<Connection>,
}

impl Monitor {
    /// The server at an address such as `http://127.0.0.1:4490`, `127.0.0.1:4490` or `host:4490`.
    pub(super) fn new(address: &str) -> Result<Self, Failure> {
        let bare = address
            .strip_prefix("http://")
            .unwrap_or(address)
            .trim_end_matches('/');
        let authority: http::uri::Authority = bare.parse().map_err(|error| {
            Failure::usage(format_args!(
                "{address:?} is no address of a monitoring server: {error}"
            ))
        })?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
        })
    }

    /// Looks once, at `limit` connections at most.
    pub(super) async fn look(&self, sort: Sort, limit: u16) -> anyhow::Result<Look> {
        let status = self.get("/varz").await?;
        let connections = format!("/connz?sort={}&limit={limit}", sort.name());
        let page: Page = self.get(&connections).await?;
        let streams = self.get_if_there("/persistz").await?;
        Ok(Look {
            at: Instant::now(),
            status,
            streams,
            connections: page.connections,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let page = self.get_if_there(path).await?;
        page.with_context(|| format!("there is no http://{}{path}", self.authority))
    }

    /// A page that a server need not have.
    async fn get_if_there<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let answer = tokio::time::timeout(ANSWER_MAX, self.fetch(path)).await;
        let answer =
            answer.with_context(|| format!("{} takes too long to answer", self.authority))?;
        let body =
            answer.with_context(|| format!("cannot read http://{}{path}", self.authority))?;
        let page = body.map(|body| serde_json::from_slice(&body)).transpose();
        page.with_context(|| format!("http://{}{path} makes no sense", self.authority))
    }

    async fn fetch(&self, path: &str) -> anyhow::Result<Option<Bytes>> {
        let stream = TcpStream::connect(self.authority.as_str()).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = hyper::Request::get(path)
            .header("host", &self.authority)
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            if response.status() == http::StatusCode::NOT_FOUND {
                return Ok(None);
            }
            anyhow::ensure!(
                response.status().is_success(),
                "the answer is {}",
                response.status()
            );
            let body = Limited::new(response.into_body(), ANSWER_LEN_MAX)
                .collect()
                .await;
            body.map(|body| Some(body.to_bytes()))
                .map_err(|error| anyhow::anyhow!(error))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            body = &mut exchange => body,
            ended = connection => match ended {
                // The connection may be over as soon as the answer is there.
                Ok(()) => exchange.await,
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// What happened between two looks.
#[derive(Debug)]
pub(super) struct Rates {
    /// The later look.
    pub(super) status: Status,
    /// A second of what happened to the broker.
    pub(super) total: Flow,
    /// Cores that the broker used.
    pub(super) cores: Option<f64>,
    /// The node of persist beside the broker, and a second of what happened to it.
    pub(super) streams: Option<(PersistNode, StreamFlow)>,
    /// The connections of the later look, and a second of what happened to each.
    pub(super) connections: Vec<(Connection, Flow)>,
}

/// Messages and bytes per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Flow {
    pub(super) messages_in: f64,
    pub(super) bytes_in: f64,
    pub(super) messages_out: f64,
    pub(super) bytes_out: f64,
}

impl Rates {
    /// What happened between two looks.
    pub(super) fn between(before: &Look, after: &Look) -> Self {
        let secs = after.at.duration_since(before.at).as_secs_f64();
        let rate = |before: u64, after: u64| per_second(before, after, secs);
        let (old, new) = (&before.status, &after.status);
        let total = Flow {
            messages_in: rate(old.messages_in_total, new.messages_in_total),
            bytes_in: rate(old.bytes_in_total, new.bytes_in_total),
            messages_out: rate(old.messages_out_total, new.messages_out_total),
            bytes_out: rate(old.bytes_out_total, new.bytes_out_total),
        };
        let cores = match (old.process.cpu_seconds, new.process.cpu_seconds) {
            (Some(old), Some(new)) if secs > 0.0 => Some(((new - old) / secs).max(0.0)),
            _ => None,
        };
        let known: HashMap<u64, &Connection> =
            before.connections.iter().map(|one| (one.id, one)).collect();
        let flow = |one: &Connection| match known.get(&one.id) {
            // What is new in the list is not known to have done all that within the interval.
            None => Flow::default(),
            Some(old) => Flow {
                messages_in: rate(old.messages_in, one.messages_in),
                bytes_in: rate(old.bytes_in, one.bytes_in),
                messages_out: rate(old.messages_out, one.messages_out),
                bytes_out: rate(old.bytes_out, one.bytes_out),
            },
        };
        let connections = after
            .connections
            .iter()
            .map(|one| (one.clone(), flow(one)))
            .collect();
        let streams = after.streams.clone().map(|streams| {
            let flow = streams.since(before.streams.as_ref(), secs);
            (streams, flow)
        });
        Self {
            status: new.clone(),
            total,
            cores,
            streams,
            connections,
        }
    }

    /// For scripts.
    pub(super) fn to_json(&self) -> Value {
        let connections: Vec<_> = self
            .connections
            .iter()
            .map(|(one, flow)| json!({ "connection": one, "per_second": flow }))
            .collect();
        let streams = self.streams.as_ref();
        let streams = streams.map(|(node, flow)| json!({ "status": node, "per_second": flow }));
        json!({ "status": self.status, "per_second": self.total, "cores": self.cores, "streams": streams, "connections": connections })
    }
}

/// A counter that went back belongs to a broker that was started again.
#[expect(
    clippy::cast_precision_loss,
    reason = "rates are rounded for people anyway"
)]
pub(super) fn per_second(before: u64, after: u64, secs: f64) -> f64 {
    if secs > 0.0 {
        after.saturating_sub(before) as f64 / secs
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let at = Instant::now();
        let connection = |id, messages_in| Connection {
            id,
            messages_in,
            ..Connection::default()
        };
        let status = |messages_in_total| Status {
            messages_in_total,
            ..Status::default()
        };
        let before = Look {
            at,
            status: status(100),
            streams: None,
            connections: vec![connection(1, 50)],
        };
        let after = Look {
            at: at + Duration::from_secs(2),
            status: status(300),
            streams: None,
            connections: vec![connection(1, 150), connection(2, 9_999)],
        };
        let rates = Rates::between(&before, &after);
        assert!((rates.total.messages_in - 100.0).abs() < 1e-6);
        let per_connection: Vec<_> = rates
            .connections
            .iter()
            .map(|(_, flow)| format!("{:.0}", flow.messages_in))
            .collect();
        assert_eq!(per_connection, ["50", "0"]);
        let again = Rates::between(&after, &before);
        assert_eq!(
            again.total,
            Flow::default(),
            "a look back in time has no rates"
        );
    }

    #[test]
    fn addresses() {
        for (address, authority) in [
            ("http://127.0.0.1:4490", "127.0.0.1:4490"),
            ("127.0.0.1:4490/", "127.0.0.1:4490"),
            ("[::1]:1", "[::1]:1"),
            ("example.org", "example.org:80"),
        ] {
            assert_eq!(Monitor::new(address).unwrap().authority, authority);
        }
        Monitor::new("http://a b").unwrap_err();
    }

    #[test]
    fn sorting_goes_round() {
        assert_eq!(Sort::Id.next(), Sort::MessagesOut);
        assert_eq!(Sort::MessagesOut.previous(), Sort::Id);
        assert_eq!(Sort::Pending.next().previous(), Sort::Pending);
    }
}

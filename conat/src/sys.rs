//! What administrators ask a node: who is connected, what they do, and where the nodes are.
//!
//! | subject | answered by |
//! |---|---|
//! | `sys.conat.<cluster>` | every node: `stats`, `usage`, `disconnect` |
//! | `sys.conat.<cluster>.<node>` | one: these, `clusterAddresses`, `clusterTopology`, `join`, `unjoin` |
//!
//! A request is `[name, arguments]`; an error is said in the header `error`. Whoever may publish there may ask. Nodes
//! also tell each other on `sys.conat.<cluster>.<node>.addresses` where their clients connect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_client::{Client, Encoding, Headers, Message, SubscribeError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::registry::Registry;
use crate::session::Node;
use crate::socket::{NOTHING, answer, decode, encode};

/// How often a node says where its clients connect.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// A node that was not heard for so long is not named any more.
const SILENT_MAX: Duration = Duration::from_secs(35);

/// Most addresses of a node.
const ADDRESSES_MAX: usize = 64;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Sys {
    /// The node as its clients are told.
    pub node: Node,
    /// Who is connected to it.
    pub registry: Arc<Registry>,
    /// The broker, which joins and forgets other nodes.
    pub broker: Arc<dyn Broker>,
    /// Whether administrators are answered; otherwise nodes only tell each other where they are.
    pub answers: bool,
}

/// What a node says about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    id: String,
    addresses: Vec<String>,
}

impl Sys {
    fn cluster(&self) -> &str {
        self.node.cluster.as_deref().unwrap_or("default")
    }

    /// Goes on until `stop`, or until the client ends.
    ///
    /// # Errors
    /// When the subjects cannot be subscribed to.
    pub async fn serve(
        self,
        client: Client,
        stop: CancellationToken,
    ) -> Result<(), SubscribeError> {
        let all = format!("sys.conat.{}", self.cluster());
        let own = format!("{all}.{}", self.node.id);
        let mut places = client.subscribe(format!("{all}.*.addresses")).await?;
        let answering = async {
            if !self.answers {
                return std::future::pending::<Result<(), SubscribeError>>().await;
            }
            let (mut to_all, mut to_one) =
                (client.subscribe(&all).await?, client.subscribe(&own).await?);
            loop {
                let (request, alone) = tokio::select! {
                    request = to_all.next() => (request, false),
                    request = to_one.next() => (request, true),
                };
                let Some(request) = request else {
                    return Ok(());
                };
                self.answer(&request, alone).await;
            }
        };
        let hearing = async {
            while let Some(message) = places.next().await {
                self.on_place(&message);
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            answered = answering => answered,
            () = hearing => Ok(()),
            () = self.tell(&client, &own) => Ok(()),
        }
    }

    /// Says again and again where this node is.
    async fn tell(&self, client: &Client, own: &str) {
        let mut interval = tokio::time::interval(TELL_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = client.closed() => return,
            }
            let place = Place {
                id: self.node.id.clone(),
                addresses: self.node.addresses.own(),
            };
            let sent = client
                .message(format!("{own}.addresses"))
                .encoding(Encoding::MessagePack)
                .payload(encode(&place))
                .publish();
            if let Err(error) = sent.await {
                tracing::debug!(%error, "other nodes were not told where this one is");
            }
            self.node.addresses.expire(SILENT_MAX, Instant::now());
        }
    }

    fn on_place(&self, message: &Message) {
        match decode::<Place>(message) {
            Ok(place) if place.id != self.node.id && place.addresses.len() <= ADDRESSES_MAX => {
                let now = Instant::now();
                self.node.addresses.heard(&place.id, place.addresses, now);
            }
            Ok(_own) => {}
            Err(error) => tracing::debug!(error, "what a node says about itself cannot be read"),
        }
    }

    async fn answer(&self, request: &Message, alone: bool) {
        let outcome = match decode::<(String, Vec<Value>)>(request) {
            Ok((name, arguments)) => self.perform(&name, &arguments, alone),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(value) => answer(request, &Headers::new(), encode(&value)).await,
            Err(text) => {
                let error = Headers::new().with("error", format!("Error: {text}"));
                answer(request, &error, NOTHING.to_vec()).await;
            }
        }
    }

    fn perform(&self, name: &str, arguments: &[Value], alone: bool) -> Result<Value, String> {
        let id = self.node.id.as_str();
        match name {
            "stats" => Ok(json!({ id: self.registry.stats() })),
            "usage" => Ok(json!({ id: self.registry.usage() })),
            "disconnect" => {
                self.disconnect(arguments.first());
                Ok(Value::Null)
            }
            "clusterAddresses" | "clusterTopology" | "join" | "unjoin" if !alone => {
                Err("wrong service".to_owned())
            }
            "clusterAddresses" => {
                let wanted = arguments.first().and_then(Value::as_str);
                Ok(if wanted.is_none_or(|wanted| wanted == self.cluster()) {
                    self.node.addresses.all().into()
                } else {
                    json!([])
                })
            }
            "clusterTopology" => {
                let nodes = self.node.addresses.topology(id);
                Ok(json!({ self.cluster(): nodes }))
            }
            "join" => {
                let address = arguments.first().and_then(Value::as_str);
                let address = address.ok_or("an address must be given")?;
                self.broker.join(address).map(|()| Value::Null)
            }
            "unjoin" => {
                let id = arguments.first().and_then(|what| what.get("id"));
                let id = id.and_then(Value::as_str);
                let id = id.ok_or("the id of a node must be given")?;
                self.node.addresses.forget(id);
                self.broker.forget(id).map(|()| Value::Null)
            }
            other => Err(format!("{other} not defined")),
        }
    }

    /// Puts one client out, or several.
    fn disconnect(&self, ids: Option<&Value>) {
        let several = ids.and_then(Value::as_array).map(Vec::as_slice);
        for id in several.unwrap_or_else(|| ids.map(std::slice::from_ref).unwrap_or_default()) {
            if let Some(id) = id.as_str()
                && self.registry.kick(id)
            {
                tracing::info!(id, "a client was put out by an administrator");
            }
        }
    }
}

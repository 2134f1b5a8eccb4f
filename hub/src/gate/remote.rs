//! The door of a broker whose hubs are elsewhere: it asks them over the broker's own connections.
//!
//! Facts are kept, so that those who are let in go on while no hub can be reached. Every hub tells changes with their
//! numbers; what was missed is noticed by a gap in them, and then everything is asked again.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, Encoding, Message, Subscription};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::wire::{ADMIT, Again, CHANGED, Changed, FACT, GONE, Heard, REFUSED, STILL};
use super::{Keeper, Offer, Told};
use crate::caller::Caller;
use crate::identity::{Identity, Refused};
use crate::line::Line;
use crate::permission::{Action, Affected, Authority, Config, Fact, Facts, LookupError};

/// How long a hub may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// How long to wait until it is subscribed again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a fact is kept without hearing that it changed. Changes are told, and lost ones noticed within seconds, so
/// that this only bounds how long a broker goes on by itself.
const KEEP_MAX: Duration = Duration::from_hours(12);

/// Asks hubs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RemoteGate {
    asks: Asks,
    authority: Arc<Authority<Asks>>,
}

#[derive(Debug, Clone)]
struct Asks(Line);

/// Why a hub gave no answer.
enum Failed {
    Refused(String),
    Gone,
    Unavailable(String),
}

impl RemoteGate {
    /// One that can ask as soon as the connection is there. It is made after the broker, which needs this before.
    pub fn new(line: Line) -> Self {
        let asks = Asks(line);
        let config = Config {
            keep_max: KEEP_MAX,
            ..Config::default()
        };
        Self {
            authority: Arc::new(Authority::new(asks.clone(), config)),
            asks,
        }
    }

    async fn listen(self, told: Told, stop: CancellationToken) {
        let Some(client) = stop.run_until_cancelled(self.asks.client()).await.flatten() else {
            return;
        };
        let mut heard = Heard::default();
        let listening = async {
            loop {
                match client.subscribe(CHANGED).await {
                    Ok(subscription) => self.hear(subscription, &mut heard, &told).await,
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot hear of changes of permissions"
                    ),
                }
                heard.forget();
                tokio::time::sleep(RETRY).await;
            }
        };
        stop.run_until_cancelled(listening).await.unwrap_or(());
    }

    async fn hear(&self, mut subscription: Subscription, heard: &mut Heard, told: &Told) {
        while let Some(message) = subscription.next().await {
            let again = match message.decode::<Changed>() {
                Ok(changed) => heard.take(changed),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "what a hub tells of changes cannot be read"
                    );
                    Again::Everybody
                }
            };
            match again {
                Again::Nobody => {}
                Again::These(callers) => {
                    for caller in callers {
                        self.authority.forget_caller(caller);
                        told(Affected::One(caller));
                    }
                }
                Again::Everybody => {
                    self.authority.forget_all();
                    told(Affected::All);
                }
            }
        }
    }
}

impl Keeper for RemoteGate {
    fn admit<'a>(&'a self, offer: &'a Offer) -> BoxFuture<'a, Result<Identity, Refused>> {
        async move { self.asks.ask(ADMIT, offer).await.map_err(Refused::from) }.boxed()
    }

    fn still(&self, identity: Identity) -> BoxFuture<'_, Result<(), Refused>> {
        async move { self.asks.ask(STILL, &identity).await.map_err(Refused::from) }.boxed()
    }

    fn may<'a>(
        &'a self,
        caller: Caller,
        action: Action,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<bool, LookupError>> {
        self.authority.may(caller, action, subject).boxed()
    }

    fn may_now(&self, caller: Caller, action: Action, subject: &str) -> Result<bool, Fact> {
        self.authority.may_now(caller, action, subject)
    }

    fn is_able(&self) -> BoxFuture<'_, bool> {
        async move {
            let Some(client) = self.asks.client().await else {
                return false;
            };
            client.interest(ADMIT).await.unwrap_or(false)
        }
        .boxed()
    }

    fn follow(&self, told: Told, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.clone().listen(told, stop).boxed()
    }
}

impl Facts for Asks {
    fn look_up(&self, fact: Fact) -> BoxFuture<'_, Result<bool, LookupError>> {
        async move {
            self.ask(FACT, &fact).await.map_err(|failed| match failed {
                Failed::Refused(text) | Failed::Unavailable(text) => LookupError(text),
                Failed::Gone => LookupError("it is gone".to_owned()),
            })
        }
        .boxed()
    }
}

impl Asks {
    /// The connection, when there is one; `None` when there will be none.
    async fn client(&self) -> Option<Client> {
        let mut line = self.0.clone();
        let client = line.wait_for(Option::is_some).await.ok()?;
        client.clone()
    }

    async fn ask<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        subject: &str,
        question: &Q,
    ) -> Result<A, Failed> {
        let unavailable = |error: &dyn std::fmt::Display| Failed::Unavailable(error.to_string());
        let asked = tokio::time::timeout(ANSWER_MAX, self.send(subject, question)).await;
        let message = asked.map_err(|elapsed| unavailable(&elapsed))??;
        match message.into_result() {
            Ok(answer) => answer.decode().map_err(|error| unavailable(&error)),
            Err(error) if error.code == REFUSED => Err(Failed::Refused(error.text)),
            Err(error) if error.code == GONE => Err(Failed::Gone),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn send<Q: Serialize + Sync>(
        &self,
        subject: &str,
        question: &Q,
    ) -> Result<Message, Failed> {
        let unavailable = |error: &dyn std::fmt::Display| Failed::Unavailable(error.to_string());
        let client = self.client().await;
        let client = client.ok_or_else(|| unavailable(&"the broker is going away"))?;
        let payload = rmp_serde::to_vec_named(question).map_err(|error| unavailable(&error))?;
        let request = client
            .message(subject)
            .encoding(Encoding::MessagePack)
            .payload(payload)
            .timeout(ANSWER_MAX)
            .request();
        request.await.map_err(|error| unavailable(&error))
    }
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(text) => Self::Elsewhere(text),
            Failed::Gone => Self::Gone,
            Failed::Unavailable(text) => Self::NoHub(text),
        }
    }
}

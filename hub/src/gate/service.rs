//! The door for brokers in other processes: their questions answered, and changes told, over a broker.

use std::time::Duration;

use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};
use futures_util::future::select_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::wire::{
    ADMIT, CALLERS_MAX, CHANGED, Changed, FACT, GONE, GROUP, QUESTION_LEN_MAX, REFUSED, STILL,
    UNAVAILABLE,
};
use super::{Gate, Keeper as _, Offer};
use crate::feed::{Follower, News};
use crate::identity::{Identity, Refused};
use crate::permission::{Fact, Facts, affected};

/// Questions that are worked on at once; others wait.
const QUESTIONS_MAX: usize = 256;

/// How often a hub says how far it has told changes, if there are none: what was lost on the way is noticed then.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How long to wait to ask again when the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Answers brokers.
#[derive(Debug)]
pub struct GateService {
    services: Vec<Service>,
}

impl GateService {
    /// Answers until it is stopped.
    ///
    /// # Errors
    /// When the broker does not let this client subscribe.
    pub async fn start(client: &Client, gate: &Gate) -> Result<Self, SubscribeError> {
        let options = || ServiceOptions {
            group: GROUP.to_owned(),
            concurrency_max: QUESTIONS_MAX,
        };
        let own = gate.clone();
        let admit = client.service_with(ADMIT, options(), move |message| {
            let gate = own.clone();
            async move { answered(gate.admit(&read::<Offer>(&message)?).await) }
        });
        let admit = admit.await?;
        let own = gate.clone();
        let still = client.service_with(STILL, options(), move |message| {
            let gate = own.clone();
            async move { answered(gate.still(read::<Identity>(&message)?).await) }
        });
        let still = still.await?;
        let own = gate.clone();
        let fact = client.service_with(FACT, options(), move |message| {
            let gate = own.clone();
            async move {
                let fact = read::<Fact>(&message)?;
                // Not what this hub has kept: the broker keeps the answer until it hears of a change, and of one that
                // this hub has yet to hear of it may have been told already.
                let held = Facts::look_up(&gate.store, fact).await;
                let held =
                    held.map_err(|error| ServiceError::new(UNAVAILABLE, error.to_string()))?;
                Ok(Answer::msgpack(&held)?)
            }
        });
        Ok(Self {
            services: vec![admit, still, fact.await?],
        })
    }

    /// Waits until the broker has ended one of its subscriptions, or the client has ended.
    pub async fn ended(&mut self) {
        let services = self.services.iter_mut();
        select_all(services.map(|service| Box::pin(service.stopped()))).await;
    }

    /// Takes no more questions, answers those that were received, and ends.
    pub async fn stop(self) {
        for service in self.services {
            service.stop().await;
        }
    }
}

fn read<T: DeserializeOwned>(message: &Message) -> Result<T, ServiceError> {
    let len = message.payload().len();
    if len > QUESTION_LEN_MAX {
        let text = format!("the question is longer than {QUESTION_LEN_MAX} bytes ({len})");
        return Err(ServiceError::new(400, text));
    }
    Ok(message.decode()?)
}

fn answered<T: Serialize>(found: Result<T, Refused>) -> Result<Answer, ServiceError> {
    match found {
        Ok(value) => Ok(Answer::msgpack(&value)?),
        Err(refused) => {
            let code = match refused {
                Refused::Gone => GONE,
                Refused::Unavailable(_) | Refused::NoHub(_) => UNAVAILABLE,
                Refused::Cookie(_)
                | Refused::HubPassword
                | Refused::ApiKey
                | Refused::ProjectSecret
                | Refused::Name
                | Refused::Malformed(_)
                | Refused::Ended(_)
                | Refused::Elsewhere(_) => REFUSED,
            };
            Err(ServiceError::new(code, refused.to_string()))
        }
    }
}

/// Tells brokers whose rights change, until it is told to stop.
pub async fn tell(client: &Client, mut follower: Follower, stop: &CancellationToken) {
    let telling = async {
        loop {
            let after = follower.at();
            let news = match tokio::time::timeout(SIGN_OF_LIFE, follower.next()).await {
                Ok(Ok(news)) => Some(news),
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot tell brokers of changes"
                    );
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(_elapsed) => None,
            };
            let told = changed(after, follower.at(), news.as_ref());
            publish(client, &told).await;
        }
    };
    stop.run_until_cancelled(telling).await.unwrap_or(());
}

fn changed(after: i64, seq: i64, news: Option<&News>) -> Changed {
    let (mut callers, mut all) = (Vec::new(), false);
    match news {
        Some(News::Changes(entries)) => {
            callers.extend(entries.iter().filter_map(|entry| affected(&entry.change)));
            callers.dedup();
        }
        Some(News::Gap) => all = true,
        None => {}
    }
    if callers.len() > CALLERS_MAX {
        callers.clear();
        all = true;
    }
    Changed {
        after,
        seq,
        callers,
        all,
    }
}

/// What is lost because there is no connection is noticed later by its number.
async fn publish(client: &Client, told: &Changed) {
    let Ok(payload) = rmp_serde::to_vec_named(told) else {
        return;
    };
    let said = client
        .message(CHANGED)
        .encoding(Encoding::MessagePack)
        .payload(payload)
        .publish()
        .await;
    if let Err(error) = said {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "brokers were not told of changes"
        );
    }
}

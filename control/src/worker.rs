//! Carrying out orders on machines that have no database: the ledger of a hub, asked over the broker.
//!
//! A worker asks with its name, so that what it has started is found again by the next worker of that name, and by nobody
//! else. Its claims are leases as those of hubs: a worker that is not heard of is replaced, and one that comes back late
//! is told so. Any hub answers, since all of it stands in the database.
//!
//! Requests to `control.ledger` are JSON. Only hubs may use that subject, so workers sign in as the system does.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::service::Answer as Reply;
use dialtone_client::{
    Client, Message, Service, ServiceError, ServiceOptions, SubscribeError, Subscription,
};
use dialtone_hub::control::Phase;
use dialtone_hub::id::ProjectId;
use dialtone_hub::settings::Live;
use dialtone_hub::store::Store;
use dialtone_hub::store::control::Claim;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ledger::{Answer, CopyTask, Death, Error, Ledger, Stored, Task};
use crate::machine::{Order, Outcome};
use crate::run::{Reached, Run};

/// Where hubs answer workers.
pub const SUBJECT: &str = "control.ledger";

/// Where hubs tell that there may be orders.
pub const NEWS: &str = "control.news";

/// The queue group of all hubs.
const GROUP: &str = "0";

/// The version of these requests; a hub of another one refuses them.
const VERSION: u32 = 1;

/// Longest name of a machine or a process, in bytes.
const NAME_LEN_MAX: usize = 255;

/// How long an answer may take. Shorter than a claim lasts, so that there is time for another try.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Codes of errors, in the manner of HTTP.
const LOST: u16 = 409;
const UNAVAILABLE: u16 = 503;
const WRONG: u16 = 400;

/// A request of a worker.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    version: u32,
    host: String,
    holder: String,
    uids: Option<(u32, u32)>,
    ask: Ask,
}

/// What a worker asks for: the functions of [`Ledger`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Ask {
    Claim {
        limit: usize,
    },
    Hold {
        claim: Claim,
    },
    Tell {
        claim: Claim,
        phase: Phase,
    },
    Launch {
        claim: Claim,
        run: Run,
    },
    Finish {
        claim: Claim,
        outcome: Outcome,
        reached: Option<(Run, Reached)>,
    },
    Died {
        project_id: ProjectId,
        run_id: Uuid,
        reason: String,
    },
    Started,
    ClaimCopies {
        limit: usize,
    },
    HoldCopy {
        id: Uuid,
        generation: i64,
    },
    FinishCopy {
        id: Uuid,
        generation: i64,
        error: Option<String>,
    },
}

/// The hub's end.
#[derive(Debug)]
pub struct Office {
    service: Service,
    told: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Desk {
    /// The ledger of which each worker gets its own view.
    ledger: Stored,
}

impl Office {
    /// Answers workers until it is stopped, and tells them of news. Their claims last for `ttl`.
    ///
    /// # Errors
    /// When the broker does not let this client subscribe.
    pub async fn start(
        client: &Client,
        store: Store,
        settings: Live,
        ttl: Duration,
        news: Arc<Notify>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, SubscribeError> {
        // Nobody waits for its news: workers hear of them over the broker. Nobody claims by its name either.
        let silent = Arc::default();
        let (nowhere, nobody) = (String::new(), String::new());
        let ledger = Stored::new(store, settings, nowhere, nobody, ttl, None, silent);
        let desk = Arc::new(Desk { ledger });
        let options = ServiceOptions {
            group: GROUP.to_owned(),
            ..ServiceOptions::default()
        };
        let answer = move |message: Message| {
            let desk = Arc::clone(&desk);
            async move { desk.answer(&message).await }
        };
        let service = client.service_with(SUBJECT, options, answer).await?;
        let stop = CancellationToken::new();
        let told = runtime.spawn(tell_news(client.clone(), news, stop.clone()));
        Ok(Self {
            service,
            told,
            stop,
        })
    }

    /// Takes no more requests, answers those that were received, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        self.service.stop().await;
        if let Err(error) = self.told.await {
            tracing::warn!(%error, "news for workers have ended badly");
        }
    }
}

async fn tell_news(client: Client, news: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = news.notified() => {}
        }
        if let Err(error) = client.publish(NEWS, "").await {
            // Workers look by themselves now and then.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "workers are not told that there are orders"
            );
        }
    }
}

impl Desk {
    async fn answer(&self, message: &Message) -> Result<Reply, ServiceError> {
        let request: Request = message.decode()?;
        check(&request)?;
        let uids = request.uids.map(|(first, last)| first..=last);
        let ledger = self.ledger.of_worker(request.host, request.holder, uids);
        match request.ask {
            Ask::Claim { limit } => reply(ledger.claim(limit).await),
            Ask::Hold { claim } => reply(ledger.hold(&claim).await),
            Ask::Tell { claim, phase } => reply(ledger.tell(&claim, phase).await),
            Ask::Launch { claim, run } => reply(ledger.launch(&claim, &run).await),
            Ask::Finish {
                claim,
                outcome,
                reached,
            } => {
                let reached = reached.as_ref().map(|(run, reached)| (run, reached));
                reply(ledger.finish(&claim, &outcome, reached).await)
            }
            Ask::Died {
                project_id,
                run_id,
                reason,
            } => reply(ledger.died(project_id, run_id, &reason).await),
            Ask::Started => reply(ledger.started().await),
            Ask::ClaimCopies { limit } => reply(ledger.claim_copies(limit).await),
            Ask::HoldCopy { id, generation } => reply(ledger.hold_copy(id, generation).await),
            Ask::FinishCopy {
                id,
                generation,
                error,
            } => reply(ledger.finish_copy(id, generation, error.as_deref()).await),
        }
    }
}

fn check(request: &Request) -> Result<(), ServiceError> {
    let wrong = |text: String| Err(ServiceError::new(WRONG, text));
    if request.version != VERSION {
        return wrong(format!(
            "the worker speaks version {}, and this hub version {VERSION}",
            request.version
        ));
    }
    for (name, value) in [("host", &request.host), ("holder", &request.holder)] {
        if value.is_empty() || value.len() > NAME_LEN_MAX {
            return wrong(format!("{name} must have 1 to {NAME_LEN_MAX} bytes"));
        }
    }
    match request.uids {
        Some((first, last)) if first > last => wrong(format!("uids: {first} is above {last}")),
        _ => Ok(()),
    }
}

fn reply<T: Serialize>(done: Result<T, Error>) -> Result<Reply, ServiceError> {
    match done {
        Ok(value) => Ok(Reply::json(&value)?),
        Err(Error::Lost) => Err(ServiceError::new(LOST, Error::Lost.to_string())),
        Err(Error::Unavailable(text)) => Err(ServiceError::new(UNAVAILABLE, text)),
    }
}

/// The worker's end: the ledger of a hub, wherever that is.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    host: String,
    holder: String,
    uids: Option<(u32, u32)>,
    news: Mutex<Subscription>,
}

impl Remote {
    /// For a worker on the machine `host`, in a process that is called `holder`.
    ///
    /// # Errors
    /// When the broker does not let this client subscribe.
    pub async fn new(
        client: Client,
        host: impl Into<String>,
        holder: impl Into<String>,
        uids: Option<RangeInclusive<u32>>,
    ) -> Result<Self, SubscribeError> {
        Ok(Self {
            news: Mutex::new(client.subscribe(NEWS).await?),
            client,
            host: host.into(),
            holder: holder.into(),
            uids: uids.map(RangeInclusive::into_inner),
        })
    }

    fn ask<T: DeserializeOwned + Send>(&self, ask: Ask) -> Answer<'_, T> {
        Box::pin(async move {
            let request = Request {
                version: VERSION,
                host: self.host.clone(),
                holder: self.holder.clone(),
                uids: self.uids,
                ask,
            };
            let message = self.client.message(SUBJECT).timeout(ANSWER_MAX);
            let message = message
                .json(&request)
                .map_err(|error| unavailable(&error))?;
            let answer = message
                .request()
                .await
                .map_err(|error| unavailable(&error))?;
            let answer = answer.into_result().map_err(|error| match error.code {
                LOST => Error::Lost,
                _ => Error::Unavailable(error.text),
            })?;
            answer.decode().map_err(|error| unavailable(&error))
        })
    }
}

fn unavailable(error: &dyn std::error::Error) -> Error {
    Error::Unavailable(error.to_string())
}

impl Ledger for Remote {
    fn claim(&self, limit: usize) -> Answer<'_, Vec<Task>> {
        self.ask(Ask::Claim { limit })
    }

    fn hold<'a>(&'a self, claim: &'a Claim) -> Answer<'a, Order> {
        self.ask(Ask::Hold {
            claim: claim.clone(),
        })
    }

    fn tell<'a>(&'a self, claim: &'a Claim, phase: Phase) -> Answer<'a, Order> {
        self.ask(Ask::Tell {
            claim: claim.clone(),
            phase,
        })
    }

    fn launch<'a>(&'a self, claim: &'a Claim, run: &'a Run) -> Answer<'a, (Order, String)> {
        self.ask(Ask::Launch {
            claim: claim.clone(),
            run: run.clone(),
        })
    }

    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        outcome: &'a Outcome,
        reached: Option<(&'a Run, &'a Reached)>,
    ) -> Answer<'a, ()> {
        self.ask(Ask::Finish {
            claim: claim.clone(),
            outcome: outcome.clone(),
            reached: reached.map(|(run, reached)| (run.clone(), reached.clone())),
        })
    }

    fn died<'a>(&'a self, id: ProjectId, run_id: Uuid, reason: &'a str) -> Answer<'a, Death> {
        self.ask(Ask::Died {
            project_id: id,
            run_id,
            reason: reason.to_owned(),
        })
    }

    fn started(&self) -> Answer<'_, Vec<(ProjectId, Run)>> {
        self.ask(Ask::Started)
    }

    fn claim_copies(&self, limit: usize) -> Answer<'_, Vec<CopyTask>> {
        self.ask(Ask::ClaimCopies { limit })
    }

    fn hold_copy(&self, id: Uuid, generation: i64) -> Answer<'_, ()> {
        self.ask(Ask::HoldCopy { id, generation })
    }

    fn finish_copy<'a>(
        &'a self,
        id: Uuid,
        generation: i64,
        error: Option<&'a str>,
    ) -> Answer<'a, ()> {
        self.ask(Ask::FinishCopy {
            id,
            generation,
            error: error.map(str::to_owned),
        })
    }

    fn news(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if self.news.lock().await.next().await.is_none() {
                // The client has ended; whoever waits has its own clock.
                std::future::pending::<()>().await;
            }
        })
    }
}

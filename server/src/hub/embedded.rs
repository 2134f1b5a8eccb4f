//! The hub in a thread of its own.
//!
//! It starts in three steps, since the broker needs the hub to let anybody in, and the hub needs the broker to be asked:
//! the hub opens its database ([`Embedded::start`]), the broker is made with the hub as its [`Door`], and then the hub
//! joins it ([`Embedded::join`]). It ends the other way round: what it answers on the broker ends first
//! ([`Embedded::drain`]), then the broker, then the hub ([`Embedded::stop`]).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_broker::auth::Authenticate;
use dialtone_client::{Client, Options};
use dialtone_control::processes::Processes;
use dialtone_control::transition;
use dialtone_control::worker::Office;
use dialtone_hub::api::Jupyter;
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::auth::token;
use dialtone_hub::background::{self, Migration};
use dialtone_hub::bookmarks::Bookmarks;
use dialtone_hub::gate::Gate;
use dialtone_hub::health::Health;
use dialtone_hub::identity::HUB_PASSWORD;
use dialtone_hub::store::Store;
use dialtone_hub::{joined, settings, singleton};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::changefeeds;
use super::front::{self, Front};
use super::prepare::{Ready, Serving, prepare};
use super::projects::Controlled;
use super::{Door, Plan};
use crate::exit::{Exit, Failure};
use crate::lifecycle::{Asked, Signals};
use crate::shards;

/// The name with which a hub signs in by the site's own secret.
pub(crate) const HUB_USER: &str = "hub";

/// How long kernels may take to end when the hub does; the gateway ends those that are left, when it culls.
const KERNELS_END_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait until it is tried again to connect, where the broker refuses the hub.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// The stack of the hub's thread, in bytes: that of a first thread. Where nothing is optimised, a page of the web server
/// takes more than the two MiB that other threads get.
const STACK_LEN: usize = 8 << 20;

/// What is known of a hub that is ready to join.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Where it answers over HTTP.
    pub(crate) http: String,
    /// Where its data is.
    pub(crate) database: String,
    /// Where a browser makes the first administrator, if there is none.
    pub(crate) first_admin: Option<String>,
    /// The site's own secret, with which its parts find each other.
    pub(crate) password: String,
    /// Where the brokers of the site are, as its settings say.
    pub(crate) broker: String,
}

/// Where a hub joins a broker.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// How the broker is dialled.
    pub(crate) dial: Options,
    /// Whether it is dialled with the site's own secret, which may change.
    pub(crate) by_password: bool,
    /// Where it listens for others.
    pub(crate) brokers: Vec<String>,
}

/// A running hub.
#[derive(Debug)]
pub(crate) struct Embedded {
    facts: Facts,
    gate: Gate,
    health: Arc<Health>,
    names: Names,
    runtime: Handle,
    join: Option<oneshot::Sender<Join>>,
    ends: joined::Ends,
    tokens: Tokens,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// How far it is.
#[derive(Debug, Clone, Default)]
struct Tokens {
    /// Cancelled when it is to leave the broker.
    drain: CancellationToken,
    /// Cancelled when it has.
    drained: CancellationToken,
    /// Cancelled when everything is to end.
    stop: CancellationToken,
    /// Cancelled when everything has ended.
    ended: CancellationToken,
}

impl Tokens {
    fn end(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }
}

impl Embedded {
    /// Starts it, and waits until its database answers, however long that takes, or a signal comes.
    pub(crate) async fn start(plan: Plan, signals: &mut Signals) -> Result<Self, Failure> {
        let tokens = Tokens::default();
        let (ready, mut is_ready) = oneshot::channel();
        let (join, joins) = oneshot::channel();
        let runtime = shards::current_thread().context("cannot start the runtime of the hub")?;
        let handle = runtime.handle().clone();
        let own = tokens.clone();
        let thread = std::thread::Builder::new()
            .name("hub".to_owned())
            .stack_size(STACK_LEN)
            .spawn(move || {
                let _ended = own.ended.clone().drop_guard();
                let outcome = runtime.block_on(run(plan, ready, joins, &own));
                runtime.shutdown_background();
                outcome
            });
        let thread = thread.context("cannot start a thread for the hub")?;
        let said = tokio::select! {
            said = &mut is_ready => said,
            () = asked_to_stop(signals) => {
                tokens.stop.cancel();
                // Whoever asks twice does not wait for the database.
                tokio::select! {
                    said = &mut is_ready => drop(said),
                    () = asked_to_stop(signals) => {}
                }
                return Err(Failure::silent(Exit::Interrupted));
            }
        };
        let said = said.context("the hub ended before it was ready")??;
        Ok(Self {
            facts: said.facts,
            gate: said.gate,
            health: said.health,
            names: said.names,
            runtime: handle,
            join: Some(join),
            ends: said.ends,
            tokens,
            thread,
        })
    }

    /// What is known of it.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What decides who is let in by a broker of this process; `others` decide about those who offer nothing that is
    /// the hub's.
    pub(crate) fn door(&self, others: Option<Arc<dyn Authenticate>>) -> Door {
        let gate = Arc::new(self.gate.clone());
        Door::new(gate, self.runtime.clone(), self.names.clone(), others)
    }

    /// From here on the broker is told whose rights have changed.
    pub(crate) fn guard(&self, door: Door, broker: dialtone_broker::Handle) {
        let following = door.follow(broker, self.tokens.stop.clone());
        drop(self.runtime.spawn(following));
    }

    /// From here on it answers on this broker.
    pub(crate) fn join(&mut self, place: Join) {
        if let Some(join) = self.join.take() {
            // It may have ended, which is told where that is waited for.
            drop(join.send(place));
        }
    }

    /// What a call may end.
    pub(crate) fn ends(&self) -> &joined::Ends {
        &self.ends
    }

    /// Is there when the hub has ended, for whatever reason.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.tokens.ended.clone()
    }

    /// Leaves the broker: what was asked by now is answered.
    pub(crate) async fn drain(&self) {
        self.health.drain();
        self.tokens.drain.cancel();
        tokio::select! {
            () = self.tokens.drained.cancelled() => {}
            () = self.tokens.ended.cancelled() => {}
        }
    }

    /// Stops in good order, and waits for it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.tokens.end();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_panic| anyhow::anyhow!("the hub panicked"))?
    }
}

pub(super) async fn asked_to_stop(signals: &mut Signals) {
    while signals.next().await == Asked::Reload {}
}

async fn run(
    plan: Plan,
    ready: oneshot::Sender<Result<Ready, Failure>>,
    joins: oneshot::Receiver<Join>,
    tokens: &Tokens,
) -> anyhow::Result<()> {
    let joins_any = plan.services.api || plan.services.proxy;
    let serves = plan.services.api;
    let (hub, said, mut serving) = match prepare(plan, &tokens.stop).await {
        Ok(Some(prepared)) => prepared,
        // Nobody waits any more when the start was given up.
        Ok(None) => return Ok(()),
        Err(failure) => {
            drop(ready.send(Err(failure)));
            return Ok(());
        }
    };
    let health = Arc::clone(&said.health);
    let feeds = serving.services.feeds.clone();
    if serves {
        joined::expect(&health);
    }
    let (front, controlled) = (serving.front.take(), serving.controlled.take());
    let front = match front.map(Front::start).transpose() {
        Ok(front) => front,
        Err(error) => {
            drop(ready.send(Err(error.into())));
            return Ok(());
        }
    };
    drop(ready.send(Ok(said)));
    let known = CancellationToken::new();
    let broker = controlled.as_ref().and_then(Controlled::broker);
    let passing = front.as_ref().map(front::Running::handle);
    let on_broker = async {
        // Nobody says where to join, where there is nothing to be answered.
        let joins = tokens.drain.run_until_cancelled(joins).await;
        if let Some(Ok(join)) = joins
            && joins_any
        {
            tell(&join.brokers, broker.as_deref(), passing.as_ref());
            known.cancel();
            Box::pin(answer(join, &serving, &health, &tokens.drain)).await;
            end_kernels(&serving.jupyter).await;
        }
    };
    let on_broker = async {
        tokio::select! {
            () = on_broker => {}
            // Nobody has said where to join by then.
            () = tokens.stop.cancelled() => {}
        }
    };
    let needs_broker = broker.is_some();
    let controlling = control(controlled, needs_broker.then_some(&known), &tokens.drain);
    let serving_all = async {
        let working = async { tokio::join!(on_broker, controlling) };
        tokio::select! {
            ((), ()) = working => {}
            () = fallen(front.as_ref()) => tokens.end(),
        }
        let ended = match front {
            Some(front) => front.stop().await,
            None => Ok(()),
        };
        tokens.drained.cancel();
        ended
    };
    let ((), ended, ()) = tokio::join!(
        hub.run(tokens.stop.clone()),
        serving_all,
        feeds.run(&tokens.stop)
    );
    ended
}

/// Runs projects, if this hub does; from when the broker is `known`, if they have to be told where that is.
async fn control(
    controlled: Option<Controlled>,
    known: Option<&CancellationToken>,
    drain: &CancellationToken,
) {
    let Some(controlled) = controlled else { return };
    let is_known = match known {
        Some(known) => drain.run_until_cancelled(known.cancelled()).await.is_some(),
        None => true,
    };
    if is_known {
        controlled.service.run(drain.clone()).await;
    }
}

/// Is over when the proxy has ended by itself.
async fn fallen(front: Option<&front::Running>) {
    match front {
        Some(front) => front.ended().cancelled().await,
        None => std::future::pending().await,
    }
    tracing::error!("the proxy has ended, and the hub with it");
}

/// Tells everybody where the broker is.
fn tell(urls: &[String], processes: Option<&Processes>, proxy: Option<&dialtone_proxy::Handle>) {
    if let (Some(processes), Some(url)) = (processes, front::for_projects(urls)) {
        processes.set_broker_url(url);
    }
    if let Some(proxy) = proxy {
        proxy.set_brokers(front::for_browsers(urls));
    }
}

/// Answers on the broker until `drain`. A connection that the broker refuses later is made anew, since the site's secret
/// may have changed.
async fn answer(join: Join, serving: &Serving, health: &Health, drain: &CancellationToken) {
    let Serving {
        store,
        services,
        clients,
        ..
    } = serving;
    while let Some(client) = drain.run_until_cancelled(connect(&join, store)).await {
        let ending = drain.child_token();
        let closed = async {
            client.closed().await;
            ending.cancel();
        };
        clients.send_replace(Some(client.clone()));
        let answering = async {
            if serving.serves {
                tokio::join!(
                    joined::serve(&client, services, health, &ending),
                    follow_over_sockets(&client, services, &ending),
                    migrate(store, &client, &ending),
                    hear_workers(serving, &client, &ending),
                );
            } else {
                ending.cancelled().await;
            }
        };
        tokio::join!(answering, drain.run_until_cancelled(closed));
        clients.send_replace(None);
        client.close().await;
    }
}

/// Feeds for clients of the original, which end with the others.
async fn follow_over_sockets(
    client: &Client,
    services: &joined::Services,
    ending: &CancellationToken,
) {
    let stop = ending.child_token();
    let asked = async {
        let feeds = services.ends.feeds().cancelled();
        if stop.run_until_cancelled(feeds).await.is_some() {
            stop.cancel();
        }
    };
    tokio::join!(asked, changefeeds::keep(client, &services.feeds, &stop));
}

/// Ends kernels that nobody waits for any more.
async fn end_kernels(jupyter: &Jupyter) {
    let ending = tokio::time::timeout(KERNELS_END_WITHIN, jupyter.end());
    if ending.await.is_err() {
        tracing::warn!("some kernels were not ended before the hub");
    }
}

/// Answers workers, if projects are theirs to run.
async fn hear_workers(serving: &Serving, client: &Client, ending: &CancellationToken) {
    let Some(projects) = &serving.office else {
        return;
    };
    let ttl = transition::Limits::default().ttl;
    let runtime = Handle::current();
    while !ending.is_cancelled() {
        let started = Office::start(
            client,
            serving.store.clone(),
            serving.settings.clone(),
            ttl,
            projects.workers_news(),
            &runtime,
        );
        match started.await {
            Ok(office) => {
                ending.cancelled().await;
                office.stop().await;
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "workers cannot be answered; it is tried again"
                );
                ending
                    .run_until_cancelled(tokio::time::sleep(REFUSED_RETRY))
                    .await;
            }
        }
    }
}

/// Moves what CoCalc kept in the database into streams, if this hub has the lease.
async fn migrate(store: &Store, client: &Client, ending: &CancellationToken) {
    let bookmarks = Bookmarks::new(store.clone(), client.clone());
    let migrations: Arc<[Box<dyn Migration>]> = Arc::new([Box::new(bookmarks)]);
    let holder = format!("{}-{}", std::process::id(), token::random_text(16));
    let lease = singleton::Config::new(background::LEASE, &holder);
    let config = background::Config::default();
    background::keep(store, &lease, &migrations, &config, ending).await;
}

/// Connects, however long that takes: a broker may come later, and learn of a new secret later.
async fn connect(join: &Join, store: &Store) -> Client {
    let mut dial = join.dial.clone();
    dial.retry_on_initial_connect = true;
    loop {
        match dial.clone().connect().await {
            Ok(client) => return client,
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the hub cannot connect to the broker, and tries again"
            ),
        }
        tokio::time::sleep(REFUSED_RETRY).await;
        if let (true, Ok(settings)) = (join.by_password, settings::read(store).await) {
            dial = dial.password(HUB_USER, settings.get(HUB_PASSWORD));
        }
    }
}

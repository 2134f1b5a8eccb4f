//! Who decides whom the broker lets in: a hub in the process, hubs elsewhere, or what the settings say.

use std::sync::Arc;

use anyhow::Context as _;
use dialtone_broker::Handle;
use dialtone_broker::auth::Authenticate;
use dialtone_broker::auth::system::SystemPassword;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::args::Mode;
use crate::config::{Environment, Settings};
use crate::exit::{Exit, Failure, Outcome};
use crate::hub::{self, Plan, RemoteHub};
use crate::lifecycle::Signals;
use crate::persist::Inside;
use crate::shards::Shards;

/// A hub that decides who is let in.
pub(super) struct Guard {
    pub(super) plan: Plan,
    /// Whether nobody is let in who offers nothing that is the hub's.
    pub(super) alone: bool,
}

impl Guard {
    /// Has the certificate of the hub's address read again.
    pub(super) fn certificate(&self) -> Arc<Notify> {
        Arc::clone(&self.plan.edge.reload)
    }
}

/// The hub decides who is let in, and nothing else does.
pub(super) fn refuse_other_users(s: &Settings) -> Outcome {
    let users = (s.users.value.is_some(), "users", &s.users.origin);
    let remote = (
        s.hub_password_file.value.is_some(),
        "hub_password_file",
        &s.hub_password_file.origin,
    );
    let open = (
        s.open_to_everyone.value,
        "open_to_everyone",
        &s.open_to_everyone.origin,
    );
    for (given, key, origin) in [users, open, remote] {
        if given {
            return Err(Failure::usage(format_args!(
                "{key} ({origin}) means nothing to the broker of a hub, which decides itself who is let in"
            )));
        }
    }
    Ok(())
}

/// Who guards the broker of this process.
pub(super) enum Guarding {
    /// What the settings say.
    Settings,
    /// The hub of this process.
    Hub(Box<Guarded>),
    /// Hubs elsewhere.
    Remote(Box<RemoteHub>),
}

/// A hub that runs and guards a broker.
pub(super) struct Guarded {
    pub(super) hub: hub::Embedded,
    door: hub::Door,
    pub(super) mode: Mode,
    /// Whether it answers on the broker.
    joins: bool,
    /// Where the broker listens.
    urls: Vec<String>,
}

impl Guarded {
    /// Has the hub answer on the broker.
    async fn join(
        self,
        inside: &Inside,
        broker: &Handle,
        shards: &Shards,
        stop: CancellationToken,
    ) -> Result<hub::Embedded, Failure> {
        let mut hub = self.hub;
        if self.joins {
            let shards = shards.handles();
            let shard = shards.first().context("there is no thread for the hub")?;
            let name = concat!("dialtone-hub/", env!("CARGO_PKG_VERSION"));
            let dial = inside.dial(broker.clone(), name, shard, stop).await?;
            hub.join(hub::Join {
                dial,
                by_password: false,
                brokers: self.urls,
            });
        }
        Ok(hub)
    }
}

impl Guarding {
    /// Starts the hub, if there is one, and puts it in the place of `provider`.
    pub(super) async fn start(
        guard: Option<Guard>,
        settings: &Settings,
        provider: &mut Arc<dyn Authenticate>,
        signals: &mut Signals,
    ) -> Result<Self, Failure> {
        let password = settings.system_password.value.as_ref();
        let Some(guard) = guard else {
            let Some(path) = &settings.hub_password_file.value else {
                return Ok(Self::Settings);
            };
            let names = hub::cookie_names(&Environment)?;
            let remote = RemoteHub::new(path, names, tokio::runtime::Handle::current());
            let remote = remote.map_err(|error| Failure::new(Exit::Usage, error))?;
            *provider = with_system(password, Arc::new(remote.clone()));
            return Ok(Self::Remote(Box::new(remote)));
        };
        let services = guard.plan.services;
        let (mode, joins) = (guard.plan.mode, services.api || services.proxy);
        let hub = hub::Embedded::start(guard.plan, signals).await?;
        // Those of the settings know the system's password already.
        let others = (!guard.alone).then(|| Arc::clone(provider));
        let password = password.filter(|_| guard.alone);
        let door = hub.door(others);
        *provider = with_system(password, Arc::new(door.clone()));
        Ok(Self::Hub(Box::new(Guarded {
            hub,
            door,
            mode,
            joins,
            urls: Vec::new(),
        })))
    }

    /// From here on the broker hears whose rights have changed.
    pub(super) fn guard(&self, broker: &Handle) {
        if let Self::Hub(guarded) = self {
            guarded.hub.guard(guarded.door.clone(), broker.clone());
        }
    }

    /// Where the broker listens, for projects and for who comes by the hub's address.
    pub(super) fn reached_at(&mut self, urls: &[String]) {
        if let Self::Hub(guarded) = self {
            urls.clone_into(&mut guarded.urls);
        }
    }

    /// The hub of this process.
    pub(super) fn hub(&self) -> Option<&Guarded> {
        match self {
            Self::Hub(guarded) => Some(guarded),
            Self::Settings | Self::Remote(_) => None,
        }
    }

    /// How many connections of the broker are its own.
    pub(super) fn connections(&self) -> u64 {
        match self {
            Self::Settings => 0,
            Self::Hub(guarded) => u64::from(guarded.joins),
            Self::Remote(_) => 1,
        }
    }

    /// Joins the broker, where it is asked or asks until `stop`.
    pub(super) async fn join(
        self,
        inside: &Inside,
        broker: &Handle,
        shards: &Shards,
        stop: CancellationToken,
    ) -> Result<Option<hub::Embedded>, Failure> {
        match self {
            Self::Settings => Ok(None),
            Self::Hub(guarded) => guarded.join(inside, broker, shards, stop).await.map(Some),
            Self::Remote(remote) => {
                let shards = shards.handles();
                let shard = shards.first().context("there is no thread to ask hubs")?;
                let name = concat!("dialtone-gate/", env!("CARGO_PKG_VERSION"));
                let dial = inside.dial(broker.clone(), name, shard, stop.clone());
                remote.join(dial.await?, broker.clone(), stop).await?;
                Ok(None)
            }
        }
    }
}

/// Lets in whoever has the system's password, if there is one.
fn with_system(password: Option<&String>, others: Arc<dyn Authenticate>) -> Arc<dyn Authenticate> {
    match password {
        Some(password) => Arc::new(SystemPassword::new(password, others)),
        None => others,
    }
}

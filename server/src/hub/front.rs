//! The one address of a site: projects, a broker for web sockets, and the pages of the hub.
//!
//! It is the proxy, on a thread of its own, in front of the hub's own web server, which listens where only this machine
//! reaches it. Who may pass and where projects are is asked of the hub, on the hub's thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_client::Client;
use dialtone_hub::caller::Caller;
use dialtone_hub::control::Control;
use dialtone_hub::gate::{Gate, Keeper as _};
use dialtone_hub::permission::Affected;
use dialtone_proxy::{Config, Handle, Listen, Proxy, Services, Whose};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::Plan;
use crate::exit::Failure;
use crate::shards;

mod access;
use access::SiteAccess;

mod files;
use files::SiteFiles;

mod targets;
use targets::SiteTargets;

/// How long requests may go on when the site ends.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Most changes of rights that wait to be passed on; when there are more, everybody is asked about again.
const CHANGES_MAX: usize = 1024;

/// What the front asks.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) gate: Gate,
    /// The runtime of the hub, on which it is asked.
    pub(super) runtime: Runtime,
    pub(super) control: Arc<dyn Control>,
    /// The hub's connection to the broker, while there is one.
    pub(super) client: watch::Receiver<Option<Client>>,
}

/// It listens, and does not yet answer.
#[derive(Debug)]
pub(super) struct Front {
    proxy: Proxy,
    addr: SocketAddr,
    asked: Asked,
}

/// It answers.
#[derive(Debug)]
pub(super) struct Running {
    handle: Handle,
    stop: CancellationToken,
    ended: CancellationToken,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Front {
    /// Listens at `listen`; `pages` is where the hub's own web server is.
    pub(super) fn bind(
        listen: SocketAddr,
        pages: SocketAddr,
        plan: &Plan,
        asked: Asked,
    ) -> Result<Self, Failure> {
        let config = Config {
            listen: vec![Listen {
                addr: listen,
                tls: None,
            }],
            base: plan.base_path.clone(),
            pages: Some(pages),
            // A proxy of this machine in front says who asks.
            trust_local: true,
            // Within what the process has for its whole end; web sockets end when they are cut.
            drain_grace: DRAIN_GRACE,
            names: dialtone_proxy::headers::request::Names {
                cookies: plan.names.all(),
                ..dialtone_proxy::headers::request::Names::default()
            },
            sign_in: Some(format!("{}/auth/sign-in", plan.base_path)),
            ..Config::default()
        };
        let services = Services {
            access: Arc::new(SiteAccess::new(asked.gate.clone(), asked.runtime.clone())),
            targets: Arc::new(SiteTargets::new(asked.clone())),
            files: Arc::new(SiteFiles::new(asked.clone())),
            log: None,
        };
        let proxy = Proxy::bind(config, services)
            .map_err(|error| Failure::from(anyhow::Error::from(error)).hint(plan.address_hint))?;
        let addr = proxy.local_addrs().first().copied().unwrap_or(listen);
        Ok(Self { proxy, addr, asked })
    }

    /// Where it listens, with the real port.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers from here on, on a thread of its own.
    pub(super) fn start(self) -> anyhow::Result<Running> {
        let Self { proxy, asked, .. } = self;
        let handle = proxy.handle();
        let stop = CancellationToken::new();
        let runtime = shards::current_thread().context("cannot start the runtime of the proxy")?;
        let ending = stop.clone();
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let following = follow(handle.clone(), asked, stop.clone());
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                let _guard = guard;
                let outcome = runtime
                    .block_on(async { tokio::join!(proxy.run(ending.clone()), following).0 });
                runtime.shutdown_background();
                outcome.context("the proxy cannot go on")
            });
        let thread = thread.context("cannot start a thread for the proxy")?;
        Ok(Running {
            handle,
            stop,
            ended,
            thread,
        })
    }
}

impl Running {
    /// Is there when it has ended, for whatever reason.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// For who tells it where brokers are.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends in good order, and waits for it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_panic| anyhow::anyhow!("the proxy panicked"))?
    }
}

/// Tells the proxy what changes: whose rights, and where projects are.
async fn follow(proxy: Handle, asked: Asked, stop: CancellationToken) {
    let (changes, rights) = broadcast::channel(CHANGES_MAX);
    let told = move |affected: Affected| {
        // Nobody listens any more when the proxy has ended.
        drop(changes.send(whose(affected)));
    };
    let gate = asked.gate.clone();
    let following = stop.clone();
    let telling = asked
        .runtime
        .spawn(async move { gate.follow(Box::new(told), following).await });
    let events = asked.control.events();
    tokio::join!(
        stop.run_until_cancelled(pass_on_rights(&proxy, rights)),
        stop.run_until_cancelled(pass_on_places(&proxy, events)),
    );
    telling.abort();
}

async fn pass_on_rights(proxy: &Handle, mut rights: broadcast::Receiver<Whose>) {
    while let Some(whose) = next(&mut rights).await {
        proxy.access_changed(whose.unwrap_or(Whose::All)).await;
    }
}

async fn pass_on_places(
    proxy: &Handle,
    mut events: broadcast::Receiver<dialtone_hub::control::Event>,
) {
    while let Some(event) = next(&mut events).await {
        proxy.target_changed(event.and_then(|event| proxy_id(event.project_id)));
    }
}

/// What comes next; nothing in it if some were missed.
async fn next<T: Clone>(from: &mut broadcast::Receiver<T>) -> Option<Option<T>> {
    match from.recv().await {
        Ok(value) => Some(Some(value)),
        Err(broadcast::error::RecvError::Lagged(_)) => Some(None),
        Err(broadcast::error::RecvError::Closed) => None,
    }
}

fn whose(affected: Affected) -> Whose {
    match affected {
        Affected::One(caller) => Whose::Identity(identity(caller)),
        Affected::All => Whose::All,
    }
}

/// What somebody is called in the access log, and by which access ends.
fn identity(caller: Caller) -> Arc<str> {
    caller.to_string().into()
}

/// The same project for the proxy.
fn proxy_id(id: dialtone_hub::id::ProjectId) -> Option<dialtone_proxy::ProjectId> {
    id.to_string().parse().ok()
}

/// The same project for the hub. Both are numbers of the same form.
fn hub_id(id: dialtone_proxy::ProjectId) -> Option<dialtone_hub::id::ProjectId> {
    id.to_string().parse().ok()
}

/// The broker that projects are told of: one that speaks clear text, since they are on this machine or in its network.
pub(super) fn for_projects(urls: &[String]) -> Option<String> {
    let plain = urls.iter().find(|url| url.starts_with("ws://"));
    let url = plain.or_else(|| urls.first())?;
    Some(
        url.replace("//0.0.0.0:", "//127.0.0.1:")
            .replace("//[::]:", "//[::1]:"),
    )
}

/// The brokers to which web sockets go: those that speak to existing clients, else those of native ones.
pub(super) fn for_browsers(urls: &[String]) -> Vec<SocketAddr> {
    let with = |scheme: &str| -> Vec<SocketAddr> {
        urls.iter()
            .filter_map(|url| {
                let rest = url.strip_prefix(scheme)?;
                let mut addr: SocketAddr = rest.split('/').next()?.parse().ok()?;
                if addr.ip().is_unspecified() {
                    addr.set_ip(match addr {
                        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                    });
                }
                Some(addr)
            })
            .collect()
    };
    let existing = with("socketio+http://");
    if existing.is_empty() {
        with("ws://")
    } else {
        existing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_found_among_addresses() {
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let native = urls(&["quic://127.0.0.1:4481", "ws://0.0.0.0:4480"]);
        assert_eq!(
            for_projects(&native).as_deref(),
            Some("ws://127.0.0.1:4480")
        );
        assert_eq!(for_browsers(&native), ["127.0.0.1:4480".parse().unwrap()]);
        let both = urls(&["ws://127.0.0.1:1", "socketio+http://[::]:2/base"]);
        assert_eq!(for_browsers(&both), ["[::1]:2".parse().unwrap()]);
        assert!(for_browsers(&urls(&["wss://127.0.0.1:1"])).is_empty());
    }
}

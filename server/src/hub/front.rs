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
use dialtone_proxy::separate::{Key, Separate};
use dialtone_proxy::{Config, Handle, Listen, Proxy, Services, Whose};
use dialtone_transport::tls::ServerTls;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::edge::Certificate;
use super::{Edge, Plan};
use crate::exit::Failure;
use crate::expiry::{self, Shown};
use crate::{certificates, shards};

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
    /// Its certificate, and what has that read again.
    certificate: Option<(ServerTls, Arc<Notify>)>,
}

/// Where it is, and where everything else is.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Where to listen.
    pub(super) listen: SocketAddr,
    /// The hub's own web server.
    pub(super) pages: SocketAddr,
    /// How browsers reach it.
    pub(super) edge: Edge,
    /// Where people find the site, if that is known before it listens.
    pub(super) site: &'a Option<String>,
    /// The site's own secret.
    pub(super) secret: &'a str,
}

impl Place<'_> {
    fn tls(&self) -> Result<Option<ServerTls>, Failure> {
        let certificate = self.edge.certificate.as_ref().map(Certificate::open);
        certificate.transpose().map_err(|error| {
            let error = anyhow::Error::from(error).context("cannot use the certificate for https");
            Failure::new(crate::exit::Exit::Usage, error)
        })
    }

    fn listen(&self, tls: Option<&ServerTls>) -> Vec<Listen> {
        let site = Listen {
            addr: self.listen,
            tls: tls.cloned(),
            https_port: None,
        };
        let port = self.site.as_deref().and_then(https_port);
        let leading = self.edge.http.map(|addr| Listen {
            addr,
            tls: None,
            https_port: Some(port.unwrap_or(0)),
        });
        std::iter::once(site).chain(leading).collect()
    }

    fn separate(&self) -> Result<Option<Separate>, Failure> {
        let Some(hosts) = self.edge.hosts.clone() else {
            return Ok(None);
        };
        let own = || format!("{}://{}", self.edge.scheme(), self.listen);
        let site = self.site.clone().unwrap_or_else(own);
        hosts.check_site(&site).map_err(Failure::usage)?;
        Ok(Some(Separate {
            hosts,
            site,
            key: Key::of(self.secret),
        }))
    }
}

/// The port of a site that is reached by https.
fn https_port(site: &str) -> Option<u16> {
    let host = site.strip_prefix("https://")?;
    let port = host.rsplit_once(':').map(|(_, port)| port.parse().ok());
    port.unwrap_or(Some(443))
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
    /// Listens there.
    pub(super) fn bind(place: &Place<'_>, plan: &Plan, asked: Asked) -> Result<Self, Failure> {
        let Edge { hsts, reload, .. } = place.edge.clone();
        let tls = place.tls()?;
        let config = Config {
            listen: place.listen(tls.as_ref()),
            pages: Some(place.pages),
            base: plan.base_path.clone(),
            separate: place.separate()?,
            hsts,
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
        let addr = proxy.local_addrs().first().copied();
        let addr = addr.unwrap_or(place.listen);
        let certificate = tls.map(|tls| (tls, reload));
        Ok(Self {
            proxy,
            addr,
            asked,
            certificate,
        })
    }

    /// Where it listens, with the real port.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers from here on, on a thread of its own.
    pub(super) fn start(self) -> anyhow::Result<Running> {
        let Self {
            proxy,
            asked,
            certificate,
            ..
        } = self;
        let handle = proxy.handle();
        let stop = CancellationToken::new();
        let runtime = shards::current_thread().context("cannot start the runtime of the proxy")?;
        let ending = stop.clone();
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let following = follow(handle.clone(), asked, stop.clone());
        let renewed = renewed(certificate, stop.clone());
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                let _guard = guard;
                let outcome = runtime.block_on(async {
                    tokio::join!(proxy.run(ending.clone()), following, renewed).0
                });
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

/// Looks after the certificate, if there is one.
async fn renewed(certificate: Option<(ServerTls, Arc<Notify>)>, stop: CancellationToken) {
    if let Some((tls, asked)) = certificate {
        let expiring = expiry::watch(&tls, Shown::Browsers, &stop);
        tokio::join!(certificates::follow(&tls, &asked, &stop), expiring);
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

//! What a hub of this process is made of, before anything of it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use dialtone_client::Client;
use dialtone_control::service::Projects;
use dialtone_hub::api::{Api, Bounds, Jupyter};
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::auth::token;
use dialtone_hub::control::{Control, NotConfigured};
use dialtone_hub::entry::Entry;
use dialtone_hub::entry::first_admin::Invitation;
use dialtone_hub::functions::{self, Extras, Parts};
use dialtone_hub::gate::Gate;
use dialtone_hub::health::Health;
use dialtone_hub::identity::HUB_PASSWORD;
use dialtone_hub::kernels::SiteGateways;
use dialtone_hub::line::Line;
use dialtone_hub::models::Models;
use dialtone_hub::query::{FeedBounds, Feeds};
use dialtone_hub::settings::Live;
use dialtone_hub::sso::Sso;
use dialtone_hub::store::{self, Store};
use dialtone_hub::web::{EntryPages, FIRST_ADMIN_PREFIX, FirstAdminPages, SsoPages};
use dialtone_hub::{Hub, joined, settings};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::embedded::Facts;
use super::front::{self, Front};
use super::projects::Controlled;
use super::{Plan, Services};
use crate::args::Mode;
use crate::config::Environment;
use crate::exit::Failure;

/// Letters and digits of the site's own secret, when it is made up: 256 bits and more.
const PASSWORD_LEN: usize = 43;

/// What is answered on the broker.
pub(super) struct Serving {
    pub(super) store: Store,
    pub(super) services: joined::Services,
    /// Whether the functions are answered, besides what the proxy asks.
    pub(super) serves: bool,
    pub(super) controlled: Option<Controlled>,
    /// Where workers are answered, if projects are theirs to run.
    pub(super) office: Option<Arc<Projects>>,
    pub(super) settings: Live,
    pub(super) front: Option<Front>,
    /// Runs code in kernels, which end before the hub does.
    pub(super) jupyter: Jupyter,
    /// Who may use the connection to the broker.
    pub(super) clients: watch::Sender<Option<Client>>,
}

/// What the thread says when it is ready.
pub(super) struct Ready {
    pub(super) facts: Facts,
    pub(super) gate: Gate,
    pub(super) health: Arc<Health>,
    pub(super) names: Names,
    pub(super) ends: joined::Ends,
}

/// All of it.
pub(super) type Prepared = (Hub, Ready, Serving);

/// `None` if it was stopped before the database answered.
pub(super) async fn prepare(
    mut plan: Plan,
    stop: &CancellationToken,
) -> Result<Option<Prepared>, Failure> {
    let failed = crate::commands::store_failure;
    let Some((store, password)) = begin(&mut plan, stop).await? else {
        return Ok(None);
    };
    let services = plan.services;
    let (hub, listen) = bind(&store, &plan).await?;
    let handle = hub.handle();
    let live = handle.settings.clone();
    let gate = Gate::open(store.clone(), live.clone(), plan.names.clone()).await;
    let gate = gate.map_err(failed)?;
    let parts = parts(&store, &live, &gate)?;
    let controlled = control(&plan, &store, &live).await?;
    let (clients, client) = watch::channel(None);
    let asked = front::Asked {
        gate: gate.clone(),
        runtime: Handle::current(),
        control: asked_of(controlled.as_ref()),
        client: client.clone(),
    };
    let known_site = site(plan.edge.site.as_deref(), live.get().get("dns"));
    let joining = Joining::new(&parts, &asked.control, client, services);
    let (jupyter, ends) = (joining.jupyter.clone(), joining.ends.clone());
    let place = front::Place {
        listen,
        pages: hub.local_addr(),
        edge: plan.edge.clone(),
        site: &known_site,
        secret: &password,
    };
    let front = front(&plan, &place, asked)?;
    let addr = front.as_ref().map_or_else(|| hub.local_addr(), Front::addr);
    let origin = format!("{}://{addr}", plan.edge.scheme());
    let http = format!("{origin}{}", plan.base_path);
    let entry = Entry {
        store: store.clone(),
        settings: live.clone(),
        hasher: parts.hasher.clone(),
        letters: handle.letters,
        site: format!("{}{}", known_site.unwrap_or(origin), plan.base_path),
    };
    let api = Arc::new(api(&parts, &entry, joining));
    let (hub, first_admin) = with_pages(hub, &plan, entry, &gate, &api, &http).await?;
    let feeds = feeds(&store, &parts).await;
    let serving = Serving {
        services: joined::Services {
            feeds: feeds.map_err(failed)?,
            api,
            gate: gate.clone(),
            models: Arc::new(models(&parts)?),
            ends: ends.clone(),
        },
        serves: services.api,
        office: office(&plan, controlled.as_ref()),
        controlled,
        front,
        jupyter,
        clients,
        settings: live.clone(),
        store,
    };
    let ready = Ready {
        facts: facts(&serving, (http, first_admin), password),
        gate,
        health: handle.health,
        names: plan.names,
        ends,
    };
    Ok(Some((hub, ready, serving)))
}

/// The proxy, if this process runs one.
fn front(
    plan: &Plan,
    place: &front::Place<'_>,
    asked: front::Asked,
) -> Result<Option<Front>, Failure> {
    if !plan.services.proxy {
        return Ok(None);
    }
    Front::bind(place, plan, asked).map(Some)
}

fn parts(store: &Store, live: &Live, gate: &Gate) -> Result<Parts, Failure> {
    Ok(Parts {
        store: store.clone(),
        authority: Arc::clone(gate.authority()),
        settings: live.clone(),
        hasher: Hasher::new(password::Config::default()).context("cannot hash passwords")?,
    })
}

/// The database with what a new site begins with, and the site's own secret.
async fn begin(
    plan: &mut Plan,
    stop: &CancellationToken,
) -> Result<Option<(Store, String)>, Failure> {
    let failed = crate::commands::store_failure;
    let opened = Store::open_when_ready(plan.database.clone(), stop).await;
    let Some(store) = opened.map_err(failed)? else {
        return Ok(None);
    };
    let given = std::mem::take(&mut plan.settings);
    settings::set_from_environment(&store, given)
        .await
        .map_err(failed)?;
    crate::commands::begin_site(&store, plan.sso_config.take(), &Environment).await?;
    let made_up = token::random_text(PASSWORD_LEN);
    let password = settings::get_or_set(&store, HUB_PASSWORD, &made_up).await;
    let password = password.map_err(anyhow::Error::from)?;
    Ok(Some((store, password)))
}

/// The hub, listening, and where the proxy is to listen if there is one: in front of the hub, so that it says who asks.
async fn bind(store: &Store, plan: &Plan) -> Result<(Hub, SocketAddr), Failure> {
    let mut config = plan.config.clone();
    let listen = config.listen;
    if plan.services.proxy {
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    }
    let hub = Hub::bind(store.clone(), config, Vec::new()).await;
    let hub = hub.map_err(|error| not_bound(error, plan.address_hint))?;
    Ok((hub, listen))
}

/// Project control, where anything asks it.
async fn control(plan: &Plan, store: &Store, live: &Live) -> Result<Option<Controlled>, Failure> {
    let Services {
        api, web, proxy, ..
    } = plan.services;
    if !(api || web || proxy) {
        return Ok(None);
    }
    let projects = plan.projects.clone();
    let opened = projects.open(store.clone(), live.clone(), api).await?;
    Ok(Some(opened))
}

fn facts(
    serving: &Serving,
    (http, first_admin): (String, Option<String>),
    password: String,
) -> Facts {
    Facts {
        http,
        database: serving.store.location().to_string(),
        first_admin,
        password,
        broker: serving.settings.get().get("conat_server").to_owned(),
    }
}

async fn feeds(store: &Store, parts: &Parts) -> Result<Feeds<Store>, store::Error> {
    let authority = Arc::clone(&parts.authority);
    Feeds::open_on(store.clone(), authority, FeedBounds::default()).await
}

/// What answers workers, if projects are theirs to run.
fn office(plan: &Plan, controlled: Option<&Controlled>) -> Option<Arc<Projects>> {
    let wanted = plan.mode == Mode::Kucalc && plan.services.api;
    let controlled = controlled.filter(|_| wanted)?;
    Some(Arc::clone(&controlled.projects))
}

fn asked_of(controlled: Option<&Controlled>) -> Arc<dyn Control> {
    match controlled {
        Some(controlled) => Arc::<Projects>::clone(&controlled.projects),
        None => Arc::new(NotConfigured::default()),
    }
}

/// What the functions ask others for, and what they may end.
struct Joining {
    control: Arc<dyn Control>,
    line: Line,
    jupyter: Jupyter,
    ends: joined::Ends,
}

impl Joining {
    /// With kernels of the gateway that the settings name, and of projects.
    fn new(parts: &Parts, control: &Arc<dyn Control>, line: Line, services: Services) -> Self {
        let gateways = SiteGateways::new(parts.settings.clone());
        let gateways = gateways.projects(Arc::clone(control), line.clone(), String::new());
        Self {
            control: Arc::clone(control),
            line,
            jupyter: Jupyter::new(parts.store.clone(), Arc::new(gateways)),
            ends: joined::Ends::new(services.persist),
        }
    }
}

fn models(parts: &Parts) -> Result<Models<Store>, Failure> {
    let Parts {
        store,
        settings,
        authority,
        ..
    } = parts.clone();
    let models = Models::new(store, settings, authority);
    Ok(models.context("cannot make connections to language models")?)
}

/// The functions.
fn api(parts: &Parts, entry: &Entry, joining: Joining) -> Api<Store> {
    let extras = Extras {
        letters: Some(entry.letters.clone()),
        site: entry.site.clone(),
        control: Some(joining.control),
        jupyter: Some(joining.jupyter),
        line: Some(joining.line),
        services: Some(Arc::new(joining.ends)),
    };
    functions::api_with(parts.clone(), extras, Bounds::default())
}

/// The hub with pages for people, if it has some, and the link that makes the first administrator.
async fn with_pages(
    mut hub: Hub,
    plan: &Plan,
    entry: Entry,
    gate: &Gate,
    api: &Arc<Api<Store>>,
    http: &str,
) -> Result<(Hub, Option<String>), Failure> {
    if !plan.services.web {
        return Ok((hub, None));
    }
    let mut first_admin = None;
    let sso = SsoPages::new(Sso::new(entry.clone()), plan.names.clone());
    let invited = Invitation::if_needed(&entry.store);
    let invited = invited.await.map_err(crate::commands::store_failure)?;
    let pages = EntryPages::new(entry, gate.clone(), plan.names.clone());
    let mut invitation = None;
    if let Some((invited, secret)) = invited.filter(|_| plan.invites_admin) {
        first_admin = Some(format!("{http}{FIRST_ADMIN_PREFIX}{secret}"));
        let invited = Arc::new(invited);
        let page = FirstAdminPages::new(pages.clone(), Arc::clone(&invited));
        hub = hub.with_pages(Arc::new(page));
        invitation = Some(invited);
    }
    let people =
        dialtone_web::Site::new(&plan.base_path, pages.clone(), Arc::clone(api), invitation);
    hub = hub.with_pages(Arc::new(people));
    hub = hub.with_pages(Arc::new(sso));
    hub = hub.with_pages(Arc::new(pages));
    Ok((hub, first_admin))
}

fn not_bound(error: dialtone_hub::hub::Error, hint: &str) -> Failure {
    let about_address = matches!(error, dialtone_hub::hub::Error::Listen { .. });
    let failure = Failure::from(anyhow::Error::from(error));
    if about_address {
        failure.hint(hint)
    } else {
        failure
    }
}

/// Where people find the site, if that was said; else it is at the hub's address.
fn site(said: Option<&str>, dns: &str) -> Option<String> {
    let of_dns = || (!dns.is_empty()).then(|| format!("https://{dns}"));
    said.map(str::to_owned).or_else(of_dns)
}

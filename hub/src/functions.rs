//! The functions of a hub with everything that does them: the one place where handlers are put together.

use std::fmt;
use std::sync::Arc;

use crate::api::{
    Accounts, Api, Bounds, Handlers, Histories, Invitations, Jupyter, Organizations, Projects,
    Running, Services, install_files, install_logs, install_messages, install_own,
    install_purchases, install_site, install_terminate,
};
use crate::auth::password::Hasher;
use crate::control::Control;
use crate::entry::Entry;
use crate::letters::Letters;
use crate::line::Line;
use crate::permission::Authority;
use crate::query::Queries;
use crate::settings::Live;
use crate::store::Store;

/// What the functions need.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where everything is.
    pub store: Store,
    /// Who may do what; the broker's, so that it is looked up once.
    pub authority: Arc<Authority<Store>>,
    /// What the site permits.
    pub settings: Live,
    /// Hashes passwords, a bounded number at once.
    pub hasher: Hasher,
}

/// What some hubs have. Functions that need what a hub has not answer that it is not configured.
#[derive(Clone, Default)]
pub struct Extras {
    /// Sends letters.
    pub letters: Option<Letters>,
    /// Where the site is, for links: `https://example.org`, without a slash at the end.
    pub site: String,
    /// Runs projects.
    pub control: Option<Arc<dyn Control>>,
    /// Runs code in kernels.
    pub jupyter: Option<Jupyter>,
    /// The connection to the broker, over which streams are reached.
    pub line: Option<Line>,
    /// What `system.terminate` ends.
    pub services: Option<Arc<dyn Services>>,
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras")
            .field("letters", &self.letters.is_some())
            .field("site", &self.site)
            .field("control", &self.control.is_some())
            .field("jupyter", &self.jupyter.is_some())
            .field("line", &self.line.is_some())
            .field("services", &self.services.is_some())
            .finish()
    }
}

/// The functions, ready to be called. Those that need something that this hub does not have say so.
pub fn api(parts: Parts, bounds: Bounds) -> Api<Store> {
    api_with(parts, Extras::default(), bounds)
}

/// The same for a hub that has more.
pub fn api_with(parts: Parts, extras: Extras, bounds: Bounds) -> Api<Store> {
    let authority = Arc::clone(&parts.authority);
    let handlers = of_rows(&parts, &extras);
    let handlers = of_projects(parts, extras, handlers);
    Api::new(authority, handlers, bounds)
}

/// Those that need no more than the store, and letters where there are some.
fn of_rows(parts: &Parts, extras: &Extras) -> Handlers {
    let Parts {
        store,
        authority,
        settings,
        hasher,
    } = parts;
    let live = Arc::new(settings.clone());
    let letters = extras.letters.clone().unwrap_or_else(Letters::none);
    let entry = Entry {
        store: store.clone(),
        settings: settings.clone(),
        hasher: hasher.clone(),
        letters: letters.clone(),
        site: extras.site.clone(),
    };
    let queries = Queries::new(store.clone(), Arc::clone(authority));
    let accounts = Accounts::new(store.clone(), Arc::clone(authority), hasher.clone());
    let organizations = Organizations::new(store.clone(), hasher.clone(), extras.site.clone());
    let invitations = Invitations::new(
        store.clone(),
        Arc::clone(&live),
        letters,
        extras.site.clone(),
    );
    let handlers = queries.install(Handlers::new());
    let handlers = accounts.install(handlers);
    let handlers = organizations.install(handlers);
    let handlers = invitations.install(handlers);
    let handlers = install_own(&entry, handlers);
    let handlers = install_site(store.clone(), Arc::clone(&live), handlers);
    let handlers = install_logs(store, &live, handlers);
    let handlers = install_messages(store, handlers);
    install_purchases(store, handlers)
}

/// Those about projects, and those that need what only some hubs have.
fn of_projects(parts: Parts, extras: Extras, handlers: Handlers) -> Handlers {
    let Parts {
        store, settings, ..
    } = parts;
    let histories = extras.line.map(Histories::new);
    let mut handlers = install_files(&store, histories.clone(), handlers);
    if let Some(histories) = histories {
        handlers = histories.install(handlers);
    }
    let mut projects = Projects::new(store.clone(), Arc::new(settings));
    if let Some(control) = extras.control {
        projects = projects.control(Arc::clone(&control));
        handlers = Running::new(store, control).install(handlers);
    }
    if let Some(jupyter) = extras.jupyter {
        handlers = jupyter.install(handlers);
    }
    if let Some(services) = extras.services {
        handlers = install_terminate(services, handlers);
    }
    projects.install(handlers)
}

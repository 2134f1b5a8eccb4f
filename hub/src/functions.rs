//! The functions of a hub with everything that does them: the one place where handlers are put together.

use std::sync::Arc;

use crate::api::{Accounts, Api, Bounds, Handlers, Projects, install_site};
use crate::auth::password::Hasher;
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

/// The functions, ready to be called. Those that need something that this hub does not have say so.
pub fn api(parts: Parts, bounds: Bounds) -> Api<Store> {
    let Parts {
        store,
        authority,
        settings,
        hasher,
    } = parts;
    let settings = Arc::new(settings);
    let handlers = Queries::new(store.clone(), Arc::clone(&authority)).install(Handlers::new());
    let handlers = Projects::new(store.clone(), Arc::clone(&settings)).install(handlers);
    let handlers = Accounts::new(store.clone(), Arc::clone(&authority), hasher).install(handlers);
    let handlers = install_site(store, settings, handlers);
    Api::new(authority, handlers, bounds)
}

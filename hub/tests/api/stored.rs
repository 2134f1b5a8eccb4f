//! Functions on a store: one suite, run on SQLite and on a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::api::{Accounts, Api, Bounds, Error, Handlers, Projects, Request, install_site};
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::permission::{Authority, Config as Keep};
use dialtone_hub::query::Queries;
use dialtone_hub::settings::Live;
use dialtone_hub::store::{Config, Location, Store, accounts};
use dialtone_testkit::Postgres;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

mod calls;
mod feeds;
mod identities;
mod members;
mod permissions;
mod queries;

/// Longer than any test takes: what happens within it happened because somebody was told.
const NEVER: Duration = Duration::from_hours(1);

/// A hub's functions on a database of their own.
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority<Store>>,
    api: Arc<Api<Store>>,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        Self::at(Location::Sqlite { path }, folder).await
    }

    pub(crate) async fn postgres() -> Self {
        let location = Postgres::shared().database().parse().unwrap();
        Self::at(location, tempfile::tempdir().unwrap()).await
    }

    async fn at(location: Location, folder: TempDir) -> Self {
        let config = Config {
            connections_max: 4,
            poll: NEVER,
            ..Config::new(location)
        };
        let store = Store::open(config).await.unwrap();
        let (settings, _follower) = Live::open(&store).await.unwrap();
        let authority = Arc::new(Authority::new(store.clone(), Keep::default()));
        let handlers = Queries::new(store.clone(), Arc::clone(&authority)).install(Handlers::new());
        let settings = Arc::new(settings);
        let handlers = Projects::new(store.clone(), Arc::clone(&settings)).install(handlers);
        let hasher = Hasher::new(password::Config::default()).unwrap();
        let handlers =
            Accounts::new(store.clone(), Arc::clone(&authority), hasher).install(handlers);
        let handlers = install_site(store.clone(), settings, handlers);
        let api = Arc::new(Api::new(
            Arc::clone(&authority),
            handlers,
            Bounds::default(),
        ));
        Self {
            store,
            authority,
            api,
            _folder: folder,
        }
    }

    /// The functions.
    pub(crate) fn api(&self) -> Arc<Api<Store>> {
        Arc::clone(&self.api)
    }

    /// Makes an account with these groups.
    pub(crate) async fn account(&self, name: &str, groups: &[&str]) -> AccountId {
        let new = accounts::New {
            email_address: Some(format!("{name}@example.org")),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..accounts::New::named(name, "Test")
        };
        let mut on = self.store.write().await.unwrap();
        accounts::insert(&mut on, &new).await.unwrap();
        on.commit().await.unwrap();
        new.id
    }

    /// Makes a project with a call.
    pub(crate) async fn project(&self, owner: AccountId) -> ProjectId {
        let id = self
            .call(owner, "projects.createProject", json!({"title": "Notes"}))
            .await
            .unwrap();
        serde_json::from_value(id).unwrap()
    }

    pub(crate) async fn call(
        &self,
        account: AccountId,
        name: &str,
        options: Json,
    ) -> Result<Json, Error> {
        let request: Request =
            serde_json::from_value(json!({"name": name, "args": [options]})).unwrap();
        self.api.call(Caller::Account(account), request).await
    }

    pub(crate) async fn query(&self, account: AccountId, query: Json) -> Result<Json, Error> {
        self.query_with(account, query, Json::Null).await
    }

    pub(crate) async fn query_with(
        &self,
        account: AccountId,
        query: Json,
        options: Json,
    ) -> Result<Json, Error> {
        let options = json!({"query": query, "options": options});
        self.call(account, "db.userQuery", options).await
    }

    /// Adds somebody to a project, as `by`.
    pub(crate) async fn add(
        &self,
        by: AccountId,
        project: ProjectId,
        who: AccountId,
    ) -> Result<Json, Error> {
        let done = self
            .call(
                by,
                "projects.addCollaborator",
                json!({"opts": {"project_id": project, "account_id": who}}),
            )
            .await;
        self.authority.forget(who);
        done
    }
}

/// Runs each test on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::stored::Site::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::stored::Site::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

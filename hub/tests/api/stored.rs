//! Functions on a store: one suite, run on SQLite and on a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::api::{Api, Bounds, Error, Request};
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::caller::Caller;
use dialtone_hub::control::Control;
use dialtone_hub::entry::Entry;
use dialtone_hub::functions::{Extras, Parts, api_with};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::letters::{self, Letters, Sender};
use dialtone_hub::permission::{Authority, Config as Keep};
use dialtone_hub::settings::Live;
use dialtone_hub::store::{Config, Location, Store, accounts};
use dialtone_testkit::Postgres;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

mod calls;
mod control;
mod feeds;
mod identities;
mod invitations;
mod members;
mod messages;
mod organizations;
mod permissions;
mod queries;
mod running;
mod sequences;
mod services;
mod tables;

use control::Recorded;

/// Longer than any test takes: what happens within it happened because somebody was told.
const NEVER: Duration = Duration::from_hours(1);

/// A hub's functions on a database of their own.
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority<Store>>,
    pub(crate) control: Arc<Recorded>,
    /// How people come in, beside the functions.
    pub(crate) entry: Entry,
    api: Arc<Api<Store>>,
    sender: Sender,
    location: Location,
    folder: TempDir,
}

/// Where the site says it is.
pub(crate) const SITE: &str = "https://hub.example.org";

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
        Self::with(location, folder, true).await
    }

    /// Another site that has neither project control nor letters.
    pub(crate) async fn without_extras(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = match &self.location {
            Location::Sqlite { .. } => Location::Sqlite {
                path: folder.path().join("hub.db"),
            },
            Location::Postgres { .. } => Postgres::shared().database().parse().unwrap(),
        };
        Box::pin(Self::with(location, folder, false)).await
    }

    #[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
    async fn with(location: Location, folder: TempDir, extras: bool) -> Self {
        let config = Config {
            connections_max: 4,
            poll: NEVER,
            ..Config::new(location.clone())
        };
        let store = Store::open(config).await.unwrap();
        let (settings, follower) = Live::open(&store).await.unwrap();
        tokio::spawn({
            let settings = settings.clone();
            async move { settings.follow(follower, CancellationToken::new()).await }
        });
        let authority = Arc::new(Authority::new(store.clone(), Keep::default()));
        let hasher = Hasher::new(password::Config::default()).unwrap();
        let letters = Letters::new(settings.clone(), Some(folder.path().join("letters")));
        let sender = Sender::new(store.clone(), letters.clone(), letters::Config::default());
        let entry = Entry {
            store: store.clone(),
            settings: settings.clone(),
            hasher: hasher.clone(),
            letters: if extras { letters } else { Letters::none() },
            site: SITE.to_owned(),
        };
        let control = Arc::new(Recorded::default());
        let parts = Parts {
            store: store.clone(),
            authority: Arc::clone(&authority),
            settings,
            hasher,
        };
        let extras = Extras {
            letters: Some(entry.letters.clone()),
            site: SITE.to_owned(),
            control: extras.then(|| Arc::clone(&control) as Arc<dyn Control>),
            ..Extras::default()
        };
        Self {
            store,
            authority,
            control,
            entry,
            api: Arc::new(api_with(parts, extras, Bounds::default())),
            sender,
            location,
            folder,
        }
    }

    /// The letters that were sent until now.
    pub(crate) async fn letters(&self) -> Vec<String> {
        while self.sender.round().await.unwrap() > 0 {}
        let Ok(folder) = std::fs::read_dir(self.folder.path().join("letters")) else {
            return Vec::new();
        };
        let mut letters: Vec<String> = folder
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        letters.sort();
        letters
    }

    /// Sets a setting, and waits until this hub has heard of it.
    pub(crate) async fn set(&self, name: &str, value: &str) {
        dialtone_hub::settings::set(&self.store, name, value)
            .await
            .unwrap();
        while self.entry.settings.get().get(name) != value {
            tokio::task::yield_now().await;
        }
    }

    /// Where the file of the database is, if it is one.
    pub(crate) fn file(&self) -> Option<&std::path::Path> {
        match &self.location {
            Location::Sqlite { path } => Some(path),
            Location::Postgres { .. } => None,
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

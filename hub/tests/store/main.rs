//! What the store does: one suite, run on SQLite and on a real PostgreSQL.
//!
//! A test is an `async fn` that takes a [`Site`]; `on_both!` runs it on each.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a step that fails is a test that fails, and the tasks of a test end with it"
)]

use std::time::Duration;

use dialtone_hub::store::{Config, Error, Location, Store};
use dialtone_testkit::Postgres;
use tempfile::TempDir;

mod accounts;
mod bookmarks;
mod copy;
mod ends;
mod entry;
mod failures;
mod leases;
mod letters;
mod outbox;
mod projects;
mod reached;
mod schema;
mod services;
mod settings;
mod several;
mod sso;
mod tokens;

/// Longer than any test takes: what happens within it happened because somebody was told.
pub(crate) const NEVER: Duration = Duration::from_hours(1);

/// A database under test, which any number of hubs may open.
pub(crate) struct Site {
    pub(crate) location: Location,
    _folder: TempDir,
}

impl Site {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        Self {
            location: Location::Sqlite { path },
            _folder: folder,
        }
    }

    pub(crate) fn postgres() -> Self {
        Self::postgres_at(Postgres::shared())
    }

    pub(crate) fn postgres_at(server: &Postgres) -> Self {
        Self {
            location: server.database().parse().unwrap(),
            _folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            connections_max: 4,
            poll: NEVER,
            ..Config::new(self.location.clone())
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(self.config()).await.unwrap()
    }

    /// Runs a statement beside the hub, as an administrator would, and returns the first column of its rows.
    pub(crate) async fn beside(&self, statement: &'static str) -> Vec<String> {
        match &self.location {
            Location::Postgres { url, .. } => {
                let statement = format!("SET search_path = dialtone_hub; {statement}");
                let output = Postgres::shared().run_at(url, &statement);
                output.lines().map(ToOwned::to_owned).collect()
            }
            Location::Sqlite { path } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
                let rows = sqlx::query_scalar(statement)
                    .fetch_all(&pool)
                    .await
                    .unwrap();
                pool.close().await;
                rows
            }
        }
    }
}

/// Runs each test on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                Box::pin(super::$test(crate::Site::sqlite())).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                Box::pin(super::$test(crate::Site::postgres())).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// The error that somebody must do something about.
#[track_caller]
pub(crate) fn unusable(result: Result<Store, Error>) -> String {
    match result {
        Err(Error::Unusable(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

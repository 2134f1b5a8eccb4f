//! What every backend does: one suite, run on each of them.
//!
//! The core decides random histories, the backend stores them, and what it gives back is compared with the core and
//! with the payloads that were written. To add a backend: a variant of `Kind`, and one line in `on_every_backend!`.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Config, Durability};
use dialtone_persist::backend::log::{Config as LogConfig, Log};
use dialtone_persist::backend::memory::Memory;
use dialtone_persist::backend::postgres::{Config as PostgresConfig, PostgresBackend};
use dialtone_persist::backend::{Backend, Error, StreamId};
use dialtone_persist::core::commit::{Commit, Meta};
use dialtone_persist::disk::Folder;
use dialtone_testkit::Postgres;
use tempfile::TempDir;
use tokio::sync::oneshot;

mod contract;
mod history;

/// A backend under test, which can be closed and opened again with what it kept.
pub(crate) struct Fixture {
    pub(crate) backend: Arc<dyn Backend>,
    kind: Kept,
}

/// What is kept while a backend is closed.
enum Kept {
    Memory(Arc<Memory>),
    Postgres { url: String },
    Log(TempDir),
}

/// Which backend is under test.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Postgres,
    Log,
}

/// Segments are small, so that there are several.
fn open_log(folder: &TempDir) -> Arc<dyn Backend> {
    let config = LogConfig {
        segment_len_max: 16 << 10,
        ..LogConfig::default()
    };
    let disk = Folder::open(folder.path()).unwrap();
    Arc::new(Log::open(Arc::new(disk), config).unwrap())
}

impl Fixture {
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Memory => {
                let memory = Arc::new(Memory::new());
                Self {
                    backend: Arc::<Memory>::clone(&memory),
                    kind: Kept::Memory(memory),
                }
            }
            Kind::Postgres => {
                let url = Postgres::shared().database();
                Self {
                    backend: open_postgres(&url).await,
                    kind: Kept::Postgres { url },
                }
            }
            Kind::Log => {
                let folder = tempfile::tempdir().unwrap();
                Self {
                    backend: open_log(&folder),
                    kind: Kept::Log(folder),
                }
            }
        }
    }

    /// How many random histories are tried; a database answers in milliseconds instead of microseconds.
    pub(crate) fn histories(&self) -> u64 {
        match self.kind {
            Kept::Memory(_) | Kept::Log(_) => 8,
            Kept::Postgres { .. } => 2,
        }
    }

    /// Whether what it keeps outlives the process.
    pub(crate) fn is_durable(&self) -> bool {
        !matches!(self.kind, Kept::Memory(_))
    }

    /// Closes it in good order and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.backend.close().await.unwrap();
        match &self.kind {
            Kept::Memory(memory) => memory.reopen(),
            Kept::Postgres { url } => self.backend = open_postgres(url).await,
            Kept::Log(folder) => {
                // The folder is let go of first.
                self.backend = Arc::new(Memory::new());
                self.backend = open_log(folder);
            }
        }
    }

    pub(crate) async fn create(&self, stream: &str, config: Config) -> (StreamId, Meta) {
        let meta = Meta {
            epoch: 7,
            created: 1_000,
            restoring: false,
            config,
        };
        (
            self.backend.create(&name(stream), &meta).await.unwrap(),
            meta,
        )
    }

    pub(crate) async fn commit(
        &self,
        stream: StreamId,
        commit: Commit,
    ) -> Result<Durability, Error> {
        let (done, waiting) = oneshot::channel();
        let done = Box::new(move |result| {
            // The test may have given up.
            drop(done.send(result));
        });
        self.backend.commit(stream, commit, done);
        waiting.await.unwrap()
    }
}

async fn open_postgres(url: &str) -> Arc<dyn Backend> {
    let config = PostgresConfig {
        url: url.to_owned(),
        ..PostgresConfig::default()
    };
    Arc::new(PostgresBackend::open(config).await.unwrap())
}

pub(crate) fn name(stream: &str) -> StreamName {
    StreamName::new(stream).unwrap()
}

/// Runs a test in a runtime of its own.
pub(crate) fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Fixture) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { test(Fixture::new(kind).await).await });
}

/// One test per backend of each function.
macro_rules! on_every_backend {
    ($($module:ident :: $test:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $test() { crate::run(crate::Kind::Memory, crate::$module::$test); })+
        }
        mod postgres {
            $(#[test] fn $test() { crate::run(crate::Kind::Postgres, crate::$module::$test); })+
        }
        mod log {
            $(#[test] fn $test() { crate::run(crate::Kind::Log, crate::$module::$test); })+
        }
    };
}

on_every_backend!(
    contract::a_stream_is_made_once,
    contract::what_is_not_there_is_not_found,
    contract::streams_are_listed_in_order_and_counted,
    contract::a_deleted_stream_is_gone_for_good,
    contract::a_gap_in_the_revisions_is_refused,
    contract::a_lower_fencing_number_is_refused,
    contract::ranges_and_bytes_bound_a_read,
    contract::everything_of_a_record_is_kept,
    contract::ids_outlive_their_records,
    contract::consumers_are_kept_in_parts,
    contract::what_is_over_while_nobody_looks_is_due,
    contract::a_closed_store_refuses,
    contract::streams_do_not_mix,
    history::random_histories_are_given_back,
    history::what_is_verified_is_whole,
);

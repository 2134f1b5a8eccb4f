//! A node with everything around its service: its store, its place among other nodes, and its archive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::Client;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "archive")]
use crate::archive::{self, Archive, Archiver, Point};
use crate::backend::log::{self, Log};
use crate::backend::memory::Memory;
#[cfg(feature = "postgres")]
use crate::backend::postgres::{self, PostgresBackend, PostgresLeases};
use crate::backend::{self, Backend};
use crate::config::{Config, Extra, Store};
use crate::disk::{self, Folder};
use crate::placement::{Fixed, Keeper, KeeperConfig, run_leased};
use crate::service::{BindError, Handle, Persist};

/// How long the last pass of the archive may take when a node stops.
const LAST_PASS_MAX: Duration = Duration::from_mins(1);

/// Where a node keeps its streams, and who else does.
#[derive(Debug, Clone)]
pub enum Keep {
    /// In memory alone.
    Memory,
    /// In a log in a folder. A stream stays on its node.
    Log(Box<KeepLog>),
    /// In PostgreSQL, which all nodes share: each stream is served by one of those that are there.
    #[cfg(feature = "postgres")]
    Postgres {
        /// The database.
        config: postgres::Config,
        /// How long a node is missed for before others take its streams.
        lease: Duration,
    },
}

/// A log in a folder.
#[derive(Debug, Clone)]
pub struct KeepLog {
    /// The folder, which one process uses at a time.
    pub folder: PathBuf,
    /// How the log is kept.
    pub config: log::Config,
    /// The names of all nodes, this one among them, where there are several; otherwise empty.
    pub nodes: Vec<String>,
    /// Where the log is copied to.
    #[cfg(feature = "archive")]
    pub archive: Option<Archiving>,
}

impl KeepLog {
    /// A log of a node by itself, without an archive.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            config: log::Config::default(),
            nodes: Vec::new(),
            #[cfg(feature = "archive")]
            archive: None,
        }
    }
}

/// Where and how a log is archived.
#[cfg(feature = "archive")]
#[derive(Debug, Clone)]
pub struct Archiving {
    /// Where.
    pub location: archive::Location,
    /// How.
    pub config: archive::Config,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The folder cannot be used.
    #[error("failed to open the folder of the log")]
    Folder(#[from] disk::OpenError),
    /// The store cannot be opened.
    #[error("failed to open the store")]
    Store(#[from] backend::Error),
    /// The node is not among those that are named.
    #[error("this node is {node}, and the nodes are {}: a node is one of them", nodes.join(", "))]
    Stranger {
        /// Its name.
        node: String,
        /// The others.
        nodes: Vec<String>,
    },
    /// The archive cannot be used.
    #[cfg(feature = "archive")]
    #[error("failed to open the archive")]
    Archive(#[from] archive::OpenError),
    /// The folder is empty and the archive has a log, which cannot be restored.
    #[cfg(feature = "archive")]
    #[error("failed to restore the log from its archive")]
    Restore(#[from] archive::RestoreError),
    /// The service cannot begin.
    #[error("failed to start the service")]
    Bind(#[from] BindError),
    /// A thread of ours has ended early.
    #[error("a thread has ended early")]
    Thread(#[from] tokio::task::JoinError),
}

/// A node that has not begun to answer.
#[derive(Debug)]
pub struct Node {
    persist: Persist,
    keeper: Option<Keeper>,
    #[cfg(feature = "archive")]
    archiver: Option<Archiver<Log>>,
}

impl Node {
    /// Opens the store and subscribes. With an archive and an empty folder, the log is restored first.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn bind(mut config: Config, keep: Keep, client: Client) -> Result<Self, NodeError> {
        let mut parts = Parts::default();
        let store = parts.open(&mut config, keep).await?;
        config.store = Store::Open(store);
        let persist = Persist::bind(config, client).await?;
        Ok(Self {
            persist,
            keeper: parts.keeper,
            #[cfg(feature = "archive")]
            archiver: parts.archiver,
        })
    }

    /// A handle for other parts of the program.
    pub fn handle(&self) -> Handle {
        self.persist.handle()
    }

    /// Answers requests until `stop`; then the node finishes what it was asked, hands its streams over, and archives
    /// what it has stored.
    ///
    /// # Errors
    /// When the store cannot be closed in good order.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), backend::Error> {
        let ended = CancellationToken::new();
        let (persist, keeper) = (self.persist, self.keeper);
        let serve = async {
            let result = match keeper {
                Some(keeper) => run_leased(persist, keeper, stop).await,
                None => persist.run(stop).await,
            };
            ended.cancel();
            result
        };
        #[cfg(feature = "archive")]
        let archive = async {
            if let Some(archiver) = self.archiver {
                run_archiver(archiver, &ended).await;
            }
        };
        #[cfg(not(feature = "archive"))]
        let archive = async {};
        let (result, ()) = tokio::join!(serve, archive);
        result
    }
}

#[cfg(feature = "archive")]
async fn run_archiver(archiver: Archiver<Log>, ended: &CancellationToken) {
    let last = async {
        ended.cancelled().await;
        tokio::time::sleep(LAST_PASS_MAX).await;
    };
    tokio::select! {
        () = archiver.run(ended.cancelled()) => {}
        () = last => tracing::warn!("the node ends before everything was archived"),
    }
}

/// What a store brings with it.
#[derive(Default)]
struct Parts {
    keeper: Option<Keeper>,
    #[cfg(feature = "archive")]
    archiver: Option<Archiver<Log>>,
}

impl Parts {
    async fn open(
        &mut self,
        config: &mut Config,
        keep: Keep,
    ) -> Result<Arc<dyn Backend>, NodeError> {
        match keep {
            Keep::Memory => Ok(Arc::new(Memory::new())),
            #[cfg(feature = "postgres")]
            Keep::Postgres {
                config: postgres,
                lease,
            } => {
                let leases = Arc::new(PostgresLeases::open(&postgres).await?);
                let (keeper, placement) =
                    Keeper::new(leases, config.node.as_str(), KeeperConfig { lease });
                self.keeper = Some(keeper);
                config.placement = Some(Arc::new(placement));
                Ok(Arc::new(PostgresBackend::open(postgres).await?))
            }
            Keep::Log(log) => self.open_log(config, *log).await,
        }
    }

    async fn open_log(
        &mut self,
        config: &mut Config,
        keep: KeepLog,
    ) -> Result<Arc<dyn Backend>, NodeError> {
        let nodes = keep.nodes;
        if !nodes.is_empty() {
            if !nodes.contains(&config.node) {
                let node = config.node.clone();
                return Err(NodeError::Stranger { node, nodes });
            }
            config.placement = Some(Arc::new(Fixed::new(config.node.as_str(), nodes)));
        }
        let folder = keep.folder;
        let disk = Arc::new(tokio::task::spawn_blocking(|| Folder::open(folder)).await??);
        #[cfg(feature = "archive")]
        if let Some(archiving) = &keep.archive {
            restore_if_empty(&disk, archiving).await?;
        }
        let log = keep.config;
        let log = tokio::task::spawn_blocking(|| Log::open(disk, log)).await??;
        let log = Arc::new(log);
        #[cfg(feature = "archive")]
        if let Some(archiving) = &keep.archive {
            self.archive(config, &log, archiving)?;
        }
        Ok(log)
    }

    #[cfg(feature = "archive")]
    fn archive(
        &mut self,
        config: &mut Config,
        log: &Arc<Log>,
        archiving: &Archiving,
    ) -> Result<(), NodeError> {
        let archive = Archive::open(&archiving.location)?;
        let own = archive::Config {
            node: config.node.clone(),
            ..archiving.config.clone()
        };
        let archiver = Archiver::new(archive, Arc::clone(log), own);
        let status = archiver.status();
        config.extra = Extra::new(move || {
            let status = status();
            vec![
                ("archive_archived_at_ms", status.archived_at),
                ("archive_failures", status.failures),
                ("archive_generation", status.generation),
                ("archive_uploaded_bytes", status.uploaded_bytes),
                ("archive_waiting_bytes", status.waiting_bytes),
            ]
        });
        self.archiver = Some(archiver);
        Ok(())
    }
}

/// A node that lost its disk begins with what its archive has.
#[cfg(feature = "archive")]
async fn restore_if_empty(disk: &Arc<Folder>, archiving: &Archiving) -> Result<(), NodeError> {
    let archive = Archive::open(&archiving.location)?;
    let own: Arc<Folder> = Arc::clone(disk);
    // What was interrupted may have been to an earlier time.
    let point = archive::unfinished(&**disk)?.map_or(Point::Newest, Point::Generation);
    let progress = told_progress();
    match archive::restore(&archive, own, point, progress).await {
        Ok(restored) => {
            tracing::warn!(
                generation = restored.generation,
                bytes = restored.bytes,
                "the folder of the log was empty: what the archive had was restored"
            );
            Ok(())
        }
        // The node has its log, or never had one.
        Err(archive::RestoreError::NotEmpty(_)) => Ok(()),
        Err(archive::RestoreError::Nothing) if point == Point::Newest => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Logs how far restoring is, a few times.
#[cfg(feature = "archive")]
fn told_progress() -> impl FnMut(u64, u64) {
    let mut tenth = 0;
    move |done, all| {
        let now = (done * 10).checked_div(all).unwrap_or(10);
        if now > tenth {
            tenth = now;
            tracing::info!(bytes = done, of = all, "restoring the log from its archive");
        }
    }
}

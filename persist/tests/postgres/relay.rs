//! A network between us and PostgreSQL that breaks when a transaction is asked to commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dialtone_testkit::Postgres;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What happens to the next connection that asks to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    No,
    /// PostgreSQL never hears of it.
    Before,
    /// PostgreSQL commits, and its answer is lost.
    After,
}

pub(crate) struct Relay {
    folder: TempDir,
    cut: Arc<AtomicU8>,
}

impl Relay {
    pub(crate) fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = PathBuf::from(url.split_once("host=").unwrap().1).join(".s.PGSQL.5432");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let cut = Arc::new(AtomicU8::new(0));
        let own = Arc::clone(&cut);
        drop(tokio::task::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                drop(tokio::task::spawn(pass(
                    client,
                    target.clone(),
                    Arc::clone(&own),
                )));
            }
        }));
        Self { folder, cut }
    }

    pub(crate) fn url(&self, url: &str) -> String {
        let (address, _) = url.split_once("host=").unwrap();
        format!("{address}host={}", self.folder.path().display())
    }

    /// Cuts the next commit.
    pub(crate) fn cut_next(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::No as u8
    }
}

async fn pass(client: UnixStream, target: PathBuf, cut: Arc<AtomicU8>) {
    let Ok(server) = UnixStream::connect(target).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::task::spawn(async move {
        // Either end may be gone.
        drop(tokio::io::copy(&mut from_server, &mut to_client).await);
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
        let part = &buffer[..len];
        let commits = part.windows(7).any(|window| window == b"COMMIT\0");
        if commits {
            let how = cut.swap(Cut::No as u8, Ordering::SeqCst);
            if how != Cut::No as u8 {
                answers.abort();
                // The answer cannot get through from here on.
                assert!(answers.await.is_err());
                if how == Cut::After as u8 {
                    to_server.write_all(part).await.unwrap();
                }
                return;
            }
        }
        if to_server.write_all(part).await.is_err() {
            return;
        }
    }
    answers.abort();
}

/// A relay in front of a new database.
pub(crate) fn to_new_database() -> (Relay, String) {
    let url = Postgres::shared().database();
    (Relay::new(&url), url)
}

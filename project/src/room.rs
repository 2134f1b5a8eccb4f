//! How much room the project's files take, and what is refused when that is more than they may.
//!
//! Where the file system does not hold a project to its quota, the files are measured now and then, and what is written
//! through this program counts at once. Programs of the project still write what they like: this is a bound for files
//! that are put there from outside, and a word to people, not a wall.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Code, Error};

/// Between measurements that nobody asks for.
const INTERVAL: Duration = Duration::from_mins(2);

/// So many times as long as it takes, it is not measured: a large home must not keep its disk busy.
const SHARE: u32 = 20;

/// Files with several names that are remembered, so that they count once.
const LINKED_MAX: usize = 1 << 20;

/// Bytes of a block in which the system counts.
const BLOCK: u64 = 512;

/// Nothing was measured yet.
const UNKNOWN: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes that files may take; `None` for any.
    limit: Option<u64>,
    used: AtomicU64,
    again: Notify,
}

impl Room {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self {
            limit,
            used: AtomicU64::new(UNKNOWN),
            again: Notify::new(),
        }
    }

    /// Counts bytes that are about to be written, unless there is no room for them.
    pub(crate) fn take(&self, len: u64) -> Result<(), Error> {
        let (Some(limit), used) = (self.limit, self.used.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        if used == UNKNOWN {
            return Ok(());
        }
        if used.saturating_add(len) > limit {
            self.again.notify_one();
            let (used, limit) = (used.div_ceil(1_000_000), limit / 1_000_000);
            let text = format!(
                "the project's files take {used} MB of the {limit} MB that they may: delete some, or ask for more room"
            );
            return Err(Error::new(Code::DiskQuota, text));
        }
        self.used.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Files have been deleted: it is worth a look.
    pub(crate) fn freed(&self) {
        self.again.notify_one();
    }

    /// In bytes, what is known.
    pub(crate) fn to_json(&self) -> Json {
        let used = self.used.load(Ordering::Relaxed);
        json!({"limit": self.limit, "used": (used != UNKNOWN).then_some(used)})
    }

    /// Measures again and again, for ever, with pauses of at least this length. Without a limit, never.
    #[expect(
        clippy::infinite_loop,
        reason = "whoever runs it drops it when the daemon ends"
    )]
    pub(crate) async fn follow(self: Arc<Self>, root: Arc<Path>, pause: Duration) {
        if self.limit.is_none() {
            return std::future::pending().await;
        }
        loop {
            let begun = Instant::now();
            let (this, root) = (Arc::clone(&self), Arc::clone(&root));
            let measured = tokio::task::spawn_blocking(move || {
                let used = measure(&root);
                this.used.store(used, Ordering::Relaxed);
                used
            });
            match measured.await {
                Ok(used) if self.limit.is_some_and(|limit| used > limit) => tracing::warn!(
                    used,
                    limit = self.limit,
                    "the project's files take more room than they may"
                ),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the project's files cannot be measured"),
            }
            let rest = begun.elapsed() * SHARE;
            tokio::time::sleep(rest.max(pause)).await;
            // Asked for, when something was refused or deleted, or late enough.
            drop(tokio::time::timeout(INTERVAL, self.again.notified()).await);
        }
    }
}

/// Bytes on the disk of everything below a folder, on its file system. What cannot be looked at does not count.
fn measure(root: &Path) -> u64 {
    let Ok(about) = root.symlink_metadata() else {
        return 0;
    };
    let device = about.dev();
    let mut used = about.blocks().saturating_mul(BLOCK);
    let mut linked: HashSet<u64> = HashSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            // Of a link, the link itself.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.dev() != device {
                continue;
            }
            let again = !about.is_dir()
                && about.nlink() > 1
                && linked.len() < LINKED_MAX
                && !linked.insert(about.ino());
            if again {
                continue;
            }
            used = used.saturating_add(about.blocks().saturating_mul(BLOCK));
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    used.min(UNKNOWN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_and_for_what_they_take() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let before = measure(root);
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a"), vec![7; 1 << 20]).unwrap();
        std::fs::hard_link(root.join("sub/a"), root.join("b")).unwrap();
        std::os::unix::fs::symlink("/", root.join("c")).unwrap();
        // Nothing of it is on the disk.
        let hole = std::fs::File::create(root.join("hole")).unwrap();
        hole.set_len(1 << 40).unwrap();
        let used = measure(root) - before;
        let expected = (1 << 20)..(1 << 20) + (128 << 10);
        assert!(expected.contains(&used), "{used}");
        assert_eq!(measure(&root.join("none")), 0);
    }

    #[test]
    fn what_is_too_much_is_refused_with_both_figures() {
        let room = Room::new(Some(10_000_000));
        room.take(u64::MAX).unwrap();
        room.used.store(9_000_000, Ordering::Relaxed);
        room.take(600_000).unwrap();
        let error = room.take(600_000).unwrap_err();
        assert_eq!(error.code, Code::DiskQuota);
        assert!(error.text.contains("10 MB of the 10 MB"), "{}", error.text);
        room.take(300_000).unwrap();
        assert_eq!(
            room.to_json(),
            json!({"limit": 10_000_000, "used": 9_900_000})
        );
        let free = Room::new(None);
        free.used.store(1, Ordering::Relaxed);
        free.take(u64::MAX).unwrap();
    }
}

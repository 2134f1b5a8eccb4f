//! A log from the archive in an empty folder.

use std::io::{self, IoSlice};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::manifest::{Manifest, Part};
use super::store::{Archive, ArchiveError};
use super::upload::hex;
use crate::disk::Disk;

/// The longest part that is restored, in bytes: more than any segment has.
const PART_LEN_MAX: u64 = 8 << 30;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The generation of the manifest.
    pub generation: u64,
    /// When the log was as it is now again, in milliseconds since 1970.
    pub time: u64,
    /// How many segments.
    pub segments: usize,
    /// How many bytes.
    pub bytes: u64,
}

/// Why a log was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something already.
    #[error("the folder is not empty: it has {0}; a log is restored into an empty one")]
    NotEmpty(String),
    /// There is no manifest, or none so old.
    #[error("the archive has nothing of that time")]
    Nothing,
    /// The archive cannot be read.
    #[error("failed to read the archive")]
    Archive(#[from] ArchiveError),
    /// An object is not what was archived.
    #[error("{object} in the archive is damaged: {problem}")]
    Damaged {
        /// Which one.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder cannot be written.
    #[error("failed to write {name}")]
    Disk {
        /// Which file.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

/// Restores the log as it was at `at`, in milliseconds since 1970, or as it was last. The checksum of every segment is
/// compared. `progress` is told the bytes so far, and all of them.
///
/// Files get their names when all of them are there, so that a folder in which restoring did not end has no log, and is
/// refused as a place to restore to.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(
    archive: &Archive,
    disk: Arc<dyn Disk>,
    at: Option<u64>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    refuse_files(&*disk)?;
    let manifest = archive.latest(at).await?.ok_or(RestoreError::Nothing)?;
    let (mut done, all) = (0, manifest.bytes());
    for segment in manifest.segments.values() {
        let mut offset = 0;
        for part in &segment.parts {
            let object = archive.object(&part.object).await?;
            let (disk, name, own) = (Arc::clone(&disk), segment.name.clone(), part.clone());
            let unpacked =
                tokio::task::spawn_blocking(move || unpack(&*disk, &name, offset, &own, &object));
            unpacked.await.map_err(|error| RestoreError::Disk {
                name: segment.name.clone(),
                source: io::Error::other(error),
            })??;
            offset += part.len;
            done += part.len;
            progress(done, all);
        }
    }
    publish(&*disk, &manifest)?;
    Ok(Restored {
        generation: manifest.generation,
        time: manifest.time,
        segments: manifest.segments.len(),
        bytes: all,
    })
}

fn refuse_files(disk: &dyn Disk) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Disk {
        name: "the folder".to_owned(),
        source,
    };
    let names = disk.list().map_err(failed)?;
    match names.into_iter().find(|name| name != LOCK) {
        Some(name) => Err(RestoreError::NotEmpty(name)),
        None => Ok(()),
    }
}

/// The file that says which process uses a folder; see `docs/persist-log.md`.
const LOCK: &str = "lock";

/// What the names of files begin with until all of them are there.
const PART: &str = "restoring-";

fn unpack(
    disk: &dyn Disk,
    name: &str,
    offset: u64,
    part: &Part,
    object: &[u8],
) -> Result<(), RestoreError> {
    let damaged = |problem: String| RestoreError::Damaged {
        object: part.object.clone(),
        problem,
    };
    let len = usize::try_from(part.len.min(PART_LEN_MAX)).unwrap_or(usize::MAX);
    let bytes = zstd::bulk::decompress(object, len).map_err(|error| damaged(error.to_string()))?;
    let sha256 = hex(&Sha256::digest(&bytes));
    if sha256 != part.sha256 || bytes.len() as u64 != part.len {
        return Err(damaged(format!(
            "it has {} bytes with SHA-256 {sha256}, and should have {} with {}",
            bytes.len(),
            part.len,
            part.sha256
        )));
    }
    let failed = |source| RestoreError::Disk {
        name: name.to_owned(),
        source,
    };
    let name = format!("{PART}{name}");
    let file = if offset == 0 {
        disk.create(&name)
    } else {
        disk.open(&name)
    };
    let file = file.map_err(failed)?;
    file.write_at(&mut [IoSlice::new(&bytes)], offset)
        .map_err(failed)?;
    file.sync().map_err(failed)
}

/// Gives the files their names.
fn publish(disk: &dyn Disk, manifest: &Manifest) -> Result<(), RestoreError> {
    for segment in manifest.segments.values() {
        let failed = |source| RestoreError::Disk {
            name: segment.name.clone(),
            source,
        };
        disk.rename(&format!("{PART}{}", segment.name), &segment.name)
            .map_err(failed)?;
    }
    let failed = |source| RestoreError::Disk {
        name: "the folder".to_owned(),
        source,
    };
    disk.sync_names().map_err(failed)
}

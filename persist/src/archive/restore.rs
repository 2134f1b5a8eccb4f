//! A log from the archive in an empty folder.

use std::io::{self, IoSlice};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::manifest::Part;
use super::store::{Archive, ArchiveError};
use super::upload::hex;
use crate::backend::log::{RESTORING, segment};
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

impl RestoreError {
    fn folder(source: io::Error) -> Self {
        Self::Disk {
            name: "the folder".to_owned(),
            source,
        }
    }
}

/// Which of the states that an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The newest.
    Newest,
    /// The newest that is not newer than this, in milliseconds since 1970.
    Time(u64),
    /// The one of this generation.
    Generation(u64),
}

/// Restores the log as it was at a point. The checksum of every part is compared. `progress` is told the bytes so far,
/// and all of them.
///
/// Until all of it is there the folder has a mark, with which no log opens it. What restoring left that did not end is
/// removed first.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(
    archive: &Archive,
    disk: Arc<dyn Disk>,
    point: Point,
    mut progress: impl FnMut(u64, u64),
) -> Result<Restored, RestoreError> {
    refuse_files(&*disk)?;
    let manifest = archive.at(point).await?.ok_or(RestoreError::Nothing)?;
    clear(&*disk).map_err(RestoreError::folder)?;
    mark(&*disk, manifest.generation).map_err(RestoreError::folder)?;
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
    unmark(&*disk).map_err(RestoreError::folder)?;
    Ok(Restored {
        generation: manifest.generation,
        time: manifest.time,
        segments: manifest.segments.len(),
        bytes: all,
    })
}

/// The generation to which a folder was being restored when that was interrupted.
///
/// # Errors
/// When the folder cannot be read.
pub fn unfinished(disk: &dyn Disk) -> Result<Option<u64>, RestoreError> {
    let names = disk.list().map_err(RestoreError::folder)?;
    if !names.iter().any(|name| name == RESTORING) {
        return Ok(None);
    }
    let read = || {
        let file = disk.open(RESTORING)?;
        let mut text = [0; MARK_LEN_MAX];
        let len = file.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..len]).map_err(io::Error::other)?;
        text.trim_end().parse().map_err(io::Error::other)
    };
    let failed = |source| RestoreError::Disk {
        name: RESTORING.to_owned(),
        source,
    };
    read().map(Some).map_err(failed)
}

/// The file that says which process uses a folder; see `docs/persist-log.md`.
const LOCK: &str = "lock";

/// The name of the mark before it is whole.
const MARKING: &str = "restoring-begins";

/// More than the digits of a number and a newline.
const MARK_LEN_MAX: usize = 32;

/// Only what restoring left is no reason to refuse a folder.
fn refuse_files(disk: &dyn Disk) -> Result<(), RestoreError> {
    let names = disk.list().map_err(RestoreError::folder)?;
    let is_marked = names.iter().any(|name| name == RESTORING);
    let is_ours = |name: &str| {
        [LOCK, MARKING, RESTORING].contains(&name)
            || (is_marked && segment::parse_name(name).is_some())
    };
    match names.into_iter().find(|name| !is_ours(name)) {
        Some(name) => Err(RestoreError::NotEmpty(name)),
        None => Ok(()),
    }
}

/// Removes what restoring left, and the mark last.
fn clear(disk: &dyn Disk) -> io::Result<()> {
    let names = disk.list()?;
    for name in names
        .iter()
        .filter(|name| segment::parse_name(name).is_some() || *name == MARKING)
    {
        disk.remove(name)?;
    }
    disk.sync_names()?;
    if names.iter().any(|name| name == RESTORING) {
        disk.remove(RESTORING)?;
    }
    Ok(())
}

fn mark(disk: &dyn Disk, generation: u64) -> io::Result<()> {
    let file = disk.create(MARKING)?;
    let text = format!("{generation}\n");
    file.write_at(&mut [IoSlice::new(text.as_bytes())], 0)?;
    file.sync()?;
    disk.rename(MARKING, RESTORING)?;
    disk.sync_names()
}

fn unmark(disk: &dyn Disk) -> io::Result<()> {
    disk.sync_names()?;
    disk.remove(RESTORING)?;
    disk.sync_names()
}

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
    let file = if offset == 0 {
        disk.create(name)
    } else {
        disk.open(name)
    };
    let file = file.map_err(failed)?;
    file.write_at(&mut [IoSlice::new(&bytes)], offset)
        .map_err(failed)?;
    file.sync().map_err(failed)
}

//! A disk in memory from which the power can be taken.
//!
//! It keeps apart what a process sees (the page cache) and what would be there after a loss of
//! power, and follows the unkind reading of what the kernel promises: blocks that were not synced
//! arrive in any order or not at all, names too, and a sync that fails forgets what it should have
//! written while the page cache goes on to show it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Disk, File};

mod crash;
mod inode;

pub use crash::Crash;
use inode::Inode;

/// A disk whose contents live in this process. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct Simulated(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What goes wrong, and when. Operations are numbered from 0 in the order in which they are
/// made: creating, renaming, removing, syncing, writing and setting lengths count, reading does
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This operation fails. A write leaves its first half, a sync forgets what it should sync.
    Fails(u64),
    /// From this operation on everything fails, as if the power were gone.
    PowerOff(u64),
    /// Files hold no more than this many bytes together.
    Full(u64),
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// The names as the process sees them.
    names: BTreeMap<String, usize>,
    /// The names that survive a loss of power.
    durable_names: BTreeMap<String, usize>,
    /// What happened to names since they were synced.
    changes: Vec<NameChange>,
    operations: u64,
    syncs: u64,
    written: u64,
    faults: Vec<Fault>,
    /// Operations wait instead of being made.
    held: bool,
    /// How many of them do.
    waiting: usize,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set { name: String, inode: usize },
    Renamed { from: String, to: String },
    Removed { name: String },
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Renamed { from, to } => {
                // Without the file that it renames, which may not have survived, it does nothing.
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Removed { name } => {
                names.remove(name);
            }
        }
    }
}

/// What an operation meets.
enum Met {
    Nothing,
    Failure,
}

fn failure() -> io::Error {
    io::Error::other("simulated failure of the disk")
}

impl State {
    /// Counts an operation, and says whether it is to fail.
    fn operation(&mut self) -> io::Result<Met> {
        let number = self.operations;
        self.operations += 1;
        let off = |fault: &Fault| matches!(fault, Fault::PowerOff(from) if *from <= number);
        if self.faults.iter().any(off) {
            return Err(io::Error::other("simulated loss of power"));
        }
        if self.faults.contains(&Fault::Fails(number)) {
            return Ok(Met::Failure);
        }
        Ok(Met::Nothing)
    }

    /// An operation that does nothing when it fails.
    fn simple_operation(&mut self) -> io::Result<()> {
        match self.operation()? {
            Met::Nothing => Ok(()),
            Met::Failure => Err(failure()),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        let found = self.names.get(name).copied();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_owned()))
    }

    fn capacity(&self) -> u64 {
        let capacity = |fault: &Fault| match fault {
            Fault::Full(bytes) => Some(*bytes),
            Fault::Fails(_) | Fault::PowerOff(_) => None,
        };
        let least = self.faults.iter().filter_map(capacity).min();
        least.unwrap_or(1 << 40)
    }

    fn used(&self) -> u64 {
        let lens = self.names.values().map(|inode| self.inodes[*inode].len());
        lens.sum()
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulated {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Makes operations wait from now on.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Waits until an operation waits. It blocks.
    pub fn wait_until_held(&self) {
        let mut state = self.lock();
        while state.waiting == 0 {
            self.0.changed.wait(&mut state);
        }
    }

    /// Lets operations go on.
    pub fn release(&self) {
        self.lock().held = false;
        self.0.changed.notify_all();
    }

    /// The state once operations are not held.
    fn operating(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.held {
            state.waiting += 1;
            self.0.changed.notify_all();
            self.0.changed.wait(&mut state);
            state.waiting -= 1;
        }
        state
    }

    /// Lets something go wrong, besides what was asked for before.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Lets nothing go wrong any longer.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Operations made so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Syncs of files made so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Bytes written to files so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// Bytes that were written and not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().inodes.iter().map(Inode::unsynced).sum()
    }

    /// What a process would read of a file.
    ///
    /// # Errors
    /// When there is no file of this name.
    pub fn contents(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let inode = state.inode(name)?;
        Ok(state.inodes[inode].contents().to_vec())
    }

    /// Flips one bit of a file, on the disk and in the page cache.
    ///
    /// # Errors
    /// When there is no file of this name, or it has no such byte.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode(name)?;
        state.inodes[inode].flip(byte, 1 << (bit % 8))
    }

    /// The disk as it may be found after a loss of power. The disk itself is as it was.
    #[must_use]
    pub fn crashed(&self, crash: Crash) -> Self {
        let state = self.lock();
        let after = crash::state_after(&state, crash);
        Self(Arc::new(Shared {
            state: Mutex::new(after),
            changed: Condvar::new(),
        }))
    }
}

impl Disk for Simulated {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.operating();
        state.simple_operation()?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        let name = name.to_owned();
        state.change(NameChange::Set { name, inode });
        drop(state);
        let disk = self.clone();
        Ok(Arc::new(Open { disk, inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = self.lock().inode(name)?;
        let disk = self.clone();
        Ok(Arc::new(Open { disk, inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.operating();
        state.simple_operation()?;
        state.inode(from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        state.change(NameChange::Renamed { from, to });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.operating();
        state.simple_operation()?;
        state.inode(name)?;
        let name = name.to_owned();
        state.change(NameChange::Removed { name });
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.operating();
        state.simple_operation()?;
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity().saturating_sub(state.used()))
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
struct Open {
    disk: Simulated,
    inode: usize,
}

impl Open {
    /// Changes the length, as far as the disk has room.
    fn resize(&self, len: u64, shrink: bool) -> io::Result<()> {
        let mut state = self.disk.operating();
        state.simple_operation()?;
        let before = state.inodes[self.inode].len();
        if len <= before && !shrink {
            return Ok(());
        }
        if len.saturating_sub(before) > state.capacity().saturating_sub(state.used()) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state.inodes[self.inode].set_len(len)
    }
}

impl File for Open {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        let contents = state.inodes[self.inode].contents();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = contents.get(from..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes: Vec<u8> = Vec::new();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let mut state = self.disk.operating();
        let met = state.operation()?;
        let free = state.capacity().saturating_sub(state.used());
        let room = free + state.inodes[self.inode].len().saturating_sub(offset);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let (len, error) = match met {
            Met::Failure => (bytes.len() / 2, Some(failure())),
            Met::Nothing if room < bytes.len() => {
                (room, Some(io::Error::from(io::ErrorKind::StorageFull)))
            }
            Met::Nothing => (bytes.len(), None),
        };
        bytes.truncate(len);
        state.written += u64::try_from(len).map_err(io::Error::other)?;
        state.inodes[self.inode].write(bytes, offset)?;
        error.map_or(Ok(()), Err)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.operating();
        let met = state.operation()?;
        state.syncs += 1;
        match met {
            Met::Nothing => {
                state.inodes[self.inode].sync();
                Ok(())
            }
            Met::Failure => {
                state.inodes[self.inode].forget();
                Err(failure())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.resize(len, true)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.resize(len, false)
    }
}

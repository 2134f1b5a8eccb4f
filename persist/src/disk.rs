//! The files of a node behind a trait, so that tests can fill the disk and take the power away.
//!
//! One [`Disk`] is one folder without subfolders. What a write promises is what the kernel
//! promises: nothing until [`File::sync`] has returned, and a name is not there before
//! [`Disk::sync_names`] has returned. A sync that fails must never be tried again: the kernel has
//! thrown away what it could not write, and the next sync succeeds without it.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

mod folder;
mod simulated;

pub use folder::{Folder, OpenError};
pub use simulated::{Crash, Fault, Simulated};

/// A folder of files.
///
/// Calls block; they are made on threads that may wait.
pub trait Disk: Debug + Send + Sync + 'static {
    /// The names of all files, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file for reading and writing.
    ///
    /// # Errors
    /// When the name is taken, or the folder cannot be written.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When there is none of this name, or it may not be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in place of the one that had it before.
    ///
    /// # Errors
    /// When there is no file of the old name, or the folder cannot be written.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Those who have the file open keep what it contains.
    ///
    /// # Errors
    /// When there is no file of this name, or the folder cannot be written.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes of names survive the loss of power.
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync_names(&self) -> io::Result<()>;

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// When the file system does not say.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file.
pub trait File: Debug + Send + Sync + 'static {
    /// Bytes in the file.
    ///
    /// # Errors
    /// When the file system does not say.
    fn size(&self) -> io::Result<u64>;

    /// Reads from `offset` on and says how much: less than asked for only at the end of the file.
    ///
    /// # Errors
    /// When the disk cannot read.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `parts`, one behind the other, from `offset` on.
    ///
    /// # Errors
    /// When the disk is full or refuses. Any part may have been written then.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes what was written, and the length of the file, survive the loss of power.
    ///
    /// # Errors
    /// When the disk refuses. What was written since the last sync is in doubt for ever.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    /// When the disk is full or refuses.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes space for the first `len` bytes, so that writing them cannot fail for want of it.
    /// The file is then at least `len` bytes long; those that were not written are zero.
    ///
    /// # Errors
    /// When the disk is full or refuses.
    fn reserve(&self, len: u64) -> io::Result<()>;
}

/// Fills `into` from `offset` on.
///
/// # Errors
/// When the disk cannot read, or [`io::ErrorKind::UnexpectedEof`] when the file ends before.
pub fn read_exact_at(file: &dyn File, into: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(into, offset)? == into.len() {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

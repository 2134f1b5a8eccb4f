//! By what a process is found again, and a handle on it that no other process can slip under.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::procfs;

/// The first process of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Its number, which is that of its session as well.
    pub(super) pid: u32,
    /// When it began, in ticks after the machine did.
    pub(super) ticks: u64,
    /// The boot of the machine.
    pub(super) boot: String,
    /// Its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cgroup: Option<PathBuf>,
}

/// A process, whatever becomes of its number.
#[derive(Debug)]
pub(super) struct Process {
    fd: OwnedFd,
}

impl Place {
    /// The process, if it still lives.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(super) fn open(&self) -> io::Result<Option<Process>> {
        Process::open(self.pid, self.ticks)
    }

    /// Whether it does.
    ///
    /// # Errors
    /// With a reason for users, when it cannot be told.
    pub(super) fn lives(&self) -> Result<bool, String> {
        let opened = self.open();
        opened
            .map(|process| process.is_some())
            .map_err(|error| super::said("its process cannot be seen", &error))
    }
}

impl Process {
    /// The process with this number, if it is the one that began then.
    ///
    /// # Errors
    /// When it cannot be told, as without descriptors that are free.
    pub(super) fn open(pid: u32, ticks: u64) -> io::Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => fd,
            // There is none, or the number is that of a thread of another process by now.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // After the handle was taken: what is found now is what the handle is for, or is over.
        let found = procfs::stat(pid)?;
        Ok(found
            .filter(|stat| stat.ticks == ticks && !stat.over)
            .map(|_same| Self { fd }))
    }

    /// Sends it a signal; one that is over gets none.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is over.
    #[expect(
        deprecated,
        reason = "not sound for types that change what they refer to; a handle that owns its number does not"
    )]
    pub(super) async fn ended(self) -> io::Result<()> {
        let handle = AsyncFd::with_interest(self.fd, Interest::READABLE)?;
        handle
            .readable()
            .await
            .map(|mut ready| ready.retain_ready())
    }
}

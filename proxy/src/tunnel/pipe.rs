//! Pipes through which the kernel moves bytes from socket to socket.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How much a pipe is asked to hold. Larger ones measured no better; users without privileges may have 64 of them
/// before the kernel leaves new ones at their standard size.
const PIPE_LEN: usize = 256 << 10;

/// Most empty pipes that a thread keeps.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe and how much it holds.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    len: usize,
}

impl Pipe {
    /// One that somebody has given back, or a new one.
    pub(super) fn take() -> io::Result<Self> {
        if let Some(pipe) = KEPT.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where it may not be larger, it works as it is.
        let capacity = fcntl_setpipe_size(&write, PIPE_LEN).unwrap_or(64 << 10);
        Ok(Self {
            read,
            write,
            capacity,
            len: 0,
        })
    }

    /// Keeps an empty pipe for the next one who needs it.
    pub(super) fn give_back(self) {
        if self.len == 0 {
            KEPT.with_borrow_mut(|kept| {
                if kept.len() < KEPT_MAX {
                    kept.push(self);
                }
            });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Moves what there is from a socket into the pipe, which must be empty: it could otherwise be full, which looks
    /// the same as a socket that has nothing. Zero is the end of the stream.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let len = from.try_io(Interest::READABLE, || {
            splice(from, None, &self.write, None, self.capacity, flags).map_err(io::Error::from)
        })?;
        self.len += len;
        Ok(len)
    }

    /// Moves what the pipe holds into a socket, as much as that takes.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let len = to.try_io(Interest::WRITABLE, || {
            splice(&self.read, None, to, None, self.len, flags).map_err(io::Error::from)
        })?;
        self.len -= len.min(self.len);
        Ok(len)
    }
}

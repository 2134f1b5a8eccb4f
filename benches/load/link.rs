//! The byte streams under a connection: TCP, TLS and QUIC behind one enum, none of which ever
//! blocks.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::target::{Scheme, Target};

mod quic;
use quic::QuicLink;

mod tls;
use tls::TlsLink;

/// How long anything that must be answered may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Which of a connection's streams bytes belong to. Only QUIC has more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Control and small messages.
    Interactive,
    /// Fragments of large messages.
    Bulk,
}

/// One connection to a server.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(TcpStream),
    Tls(Box<TlsLink>),
    Quic(Box<QuicLink>),
}

impl Link {
    /// Connects. A TLS or QUIC handshake goes on with the first calls to [`read`](Self::read).
    ///
    /// `greeting` takes what a NATS server says in plain text before TLS begins.
    pub(crate) fn connect(target: &Target, greeting: &mut Vec<u8>) -> Result<Self, LoadError> {
        if target.scheme == Scheme::Quic {
            return Ok(Self::Quic(Box::new(QuicLink::connect(target)?)));
        }
        let mut socket = TcpStream::connect_timeout(&target.address, ANSWER_MAX)
            .map_err(LoadError::io("connect"))?;
        socket
            .set_nodelay(true)
            .map_err(LoadError::io("set TCP_NODELAY"))?;
        if target.scheme == Scheme::NatsTls {
            read_line(&mut socket, greeting)?;
        }
        socket
            .set_nonblocking(true)
            .map_err(LoadError::io("set a socket to non-blocking"))?;
        match &target.tls {
            Some(config) => Ok(Self::Tls(Box::new(TlsLink::new(
                socket,
                config,
                &target.host,
            )?))),
            None => Ok(Self::Tcp(socket)),
        }
    }

    /// Writes some of `bytes`; returns how many were taken, 0 when the socket is full.
    pub(crate) fn write(&mut self, lane: Lane, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => unless_blocked(socket.write(bytes)),
            Self::Tls(link) => link.write(bytes),
            Self::Quic(link) => link.write(lane, bytes),
        }
    }

    /// Reads what is there, at most about one `scratch` full, and passes it on.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        on: &mut impl FnMut(Lane, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        match self {
            Self::Tcp(socket) => match socket.read(scratch) {
                Ok(0) => Err(closed()),
                Ok(len) => on(Lane::Interactive, scratch.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(source) => Err(LoadError::Io {
                    what: "receive",
                    source,
                }),
            },
            Self::Tls(link) => link.read(scratch, on),
            Self::Quic(link) => link.read(scratch, on),
        }
    }

    /// Whether the handshake below the protocol is over.
    pub(crate) fn is_up(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Tls(link) => link.is_up(),
            Self::Quic(link) => link.is_up(),
        }
    }

    /// Whether bytes that were taken wait for the socket.
    pub(crate) fn wants_write(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(link) => link.wants_write(),
            Self::Quic(link) => link.wants_write(),
        }
    }

    /// Whether [`write`](Self::write) waits for the peer's consent rather than for the socket.
    pub(crate) const fn is_quic(&self) -> bool {
        matches!(self, Self::Quic(_))
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(link) => link.flush(),
            Self::Quic(link) => link.flush(),
        }
    }

    /// When [`on_deadline`](Self::on_deadline) must be called at the latest.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => None,
            Self::Quic(link) => link.deadline(),
        }
    }

    /// Does what is due.
    pub(crate) fn on_deadline(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => Ok(()),
            Self::Quic(link) => link.on_deadline(),
        }
    }

    /// Says goodbye where the transport knows a word for it.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(std::net::Shutdown::Write),
            Self::Tls(link) => link.close(),
            Self::Quic(link) => link.close(),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Tls(link) => link.as_fd(),
            Self::Quic(link) => link.as_fd(),
        }
    }
}

/// What ends a connection that the peer has closed.
fn closed() -> LoadError {
    LoadError::Peer("the connection was closed".to_owned())
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// Reads up to the end of a line from a socket that still blocks.
fn read_line(socket: &mut TcpStream, line: &mut Vec<u8>) -> Result<(), LoadError> {
    socket
        .set_read_timeout(Some(ANSWER_MAX))
        .map_err(LoadError::io("set a timeout"))?;
    let mut byte = [0];
    while line.last() != Some(&b'\n') && line.len() < 64 << 10 {
        socket
            .read_exact(&mut byte)
            .map_err(LoadError::io("receive the server's greeting"))?;
        line.extend_from_slice(&byte);
    }
    Ok(())
}

//! TLS over TCP.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::{Lane, closed};
use crate::error::LoadError;

/// A TLS connection whose socket never blocks.
#[derive(Debug)]
pub(crate) struct TlsLink {
    socket: TcpStream,
    tls: ClientConnection,
    plain: Vec<u8>,
}

impl TlsLink {
    pub(crate) fn new(
        socket: TcpStream,
        config: &Arc<ClientConfig>,
        host: &str,
    ) -> Result<Self, LoadError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| LoadError::Target {
            url: host.to_owned(),
            why: error.to_string(),
        })?;
        let mut tls = ClientConnection::new(Arc::clone(config), name)?;
        // Four records at a time: what does not fit waits in the caller's buffer.
        tls.set_buffer_limit(Some(64 << 10));
        let mut link = Self {
            socket,
            tls,
            plain: vec![0; 16 << 10],
        };
        link.flush()
            .map_err(LoadError::io("begin a TLS handshake"))?;
        Ok(link)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.tls.wants_write() || self.tls.is_handshaking() {
            return Ok(0);
        }
        let len = self.tls.writer().write(bytes)?;
        self.flush()?;
        Ok(len)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        on: &mut impl FnMut(Lane, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut received: &[u8] = match self.socket.read(scratch) {
            Ok(0) => return Err(closed()),
            Ok(len) => scratch.get(..len).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(source) => {
                return Err(LoadError::Io {
                    what: "receive",
                    source,
                });
            }
        };
        while !received.is_empty() {
            self.tls
                .read_tls(&mut received)
                .map_err(LoadError::io("take received bytes"))?;
            self.tls.process_new_packets()?;
            self.drain(on)?;
        }
        self.flush().map_err(LoadError::io("send"))
    }

    fn drain(
        &mut self,
        on: &mut impl FnMut(Lane, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            match self.tls.reader().read(&mut self.plain) {
                Ok(0) => return Err(closed()),
                Ok(len) => on(Lane::Interactive, self.plain.get(..len).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(source) => {
                    return Err(LoadError::Io {
                        what: "decrypt",
                        source,
                    });
                }
            }
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.tls.is_handshaking()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush()
    }
}

impl AsFd for TlsLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

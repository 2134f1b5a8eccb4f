//! QUIC on a socket of its own, driven by whoever waits for the socket: no runtime, no other
//! thread, and packets in batches both ways, so that the client costs as little as QUIC can.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ReadError, ReadableError, StreamEvent, StreamId, TransportConfig, VarInt, WriteError,
};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use dialtone_transport::quic::Congestion;

use super::Lane;
use crate::error::LoadError;
use crate::target::Target;

/// Most a single receive returns, in bytes, and the size of each slice that one is given.
const DATAGRAMS_LEN: usize = 64 << 10;
/// The longest datagrams that are tried, in bytes: as the broker tries on a near network.
const PACKET_LEN_MAX: u16 = 6_500;
/// Most datagrams that are handed to the kernel at once; it takes no more than 64.
const SEGMENTS_MAX: usize = 32;
/// Room in the socket, in bytes, as far as the kernel grants it.
const SOCKET_BUFFER: usize = 4 << 20;
/// Streams that the server may open: its bulk lane, with room to replace it.
const UNI_STREAMS_MAX: u32 = 4;
/// Received but unread bytes that a stream may hold; as much as a window of the scenarios.
const STREAM_WINDOW: u32 = 4 << 20;
/// Sent but unacknowledged bytes that are kept, for all streams together: more than the server's window for the bulk
/// stream, which would otherwise leave no room to the interactive one.
const SEND_WINDOW: u64 = 8 << 20;

/// One QUIC connection with its streams.
#[derive(Debug)]
pub(crate) struct QuicLink {
    socket: UdpSocket,
    state: UdpSocketState,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    interactive: Option<StreamId>,
    bulk: Option<StreamId>,
    incoming: Vec<StreamId>,
    up: bool,
    /// Why the connection ended.
    lost: Option<String>,
    /// Packets that the socket had no room for.
    unsent: Option<quinn_proto::Transmit>,
    packets: Vec<u8>,
}

impl QuicLink {
    pub(crate) fn connect(target: &Target) -> Result<Self, LoadError> {
        let wrong = |error: &dyn std::fmt::Display| LoadError::Quic(error.to_string());
        let socket = bind(target.address).map_err(LoadError::io("open a UDP socket"))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))
            .map_err(LoadError::io("set up a UDP socket"))?;
        // The kernel may grant less, with which everything still works.
        let granted = [
            state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER),
            state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER),
        ];
        for result in granted {
            result.map_err(LoadError::io("size a socket's buffers"))?;
        }
        let tls = target
            .tls
            .as_ref()
            .ok_or_else(|| LoadError::Quic("no TLS configuration".to_owned()))?;
        let crypto = QuicClientConfig::try_from(rustls::ClientConfig::clone(tls))
            .map_err(|error| wrong(&error))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport(target.address.ip().is_loopback())));
        let mut endpoint = Endpoint::new(Arc::new(endpoint_config()), None, true, None);
        let (handle, connection) = endpoint
            .connect(Instant::now(), config, target.address, &target.host)
            .map_err(|error| wrong(&error))?;
        let mut link = Self {
            socket,
            state,
            endpoint,
            handle,
            connection,
            interactive: None,
            bulk: None,
            incoming: Vec::new(),
            up: false,
            lost: None,
            unsent: None,
            packets: Vec::new(),
        };
        link.flush()
            .map_err(LoadError::io("begin a QUIC handshake"))?;
        Ok(link)
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.up
    }

    pub(crate) const fn wants_write(&self) -> bool {
        self.unsent.is_some()
    }

    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    pub(crate) fn on_deadline(&mut self) -> io::Result<()> {
        self.connection.handle_timeout(Instant::now());
        self.flush()
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.connection
            .close(Instant::now(), VarInt::from_u32(0), Bytes::new());
        self.flush()
    }

    pub(crate) fn write(&mut self, lane: Lane, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = self.stream(lane) else {
            return Ok(0);
        };
        let len = match self.connection.send_stream(stream).write(bytes) {
            Ok(len) => len,
            Err(WriteError::Blocked) => 0,
            Err(error) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, error.to_string())),
        };
        self.flush()?;
        Ok(len)
    }

    /// The stream of a lane, opened when it is first used; `None` until the handshake is over.
    fn stream(&mut self, lane: Lane) -> Option<StreamId> {
        if !self.up {
            return None;
        }
        let (slot, direction) = match lane {
            Lane::Interactive => (&mut self.interactive, Dir::Bi),
            Lane::Bulk => (&mut self.bulk, Dir::Uni),
        };
        if slot.is_none() {
            *slot = self.connection.streams().open(direction);
            if let (Some(stream), Lane::Interactive) = (*slot, lane) {
                // A stream that was just opened is not closed, so its priority can be set.
                let _set = self.connection.send_stream(stream).set_priority(1);
            }
        }
        *slot
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.settle();
        loop {
            let transmit = match self.unsent.take() {
                Some(transmit) => transmit,
                None => {
                    self.packets.clear();
                    let fitting = DATAGRAMS_LEN / usize::from(self.connection.current_mtu());
                    let segments = SEGMENTS_MAX.min(fitting).min(self.state.max_gso_segments());
                    match self
                        .connection
                        .poll_transmit(Instant::now(), segments, &mut self.packets)
                    {
                        Some(transmit) => transmit,
                        None => return Ok(()),
                    }
                }
            };
            let packets = Transmit {
                destination: transmit.destination,
                ecn: transmit
                    .ecn
                    .and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
                contents: self.packets.get(..transmit.size).unwrap_or_default(),
                segment_size: transmit.segment_size,
                src_ip: transmit.src_ip,
            };
            match self
                .state
                .try_send(UdpSockRef::from(&self.socket), &packets)
            {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent = Some(transmit);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        on: &mut impl FnMut(Lane, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        self.receive(scratch).map_err(LoadError::io("receive"))?;
        self.settle();
        if let Some(stream) = self.interactive {
            self.drain(stream, Lane::Interactive, on)?;
        }
        for index in 0..self.incoming.len() {
            if let Some(&stream) = self.incoming.get(index) {
                self.drain(stream, Lane::Bulk, on)?;
            }
        }
        self.flush().map_err(LoadError::io("send"))?;
        self.lost
            .take()
            .map_or(Ok(()), |reason| Err(LoadError::Peer(reason)))
    }

    /// Takes the datagrams that are there into the connection's state.
    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        let mut slices: Vec<_> = scratch
            .chunks_mut(DATAGRAMS_LEN)
            .map(IoSliceMut::new)
            .collect();
        let mut metas = vec![RecvMeta::default(); slices.len()];
        let count = match self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas)
        {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            let mut data = BytesMut::from(slice.get(..meta.len).unwrap_or_default());
            while !data.is_empty() {
                let datagram = data.split_to(meta.stride.clamp(1, data.len()));
                self.take(now, meta, datagram);
            }
        }
        Ok(())
    }

    fn take(&mut self, now: Instant, meta: &RecvMeta, datagram: BytesMut) {
        let ecn = meta
            .ecn
            .and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8));
        let mut response = Vec::new();
        let event = self
            .endpoint
            .handle(now, meta.addr, meta.dst_ip, ecn, datagram, &mut response);
        // A client is offered no connections and answers no strangers.
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
    }

    /// Passes events on between the connection and its endpoint, and notes those for us.
    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.up = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason.to_string()),
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(stream) = self.connection.streams().accept(Dir::Uni) {
                        self.incoming.push(stream);
                    }
                }
                Event::Stream(_)
                | Event::HandshakeDataReady
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
    }

    fn drain(
        &mut self,
        stream: StreamId,
        lane: Lane,
        on: &mut impl FnMut(Lane, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut receiver = self.connection.recv_stream(stream);
        let mut chunks = match receiver.read(true) {
            Ok(chunks) => chunks,
            // A stream that was read to its end, and stays in the list for its order.
            Err(ReadableError::ClosedStream) => return Ok(()),
            Err(error @ ReadableError::IllegalOrderedRead) => {
                return Err(LoadError::Quic(error.to_string()));
            }
        };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => on(lane, &chunk.bytes)?,
                Ok(None) | Err(ReadError::Blocked) => break,
                Err(error @ ReadError::Reset(_)) => return Err(LoadError::Quic(error.to_string())),
            }
        }
        // `flush` follows in every case, so that new credit is sent whether or not it is due.
        let _credit = chunks.finalize();
        Ok(())
    }
}

impl AsFd for QuicLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(target: SocketAddr) -> io::Result<UdpSocket> {
    match target {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(PACKET_LEN_MAX)
        .expect("the length is within QUIC's bounds");
    config
}

fn transport(loopback: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // As a client of ours does, or small messages would wait behind this end's own queue.
    transport.congestion_controller_factory(Arc::new(Congestion::default()));
    if loopback {
        transport.initial_mtu(PACKET_LEN_MAX);
        transport.mtu_discovery_config(None);
    }
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX));
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    // The server alone decides how long a silent connection lives.
    transport.max_idle_timeout(None);
    transport.send_window(SEND_WINDOW);
    transport.receive_window(VarInt::from_u32(4 * STREAM_WINDOW));
    transport
}

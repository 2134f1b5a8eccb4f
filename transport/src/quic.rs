//! QUIC by quinn: listening, dialling, and how a connection is set up.
//!
//! The dialling end opens one bidirectional stream, the interactive lane. The bulk lane is a unidirectional stream
//! each way, opened at the first bulk write. The control lane, where there is one, is the second unidirectional stream
//! each way; opening it opens the bulk lane as well, so that their order tells them apart. A datagram holds one frame.

mod congestion;
mod crypto;
mod driver;
mod recv;
#[cfg(unix)]
mod runtime;
mod send;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};

pub use self::congestion::Congestion;
use self::crypto::Crypto;
use self::driver::Driver;
pub(crate) use self::recv::Receiver;
#[cfg(unix)]
use self::runtime::Runtime;
pub(crate) use self::send::Sender;
use crate::connection::{CHANNEL_BINDING_LABEL, Connection, Info, Kind};
use crate::dial::{DialOptions, resolve};
use crate::endpoint::Endpoint;
use crate::error::{DialError, Error, HandshakeError};
use crate::tls::{ServerTls, TlsError};

#[cfg(not(unix))]
use quinn::TokioRuntime as Runtime;

/// Packets on loopback, in bytes of UDP payload: each packet has its price, and quinn hands ten at once to the kernel,
/// which takes 65 507 bytes at most. Other paths begin with what all of them carry and are probed by quinn.
const PACKET_LEN_LOOPBACK: u16 = 6_500;

/// Settings of QUIC connections. Windows bound what a peer can make this end hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// After this time without a sign of life the connection is lost. Default 60 s.
    pub idle_timeout: Duration,
    /// Keeps an idle connection alive from this end; off by default, because sessions ping.
    pub keep_alive: Option<Duration>,
    /// Unread bytes of one stream that are held. Default 2 MiB.
    pub stream_receive_window: u32,
    /// Unread bytes of all streams that are held. Default 4 MiB.
    pub receive_window: u32,
    /// Bytes sent but not acknowledged that are held. Default 8 MiB.
    pub send_window: u64,
    /// Datagrams received but not read, and those not sent yet, in bytes each. Default 1 MiB.
    pub datagram_buffer: usize,
    /// Whether connections have a [control lane](crate::Lane::Control), which must be the same at both ends. Default false.
    pub control_lane: bool,
    /// Wished size of the UDP socket's buffers, in bytes; the kernel may grant less. Default 4 MiB.
    pub socket_buffer: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(40),
            keep_alive: None,
            stream_receive_window: 2 << 20,
            receive_window: 4 << 20,
            send_window: 8 << 20,
            datagram_buffer: 1 << 20,
            control_lane: false,
            socket_buffer: 4 << 20,
        }
    }
}

impl Settings {
    /// quinn's settings for a peer; `bidi` is how many bidirectional streams it may open.
    ///
    /// quinn reserves memory per permitted stream, so no more are permitted than are used.
    fn transport(&self, bidi: u8, loopback: bool) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        if loopback {
            config
                .initial_mtu(PACKET_LEN_LOOPBACK)
                .mtu_discovery_config(None);
        }
        // Beyond 2^62 ms there is no time-out.
        // Full lanes of messages must leave room for the control lane.
        let receive_window = if self.control_lane {
            self.receive_window
                .saturating_add(self.stream_receive_window)
        } else {
            self.receive_window
        };
        let idle = IdleTimeout::try_from(self.idle_timeout).ok();
        config
            .max_concurrent_bidi_streams(bidi.into())
            .max_concurrent_uni_streams(if self.control_lane { 2_u8 } else { 1 }.into())
            .max_idle_timeout(idle)
            .congestion_controller_factory(Arc::new(Congestion::default()))
            .keep_alive_interval(self.keep_alive)
            .stream_receive_window(self.stream_receive_window.into())
            .receive_window(receive_window.into())
            .send_window(self.send_window)
            .datagram_receive_buffer_size(Some(self.datagram_buffer))
            .datagram_send_buffer_size(self.datagram_buffer);
        Arc::new(config)
    }
}

/// Settings of an endpoint, which takes packets of any length that a peer may send. `reset_key` makes the tokens by which
/// an endpoint tells peers of connections that it does not know: with the same key as before a restart, they learn at
/// once that theirs has ended.
fn endpoint_config(reset_key: &[u8; 32]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, reset_key);
    let mut config = EndpointConfig::new(Arc::new(key));
    config
        .max_udp_payload_size(PACKET_LEN_LOOPBACK)
        .expect("the length is within QUIC's bounds");
    config
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The listener's end of the interactive lane before the peer's first byte on it: the reader waits for the stream and
/// leaves its writing side here.
#[derive(Debug, Default)]
struct Slot {
    stream: Option<quinn::SendStream>,
    writer: Option<std::task::Waker>,
}

type SharedSlot = Arc<Mutex<Slot>>;

/// What a listener needs: quinn's settings for peers elsewhere and on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    elsewhere: quinn::ServerConfig,
    loopback: Arc<quinn::ServerConfig>,
    reset_key: [u8; 32],
    socket_buffer: usize,
    control_lane: bool,
}

impl Server {
    pub(crate) fn new(tls: &ServerTls, settings: &Settings) -> Self {
        let mut elsewhere = quinn::ServerConfig::with_crypto(Arc::new(Crypto(tls.clone())));
        elsewhere.migration(true);
        let mut loopback = elsewhere.clone();
        elsewhere.transport_config(settings.transport(1, false));
        loopback.transport_config(settings.transport(1, true));
        Self {
            elsewhere,
            loopback: Arc::new(loopback),
            reset_key: tls.reset_key(),
            socket_buffer: settings.socket_buffer,
            control_lane: settings.control_lane,
        }
    }

    pub(crate) fn listen(&self, addr: SocketAddr) -> io::Result<quinn::Endpoint> {
        let socket = socket(addr, self.socket_buffer)?;
        quinn::Endpoint::new(
            endpoint_config(&self.reset_key),
            Some(self.elsewhere.clone()),
            socket,
            Arc::new(Runtime),
        )
    }

    fn accept(
        &self,
        incoming: quinn::Incoming,
    ) -> Result<quinn::Connecting, quinn::ConnectionError> {
        if is_loopback(incoming.remote_address().ip()) {
            incoming.accept_with(Arc::clone(&self.loopback))
        } else {
            incoming.accept()
        }
    }
}

/// A UDP socket with large buffers, since a burst that overflows them is lost and slows the sender down.
fn socket(addr: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if let Err(error) = socket
        .set_recv_buffer_size(buffer)
        .and_then(|()| socket.set_send_buffer_size(buffer))
    {
        tracing::debug!(%error, buffer, "UDP buffers stay as they are");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

pub(crate) async fn establish(
    incoming: quinn::Incoming,
    server: &Server,
    listener: Option<SocketAddr>,
) -> Result<Connection, HandshakeError> {
    let (connecting, driver) = Driver::of(|| server.accept(incoming));
    let connection = connecting?.await?;
    let local = listener.map(|addr| {
        SocketAddr::new(
            connection.local_ip().unwrap_or_else(|| addr.ip()),
            addr.port(),
        )
    });
    let slot = SharedSlot::default();
    let receiver = Receiver::accepting(connection.clone(), Arc::clone(&slot), server.control_lane);
    let info = Info {
        local,
        ..info(&connection)
    };
    Ok(Connection::quic(
        info,
        receiver,
        Sender::accepting(connection, slot, driver),
    ))
}

pub(crate) async fn dial(
    endpoint: &Endpoint,
    host: &str,
    port: u16,
    options: &DialOptions,
) -> Result<Connection, DialError> {
    let crypto = QuicClientConfig::try_from(options.tls.quic_config()?)
        .map_err(|_no_suite| TlsError::NoQuicSuite)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut last = None;
    for addr in resolve(host, port).await? {
        config.transport_config(options.quic.transport(0, is_loopback(addr.ip())));
        match dial_addr(addr, host, &config, endpoint, options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    let nowhere = || DialError::Connect {
        endpoint: endpoint.clone(),
        source: io::ErrorKind::NotFound.into(),
    };
    Err(last.unwrap_or_else(nowhere))
}

async fn dial_addr(
    addr: SocketAddr,
    host: &str,
    config: &quinn::ClientConfig,
    endpoint: &Endpoint,
    options: &DialOptions,
) -> Result<Connection, DialError> {
    let failed = |source| DialError::Connect {
        endpoint: endpoint.clone(),
        source,
    };
    let local = options.quic_local.unwrap_or_else(|| any_like(addr));
    let socket = socket(local, options.quic.socket_buffer).map_err(failed)?;
    let quinn = quinn::Endpoint::new(
        endpoint_config(&rand::random()),
        None,
        socket,
        Arc::new(Runtime),
    )
    .map_err(failed)?;
    let name = options.server_name.as_deref().unwrap_or(host);
    let (connecting, driver) = Driver::of(|| quinn.connect_with(config.clone(), addr, name));
    let connection = connecting?.await?;
    let (send, recv) = connection.open_bi().await?;
    let mut info = Info {
        local: quinn.local_addr().ok(),
        ..info(&connection)
    };
    info.rebind = Some(Rebind {
        endpoint: quinn,
        buffer: options.quic.socket_buffer,
    });
    let receiver = Receiver::opened(connection.clone(), recv, options.quic.control_lane);
    Ok(Connection::quic(
        info,
        receiver,
        Sender::opened(connection, send, driver),
    ))
}

/// Any address of the same family.
fn any_like(addr: SocketAddr) -> SocketAddr {
    if addr.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }
}

fn info(connection: &quinn::Connection) -> Info {
    let identity = connection.peer_identity();
    let certificates = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let mut binding = [0; 32];
    let bound = connection.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, &[]);
    Info {
        remote: Some(connection.remote_address()),
        channel_binding: bound.is_ok().then_some(binding),
        client_certificates: certificates
            .map(|certificates| *certificates)
            .unwrap_or_default(),
        ..Info::new(Kind::Quic)
    }
}

/// Moves a dialled connection to another UDP socket, as a change of network would.
#[derive(Clone, Debug)]
pub struct Rebind {
    endpoint: quinn::Endpoint,
    buffer: usize,
}

impl Rebind {
    /// Sends from `local` from now on; returns the address with the real port. The session goes on.
    ///
    /// # Errors
    /// If the address cannot be had; the old socket stays then.
    pub fn rebind(&self, local: SocketAddr) -> io::Result<SocketAddr> {
        let socket = socket(local, self.buffer)?;
        let addr = socket.local_addr()?;
        self.endpoint.rebind(socket)?;
        Ok(addr)
    }
}

/// Codes of the application are 16 bits wide; what is larger was not sent by one of ours.
fn code_of(code: VarInt) -> u16 {
    u16::try_from(code.into_inner()).unwrap_or(u16::MAX)
}

/// Says in our words why a connection has ended.
fn ended(error: quinn::ConnectionError) -> Error {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => Error::Closed {
            code: code_of(close.error_code),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        quinn::ConnectionError::LocallyClosed => Error::ClosedHere,
        quinn::ConnectionError::TimedOut => Error::TimedOut,
        quinn::ConnectionError::Reset => Error::Reset,
        other @ (quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::CidsExhausted) => Error::Aborted(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_gets_long_packets() {
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_loopback(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}

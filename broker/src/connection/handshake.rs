//! From a transport's connection to a principal's: hello, credentials, welcome.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dialtone_protocol::frame::{Close, Hello, Refused, Welcome};
use dialtone_protocol::session::server::{Session, Step};
use dialtone_protocol::{Code, Frame, Limits, Violation, codec, inbox};
use dialtone_transport::{Batch, Connection, Info, Kind, Lane, Reader, Writer};

use super::{Conn, now};
use crate::auth::{Offer, Principal};
use crate::broker::Shared;
use crate::outbox::{Lanes, Outbox};
use crate::peer::{About, Order, Peer};
use crate::registry::SeatLimits;

/// How long a refused peer is given to take the reason.
const REFUSAL_MAX: Duration = Duration::from_secs(2);

/// Room that is read into at once before anything is known about the peer, in bytes.
const READ_LEN: usize = 2_048;

/// What goes wrong before a connection is anybody's.
enum Failure {
    /// The peer went away.
    Gone,
    /// It is told why and closed.
    Refused(Violation),
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Refused(violation)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(Violation::new(refused.code, refused.text))
    }
}

/// Performs the handshake; `None` when it failed, which the peer has then been told.
pub(super) async fn perform(connection: Connection, shared: Arc<Shared>) -> Option<Box<Conn>> {
    let Connection {
        info,
        mut reader,
        mut writer,
    } = connection;
    let mut session = Session::new(shared.config.timing, now());
    let deadline = tokio::time::Instant::from_std(session.next_deadline());
    let introduced = tokio::time::timeout_at(
        deadline,
        introduce(&shared, &info, &mut reader, &mut session),
    )
    .await;
    let introduced = introduced.unwrap_or_else(|_| {
        Err(Violation::new(Code::Timeout, "the handshake took too long").into())
    });
    let failure = match introduced {
        Ok(introduced) => match enter(&shared, &introduced.principal) {
            Ok(()) => return Some(welcome(shared, &info, introduced, session, reader, writer)),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    shared.metrics.handshake_failures.add(1);
    if let Failure::Refused(violation) = failure {
        tracing::debug!(remote = ?info.remote, %violation, "refused");
        refuse(&mut writer, &violation).await;
    }
    None
}

struct Introduced {
    version: u16,
    hello: Hello,
    principal: Principal,
    /// Of the permissions that the principal was given.
    epoch: u64,
    /// What came after the hello.
    rest: Vec<u8>,
}

async fn introduce(
    shared: &Shared,
    info: &Info,
    reader: &mut Reader,
    session: &mut Session,
) -> Result<Introduced, Failure> {
    let mut buffer = Vec::new();
    let (version, hello, len) = loop {
        buffer.reserve(READ_LEN.max(codec::missing(&buffer).min(session.frame_len_max() as usize)));
        match poll_fn(|cx| reader.poll_recv(cx, Lane::Interactive, &mut buffer)).await {
            Ok(0) | Err(_) => return Err(Failure::Gone),
            Ok(_) => {}
        }
        if let Some(found) = read_hello(&buffer, session)? {
            break found;
        }
    };
    // Only after the hello was read, since unread input would make TCP lose the reason.
    if shared.draining.load(Ordering::Acquire) {
        return Err(Violation::new(Code::Draining, "the node is going away").into());
    }
    buffer.drain(..len);
    buffer.shrink_to_fit();
    let epoch = shared.permissions_epoch.load(Ordering::Acquire);
    let offer = Offer {
        info,
        credentials: &hello.credentials,
    };
    let principal = shared.auth.authenticate(offer).await.inspect_err(|refused| {
        shared.metrics.auth_failures.add(1);
        tracing::info!(remote = ?info.remote, %refused.code, %refused.text, "authentication failed");
    })?;
    Ok(Introduced {
        version,
        hello,
        principal,
        epoch,
        rest: buffer,
    })
}

fn read_hello(
    buffer: &[u8],
    session: &mut Session,
) -> Result<Option<(u16, Hello, usize)>, Violation> {
    let Some((body, len)) = codec::split_frame(buffer, session.frame_len_max())? else {
        return Ok(None);
    };
    if let Step::Hello(version, hello) = session.on_body(body, now())? {
        return Ok(Some((version, hello, len)));
    }
    Err(Violation::new(Code::Normal, "goodbye"))
}

fn enter(shared: &Shared, principal: &Principal) -> Result<(), Failure> {
    let limits = SeatLimits {
        total: shared.config.connections_max,
        per_identity: shared.config.connections_per_identity_max,
    };
    shared.registry.enter(principal, limits).map_err(|refused| {
        shared.metrics.limit_refusals.add(1);
        refused.into()
    })
}

fn welcome(
    shared: Arc<Shared>,
    info: &Info,
    introduced: Introduced,
    mut session: Session,
    reader: Reader,
    writer: Writer,
) -> Box<Conn> {
    let Introduced {
        version,
        hello,
        principal,
        epoch,
        rest,
    } = introduced;
    let limits = match &principal.limits {
        Some(limits) => Limits::clone(limits),
        None => shared.limits.read().clone(),
    };
    session.open(limits.clone(), now());
    let id = shared.next_connection();
    let about = About {
        identity: Arc::clone(&principal.identity),
        client: hello.client,
        // 128 bits from a cryptographically secure generator.
        inbox_secret: format!("{:032x}", rand::random::<u128>()),
        kind: info.kind,
        encrypted: info.encrypted,
        remote: info.remote,
        since: Instant::now(),
    };
    let datagram_len_max = writer.datagram_len_max();
    let lanes = Lanes {
        // Clients of the predecessor read one stream, and rely on its order.
        in_order: info.kind == Kind::SocketIo,
        ..Lanes::of(&reader)
    };
    let outbox = Outbox::new(writer, lanes, &shared.config.outbox);
    outbox.set_datagram_len_max(datagram_len_max);
    let peer = Arc::new(Peer::new(id, about, outbox));
    let frame = Frame::Welcome(Box::new(Welcome {
        version,
        connection: id,
        node: shared.node.to_string(),
        server: server_name(),
        identity: principal.identity.to_string(),
        inbox: inbox::name(&shared.inbox_node, id, &peer.about.inbox_secret),
        limits,
        ping_interval_ms: u32::try_from(shared.config.timing.ping_interval.as_millis())
            .unwrap_or(u32::MAX),
        addresses: shared.client_addresses(),
    }));
    // The welcome goes in before anybody else can find the peer, so that it is the first frame.
    let pushed = peer.outbox.push_frame(&frame);
    shared.registry.insert(&peer);
    if pushed.claimed {
        peer.outbox.flush();
    }
    if shared.permissions_epoch.load(Ordering::Acquire) != epoch {
        // They changed before the peer could be found in the registry.
        peer.order(Order::Refresh);
    }
    if shared.draining.load(Ordering::Acquire) {
        // The drain may have begun before the peer could be found in the registry.
        let text = "the node is going away".to_owned();
        peer.order(Order::Close(Close {
            code: Code::Draining,
            text,
        }));
    }
    let mut conn = Box::new(Conn::new(shared, peer, principal, session, reader));
    conn.rest[0] = rest.into();
    conn
}

/// Name and version of this software.
pub(crate) fn server_name() -> String {
    format!("dialtone/{}", env!("CARGO_PKG_VERSION"))
}

async fn refuse(writer: &mut Writer, violation: &Violation) {
    let close = Frame::Close(Close {
        code: violation.code,
        text: violation.text.clone(),
    });
    let mut batch = Batch::new();
    batch.push(Bytes::from(close.to_vec()));
    let said = async {
        poll_fn(|cx| writer.poll_send(cx, Lane::Interactive, &mut batch)).await?;
        poll_fn(|cx| writer.poll_close(cx, violation.code.number(), &violation.text)).await
    };
    match tokio::time::timeout(REFUSAL_MAX, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the refusal could not be sent"),
        Err(_) => tracing::debug!("the refusal was not taken"),
    }
}

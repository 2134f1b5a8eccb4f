//! A connection with two lanes and datagrams, as QUIC has them, without QUIC.

use bytes::Bytes;
use dialtone_transport::stream::Lanes;
use dialtone_transport::{Connection, Info, Kind};
use tokio::io::{DuplexStream, duplex, split};
use tokio::sync::mpsc;

/// Datagrams under way at most; further ones are lost.
const DATAGRAMS_MAX: usize = 4;

/// The two ends; `capacity` bytes fit into each lane each way.
pub(super) fn pair(capacity: usize) -> (Connection, Connection) {
    let (interactive, bulk) = (duplex(capacity), duplex(capacity));
    let (to_here, at_here) = mpsc::channel(DATAGRAMS_MAX);
    let (to_there, at_there) = mpsc::channel(DATAGRAMS_MAX);
    (
        end(interactive.0, bulk.0, (at_here, to_there)),
        end(interactive.1, bulk.1, (at_there, to_here)),
    )
}

fn end(
    interactive: DuplexStream,
    bulk: DuplexStream,
    datagrams: (mpsc::Receiver<Bytes>, mpsc::Sender<Bytes>),
) -> Connection {
    let (read, write) = split(interactive);
    let (bulk_read, bulk_write) = split(bulk);
    let lanes = Lanes {
        interactive: (Box::new(read), Box::new(write)),
        bulk: (Box::new(bulk_read), Box::new(bulk_write)),
        datagrams,
    };
    Connection::from_lanes(Info::new(Kind::Quic), lanes)
}

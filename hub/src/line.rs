//! The hub's connection to a broker: there while there is one, and another one when it was made anew.
//!
//! Functions are put together before there is a broker, and go on when the connection was lost for good. So what asks
//! others over the broker has the line, and takes the connection from it when it asks.

use dialtone_client::Client;
use tokio::sync::watch;

use crate::api::{Code, Error};

/// Where the connection is, while there is one.
pub type Line = watch::Receiver<Option<Client>>;

/// The connection.
///
/// # Errors
/// [`Code::Unavailable`] while there is none.
pub(crate) fn connected(line: &Line) -> Result<Client, Error> {
    let client = line.borrow().clone();
    client.ok_or_else(|| Error::new(Code::Unavailable, "the hub is not connected to a broker"))
}

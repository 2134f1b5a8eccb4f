//! What the subcommands that talk to a broker have in common: they leave it in good order, whatever ends them, and they
//! tell of outages.

use std::error::Error;
use std::fmt::Write as _;
use std::future::pending;
use std::time::Duration;

use dialtone_client::{Client, Denied, Status};
use tokio::sync::{broadcast, watch};

use crate::args::ConnectArgs;
use crate::exit::{Failure, Outcome};
use crate::lifecycle::Interrupts;
use crate::print::{harmless, note};

/// How long leaving may take: what waits is written, and the broker is told.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Connects, works, and leaves in good order; a signal ends the work.
pub(super) async fn with_client(
    args: &ConnectArgs,
    work: impl AsyncFnOnce(&Client) -> Outcome,
) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    let client = tokio::select! {
        client = crate::connect::connect(args) => client?,
        exit = interrupts.next() => return Err(Failure::silent(exit)),
    };
    let outcome = tokio::select! {
        outcome = work(&client) => outcome,
        exit = interrupts.next() => Err(Failure::silent(exit)),
    };
    leave(&client).await;
    outcome
}

/// The same for work that ends well with a signal, and therefore looks after signals itself.
pub(super) async fn until_interrupted(
    args: &ConnectArgs,
    work: impl AsyncFnOnce(&Client, &mut Interrupts) -> Outcome,
) -> Outcome {
    let mut interrupts = Interrupts::new()?;
    let client = tokio::select! {
        client = crate::connect::connect(args) => client?,
        exit = interrupts.next() => return Err(Failure::silent(exit)),
    };
    let outcome = work(&client, &mut interrupts).await;
    leave(&client).await;
    outcome
}

async fn leave(client: &Client) {
    if tokio::time::timeout(LEAVE_MAX, client.close())
        .await
        .is_err()
    {
        tracing::debug!("the broker did not take everything in time");
    }
}

/// Says on standard error when the connection is lost and made again, and what the broker does not permit.
pub(super) struct Outages {
    status: watch::Receiver<Status>,
    denials: broadcast::Receiver<Denied>,
    connected: bool,
}

impl Outages {
    /// From here on.
    pub(super) fn of(client: &Client) -> Self {
        let mut status = client.status();
        let connected = status.borrow_and_update().is_connected();
        Self {
            status,
            denials: client.denials(),
            connected,
        }
    }

    /// Tells what has happened, without waiting.
    pub(super) fn tell(&mut self) {
        if self.status.has_changed().unwrap_or(false) {
            self.tell_status();
        }
    }

    /// Waits until something has happened, and tells it.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            changed = self.status.changed() => match changed {
                Ok(()) => self.tell_status(),
                Err(_) => pending().await,
            },
            denied = self.denials.recv() => match denied {
                Ok(denied) => note(format_args!("denied: {}", harmless(&denied.text))),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            },
        }
    }

    /// Tells what happens while something is waited for.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = self.next() => {}
                result = &mut work => return result,
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else there is to say about the connection is no outage"
    )]
    fn tell_status(&mut self) {
        let status = self.status.borrow_and_update().clone();
        let text = match &status {
            Status::Reconnecting { error, .. } if self.connected => {
                Some(format!("disconnected: {}; reconnecting", chain(&**error)))
            }
            Status::Connected { url, node, .. } if self.connected => {
                Some(format!("moved to {url} (node {node})"))
            }
            Status::Connected { url, node, .. } => {
                Some(format!("connected again to {url} (node {node})"))
            }
            // The end of the client is the end of the subcommand, which says why.
            _ => None,
        };
        self.connected = status.is_connected();
        if let Some(text) = text {
            note(harmless(&text));
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("a string takes whatever is written to it");
        cause = error.source();
    }
    text
}

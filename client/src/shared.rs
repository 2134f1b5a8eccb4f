//! What handles and the driver share. No lock is held across an await or while another one is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dialtone_protocol::frame::{Denied, Wanted};
use dialtone_protocol::{RequestId, SubscriptionId};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, oneshot, watch};

use crate::error::{PublishError, Reason, SubscribeError};
use crate::outgoing::{Hindrance, Outbound, Outgoing};
use crate::pending::Pending;
use crate::queue::Queue;
use crate::status::Status;

/// Most denials that a listener may lag behind.
const DENIALS_MAX: usize = 64;

/// What a handle asks the driver to do.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe {
        /// Its number is chosen by the driver.
        wanted: Wanted,
        queue: Arc<Queue>,
        confirmed: oneshot::Sender<Result<SubscriptionId, SubscribeError>>,
    },
    Unsubscribe {
        id: SubscriptionId,
        done: Option<oneshot::Sender<()>>,
    },
    /// Ends all subscriptions; the answer is their queues, in which messages may still wait.
    UnsubscribeAll {
        done: oneshot::Sender<Vec<Arc<Queue>>>,
    },
    /// Writes what waits and ends.
    Leave(Reason),
}

/// Commands on their way. Bounded by the callers that wait for them and by the subscriptions that exist.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    list: Vec<Command>,
    ended: Option<Reason>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) outgoing: Mutex<Outgoing>,
    pub(crate) pending: Mutex<Pending>,
    commands: Mutex<Commands>,
    /// Wakes the driver.
    pub(crate) driver: AtomicWaker,
    /// There is room again, or a connection, or an end.
    pub(crate) changed: Notify,
    pub(crate) status: watch::Sender<Status>,
    /// What the broker did not permit.
    pub(crate) denials: broadcast::Sender<Denied>,
    pub(crate) runtime: Handle,
    next_number: AtomicU32,
}

impl Shared {
    pub(crate) fn new(outgoing_len_max: usize, runtime: Handle) -> Self {
        Self {
            outgoing: Mutex::new(Outgoing::new(outgoing_len_max)),
            pending: Mutex::default(),
            commands: Mutex::default(),
            driver: AtomicWaker::new(),
            changed: Notify::new(),
            status: watch::Sender::new(Status::Connecting),
            denials: broadcast::Sender::new(DENIALS_MAX),
            runtime,
            next_number: AtomicU32::new(1),
        }
    }

    /// A number for a question or for an answer in the inbox, not used by any recent one.
    pub(crate) fn next_number(&self) -> u32 {
        loop {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            if number != 0 {
                return number;
            }
        }
    }

    /// See [`next_number`](Self::next_number).
    pub(crate) fn next_request(&self) -> RequestId {
        RequestId(self.next_number())
    }

    /// Hands a command to the driver.
    pub(crate) fn command(&self, command: Command) -> Result<(), Reason> {
        let mut commands = self.commands.lock();
        if let Some(reason) = &commands.ended {
            return Err(reason.clone());
        }
        commands.list.push(command);
        drop(commands);
        self.driver.wake();
        Ok(())
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.commands.lock().list)
    }

    /// No command is accepted any more; returns those that were not taken.
    pub(crate) fn end_commands(&self, reason: &Reason) -> Vec<Command> {
        let mut commands = self.commands.lock();
        commands.ended = Some(reason.clone());
        std::mem::take(&mut commands.list)
    }

    /// Appends a message without waiting.
    #[inline]
    pub(crate) fn try_push(&self, message: &Outbound<'_>) -> Result<(), Hindrance> {
        let mut outgoing = self.outgoing.lock();
        outgoing.push(message)?;
        let must_wake = outgoing.must_wake();
        drop(outgoing);
        if must_wake {
            self.driver.wake();
        }
        Ok(())
    }

    /// Appends a message, waiting for room, and for a connection where it means nothing without.
    #[inline]
    pub(crate) async fn push(&self, message: &Outbound<'_>) -> Result<(), PublishError> {
        match self.try_push(message) {
            Ok(()) => Ok(()),
            Err(Hindrance::Error(error)) => Err(error),
            Err(Hindrance::Full | Hindrance::Offline) => self.push_later(message).await,
        }
    }

    #[cold]
    async fn push_later(&self, message: &Outbound<'_>) -> Result<(), PublishError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before looking, so that no change is missed.
            changed.as_mut().enable();
            match self.try_push(message) {
                Ok(()) => return Ok(()),
                Err(Hindrance::Error(error)) => return Err(error),
                Err(Hindrance::Full | Hindrance::Offline) => changed.await,
            }
        }
    }
}

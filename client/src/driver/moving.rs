//! Leaving a node that drains: the next connection is made while the old one still serves, then the client changes over.
//!
//! For the change no answer may be awaited on the old connection, and it must have delivered all it will: a message may
//! be missed in between, but none comes twice. A client that asks all the time would never be without a question, so
//! that new ones are held back at times until those under way are answered.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dialtone_protocol::RequestId;
use dialtone_protocol::frame::Drain;
use tokio::time::Instant;

use super::link::Link;
use super::{Driver, Opened};

/// The client changes over after this part of the time that the broker gives, even if answers are awaited.
const PATIENCE: f64 = 0.6;

/// How long the old connection may take for its last deliveries.
const SWITCH_MAX: Duration = Duration::from_secs(2);

/// How long new questions are held back at a time. The broker answers most of them within a round trip; those that other
/// clients answer may take longer, and must not hold up what does not depend on them.
const HOLD: Duration = Duration::from_secs(1);

/// How long questions are asked again after they were held back in vain for the first time; doubles each time.
const HOLD_PAUSE: Duration = Duration::from_secs(2);

type Dialling = Pin<Box<dyn Future<Output = Opened> + Send>>;

/// A move to another node.
pub(super) struct Moving {
    dialling: Option<Dialling>,
    opened: Option<Box<Opened>>,
    /// When answers are awaited no longer, and then when the old connection is left whatever it has said.
    deadline: Instant,
    switching: Option<Switching>,
    hold: Hold,
}

/// Whether new questions are held back.
#[derive(Debug, Clone, Copy)]
struct Hold {
    is_on: bool,
    /// When that changes.
    until: Instant,
    /// How long the next pause between two of them is.
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Switching {
    /// The old connection still delivers.
    Awaits(RequestId),
    Done,
}

impl fmt::Debug for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moving")
            .field("opened", &self.opened)
            .field("switching", &self.switching)
            .finish_non_exhaustive()
    }
}

impl Moving {
    /// Whether nothing more is sent on the old connection.
    pub(super) fn is_switching(&self) -> bool {
        self.switching.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.opened.as_ref()?;
        match self.switching {
            None => Some(self.deadline.min(self.hold.until)),
            Some(_) => Some(self.deadline),
        }
    }

    /// The connection to the next node, if it was made already.
    pub(super) fn into_opened(self) -> Option<Box<Opened>> {
        self.opened
    }
}

impl Driver {
    /// The node asks to leave.
    pub(super) fn on_drain(&mut self, drain: &Drain) {
        let elsewhere = self.addresses.elsewhere(&drain.addresses);
        if elsewhere.is_empty() || self.moving.is_some() || self.leaving.is_some() {
            return;
        }
        tracing::info!(
            grace_ms = drain.grace_ms,
            "the broker drains, moving elsewhere"
        );
        let (dialer, reconnect) = (Arc::clone(&self.dialer), self.reconnect.clone());
        let dialling = Box::pin(async move {
            let mut attempt = 0;
            // Ends with the old connection at the latest, which drops it.
            loop {
                match dialer.round(elsewhere.clone()).await {
                    Ok(opened) => return opened,
                    Err(error) => {
                        tracing::debug!(
                            attempt,
                            error = &error as &dyn std::error::Error,
                            "cannot move yet"
                        );
                        tokio::time::sleep(reconnect.delay(attempt, rand::random())).await;
                        attempt = attempt.saturating_add(1);
                    }
                }
            }
        });
        let patience = Duration::from_millis(drain.grace_ms.into()).mul_f64(PATIENCE);
        let now = Instant::now();
        self.moving = Some(Moving {
            dialling: Some(dialling),
            opened: None,
            deadline: now + patience,
            switching: None,
            hold: Hold {
                is_on: false,
                until: now,
                pause: HOLD_PAUSE,
            },
        });
    }

    pub(super) fn poll_moving(&mut self, cx: &mut Context<'_>, link: &Link) {
        let Some(moving) = &mut self.moving else {
            return;
        };
        if let Some(dialling) = &mut moving.dialling
            && let Poll::Ready(opened) = dialling.as_mut().poll(cx)
        {
            moving.dialling = None;
            moving.opened = Some(Box::new(opened));
        }
        let now = Instant::now();
        if moving.opened.is_none() || moving.is_switching() {
            return;
        }
        let is_overdue = now >= moving.deadline;
        if !is_overdue && !self.is_quiet(link) {
            self.hold(now);
        } else {
            self.hold_back();
            let switching = self
                .pause_subscriptions()
                .map_or(Switching::Done, Switching::Awaits);
            if let Some(moving) = &mut self.moving {
                moving.switching = Some(switching);
                moving.deadline = now + SWITCH_MAX;
            }
        }
    }

    /// Holds questions back, or lets them go again, when that is due.
    fn hold(&mut self, now: Instant) {
        let Some(Moving { hold, .. }) = &mut self.moving else {
            return;
        };
        if now < hold.until {
            return;
        }
        hold.is_on = !hold.is_on;
        if hold.is_on {
            hold.until = now + HOLD;
            self.hold_back();
        } else {
            hold.until = now + hold.pause;
            hold.pause *= 2;
            self.shared.pending.lock().release();
            self.shared.outgoing.lock().go_on();
            self.shared.changed.notify_waiters();
        }
    }

    /// New questions wait for the next connection.
    fn hold_back(&self) {
        self.shared.outgoing.lock().pause();
        let from = self.shared.next_number();
        self.shared.pending.lock().hold(from);
    }

    /// Whether nothing is under way on the connection that would be lost with it.
    fn is_quiet(&self, link: &Link) -> bool {
        link.is_idle()
            && !self.shared.outgoing.lock().has_bulk()
            && self.shared.pending.lock().is_empty()
    }

    /// An answer to the question that ends the deliveries on the old connection.
    pub(super) fn on_paused(&mut self, request: RequestId) {
        if let Some(moving) = &mut self.moving
            && matches!(moving.switching, Some(Switching::Awaits(awaited)) if awaited == request)
        {
            moving.switching = Some(Switching::Done);
        }
    }

    /// The connection to go on with, once the old one has nothing more to give.
    pub(super) fn take_moved(&mut self, link: &Link) -> Option<Box<Opened>> {
        let moving = self.moving.as_mut()?;
        let overdue = Instant::now() >= moving.deadline;
        match moving.switching? {
            Switching::Done if link.is_idle() || overdue => moving.opened.take(),
            Switching::Awaits(_) if overdue => moving.opened.take(),
            Switching::Done | Switching::Awaits(_) => None,
        }
    }
}

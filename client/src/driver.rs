//! The task behind a client: it owns the connection and the session, and is the only layer that retries.
//!
//! It holds no handle: when the last one is dropped, it writes what waits and ends. While it serves a connection it is
//! one poll function, in which everything that is ready is done before it waits:
//! commands → read → moving elsewhere → deadlines → write → leaving.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dialtone_protocol::frame::Denied;
use dialtone_protocol::session::Due;
use dialtone_protocol::session::client::{Event, Session};
use dialtone_protocol::{Code, RequestId, SubscriptionId, Violation};
use hashbrown::HashMap;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, Sleep};

use crate::addresses::Addresses;
use crate::error::{ConnectError, Reason, SubscribeError};
use crate::message::Message;
use crate::pending::Lost;
use crate::queue::Queue;
use crate::reconnect::Reconnect;
use crate::shared::Shared;
use crate::status::Status;
use crate::subjects::Checked;

mod dialer;
pub(crate) use dialer::{Dialer, Opened};

mod commands;
mod link;
mod moving;
mod receive;

use link::Link;
use moving::Moving;

/// How long a client that leaves goes on writing what waits.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// One subscription.
#[derive(Debug)]
struct Entry {
    queue: Arc<Queue>,
    /// Who waits for the broker's confirmation.
    confirmed: Option<oneshot::Sender<Result<SubscriptionId, SubscribeError>>>,
    /// What came since the queue was last locked.
    staged: Vec<Message>,
}

/// Who waits for the end of subscriptions.
#[derive(Debug)]
enum Done {
    One(oneshot::Sender<()>),
    All(oneshot::Sender<Vec<Arc<Queue>>>, Vec<Arc<Queue>>),
}

/// Subscriptions whose end the broker has not confirmed yet.
#[derive(Debug, Default)]
struct Unsubscribing {
    ids: Vec<SubscriptionId>,
    done: Vec<Done>,
}

#[derive(Debug)]
struct Leaving {
    reason: Reason,
    deadline: Instant,
    /// The close frame is on its way.
    said: bool,
}

/// How a connection ended.
enum Ended {
    Lost(ConnectError),
    Moved(Box<Opened>),
    Left(Reason),
}

type FastMap<K, V> = HashMap<K, V, ahash::RandomState>;

/// See the module.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    dialer: Arc<Dialer>,
    addresses: Addresses,
    reconnect: Reconnect,
    session: Session,
    subscriptions: FastMap<SubscriptionId, Entry>,
    /// Entries with staged messages.
    dirty: Vec<SubscriptionId>,
    /// Queues that must have room before more is read.
    blocking: Vec<Arc<Queue>>,
    subscribing: FastMap<RequestId, Vec<SubscriptionId>>,
    unsubscribing: FastMap<RequestId, Unsubscribing>,
    subjects: Checked,
    inbox: String,
    /// Frames of the driver's own, written before everything else.
    control: Vec<u8>,
    leaving: Option<Leaving>,
    moving: Option<Moving>,
    denials: broadcast::Sender<Denied>,
    /// Attempts that have failed since a connection lived long enough.
    attempt: u32,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        dialer: Arc<Dialer>,
        addresses: Addresses,
        reconnect: Reconnect,
    ) -> Self {
        let session = Session::new(dialer.config(), Instant::now().into_std());
        Self {
            denials: shared.denials.clone(),
            shared,
            dialer,
            addresses,
            reconnect,
            session,
            subscriptions: FastMap::default(),
            dirty: Vec::new(),
            blocking: Vec::new(),
            subscribing: FastMap::default(),
            unsubscribing: FastMap::default(),
            subjects: Checked::new(),
            inbox: String::new(),
            control: Vec::new(),
            leaving: None,
            moving: None,
            attempt: 0,
        }
    }

    /// Begins a connection whose handshake is over, and restores the subscriptions on it.
    pub(crate) fn welcome(&mut self, opened: Opened) -> Result<Link, ConnectError> {
        let now = Instant::now();
        // It was sent when the connection was made; here it moves the session on.
        drop(self.session.hello(now.into_std()));
        let violation = |source| ConnectError::Violation {
            endpoint: opened.endpoint().clone(),
            source,
        };
        let event = self
            .session
            .on_body(opened.welcome(), now.into_std())
            .map_err(violation)?;
        let Event::Welcome(welcome) = event else {
            return Err(violation(Violation::new(
                Code::BadFrame,
                "the handshake does not end with a welcome",
            )));
        };
        let endpoint = opened.endpoint().clone();
        self.addresses.using(&endpoint);
        self.addresses.learn(&welcome.addresses);
        self.inbox = format!("{}.", welcome.inbox);
        let link = Link::new(opened, &welcome.limits, now);
        self.shared.outgoing.lock().online(
            &welcome.inbox,
            &welcome.limits,
            link.datagram_len_max(),
        );
        self.restore();
        tracing::info!(%endpoint, node = welcome.node, identity = welcome.identity, "connected");
        let (node, identity) = (welcome.node, welcome.identity);
        self.shared.status.send_replace(Status::Connected {
            url: endpoint,
            node,
            identity,
        });
        self.shared.changed.notify_waiters();
        Ok(link)
    }

    /// Serves connections until the client ends.
    pub(crate) async fn run(mut self, link: Link) {
        let reason = self.live(link).await;
        tracing::debug!(reason = &reason as &dyn std::error::Error, "client ended");
        self.end(&reason);
    }

    async fn live(&mut self, mut link: Link) -> Reason {
        loop {
            let error = match self.serve(&mut link).await {
                Ended::Left(reason) => return reason,
                Ended::Moved(opened) => {
                    link.say_goodbye(Code::Normal, "moved");
                    self.on_disconnect(&Lost::Disconnected);
                    match self.welcome(*opened) {
                        Ok(next) => {
                            link = next;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Ended::Lost(error) => {
                    if let ConnectError::Violation { source, .. } = &error {
                        link.say_goodbye(source.code, &source.text);
                    }
                    self.on_disconnect(&Lost::from(&error));
                    error
                }
            };
            if link.age() >= self.reconnect.delay_max {
                self.attempt = 0;
            }
            drop(link);
            link = match self.connect_again(error).await {
                Ok(link) => link,
                Err(reason) => return reason,
            };
        }
    }

    /// Tries until there is a connection, or there is no point in trying.
    async fn connect_again(&mut self, mut error: ConnectError) -> Result<Link, Reason> {
        loop {
            let last = Arc::new(error);
            if last.is_final() {
                return Err(Reason::Refused(last));
            }
            if let Some(leaving) = self.leaving.take() {
                return Err(leaving.reason);
            }
            if !self.reconnect.allows(self.attempt) {
                return Err(Reason::GaveUp {
                    attempts: self.attempt,
                    last,
                });
            }
            let delay = self.reconnect.delay(self.attempt, rand::random());
            tracing::info!(
                attempt = self.attempt,
                ?delay,
                error = &*last as &dyn std::error::Error,
                "reconnecting"
            );
            self.shared.status.send_replace(Status::Reconnecting {
                attempt: self.attempt,
                error: last,
            });
            self.attempt = self.attempt.saturating_add(1);
            let opened = self.dial_after(delay).await?;
            error = match opened {
                Ok(opened) => match self.welcome(opened) {
                    Ok(link) => return Ok(link),
                    Err(error) => error,
                },
                Err(error) => error,
            };
        }
    }

    /// Waits and tries every address once, obeying commands meanwhile.
    async fn dial_after(
        &mut self,
        delay: Duration,
    ) -> Result<Result<Opened, ConnectError>, Reason> {
        let dialer = Arc::clone(&self.dialer);
        let round = self.addresses.round();
        let mut dialling = pin!(async move {
            tokio::time::sleep(delay).await;
            dialer.round(round).await
        });
        poll_fn(|cx| {
            self.shared.driver.register(cx.waker());
            self.on_commands(false);
            if let Some(leaving) = &self.leaving {
                return Poll::Ready(Err(leaving.reason.clone()));
            }
            dialling.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    async fn serve(&mut self, link: &mut Link) -> Ended {
        let mut sleep = pin!(tokio::time::sleep_until(self.next_deadline()));
        // What came together with the welcome.
        if let Err(error) = self.receive_rest(link) {
            return self.ended(error);
        }
        poll_fn(|cx| self.poll_serve(cx, link, sleep.as_mut())).await
    }

    fn poll_serve(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        sleep: Pin<&mut Sleep>,
    ) -> Poll<Ended> {
        self.shared.driver.register(cx.waker());
        self.on_commands(true);
        let progress = self
            .receive(cx, link)
            .and_then(|()| {
                self.poll_moving(cx, link);
                self.poll_deadlines(cx, link, sleep)
            })
            .and_then(|()| {
                self.write(cx, link)
                    .map_err(|error| self.last_words(cx, link, error))
            });
        if let Err(error) = progress {
            return Poll::Ready(self.ended(error));
        }
        if let Some(opened) = self.take_moved(link) {
            return Poll::Ready(Ended::Moved(opened));
        }
        self.poll_leave(cx, link)
    }

    /// The connection was lost; while leaving, that is the end that was wanted, and while moving there is another one.
    fn ended(&mut self, error: ConnectError) -> Ended {
        if let Some(leaving) = self.leaving.take() {
            return Ended::Left(leaving.reason);
        }
        match self.moving.take().and_then(Moving::into_opened) {
            Some(opened) => Ended::Moved(opened),
            None => Ended::Lost(error),
        }
    }

    fn next_deadline(&self) -> Instant {
        let deadlines = [
            self.leaving.as_ref().map(|leaving| leaving.deadline),
            self.moving.as_ref().and_then(Moving::deadline),
        ];
        let session = Instant::from_std(self.session.next_deadline());
        deadlines.into_iter().flatten().fold(session, Instant::min)
    }

    fn poll_deadlines(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        mut sleep: Pin<&mut Sleep>,
    ) -> Result<(), ConnectError> {
        loop {
            let deadline = self.next_deadline();
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            if self.is_blocked() {
                // Nothing can be heard from a broker that is not read; it judges by itself how long it bears that.
                self.session.on_bytes(now.into_std());
            }
            match self.session.on_timeout(now.into_std()) {
                Due::Nothing => {}
                Due::Ping(token) => self.send(&dialtone_protocol::Frame::Ping(
                    dialtone_protocol::frame::Ping { token },
                )),
                Due::Gone(source) => {
                    return Err(ConnectError::Violation {
                        endpoint: link.endpoint().clone(),
                        source,
                    });
                }
            }
            if Instant::from_std(self.session.next_deadline()) > now {
                // The other deadlines are looked at by those who set them; they end what they bound.
                self.rearm(cx, sleep, now);
                return Ok(());
            }
        }
    }

    /// Sets the timer for the earliest deadline that is still to come.
    fn rearm(&self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>, now: Instant) {
        let next = self.next_deadline();
        let next = if next > now {
            next
        } else {
            Instant::from_std(self.session.next_deadline())
        };
        sleep.as_mut().reset(next);
        if sleep.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Result<(), ConnectError> {
        let paused = self.moving.as_ref().is_some_and(Moving::is_switching);
        link.write(cx, &self.shared, &mut self.control, paused)
    }

    /// A connection that takes nothing any more may still hold what the broker said about its end.
    fn last_words(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        error: ConnectError,
    ) -> ConnectError {
        match self.receive(cx, link) {
            Err(said @ ConnectError::Refused { .. }) => said,
            Err(_) | Ok(()) => error,
        }
    }

    /// Appends a frame of the driver's own.
    fn send(&mut self, frame: &dialtone_protocol::Frame<'_>) {
        frame.encode(&mut self.control);
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Ended> {
        let Some(leaving) = &mut self.leaving else {
            return Poll::Pending;
        };
        if Instant::now() >= leaving.deadline {
            link.abort();
            return Poll::Ready(Ended::Left(leaving.reason.clone()));
        }
        let idle =
            link.is_idle() && self.control.is_empty() && self.shared.outgoing.lock().is_empty();
        if !idle {
            return Poll::Pending;
        }
        if !leaving.said {
            leaving.said = true;
            link.push_close(Code::Normal, "");
            if let Err(error) = link.write(cx, &self.shared, &mut self.control, true) {
                return Poll::Ready(self.ended(error));
            }
            if !link.is_idle() {
                return Poll::Pending;
            }
        }
        let Poll::Ready(closed) = link.poll_close(cx) else {
            return Poll::Pending;
        };
        if let Err(error) = closed {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the connection did not close in good order"
            );
        }
        let reason = self
            .leaving
            .take()
            .map_or(Reason::Closed, |leaving| leaving.reason);
        Poll::Ready(Ended::Left(reason))
    }

    /// Forgets what belongs to the connection that has ended, and tells those who wait for answers on it.
    fn on_disconnect(&mut self, lost: &Lost) {
        self.session.disconnected();
        self.shared.outgoing.lock().offline();
        self.shared.pending.lock().fail(lost);
        self.shared.changed.notify_waiters();
        self.control.clear();
        self.blocking.clear();
        self.subscribing.clear();
        self.moving = None;
        let requests: Vec<RequestId> = self.unsubscribing.keys().copied().collect();
        for request in requests {
            self.on_unsubscribed(request);
        }
    }

    /// Tells everybody that the client has ended.
    fn end(&mut self, reason: &Reason) {
        self.shared.outgoing.lock().close(reason.clone());
        self.shared
            .pending
            .lock()
            .fail(&Lost::Closed(reason.clone()));
        let late = self.shared.end_commands(reason);
        self.refuse(late, reason);
        self.end_subscriptions(reason);
        self.shared.status.send_replace(Status::Closed {
            reason: reason.clone(),
        });
        self.shared.changed.notify_waiters();
    }
}

//! Questions to the broker that are no messages: interest, the list of subscriptions, round trips.

use std::sync::Arc;
use std::time::Duration;

use dialtone_protocol::RequestId;
use dialtone_protocol::frame::{Cancel, Frame, Interest, List, Wanted};
use dialtone_protocol::limits::INTEREST_WAIT_MS_MAX;
use dialtone_protocol::session::client::Answer;
use dialtone_protocol::subject::check_subject;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::AskError;
use crate::outgoing::{Outgoing, Phase};
use crate::pending::Waiter;
use crate::shared::Shared;

/// How long a question that needs no waiting at the broker may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Pings of the caller's carry tokens from here on; those of the session count from 1.
const TOKEN_FIRST: u64 = 1 << 32;

/// Forgets a question when nobody waits any more, and tells the broker where it would otherwise keep it.
pub(crate) struct Slot<'a> {
    shared: &'a Shared,
    request: RequestId,
    cancel: bool,
}

impl<'a> Slot<'a> {
    pub(crate) fn new(shared: &'a Shared, request: RequestId, cancel: bool) -> Self {
        Self {
            shared,
            request,
            cancel,
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let was_awaited = self.shared.pending.lock().forget(self.request);
        if was_awaited && self.cancel {
            let mut outgoing = self.shared.outgoing.lock();
            if matches!(outgoing.phase(), Phase::Online) {
                outgoing.push_control(&Frame::Cancel(Cancel {
                    request: self.request,
                }));
                drop(outgoing);
                self.shared.driver.wake();
            }
        }
    }
}

/// Writes a question once there is a connection. Nothing of this kind waits in the queue while there is none.
async fn send(shared: &Shared, mut write: impl FnMut(&mut Outgoing)) -> Result<(), AskError> {
    loop {
        let mut changed = std::pin::pin!(shared.changed.notified());
        changed.as_mut().enable();
        if try_send(shared, &mut write)? {
            return Ok(());
        }
        changed.await;
    }
}

fn try_send(shared: &Shared, write: &mut impl FnMut(&mut Outgoing)) -> Result<bool, AskError> {
    let mut outgoing = shared.outgoing.lock();
    match outgoing.phase() {
        Phase::Closed(reason) => return Err(AskError::Closed(reason.clone())),
        Phase::Offline => return Ok(false),
        Phase::Online => write(&mut outgoing),
    }
    drop(outgoing);
    shared.driver.wake();
    Ok(true)
}

async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or(Err(AskError::TimedOut(limit)))
}

/// Whether somebody subscribes, or does within `wait`.
pub(crate) async fn interest(
    shared: &Shared,
    subject: &str,
    wait: Duration,
) -> Result<bool, AskError> {
    check_subject(subject)?;
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait_ms = u32::try_from(left.as_millis())
            .unwrap_or(u32::MAX)
            .min(INTEREST_WAIT_MS_MAX);
        let answer = interest_once(shared, subject, wait_ms).await;
        let more = Duration::from_millis(wait_ms.into()) < left;
        match answer {
            // The broker waits for a bounded time; a longer wait is several questions.
            Ok(false) if more => {}
            // A question that waits begins again on the next connection.
            Err(AskError::Disconnected | AskError::Cut(_)) if Instant::now() < deadline => {}
            other => return other,
        }
    }
}

async fn interest_once(shared: &Shared, subject: &str, wait_ms: u32) -> Result<bool, AskError> {
    let request = shared.next_request();
    let (done, answer) = oneshot::channel();
    shared
        .pending
        .lock()
        .wait(request, Waiter::Answer(done))
        .map_err(AskError::Closed)?;
    let _slot = Slot::new(shared, request, true);
    let question = Frame::Interest(Interest {
        request,
        subject: subject.to_owned(),
        wait_ms,
    });
    within(ASK_TIMEOUT + Duration::from_millis(wait_ms.into()), async {
        send(shared, |outgoing| outgoing.push_control(&question)).await?;
        match answer.await {
            Ok(Ok(Answer::Interested(answer))) => answer.map_err(AskError::Refused),
            Ok(Err(lost)) => Err(lost.into()),
            Ok(Ok(_)) | Err(_) => Err(AskError::Disconnected),
        }
    })
    .await
}

/// The subscriptions that the broker knows of.
pub(crate) async fn subscriptions(shared: &Shared) -> Result<Vec<Wanted>, AskError> {
    let request = shared.next_request();
    let (done, answer) = oneshot::channel();
    let waiter = Waiter::List {
        listed: Vec::new(),
        done,
    };
    shared
        .pending
        .lock()
        .wait(request, waiter)
        .map_err(AskError::Closed)?;
    let _slot = Slot::new(shared, request, true);
    within(ASK_TIMEOUT, async {
        send(shared, |outgoing| {
            outgoing.push_control(&Frame::List(List { request }));
        })
        .await?;
        match answer.await {
            Ok(Ok(listed)) => Ok(listed),
            Ok(Err(lost)) => Err(lost.into()),
            Err(_) => Err(AskError::Disconnected),
        }
    })
    .await
}

/// Sends a ping behind everything that waits and awaits the pong.
pub(crate) async fn ping(shared: &Arc<Shared>) -> Result<Duration, AskError> {
    struct PongSlot<'a>(&'a Shared, u64);
    impl Drop for PongSlot<'_> {
        fn drop(&mut self) {
            self.0.pending.lock().forget_pong(self.1);
        }
    }

    let token = TOKEN_FIRST + u64::from(shared.next_number());
    let (done, pong) = oneshot::channel();
    shared
        .pending
        .lock()
        .wait_pong(token, done)
        .map_err(AskError::Closed)?;
    let _slot = PongSlot(shared, token);
    within(ASK_TIMEOUT, async {
        send(shared, |outgoing| outgoing.push_last_ping(token)).await?;
        let sent = Instant::now();
        match pong.await {
            Ok(Ok(())) => Ok(sent.elapsed()),
            Ok(Err(lost)) => Err(lost.into()),
            Err(_) => Err(AskError::Disconnected),
        }
    })
    .await
}

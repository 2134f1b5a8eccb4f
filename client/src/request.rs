//! One answer, many answers, nobody there.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dialtone_protocol::{Code, RequestId};
use futures_util::Stream;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::error::{PublishError, RequestError};
use crate::message::Message;
use crate::outgoing::Outbound;
use crate::payload::{Payload, To};
use crate::pending::{Recipient, Waiter};
use crate::publish::{Draft, is_worth_repeating};
use crate::queue::{Bounds, Ending, Overflow, Queue};
use crate::shared::Shared;

/// How long a request waits for its answer by default.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Most answers to one request that wait; the client stops reading beyond.
const ANSWERS_MAX: usize = 4_096;

/// Most bytes of answers to one request that wait.
const ANSWERS_LEN_MAX: usize = 16 << 20;

/// When a stream of answers ends.
#[derive(Debug, Clone, Copy)]
pub struct Many {
    /// Longest wait for the next answer; 30 s by default.
    pub wait_max: Duration,
    /// Most answers; without a bound by default.
    pub messages_max: Option<u64>,
}

impl Default for Many {
    fn default() -> Self {
        Self {
            wait_max: REQUEST_TIMEOUT,
            messages_max: None,
        }
    }
}

/// Frees a number of the inbox, and the question that goes with it.
#[derive(Debug)]
struct InboxSlot {
    shared: Arc<Shared>,
    number: u32,
}

impl Drop for InboxSlot {
    fn drop(&mut self) {
        let mut pending = self.shared.pending.lock();
        pending.forget_inbox(self.number);
        pending.forget(RequestId(self.number));
    }
}

/// Waits at a fresh number of the inbox, under which the request is also acknowledged.
fn begin(
    shared: &Arc<Shared>,
    subject: &str,
    recipient: Recipient,
) -> Result<InboxSlot, RequestError> {
    let number = shared.next_number();
    let mut pending = shared.pending.lock();
    let waiter = Waiter::Request {
        subject: subject.to_owned(),
    };
    pending
        .wait(RequestId(number), waiter)
        .map_err(PublishError::Closed)?;
    pending
        .wait_inbox(number, recipient)
        .map_err(PublishError::Closed)?;
    drop(pending);
    Ok(InboxSlot {
        shared: Arc::clone(shared),
        number,
    })
}

fn address(outbound: &mut Outbound<'_>, slot: &InboxSlot) {
    outbound.request = Some(RequestId(slot.number));
    outbound.reply = crate::outgoing::Reply::Inbox(slot.number);
}

impl Draft<'_> {
    /// Sends the message as a request and waits for the first answer.
    ///
    /// # Errors
    /// At once when nobody subscribes (unless [`wait_for_interest`](Self::wait_for_interest) was asked for), when the
    /// connection is lost, or when no answer comes in time.
    pub async fn request(self) -> Result<Message, RequestError> {
        let shared = self.shared;
        let limit = self.timeout.unwrap_or(REQUEST_TIMEOUT);
        let patience = self.wait_for_interest;
        let deadline = Instant::now() + limit;
        let mut outbound = self.into_outbound(None, None);
        let first = once(shared, &mut outbound, deadline, limit).await;
        match (first, patience) {
            (Err(RequestError::NoSubscribers { subject }), Some(patience)) => {
                let patience = patience.min(deadline.saturating_duration_since(Instant::now()));
                if is_worth_repeating(shared, &subject, patience).await? {
                    once(shared, &mut outbound, deadline, limit).await
                } else {
                    Err(RequestError::NoSubscribers { subject })
                }
            }
            (result, _) => result,
        }
    }

    /// Sends the message as a request to everybody who subscribes, and collects the answers.
    ///
    /// That nobody subscribes is seen as an early end, with [`Answers::error`] saying so.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub async fn request_many(self, many: Many) -> Result<Answers, RequestError> {
        let shared = Arc::clone(self.shared);
        let mut outbound = self.into_outbound(None, None);
        let bounds = Bounds {
            messages_max: ANSWERS_MAX,
            bytes_max: ANSWERS_LEN_MAX,
            overflow: Overflow::Block,
        };
        let queue = Arc::new(Queue::new(bounds));
        let slot = begin(
            &shared,
            outbound.to.as_str(),
            Recipient::Many(Arc::clone(&queue)),
        )?;
        address(&mut outbound, &slot);
        shared.push(&outbound).await?;
        let sleep = Box::pin(tokio::time::sleep(many.wait_max));
        Ok(Answers {
            slot,
            queue,
            taken: VecDeque::new(),
            many,
            sleep,
            count: 0,
            is_over: false,
        })
    }
}

async fn once(
    shared: &Arc<Shared>,
    outbound: &mut Outbound<'_>,
    deadline: Instant,
    limit: Duration,
) -> Result<Message, RequestError> {
    let (done, answer) = oneshot::channel();
    let slot = begin(shared, outbound.to.as_str(), Recipient::One(done))?;
    address(outbound, &slot);
    let exchange = async {
        shared.push(outbound).await?;
        answer.await.unwrap_or(Err(RequestError::Disconnected))
    };
    tokio::time::timeout_at(deadline, exchange)
        .await
        .unwrap_or(Err(RequestError::TimedOut(limit)))
}

/// The answers to one request, as a [`Stream`]. Dropping it ends the wait.
#[derive(Debug)]
pub struct Answers {
    slot: InboxSlot,
    queue: Arc<Queue>,
    taken: VecDeque<Message>,
    many: Many,
    sleep: Pin<Box<Sleep>>,
    count: u64,
    is_over: bool,
}

impl Answers {
    /// The next answer; `None` when there were as many as wanted, or none came in time, or the wait ended with an
    /// [`error`](Self::error).
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Why the answers ended early, if they did.
    pub fn error(&self) -> Option<RequestError> {
        Some(match self.queue.ending()? {
            Ending::Refused(refused) if refused.code == Code::NoSubscribers => {
                RequestError::NoSubscribers {
                    subject: refused.text,
                }
            }
            Ending::Refused(refused) => PublishError::Refused(refused).into(),
            Ending::Closed(reason) => PublishError::Closed(reason).into(),
            Ending::Disconnected => RequestError::Disconnected,
            Ending::Cut(why) => RequestError::Cut(why),
            Ending::Withdrawn(why) => RequestError::Withdrawn(why),
            Ending::Caller => return None,
        })
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.is_over || self.many.messages_max.is_some_and(|max| self.count >= max) {
            return Poll::Ready(None);
        }
        if self.taken.is_empty() {
            let driver = &self.slot.shared.driver;
            if self
                .queue
                .poll_take(cx, &mut self.taken, || driver.wake())
                .is_pending()
            {
                if self.sleep.as_mut().poll(cx).is_ready() {
                    self.is_over = true;
                    return Poll::Ready(None);
                }
                return Poll::Pending;
            }
        }
        let message = self.taken.pop_front();
        if message.is_some() {
            self.count += 1;
            self.sleep
                .as_mut()
                .reset(Instant::now() + self.many.wait_max);
        }
        Poll::Ready(message)
    }
}

impl Stream for Answers {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_message(cx)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if self.queue.abandon() {
            self.slot.shared.driver.wake();
        }
    }
}

/// Something that can be requested in the short form.
pub(crate) fn draft<'a>(
    shared: &'a Arc<Shared>,
    to: impl Into<To<'a>>,
    payload: impl Into<Payload<'a>>,
    timeout: Duration,
) -> Draft<'a> {
    Draft::new(shared, to.into())
        .payload(payload)
        .timeout(timeout)
}

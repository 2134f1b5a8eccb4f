//! What the broker says.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dialtone_protocol::frame::message::DeliverView;
use dialtone_protocol::frame::{Action, Deliver, Drain, Ended, Fragment, Message, Pong};
use dialtone_protocol::{Frame, RequestId, SubscriptionId};

use super::output::{Delivery, Name, is_object};
use super::{Asked, Broken, Session, State, packets};

/// Most messages in fragments that are under way to a client; one more is dropped.
const UNFINISHED_MAX: usize = 1_024;

/// How long the next fragment may take, as clients give up the next chunk.
const UNFINISHED_IDLE_MAX: Duration = Duration::from_mins(2);

/// The longest time over which clients are sent away when the broker stops, so that they do not all come to the next
/// one at once.
const LEAVING_MAX: Duration = Duration::from_secs(5);

/// A message of which the client has some chunks.
#[derive(Debug)]
pub(super) struct Unfinished {
    next: u32,
    sent: u64,
    chunks: u64,
    name: Name,
    encoding: u8,
    headers: Option<Vec<u8>>,
    reply: Option<String>,
    touched: Instant,
}

impl Session {
    /// Takes the body of a frame.
    ///
    /// # Errors
    /// When it is none that a broker sends here.
    pub fn on_frame(&mut self, body: &[u8], now: Instant) -> Result<(), Broken> {
        if DeliverView::is_deliver(body) {
            return self.on_delivery(body, now);
        }
        let frame = Frame::decode(body).map_err(|error| Broken::Broker(error.to_string()))?;
        match frame {
            Frame::Deliver(deliver) => self.on_deliver(&deliver, now),
            Frame::Published(published) => {
                if let Some(Asked::Published { ack, subject }) = self.asked(published.request) {
                    self.on_published(ack, &subject, published.outcome);
                }
            }
            Frame::Subscribed(subscribed) => {
                drop(self.asked(subscribed.request));
                self.on_subscribed(subscribed.refused);
            }
            Frame::Unsubscribed(unsubscribed) => drop(self.asked(unsubscribed.request)),
            Frame::Interested(interested) => {
                if let Some(Asked::Interest {
                    ack,
                    subject,
                    waits,
                }) = self.asked(interested.request)
                {
                    self.on_interested(ack, &subject, waits, interested.answer);
                }
            }
            Frame::Welcome(welcome) => self.on_welcome(&welcome, now),
            Frame::Close(close) => self.on_close(&close, now),
            Frame::Ping(ping) => self.frames.push(&Frame::Pong(Pong { token: ping.token })),
            Frame::Denied(denied) => {
                let denied_publish = denied.action == Action::Publish
                    && denied.code == dialtone_protocol::Code::Denied;
                if denied_publish {
                    self.on_publish_denied(&denied.subject);
                }
            }
            Frame::Ended(ended) => self.on_ended(&ended, now),
            Frame::Dropped(dropped) => {
                tracing::debug!(count = dropped.count, "the broker has dropped messages");
            }
            Frame::Drain(drain) => self.on_drain(&drain, now),
            Frame::Pong(_) | Frame::Addresses(_) | Frame::Listed(_) => {}
            other @ (Frame::Hello(_)
            | Frame::Subscribe(_)
            | Frame::Unsubscribe(_)
            | Frame::Publish(_)
            | Frame::Interest(_)
            | Frame::List(_)
            | Frame::Cancel(_)
            | Frame::Link(_)) => {
                return Err(Broken::Broker(format!("a {} frame", other.name())));
            }
        }
        Ok(())
    }

    fn asked(&mut self, request: RequestId) -> Option<Asked> {
        self.asked.remove(&request)
    }

    /// A message, of which most fit into one packet, and several clients are told the same.
    fn on_delivery(&mut self, body: &[u8], now: Instant) -> Result<(), Broken> {
        let failed = |error: dialtone_protocol::DecodeError| Broken::Broker(error.to_string());
        let view = DeliverView::decode(body).map_err(failed)?;
        if view.fragment.is_none() && view.payload_len <= self.config.chunk_len_max() {
            if let Some(subscription) = self.subscriptions.get(view.subscription) {
                packets::deliver(&mut self.output, &subscription.pattern, &view, body);
            }
            // Otherwise it has ended here, and the broker did not know yet.
            return Ok(());
        }
        if let Frame::Deliver(deliver) = Frame::decode(body).map_err(failed)? {
            self.on_deliver(&deliver, now);
        }
        Ok(())
    }

    fn on_deliver(&mut self, deliver: &Deliver<'_>, now: Instant) {
        let message = &deliver.message;
        match deliver.fragment {
            None => self.deliver_whole(deliver.subscription, message),
            Some(fragment) => self.deliver_fragment(deliver.subscription, fragment, message, now),
        }
    }

    fn deliver_whole(&mut self, id: SubscriptionId, message: &Message<'_>) {
        let Some(subscription) = self.subscriptions.get(id) else {
            // It has ended here, and the broker did not know yet.
            return;
        };
        let name = self.names.next();
        let headers = message.headers.filter(|headers| is_object(headers));
        let mut payload = Bytes::copy_from_slice(message.payload);
        let mut seq = 0;
        loop {
            let chunk = payload.split_to(payload.len().min(self.config.chunk_len_max()));
            let done = payload.is_empty();
            let delivery = Delivery {
                pattern: subscription.pattern.event(),
                subject: message.subject,
                id: name.as_bytes(),
                seq,
                done,
                encoding: message.encoding,
                headers: headers.filter(|_| done),
                reply: message.reply.filter(|_| done),
            };
            self.output.deliver(&delivery, chunk);
            if done {
                return;
            }
            seq += 1;
        }
    }

    /// Passes on a fragment as a chunk. Headers come with the first fragment and go with the last chunk.
    fn deliver_fragment(
        &mut self,
        id: SubscriptionId,
        fragment: Fragment,
        message: &Message<'_>,
        now: Instant,
    ) {
        if fragment.index == 0 {
            if self.unfinished.len() >= UNFINISHED_MAX {
                return;
            }
            let headers = message.headers.filter(|headers| is_object(headers));
            self.unfinished.insert(
                fragment.id,
                Unfinished {
                    next: 0,
                    sent: 0,
                    chunks: 0,
                    name: self.names.next(),
                    encoding: message.encoding,
                    headers: headers.map(<[u8]>::to_vec),
                    reply: message.reply.map(str::to_owned),
                    touched: now,
                },
            );
        }
        let Some(mut unfinished) = self.unfinished.remove(&fragment.id) else {
            // The rest of a message that was given up.
            return;
        };
        let Some(subscription) = self.subscriptions.get(id) else {
            return;
        };
        if unfinished.next != fragment.index {
            return;
        }
        unfinished.next += 1;
        unfinished.touched = now;
        let mut payload = Bytes::copy_from_slice(message.payload);
        while !payload.is_empty() {
            let chunk = payload.split_to(payload.len().min(self.config.chunk_len_max()));
            unfinished.sent += chunk.len() as u64;
            let done = unfinished.sent >= fragment.total_len;
            let delivery = Delivery {
                pattern: subscription.pattern.event(),
                subject: message.subject,
                id: unfinished.name.as_bytes(),
                seq: unfinished.chunks,
                done,
                encoding: unfinished.encoding,
                headers: unfinished.headers.as_deref().filter(|_| done),
                reply: unfinished.reply.as_deref().filter(|_| done),
            };
            self.output.deliver(&delivery, chunk);
            unfinished.chunks += 1;
        }
        if unfinished.sent < fragment.total_len {
            self.unfinished.insert(fragment.id, unfinished);
        }
    }

    /// Forgets messages whose next fragment does not come.
    pub(super) fn expire_unfinished(&mut self, now: Instant) {
        self.unfinished.retain(|_, unfinished| {
            now.saturating_duration_since(unfinished.touched) <= UNFINISHED_IDLE_MAX
        });
    }

    /// The broker has ended a subscription, because a permission has ended. The client is told so, and told again who
    /// it is, upon which it compares its subscriptions with ours and gives up what it may not have.
    fn on_ended(&mut self, ended: &Ended, now: Instant) {
        let Some(pattern) = self.subscriptions.remove_id(ended.subscription) else {
            return;
        };
        self.member.set_subscriptions(self.subscriptions.len());
        let pattern = pattern.text();
        let text = format!(
            "permission denied subscribing to '{pattern}' from {}",
            self.user
        );
        self.tell_permission(pattern, "sub", &text);
        self.tell_info(now);
    }

    fn on_drain(&mut self, drain: &Drain, now: Instant) {
        if self.state != State::Open {
            return;
        }
        let within = Duration::from_millis(u64::from(drain.grace_ms) / 2).min(LEAVING_MAX);
        let share = f64::from(rand::random::<u16>()) / f64::from(u16::MAX);
        self.state = State::Leaves {
            until: now + within.mul_f64(share),
        };
    }
}

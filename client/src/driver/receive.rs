//! From bytes to messages in their subscriptions' queues, and answers to those who wait for them.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use dialtone_protocol::codec::split_frame;
use dialtone_protocol::frame::Refused;
use dialtone_protocol::frame::{self, Action, Ended, Frame, Pong};
use dialtone_protocol::session::client::{Answer, Assembled, Event};
use dialtone_protocol::{RequestId, SubscriptionId, Violation};
use dialtone_transport::Lane;
use tokio::time::Instant;

use super::Driver;
use super::link::Link;
use crate::error::ConnectError;
use crate::message::Message;
use crate::outgoing::parse_base36;
use crate::queue::Ending;

/// Most reads before other work has its turn.
const READS_MAX: usize = 16;

/// Most datagrams before other work has its turn.
const DATAGRAMS_MAX: usize = 256;

/// What a frame means for the connection that it came on.
enum Fault {
    Violation(Violation),
    Close(frame::Close),
}

impl<E: Into<Violation>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Violation(error.into())
    }
}

impl Fault {
    fn at(self, link: &Link) -> ConnectError {
        let endpoint = link.endpoint();
        match self {
            Self::Violation(source) => ConnectError::Violation {
                endpoint: endpoint.clone(),
                source,
            },
            Self::Close(close) => ConnectError::refused(endpoint, close),
        }
    }
}

impl Driver {
    /// Whether a queue must have room before more is read.
    pub(super) fn is_blocked(&mut self) -> bool {
        self.blocking.retain(|queue| queue.blocks());
        !self.blocking.is_empty()
    }

    /// Reads what is there.
    pub(super) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
    ) -> Result<(), ConnectError> {
        for _ in 0..READS_MAX {
            if self.is_blocked() {
                return Ok(());
            }
            let mut progressed = self.receive_lane(cx, link, Lane::Interactive)?;
            if link.has_bulk() {
                progressed |= self.receive_lane(cx, link, Lane::Bulk)?;
            }
            progressed |= self.receive_datagrams(cx, link)?;
            if !progressed {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn receive_lane(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
        lane: Lane,
    ) -> Result<bool, ConnectError> {
        match link.poll_lane(cx, lane) {
            Poll::Pending => return Ok(false),
            Poll::Ready(result) => result?,
        }
        self.session.on_bytes(Instant::now().into_std());
        self.understand(link, lane)?;
        Ok(true)
    }

    /// What came with the handshake's last frame.
    pub(super) fn receive_rest(&mut self, link: &mut Link) -> Result<(), ConnectError> {
        self.understand(link, Lane::Interactive)
    }

    /// Takes the whole frames from the front of a lane's buffer.
    fn understand(&mut self, link: &mut Link, lane: Lane) -> Result<(), ConnectError> {
        let mut buf = std::mem::take(match lane {
            Lane::Interactive | Lane::Control => &mut link.interactive,
            Lane::Bulk => &mut link.bulk,
        });
        let (taken, result) = self.on_frames(&buf, link.frame_len_max());
        self.deliver();
        if taken == buf.len() {
            buf.clear();
        } else {
            drop(buf.drain(..taken));
        }
        match lane {
            Lane::Interactive | Lane::Control => link.interactive = buf,
            Lane::Bulk => link.bulk = buf,
        }
        result.map_err(|fault| fault.at(link))
    }

    fn receive_datagrams(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Link,
    ) -> Result<bool, ConnectError> {
        let mut progressed = false;
        for _ in 0..DATAGRAMS_MAX {
            let Poll::Ready(datagram) = link.poll_datagram(cx) else {
                break;
            };
            let datagram = datagram?;
            progressed = true;
            let (_, result) = self.on_frames(&datagram, link.frame_len_max());
            result.map_err(|fault| fault.at(link))?;
        }
        self.deliver();
        Ok(progressed)
    }

    /// Takes the whole frames from the front of `bytes`; returns how long they were.
    fn on_frames(&mut self, bytes: &[u8], frame_len_max: u32) -> (usize, Result<(), Fault>) {
        let now = Instant::now().into_std();
        let mut taken = 0;
        loop {
            let (body, len) =
                match split_frame(bytes.get(taken..).unwrap_or_default(), frame_len_max) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return (taken, Ok(())),
                    Err(error) => return (taken, Err(error.into())),
                };
            taken += len;
            let result = match self.session.on_body(body, now) {
                Ok(event) => {
                    if matches!(event, Event::Heard) {
                        self.on_heard(body);
                    }
                    self.on_event(event)
                }
                Err(violation) => Err(violation.into()),
            };
            if let Err(fault) = result {
                return (taken, Err(fault));
            }
        }
    }

    /// The session does not say which pong it was, since it needs none in particular; those who measure do.
    fn on_heard(&self, body: &[u8]) {
        if let Ok(Frame::Pong(pong)) = Frame::decode(body) {
            self.shared.pending.lock().on_pong(pong.token);
        }
    }

    fn on_message(
        &mut self,
        id: SubscriptionId,
        message: &frame::Message<'_>,
    ) -> Result<(), Fault> {
        let payload = Bytes::copy_from_slice(message.payload);
        let subject = self.subjects.get(message.subject)?.clone();
        let mut new = Message::new(subject, message.encoding, payload);
        if let Some(headers) = message.headers {
            new = new.with_headers(Bytes::copy_from_slice(headers));
        }
        if let Some(reply) = message.reply {
            new = new.with_reply(reply, &self.shared);
        }
        self.stage(id, new);
        Ok(())
    }

    fn on_assembled(&mut self, id: SubscriptionId, assembled: Assembled) -> Result<(), Fault> {
        let subject = self.subjects.get(&assembled.subject)?.clone();
        let mut new = Message::new(subject, assembled.encoding, assembled.payload.into());
        if let Some(headers) = assembled.headers {
            new = new.with_headers(headers.into());
        }
        if let Some(reply) = &assembled.reply {
            new = new.with_reply(reply, &self.shared);
        }
        self.stage(id, new);
        Ok(())
    }

    fn stage(&mut self, id: SubscriptionId, message: Message) {
        if id == SubscriptionId::INBOX {
            self.on_inbox(message);
            return;
        }
        // A subscription that was just ended may still have had deliveries on their way.
        let Some(entry) = self.subscriptions.get_mut(&id) else {
            return;
        };
        if entry.staged.is_empty() {
            self.dirty.push(id);
        }
        entry.staged.push(message);
    }

    fn on_inbox(&mut self, message: Message) {
        let number = message
            .subject()
            .as_str()
            .strip_prefix(&self.inbox)
            .and_then(parse_base36);
        let Some(number) = number else { return };
        let full = self.shared.pending.lock().on_inbox(number, message);
        self.blocking.extend(full);
    }

    /// Hands what was staged to the consumers: one lock and at most one wake per subscription and read.
    fn deliver(&mut self) {
        for id in self.dirty.drain(..) {
            let Some(entry) = self.subscriptions.get_mut(&id) else {
                continue;
            };
            if entry.queue.append(&mut entry.staged) {
                self.blocking.push(Arc::clone(&entry.queue));
            }
            if entry.staged.capacity() > 4_096 {
                entry.staged = Vec::new();
            }
        }
    }

    fn on_event(&mut self, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Message(id, message) => self.on_message(id, &message)?,
            Event::Assembled(id, assembled) => self.on_assembled(id, assembled)?,
            Event::Answer(request, answer) => self.on_answer(request, answer),
            Event::Ended(ended) => self.on_ended(ended),
            Event::Dropped(dropped) => {
                if let Some(entry) = self.subscriptions.get(&dropped.subscription) {
                    entry.queue.add_dropped(dropped.count);
                }
            }
            Event::Denied(denied) => {
                // Whoever listens decides how loudly it is said.
                tracing::info!(subject = denied.subject, code = %denied.code, text = denied.text, "denied by the broker");
                if denied.action == Action::Publish {
                    self.shared.pending.lock().on_denied(&denied);
                }
                // Nobody may listen, which is fine: it was logged.
                drop(self.denials.send(denied));
            }
            Event::Drain(drain) => self.on_drain(&drain),
            Event::Addresses(addresses) => self.addresses.learn(&addresses.addresses),
            Event::Ping(token) => self.send(&Frame::Pong(Pong { token })),
            // The session accepts a welcome only before it is open.
            Event::Welcome(_) | Event::Heard => {}
            Event::Close(close) => return Err(Fault::Close(close)),
        }
        Ok(())
    }

    fn on_answer(&mut self, request: RequestId, answer: Answer) {
        match answer {
            Answer::Subscribed(refused) => self.on_subscribed(request, refused),
            Answer::Unsubscribed => {
                self.on_unsubscribed(request);
                self.on_paused(request);
            }
            Answer::Published(_) | Answer::Interested(_) | Answer::Listed(..) => {
                self.shared.pending.lock().on_answer(request, answer);
            }
        }
    }

    fn on_subscribed(&mut self, request: RequestId, refused: Vec<(SubscriptionId, Refused)>) {
        let ids = self.subscribing.remove(&request).unwrap_or_default();
        for (id, refused) in refused {
            let Some(entry) = self.subscriptions.remove(&id) else {
                continue;
            };
            match entry.confirmed {
                Some(confirmed) => drop(confirmed.send(Err(refused.into()))),
                // It was restored after a reconnect.
                None => entry.queue.end(Ending::Refused(refused)),
            }
        }
        let mut unwanted = Vec::new();
        for id in ids {
            let Some(entry) = self.subscriptions.get_mut(&id) else {
                continue;
            };
            if let Some(confirmed) = entry.confirmed.take()
                && confirmed.send(Ok(id)).is_err()
            {
                unwanted.push(id);
            }
        }
        // Their callers have given up waiting.
        self.give_up(unwanted);
    }

    fn on_ended(&mut self, ended: Ended) {
        let Some(mut entry) = self.subscriptions.remove(&ended.subscription) else {
            return;
        };
        entry.queue.append(&mut entry.staged);
        let refused = Refused {
            code: ended.code,
            text: ended.text,
        };
        match entry.confirmed {
            Some(confirmed) => drop(confirmed.send(Err(refused.into()))),
            None => entry.queue.end(Ending::Refused(refused)),
        }
    }
}

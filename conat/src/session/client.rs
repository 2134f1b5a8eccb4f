//! What a client wants.

use std::borrow::Cow;
use std::time::Instant;

use dialtone_protocol::Frame;
use dialtone_protocol::frame::Unsubscribe as UnsubscribeFrame;
use dialtone_protocol::limits::SUBSCRIBE_BATCH_MAX;
use serde_json::Value;

use super::{Asked, Broken, Session};
use crate::event::{Batch, Event, Unsubscribe};

/// The binary messages of an event, of which most have none or one.
#[derive(Debug, Default)]
pub(super) struct Attachments<'a> {
    earlier: Vec<Vec<u8>>,
    last: Option<Cow<'a, [u8]>>,
}

impl<'a> Attachments<'a> {
    pub(super) fn new(earlier: Vec<Vec<u8>>, last: Cow<'a, [u8]>) -> Self {
        Self {
            earlier,
            last: Some(last),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.earlier.len() + usize::from(self.last.is_some())
    }

    /// The one with this number.
    pub(super) fn take(&mut self, number: usize) -> Option<Cow<'a, [u8]>> {
        if number == self.earlier.len() {
            return self.last.take();
        }
        let found = self.earlier.get_mut(number).map(std::mem::take);
        found.map(Cow::Owned)
    }
}

impl Session {
    /// An event with all of its binary messages.
    pub(super) fn on_event(
        &mut self,
        ack: Option<u64>,
        json: &str,
        attachments: Attachments<'_>,
        now: Instant,
    ) -> Result<(), Broken> {
        let event = match Event::parse(json) {
            Ok(event) => event,
            Err(error) if ack.is_some() => {
                self.answer_error(ack, &error.to_string(), Some(400));
                return Ok(());
            }
            Err(error) => return Err(Broken::Event(error.to_string())),
        };
        match event {
            Event::Publish(publish) => self.on_publish(&publish, ack, attachments, now),
            Event::Subscribe(batch) => self.on_subscribe(batch, ack),
            Event::Unsubscribe(batch) => self.on_unsubscribe(&batch, ack),
            Event::Subscriptions => {
                if let Some(ack) = ack {
                    let patterns: Vec<Value> = self.subscriptions.patterns().collect();
                    self.output.answer(ack, &patterns.into());
                }
            }
            Event::WaitForInterest(wait) => self.on_wait_for_interest(&wait, ack),
            Event::Cluster => {
                if let Some(ack) = ack {
                    let addresses = self.node.addresses.all();
                    self.output.answer(ack, &addresses.into());
                }
            }
            Event::Stats(stats) => self.member.set_received(stats.recv0),
            Event::Unknown(name) => {
                tracing::debug!(%name, "an event that nobody knows");
                // As for any event without a handler there is no answer: the client's timeout tells it.
            }
        }
        Ok(())
    }

    /// Ends subscriptions. What is delivered before the broker knows is dropped here.
    fn on_unsubscribe(&mut self, batch: &Batch<Unsubscribe>, ack: Option<u64>) {
        let subjects = batch
            .items
            .iter()
            .filter_map(|item| item.subject.as_deref());
        let ids: Vec<_> = subjects
            .filter_map(|subject| self.subscriptions.remove(subject))
            .collect();
        for ids in ids.chunks(SUBSCRIBE_BATCH_MAX) {
            let request = self.request(Asked::Subscribed);
            self.frames.push(&Frame::Unsubscribe(UnsubscribeFrame {
                request,
                ids: ids.to_vec(),
            }));
        }
        self.member.set_subscriptions(self.subscriptions.len());
        self.member.touch();
        let Some(ack) = ack else { return };
        let answer = if batch.is_array {
            Value::from(vec![Value::Null; batch.items.len()])
        } else {
            Value::Null
        };
        self.output.answer(ack, &answer);
    }
}

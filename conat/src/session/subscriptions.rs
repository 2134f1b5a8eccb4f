//! Which patterns a client subscribes to, and those that the broker is being asked about.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_protocol::frame::{Pick, Refused, Subscribe as SubscribeFrame, Wanted};
use dialtone_protocol::limits::{GROUP_LEN_MAX, HEAD_LEN_MAX, SUBSCRIBE_BATCH_MAX};
use dialtone_protocol::{Code, Frame, SubscriptionId, subject};
use hashbrown::HashMap;
use serde_json::{Value, json};

use super::{Asked, Session, error_json};
use crate::event::{Batch, Subscribe};
use crate::patterns::{Pattern, Patterns};

/// The pattern that sees everything and is counted by nobody.
const EVERYTHING: &str = ">";

/// Subscriptions by their pattern and by their number, in the order in which they began.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// Those of all connections.
    patterns: Arc<Patterns>,
    by_pattern: HashMap<Box<str>, SubscriptionId>,
    by_id: BTreeMap<u32, Subscription>,
    next: u32,
    max: usize,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) pattern: Arc<Pattern>,
    group: Box<str>,
}

impl Subscriptions {
    pub(super) fn new(patterns: Arc<Patterns>) -> Self {
        Self {
            patterns,
            by_pattern: HashMap::new(),
            by_id: BTreeMap::new(),
            next: 0,
            max: 0,
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.by_id.get(&id.0)
    }

    pub(super) fn patterns(&self) -> impl Iterator<Item = Value> {
        self.by_id
            .values()
            .map(|subscription| Value::from(subscription.pattern.text()))
    }

    fn insert(&mut self, pattern: &str, group: &str) -> SubscriptionId {
        self.next += 1;
        let id = SubscriptionId(self.next);
        self.by_pattern.insert(pattern.into(), id);
        let subscription = Subscription {
            pattern: self.patterns.enter(pattern, group),
            group: group.into(),
        };
        self.by_id.insert(id.0, subscription);
        id
    }

    pub(super) fn remove(&mut self, pattern: &str) -> Option<SubscriptionId> {
        let id = *self.by_pattern.get(pattern)?;
        self.remove_id(id).map(|_| id)
    }

    /// The pattern of a subscription that is no more.
    pub(super) fn remove_id(&mut self, id: SubscriptionId) -> Option<Arc<Pattern>> {
        let Subscription { pattern, group } = self.by_id.remove(&id.0)?;
        self.by_pattern.remove(pattern.text());
        self.patterns.leave(pattern.text(), &group);
        Some(pattern)
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for Subscription { pattern, group } in self.by_id.values() {
            self.patterns.leave(pattern.text(), group);
        }
    }
}

/// Subscriptions that the broker is being asked about; one event at a time.
#[derive(Debug)]
pub(super) struct Subscribing {
    ack: Option<u64>,
    is_array: bool,
    results: Vec<Item>,
    refused: HashMap<SubscriptionId, Refused>,
    /// Answers of the broker that have not come.
    waiting: usize,
}

#[derive(Debug)]
enum Item {
    New(SubscriptionId, Box<str>),
    /// There when it was asked for, or begun by an earlier item of the same event.
    Already(SubscriptionId, Box<str>),
    Refused(Value),
}

impl Session {
    pub(super) fn on_subscribe(&mut self, batch: Batch<Subscribe>, ack: Option<u64>) {
        let mut wanted = Vec::new();
        let mut results = Vec::with_capacity(batch.items.len());
        for item in batch.items {
            results.push(self.begin(item, &mut wanted));
        }
        self.subscribing = Some(Subscribing {
            ack,
            is_array: batch.is_array,
            results,
            refused: HashMap::new(),
            waiting: 0,
        });
        let waiting = self.ask_for(wanted);
        if let Some(subscribing) = &mut self.subscribing {
            subscribing.waiting = waiting;
        }
        self.member.touch();
        self.conclude_subscribing();
    }

    /// Judges one wish as far as that is possible here, in the order of checks that clients know.
    fn begin(&mut self, item: Subscribe, wanted: &mut Vec<Wanted>) -> Item {
        let pattern = item.subject.unwrap_or_default();
        if let Some(id) = self.subscriptions.by_pattern.get(pattern.as_str()) {
            return Item::Already(*id, pattern.into());
        }
        let Some(group) = item.queue else {
            return Item::Refused(error_json("queue must be defined", None));
        };
        if subject::check_pattern(&pattern).is_err() {
            return Item::Refused(error_json("invalid subject", None));
        }
        if group.len() > GROUP_LEN_MAX {
            let text = format!("the name of a queue group has at most {GROUP_LEN_MAX} bytes");
            return Item::Refused(error_json(&text, Some(413)));
        }
        let (have, max) = (self.subscriptions.len(), self.subscriptions.max);
        if have >= max {
            let text = format!(
                "there is a limit of at most {max} subscriptions and you currently have {have} subscriptions -- \
                 subscription to '{pattern}' denied"
            );
            return Item::Refused(error_json(&text, Some(429)));
        }
        let id = self.subscriptions.insert(&pattern, &group);
        wanted.push(Wanted {
            id,
            tap: pattern == EVERYTHING,
            // The empty name is a group like any other for clients, and none for the broker.
            group: Some(if group.is_empty() {
                "-".to_owned()
            } else {
                group
            }),
            pick: Pick::Any,
            drop_oldest: 0,
            pattern: pattern.clone(),
        });
        Item::New(id, pattern.into())
    }

    /// Asks the broker in as many frames as it takes; returns how many.
    fn ask_for(&mut self, wanted: Vec<Wanted>) -> usize {
        let room = self.limits.frame_len_max.saturating_sub(HEAD_LEN_MAX) as usize;
        let (mut frames, mut len) = (0, 0);
        let mut batch = Vec::new();
        for one in wanted {
            let needed = one.wire_len_max();
            if !batch.is_empty() && (len + needed > room || batch.len() == SUBSCRIBE_BATCH_MAX) {
                self.push_subscribe(std::mem::take(&mut batch));
                (frames, len) = (frames + 1, 0);
            }
            len += needed;
            batch.push(one);
        }
        if !batch.is_empty() {
            self.push_subscribe(batch);
            frames += 1;
        }
        frames
    }

    fn push_subscribe(&mut self, wanted: Vec<Wanted>) {
        let request = self.request(Asked::Subscribed);
        self.frames
            .push(&Frame::Subscribe(SubscribeFrame { request, wanted }));
    }

    /// The broker has answered for some of them.
    pub(super) fn on_subscribed(&mut self, refused: Vec<(SubscriptionId, Refused)>) {
        for (id, _) in &refused {
            self.subscriptions.remove_id(*id);
        }
        if let Some(subscribing) = &mut self.subscribing {
            subscribing.refused.extend(refused);
            subscribing.waiting = subscribing.waiting.saturating_sub(1);
        }
        self.conclude_subscribing();
    }

    /// Answers the client when the broker has answered for all.
    fn conclude_subscribing(&mut self) {
        let Some(subscribing) = self
            .subscribing
            .take_if(|subscribing| subscribing.waiting == 0)
        else {
            return;
        };
        let mut results = Vec::with_capacity(subscribing.results.len());
        for item in &subscribing.results {
            let result = match item {
                Item::New(id, pattern) => match subscribing.refused.get(id) {
                    None => json!({ "status": "added" }),
                    Some(refused) => self.refusal(pattern, refused),
                },
                Item::Already(id, pattern) => match subscribing.refused.get(id) {
                    None => json!({ "status": "already-added" }),
                    Some(refused) => self.refusal(pattern, refused),
                },
                Item::Refused(error) => error.clone(),
            };
            results.push(result);
        }
        self.member.set_subscriptions(self.subscriptions.len());
        let Some(ack) = subscribing.ack else { return };
        let answer = if subscribing.is_array {
            Value::from(results)
        } else {
            results.pop().unwrap_or_default()
        };
        self.output.answer(ack, &answer);
    }

    fn refusal(&mut self, pattern: &str, refused: &Refused) -> Value {
        if refused.code == Code::Denied {
            let text = format!(
                "permission denied subscribing to '{pattern}' from {}",
                self.user
            );
            self.tell_permission(pattern, "sub", &text);
            return error_json(&text, Some(403));
        }
        if refused.code == Code::InvalidSubject {
            return error_json("invalid subject", None);
        }
        error_json(&refused.text, Some(refused.code.number()))
    }
}

//! Beginning, ending and listing subscriptions.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use dialtone_protocol::frame::{
    Action, List, Listed, Refused, Subscribe, Subscribed, Unsubscribe, Unsubscribed, Wanted,
};
use dialtone_protocol::limits::{GROUP_LEN_MAX, SUBSCRIBE_BATCH_MAX};
use dialtone_protocol::{Code, Frame, Pattern, SubscriptionId, subject};

use super::Conn;
use super::effects::Effects;
use super::read::Flow;
use crate::peer::Peer;
use crate::router::{Member, Target};

/// Longest part of a list of subscriptions, in bytes; well within any peer's frame limit.
const LISTED_LEN_MAX: usize = 64 << 10;

impl Conn {
    pub(super) fn on_subscribe(&mut self, subscribe: &Subscribe, effects: &mut Effects) -> Flow {
        if let Some(pattern) = self.first_undecided(subscribe) {
            return Flow::Ask(Action::Subscribe, pattern);
        }
        let mut refused = Vec::new();
        for wanted in &subscribe.wanted {
            if let Err(reason) = self.subscribe_one(wanted) {
                self.shared
                    .metrics
                    .denied
                    .add(u64::from(reason.code == Code::Denied));
                refused.push((wanted.id, reason));
            }
        }
        let answer = Subscribed {
            request: subscribe.request,
            refused,
        };
        effects.push_frame(&self.peer, &Frame::Subscribed(answer));
        Flow::On
    }

    /// A pattern of the batch that the provider has not been asked about.
    fn first_undecided(&self, subscribe: &Subscribe) -> Option<String> {
        let undecided = |wanted: &&Wanted| {
            subject::check_pattern(&wanted.pattern).is_ok()
                && self
                    .decisions
                    .of(&self.principal, Action::Subscribe, &wanted.pattern)
                    .is_none()
        };
        subscribe
            .wanted
            .iter()
            .find(undecided)
            .map(|wanted| wanted.pattern.clone())
    }

    fn subscribe_one(&mut self, wanted: &Wanted) -> Result<(), Refused> {
        let pattern = Pattern::new(&wanted.pattern).map_err(|error| {
            Refused::new(
                Code::InvalidSubject,
                format!("{error}: {:?}", wanted.pattern),
            )
        })?;
        check_wanted(wanted)?;
        if self.subscriptions.contains_key(&wanted.id.0) {
            return Err(Refused::new(
                Code::Conflict,
                format!("subscription {} exists already", wanted.id),
            ));
        }
        let allowed = self
            .decisions
            .of(&self.principal, Action::Subscribe, pattern.as_str());
        if allowed != Some(true) {
            let text = format!("permission denied: subscribing to {:?}", pattern.as_str());
            return Err(Refused::new(Code::Denied, text));
        }
        let max = self.session.limits().subscriptions_max;
        if self.subscriptions.len() >= max as usize {
            self.shared.metrics.limit_refusals.add(1);
            return Err(Refused::new(
                Code::TooMany,
                format!("the connection has its limit of {max} subscriptions"),
            ));
        }
        let target = Target {
            peer: Arc::clone(&self.peer),
            subscription: wanted.id,
            drop_oldest: wanted.drop_oldest,
        };
        let group = wanted
            .group
            .as_deref()
            .map(|name| (Box::from(name), wanted.pick));
        let entry = self.shared.router.subscribe(
            &pattern,
            Member {
                target,
                group,
                tap: wanted.tap,
            },
        );
        self.subscriptions.insert(wanted.id.0, entry);
        self.shared.interest_changed(pattern.as_str());
        self.peer.subscriptions.fetch_add(1, Relaxed);
        if !wanted.tap {
            self.shared.waiting.satisfy(pattern.as_str());
        }
        Ok(())
    }

    pub(super) fn on_unsubscribe(&mut self, unsubscribe: &Unsubscribe, effects: &mut Effects) {
        for id in &unsubscribe.ids {
            if let Some(entry) = self.subscriptions.remove(&id.0) {
                self.shared
                    .router
                    .unsubscribe(&entry, |target| is_it(target, &self.peer, *id));
                self.shared.interest_changed(entry.name());
                self.peer.outbox.forget(*id);
                self.peer.subscriptions.fetch_sub(1, Relaxed);
            }
        }
        let answer = Unsubscribed {
            request: unsubscribe.request,
        };
        effects.push_frame(&self.peer, &Frame::Unsubscribed(answer));
    }

    /// Answers in parts, each within the number and the length that the peer takes.
    pub(super) fn on_list(&self, list: &List, effects: &mut Effects) {
        let mut ids: Vec<_> = self
            .subscriptions
            .keys()
            .map(|&id| SubscriptionId(id))
            .collect();
        ids.sort_unstable();
        let (mut part, mut part_len) = (Vec::new(), 0);
        for id in ids {
            let entry = self.subscriptions.get(&id.0);
            let Some(wanted) = entry.and_then(|entry| entry.describe(|t| is_it(t, &self.peer, id)))
            else {
                continue;
            };
            let len = wanted.wire_len_max();
            if part.len() >= SUBSCRIBE_BATCH_MAX || part_len + len > LISTED_LEN_MAX {
                let subscriptions = std::mem::take(&mut part);
                part_len = 0;
                let listed = Listed {
                    request: list.request,
                    subscriptions,
                    more: true,
                };
                effects.push_frame(&self.peer, &Frame::Listed(listed));
            }
            part_len += len;
            part.push(wanted);
        }
        let listed = Listed {
            request: list.request,
            subscriptions: part,
            more: false,
        };
        effects.push_frame(&self.peer, &Frame::Listed(listed));
    }
}

fn check_wanted(wanted: &Wanted) -> Result<(), Refused> {
    if wanted.id == SubscriptionId::INBOX {
        return Err(Refused::new(Code::Conflict, "subscription 0 is the inbox"));
    }
    match &wanted.group {
        Some(group) if group.is_empty() || group.len() > GROUP_LEN_MAX => {
            let text = format!(
                "a queue group's name has 1 to {GROUP_LEN_MAX} bytes, not {}",
                group.len()
            );
            Err(Refused::new(Code::InvalidSubject, text))
        }
        _ => Ok(()),
    }
}

pub(super) fn is_it(target: &Target<Arc<Peer>>, peer: &Arc<Peer>, id: SubscriptionId) -> bool {
    target.subscription == id && Arc::ptr_eq(&target.peer, peer)
}

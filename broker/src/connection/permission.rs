//! What the connection's principal may do: asked once for each subject, kept, and asked again when
//! it changes.

use std::sync::Arc;

use ahash::RandomState;
use dialtone_protocol::frame::{Action, Ended};
use dialtone_protocol::{Code, Frame, SubscriptionId, Violation};
use hashbrown::HashMap;

use super::{Conn, Ending};
use crate::auth::{Permissions, Principal};

/// Most decisions that are kept; when there are more, all are forgotten and asked again.
const DECISIONS_MAX: usize = 10_000;

/// What a provider has decided about a connection's subjects.
#[derive(Debug, Default)]
pub(super) struct Decisions(HashMap<(Action, Box<str>), bool, RandomState>);

impl Decisions {
    /// Whether the principal may; `None` when the provider must be asked.
    pub(super) fn of(&self, principal: &Principal, action: Action, subject: &str) -> Option<bool> {
        match &principal.permissions {
            Permissions::All => Some(true),
            Permissions::Rules(rules) => Some(match action {
                Action::Publish => rules.publish.allows_subject(subject),
                Action::Subscribe => rules.subscribe.allows_pattern(subject),
            }),
            Permissions::Ask => self.0.get(&(action, Box::from(subject))).copied(),
        }
    }

    fn keep(&mut self, action: Action, subject: String, decision: bool) {
        if self.0.len() >= DECISIONS_MAX {
            self.0.clear();
        }
        self.0.insert((action, subject.into_boxed_str()), decision);
    }
}

impl Conn {
    /// Asks the provider about a subject and keeps the answer.
    pub(super) async fn ask(&mut self, action: Action, subject: String) {
        let decision = self
            .shared
            .auth
            .authorize(&self.principal, action, &subject)
            .await;
        self.decisions.keep(action, subject, decision);
    }

    /// The principal's permissions may have changed: asks again and ends what is no longer
    /// permitted.
    pub(super) async fn refresh(&mut self) -> Result<(), Ending> {
        let refreshed = self.shared.auth.refresh(&self.principal).await;
        self.principal = refreshed.map_err(|refused| {
            // Whoever is refused later than at the handshake is sent away for good.
            Ending::Broker(Violation::new(Code::Kicked, refused.text))
        })?;
        self.decisions = Decisions::default();
        self.cache.clear();
        let held: Vec<(u32, String)> = self
            .subscriptions
            .iter()
            .map(|(&id, entry)| (id, entry.name().to_owned()))
            .collect();
        for (id, pattern) in held {
            if !self.may_subscribe(&pattern).await {
                self.end_subscription(SubscriptionId(id), &pattern);
            }
        }
        Ok(())
    }

    async fn may_subscribe(&mut self, pattern: &str) -> bool {
        match self
            .decisions
            .of(&self.principal, Action::Subscribe, pattern)
        {
            Some(decision) => decision,
            None => {
                self.ask(Action::Subscribe, pattern.to_owned()).await;
                self.decisions
                    .of(&self.principal, Action::Subscribe, pattern)
                    .unwrap_or(false)
            }
        }
    }

    fn end_subscription(&mut self, id: SubscriptionId, pattern: &str) {
        let Some(entry) = self.subscriptions.remove(&id.0) else {
            return;
        };
        let peer = Arc::clone(&self.peer);
        self.shared.router.unsubscribe(&entry, |t| {
            t.subscription == id && Arc::ptr_eq(&t.peer, &peer)
        });
        self.peer
            .subscriptions
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let text = format!("permission denied: subscribing to {pattern:?}");
        self.say(&Frame::Ended(Ended {
            subscription: id,
            code: Code::Denied,
            text,
        }));
    }
}

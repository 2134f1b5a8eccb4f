//! What the connection's principal may do: asked once for each subject, kept, and asked again when
//! it changes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use dialtone_protocol::frame::{Action, Ended, Refused};
use dialtone_protocol::{Code, Frame, SubscriptionId, Violation};
use hashbrown::{HashMap, HashSet};

use super::cache::Verdict;
use super::{Conn, Ending};
use crate::auth::{Permissions, Principal};
use crate::chance::RandomState;
use crate::peer::Order;

/// How long a provider may take for an answer.
const ASK_MAX: Duration = Duration::from_secs(10);

/// Most decisions that are kept; when there are more, all are forgotten and asked again.
const DECISIONS_MAX: usize = 10_000;

/// Of the subjects that a connection has published to, how many are looked at again when its permissions change: the
/// first ones. For those beyond, the next publish finds out.
const PUBLISHED_MAX: usize = 1_000;

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

/// Where a connection that may not do everything has published, so that it can be told when it may no longer.
#[derive(Debug, Default)]
pub(super) struct Published(HashSet<Box<str>, RandomState>);

impl Published {
    /// Notes a subject, as long as there is room.
    pub(super) fn note(&mut self, subject: &str) {
        if self.0.len() < PUBLISHED_MAX && !self.0.contains(subject) {
            self.0.insert(Box::from(subject));
        }
    }
}

impl Conn {
    /// Asks the provider about a subject and keeps the answer.
    pub(super) async fn ask(&mut self, action: Action, subject: String) -> Result<(), Ending> {
        let (shared, principal) = (Arc::clone(&self.shared), self.principal.clone());
        let asked = shared.auth.authorize(&principal, action, &subject);
        let decision = self.attend(asked).await?;
        // Who does not answer in time has not permitted it; the next message asks again.
        self.decisions
            .keep(action, subject, decision.unwrap_or(false));
        Ok(())
    }

    /// Waits for the provider without neglecting the connection: what waits for the peer goes on
    /// being written, and the connection can be ended. `None` when the provider took too long.
    async fn attend<T>(&mut self, asked: impl Future<Output = T>) -> Result<Option<T>, Ending> {
        let mut asked = pin!(tokio::time::timeout(ASK_MAX, asked));
        poll_fn(|cx| {
            if let Poll::Ready(code) = self.peer.outbox.poll_owner(cx) {
                return Poll::Ready(Err(Ending::Outbox(code)));
            }
            match self.peer.take_order() {
                Some(Order::Close(close)) => {
                    let violation = Violation::new(close.code, close.text);
                    return Poll::Ready(Err(Ending::Broker(violation)));
                }
                Some(Order::Refresh) => self.refresh_due = true,
                None => {}
            }
            asked.as_mut().poll(cx).map(|answer| Ok(answer.ok()))
        })
        .await
    }

    /// The principal's permissions may have changed: asks again and ends what is no longer
    /// permitted.
    pub(super) async fn refresh(&mut self) -> Result<(), Ending> {
        self.refresh_due = false;
        let (shared, principal) = (Arc::clone(&self.shared), self.principal.clone());
        let refreshed = self.attend(shared.auth.refresh(&principal)).await?;
        let refreshed = refreshed.unwrap_or_else(|| {
            let text = "the permissions could not be confirmed in time";
            Err(Refused::new(Code::Timeout, text))
        });
        self.principal = refreshed.map_err(|refused| {
            // Whoever is refused later than at the handshake is sent away for good.
            Ending::Broker(Violation::new(Code::Kicked, refused.text))
        })?;
        let mut published: Vec<String> = self.published.0.drain().map(String::from).collect();
        // In an order that people can follow.
        published.sort_unstable();
        self.decisions = Decisions::default();
        self.cache.clear();
        self.check_subscriptions().await?;
        for subject in published {
            if self.may(Action::Publish, &subject).await? {
                self.published.note(&subject);
            } else {
                self.withdraw_publishing(&subject);
            }
        }
        Ok(())
    }

    /// Publishing to a subject is no longer permitted. The peer hears of it now and not with its next message: it may be
    /// waiting for an answer from there.
    fn withdraw_publishing(&mut self, subject: &str) {
        let text = format!("permission denied: publishing to {subject:?}");
        let refused = Refused::new(Code::Denied, text);
        self.tell_denied(subject.as_bytes(), &refused);
        let hash = self.shared.router.hash(subject.as_bytes());
        let verdict = Verdict::Refused(Box::new(refused));
        self.cache.insert(hash, subject.as_bytes(), verdict);
    }

    async fn check_subscriptions(&mut self) -> Result<(), Ending> {
        let mut held: Vec<(u32, String)> = self
            .subscriptions
            .iter()
            .map(|(&id, entry)| (id, entry.name().to_owned()))
            .collect();
        // In an order that people can follow.
        held.sort_unstable_by_key(|(id, _)| *id);
        for (id, pattern) in held {
            if !self.may(Action::Subscribe, &pattern).await? {
                self.end_subscription(SubscriptionId(id), &pattern);
            }
        }
        Ok(())
    }

    async fn may(&mut self, action: Action, subject: &str) -> Result<bool, Ending> {
        if let Some(decision) = self.decisions.of(&self.principal, action, subject) {
            return Ok(decision);
        }
        self.ask(action, subject.to_owned()).await?;
        let decision = self.decisions.of(&self.principal, action, subject);
        Ok(decision.unwrap_or(false))
    }

    fn end_subscription(&mut self, id: SubscriptionId, pattern: &str) {
        let Some(entry) = self.subscriptions.remove(&id.0) else {
            return;
        };
        let peer = Arc::clone(&self.peer);
        self.shared.router.unsubscribe(&entry, |t| {
            t.subscription == id && Arc::ptr_eq(&t.peer, &peer)
        });
        self.shared.interest_changed(entry.name());
        self.peer
            .subscriptions
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.peer.outbox.forget(id);
        let text = format!("permission denied: subscribing to {pattern:?}");
        self.say(&Frame::Ended(Ended {
            subscription: id,
            code: Code::Denied,
            text,
        }));
    }
}

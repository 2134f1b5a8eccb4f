//! What clients of a cluster have done and heard, and what must be true of it.
//!
//! Some of it must hold whatever happens: a message arrives once, in order, and only where it was asked for, and an
//! acknowledgement counts no delivery that there was not. More holds in a *calm*: a time that begins at rest and in
//! which nothing is lost. There every subscription that lasts gets everything.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_protocol::frame::{Close, Published, Wanted};
use dialtone_protocol::{Code, Pattern, RequestId, Subject, SubscriptionId};
use tokio::time::Instant;

use crate::peer::{Delivered, Said};

mod questions;
use questions::Question;

/// A client, by a number that no other one gets.
pub type ClientId = usize;

/// A moment: events are numbered.
type Moment = u64;

/// A message, by a number that rises with every one that is published.
pub type MessageId = u64;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    now: Moment,
    clients: BTreeMap<ClientId, Client>,
    subscriptions: BTreeMap<(ClientId, SubscriptionId), Subscription>,
    messages: BTreeMap<MessageId, Message>,
    questions: BTreeMap<(ClientId, RequestId), Question>,
    /// When it was calm; the last one may go on.
    calms: Vec<Calm>,
    is_calm: bool,
}

/// From when until when it was calm.
#[derive(Debug, Clone, Copy)]
struct Calm {
    began: Moment,
    ended: Moment,
}

impl Calm {
    /// Whether it is over when something ends, which may never be.
    fn is_before(&self, end: Option<Moment>) -> bool {
        end.is_none_or(|end| end > self.ended)
    }
}

#[derive(Debug)]
struct Client {
    node: String,
    inbox: String,
    /// When its connection was lost.
    lost: Option<Moment>,
    /// When its broker must have noticed that.
    gone: Option<Moment>,
    /// Its broker has said goodbye because it drains: whatever was meant for the client has come before.
    drained: bool,
    pending: BTreeMap<RequestId, MessageId>,
    /// The last whole message, and the last fragmented one, of each publisher on each subscription.
    last: BTreeMap<(SubscriptionId, ClientId, bool), MessageId>,
    /// How many fragments have come of a message.
    parts: BTreeMap<(SubscriptionId, MessageId), u32>,
}

#[derive(Debug)]
struct Subscription {
    owner: ClientId,
    wanted: Wanted,
    pattern: Pattern,
    asked: Moment,
    began: Option<Moment>,
    /// When that was confirmed, by the clock.
    began_at: Option<Instant>,
    ending: Option<Moment>,
    ended: Option<Moment>,
}

#[derive(Debug)]
struct Message {
    from: ClientId,
    subject: String,
    sent: Moment,
    /// In which calm, by number.
    calm: Option<usize>,
    fragments: u32,
    acknowledged: bool,
    count: Option<u32>,
    got: BTreeSet<(ClientId, SubscriptionId)>,
    reply: bool,
}

/// A message that asks for an answer has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who is to answer.
    pub client: ClientId,
    /// To where.
    pub reply: String,
}

/// How many of what were looked at, so that a run that shows nothing is noticed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Messages.
    pub messages: usize,
    /// Deliveries.
    pub deliveries: usize,
    /// Deliveries to a client of another node.
    pub crossed: usize,
    /// Acknowledgements.
    pub acknowledged: usize,
    /// Messages whose receivers were known exactly or nearly, since it was calm.
    pub calm: usize,
    /// Questions for subscribers that were asked while it was calm, and answered.
    pub questions: usize,
    /// Clients that were told to leave a node that drains, and were there until its goodbye.
    pub drained: usize,
}

impl Ledger {
    fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A client is welcome at a node.
    pub fn arrive(&mut self, node: &str, inbox: &str) -> ClientId {
        let id = self.clients.len();
        self.clients.insert(
            id,
            Client {
                node: node.to_owned(),
                inbox: inbox.to_owned(),
                lost: None,
                gone: None,
                drained: false,
                pending: BTreeMap::new(),
                last: BTreeMap::new(),
                parts: BTreeMap::new(),
            },
        );
        id
    }

    /// A client's connection has ended, or ends. Nobody knows what it gets from here on.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn lose(&mut self, client: ClientId) {
        let now = self.tick();
        let client = self.clients.get_mut(&client).expect("it has arrived");
        client.lost.get_or_insert(now);
    }

    /// The brokers have noticed by now which clients are lost.
    pub fn notice_lost(&mut self) {
        let now = self.tick();
        for client in self.clients.values_mut() {
            if client.lost.is_some() {
                client.gone.get_or_insert(now);
            }
        }
    }

    /// A client asks for a subscription, whose number was not used before.
    ///
    /// # Panics
    /// When the pattern is not valid.
    pub fn subscribe(&mut self, client: ClientId, wanted: Wanted) {
        let asked = self.tick();
        let pattern = Pattern::new(&wanted.pattern).expect("the test's patterns are valid");
        let subscription = Subscription {
            owner: client,
            pattern,
            asked,
            began: None,
            began_at: None,
            ending: None,
            ended: None,
            wanted,
        };
        let key = (client, subscription.wanted.id);
        self.subscriptions.insert(key, subscription);
    }

    /// The subscriptions of a client that it has not begun to end.
    pub fn held_by(&self, client: ClientId) -> Vec<SubscriptionId> {
        let of = self.subscriptions.iter().filter(|((owner, _), held)| {
            *owner == client && held.began.is_some() && held.ending.is_none()
        });
        of.map(|((_, id), _)| *id).collect()
    }

    /// A client asks for the end of a subscription.
    pub fn unsubscribe(&mut self, client: ClientId, id: SubscriptionId) {
        let now = self.tick();
        if let Some(subscription) = self.subscriptions.get_mut(&(client, id)) {
            subscription.ending.get_or_insert(now);
        }
    }

    /// A client publishes; its payload begins with the number that is returned, in eight bytes, little end first.
    ///
    /// # Panics
    /// When there is no such client.
    pub fn publish(
        &mut self,
        from: ClientId,
        subject: &str,
        request: Option<RequestId>,
        fragments: u32,
        reply: bool,
    ) -> MessageId {
        let sent = self.tick();
        let id = self.messages.len() as MessageId;
        let client = self.clients.get_mut(&from).expect("it has arrived");
        if let Some(request) = request {
            client.pending.insert(request, id);
        }
        self.messages.insert(
            id,
            Message {
                from,
                subject: subject.to_owned(),
                sent,
                calm: self.is_calm.then(|| self.calms.len() - 1),
                fragments,
                acknowledged: request.is_some(),
                count: None,
                got: BTreeSet::new(),
                reply,
            },
        );
        id
    }

    /// From here on nothing is lost: no node, no link, no client. The cluster is at rest.
    pub fn calm_begins(&mut self) {
        let began = self.tick();
        self.calms.push(Calm {
            began,
            ended: Moment::MAX,
        });
        self.is_calm = true;
    }

    /// Everything may be lost again.
    pub fn calm_ends(&mut self) {
        let now = self.tick();
        self.is_calm = false;
        if let Some(calm) = self.calms.last_mut() {
            calm.ended = now;
        }
    }

    /// A client has heard this. Returns what it is to answer.
    ///
    /// # Errors
    /// When that should not have been said to it.
    pub fn hear(&mut self, client: ClientId, said: Said) -> Result<Option<Asked>, String> {
        let now = self.tick();
        match said {
            Said::Deliver(delivered) => return self.on_delivery(client, &delivered),
            Said::Published(published) => self.on_acknowledged(client, &published)?,
            Said::Subscribed(answer) => {
                if !answer.refused.is_empty() {
                    return Err(format!("client {client} may not subscribe: {answer:?}"));
                }
                // Subscriptions have the number of the request that asked for them.
                let key = (client, SubscriptionId(answer.request.0));
                if let Some(subscription) = self.subscriptions.get_mut(&key) {
                    subscription.began = Some(now);
                    subscription.began_at = Some(Instant::now());
                }
            }
            Said::Unsubscribed(answer) => {
                let id = SubscriptionId(answer.request.0 & !ENDING);
                if let Some(subscription) = self.subscriptions.get_mut(&(client, id)) {
                    subscription.ended = Some(now);
                }
            }
            Said::Addresses(_) | Said::Drain(_) | Said::Pong(_) => {}
            Said::Interested(answer) => self.on_interested(client, &answer, now)?,
            Said::Close(close) => self.on_close(client, &close),
            other @ (Said::Listed(_) | Said::Denied(_) | Said::Ended(_) | Said::Dropped(_)) => {
                return Err(format!("client {client} heard {other:?}"));
            }
        }
        Ok(None)
    }

    fn on_close(&mut self, client: ClientId, close: &Close) {
        self.lose(client);
        if let Some(client) = self.clients.get_mut(&client) {
            client.drained = close.code == Code::Draining;
        }
    }

    fn on_acknowledged(&mut self, client: ClientId, published: &Published) -> Result<(), String> {
        let owner = self.clients.get_mut(&client).expect("it has arrived");
        let Some(id) = owner.pending.remove(&published.request) else {
            return Err(format!("client {client} did not ask for {published:?}"));
        };
        let count = *published.outcome.as_ref().map_err(|refused| {
            format!("message {id} of client {client} was refused: {refused:?}")
        })?;
        let message = self.messages.get_mut(&id).expect("it was published");
        message.count = Some(count);
        Ok(())
    }

    fn on_delivery(
        &mut self,
        client: ClientId,
        delivered: &Delivered,
    ) -> Result<Option<Asked>, String> {
        let head = delivered.payload.first_chunk::<8>();
        let id = u64::from_le_bytes(*head.ok_or("a payload has no number")?);
        let to = format!("message {id} ({}) to client {client}", delivered.subject);
        let message = self
            .messages
            .get_mut(&id)
            .ok_or_else(|| format!("{to}: nobody published it"))?;
        if message.subject != delivered.subject {
            return Err(format!("{to}: it was published to {}", message.subject));
        }
        let key = (client, delivered.subscription);
        let owner = self.clients.get_mut(&client).expect("it has arrived");
        if delivered.subscription == SubscriptionId::INBOX {
            if !delivered.subject.starts_with(&owner.inbox) {
                return Err(format!("{to}: not its inbox"));
            }
        } else {
            let subscription = self
                .subscriptions
                .get(&key)
                .ok_or_else(|| format!("{to}: it never subscribed as {:?}", key.1))?;
            let subject = Subject::new(&delivered.subject).map_err(|error| error.to_string())?;
            if !subscription.pattern.matches(&subject) {
                return Err(format!(
                    "{to}: it asked for {}",
                    subscription.wanted.pattern
                ));
            }
            // What travels on the bulk lane already may arrive (docs/protocol.md §4).
            if subscription.ended.is_some() && delivered.fragment.is_none() {
                return Err(format!("{to}: it had unsubscribed {:?}", key.1));
            }
        }
        let is_first = match delivered.fragment {
            None => true,
            Some(part) => {
                let parts = owner.parts.entry((key.1, id)).or_default();
                if part.index != *parts {
                    return Err(format!(
                        "{to}: fragment {} after {parts} of them",
                        part.index
                    ));
                }
                *parts += 1;
                part.index == 0
            }
        };
        if is_first {
            let line = (key.1, message.from, delivered.fragment.is_some());
            if let Some(last) = owner.last.insert(line, id)
                && last > id
            {
                return Err(format!("{to}: after message {last} of the same publisher"));
            }
        }
        let whole = delivered
            .fragment
            .is_none_or(|part| part.index + 1 == message.fragments);
        if whole && !message.got.insert(key) {
            return Err(format!("{to}: twice on {:?}", key.1));
        }
        let asked = (whole && message.reply)
            .then(|| delivered.reply.clone())
            .flatten();
        Ok(asked.map(|reply| Asked { client, reply }))
    }

    /// Checks everything that must be true of all that was heard, once nothing is under way any more.
    ///
    /// # Errors
    /// What is not true.
    pub fn check(&self) -> Result<Seen, String> {
        let mut seen = Seen::default();
        for (id, client) in &self.clients {
            if client.lost.is_none() && !client.pending.is_empty() {
                return Err(format!(
                    "client {id} of {} waits for {:?}",
                    client.node, client.pending
                ));
            }
        }
        for (id, message) in &self.messages {
            self.check_message(message)
                .map_err(|wrong| format!("message {id} {message:?}: {wrong}"))?;
            seen.messages += 1;
            seen.deliveries += message.got.len();
            seen.acknowledged += usize::from(message.count.is_some());
            seen.calm += usize::from(message.calm.is_some());
            let from = self.clients.get(&message.from).map(|client| &client.node);
            let crossed = message
                .got
                .iter()
                .filter(|(client, _)| self.clients.get(client).map(|client| &client.node) != from);
            seen.crossed += crossed.count();
        }
        seen.questions = self.check_questions()?;
        let drained = self.clients.values().filter(|client| client.drained);
        seen.drained = drained.count();
        Ok(seen)
    }

    fn check_message(&self, message: &Message) -> Result<(), String> {
        let audience = self.audience(message)?;
        let (mut required, mut upper) = audience.inbox;
        for (key, held) in &audience.plain {
            let got = message.got.contains(key);
            let must = self.must_get(message, held);
            if must && !got {
                return Err(format!("client {} does not get it on {:?}", key.0, key.1));
            }
            if held.wanted.tap {
                continue;
            }
            required += u32::from(must);
            upper += u32::from(got || self.was_lost(message, key.0));
        }
        for ((pattern, group), members) in &audience.groups {
            let got = members
                .iter()
                .filter(|(key, _)| message.got.contains(key))
                .count();
            if got > 1 {
                return Err(format!("{got} members of {group} ({pattern}) get it"));
            }
            let must = members.iter().any(|(_, held)| self.must_get(message, held))
                && !members.iter().any(|(_, held)| self.leaves(message, held));
            if must && got == 0 {
                return Err(format!("no member of {group} ({pattern}) gets it"));
            }
            required += u32::from(must);
            let lost = members.iter().any(|(key, _)| self.was_lost(message, key.0));
            upper += u32::from(got == 1 || lost);
        }
        match message.count {
            Some(count) if count > upper => Err(format!(
                "{count} deliveries were counted, at most {upper} can have been made"
            )),
            Some(count) if count < required => Err(format!(
                "{count} deliveries were counted, {required} must have been made"
            )),
            None if message.acknowledged && self.stays(message.from) => {
                Err("it was not acknowledged".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Who may get a message: whose subscription matches and had not ended before.
    fn audience(&self, message: &Message) -> Result<Audience<'_>, String> {
        let mut audience = Audience::default();
        if let Some((_, client)) = self
            .clients
            .iter()
            .find(|(_, client)| message.subject.starts_with(&client.inbox))
        {
            let got = !message.got.is_empty();
            let calm = message.calm.and_then(|calm| self.calms.get(calm));
            let must = calm.is_some_and(|calm| {
                calm.is_before(client.lost) && self.remains(calm, message.from)
            });
            if must && !got {
                return Err("the answer does not arrive".to_owned());
            }
            let unknown = client.lost.is_some() && !client.drained;
            audience.inbox = (u32::from(must), u32::from(got || unknown));
            return Ok(audience);
        }
        let subject = Subject::new(&message.subject).map_err(|error| error.to_string())?;
        for (key, held) in &self.subscriptions {
            if !held.pattern.matches(&subject) {
                continue;
            }
            match &held.wanted.group {
                Some(group) => {
                    let group = (held.wanted.pattern.clone(), group.clone());
                    audience.groups.entry(group).or_default().push((*key, held));
                }
                None => audience.plain.push((*key, held)),
            }
        }
        Ok(audience)
    }

    /// Whether a subscription must get a message: it is there from before the calm in which that was published until
    /// after it, and so are its owner and the publisher.
    fn must_get(&self, message: &Message, held: &Subscription) -> bool {
        let Some(calm) = message.calm.and_then(|calm| self.calms.get(calm)) else {
            return false;
        };
        let is_there = held.began.is_some_and(|began| began < calm.began);
        let lasts = is_there && calm.is_before(held.ending);
        lasts && self.remains(calm, held.owner) && self.remains(calm, message.from)
    }

    /// Whether a client stays until a calm is over.
    fn remains(&self, calm: &Calm, client: ClientId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|client| calm.is_before(client.lost))
    }

    /// Whether a subscription ends in the calm in which a message was published.
    fn leaves(&self, message: &Message, held: &Subscription) -> bool {
        let calm = message.calm.and_then(|calm| self.calms.get(calm));
        let during = |end: Option<Moment>| {
            end.zip(calm)
                .is_some_and(|(end, calm)| (calm.began..calm.ended).contains(&end))
        };
        let owner = self.clients.get(&held.owner);
        during(held.ending) || during(owner.and_then(|owner| owner.lost))
    }

    fn stays(&self, client: ClientId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|client| client.lost.is_none())
    }

    /// Whether a client was lost, and its broker cannot have known it before a message was sent, so that nobody knows
    /// what it got.
    fn was_lost(&self, message: &Message, client: ClientId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|client| {
            client.lost.is_some()
                && !client.drained
                && client.gone.is_none_or(|gone| gone > message.sent)
        })
    }
}

type Key = (ClientId, SubscriptionId);

#[derive(Debug, Default)]
struct Audience<'l> {
    plain: Vec<(Key, &'l Subscription)>,
    groups: BTreeMap<(String, String), Vec<(Key, &'l Subscription)>>,
    /// How many answers must arrive, and how many may.
    inbox: (u32, u32),
}

/// What the numbers of requests that end subscriptions have set.
const ENDING: u32 = 1 << 31;

/// The number of the request that ends a subscription.
pub fn ending_request(id: SubscriptionId) -> RequestId {
    RequestId(id.0 | ENDING)
}

//! Messages to one subject that follow each other in a read: a run is delivered to each receiver at
//! once, under one lock, and receivers with the same subscription number share one encoding of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_protocol::frame::message;
use dialtone_protocol::{Frame, RequestId, SubscriptionId};

use super::effects::Effects;
use super::onward::{self, Onward, Reach};
use crate::broker::Shared;
use crate::cluster::Asker;
use crate::outbox::Delivery;
use crate::peer::Peer;
use crate::router::{Route, Target};

/// Runs of at least this many bytes are encoded into a buffer of their own and passed by
/// reference; shorter ones are copied to the end of each receiver's buffer.
const ENCODE_LEN_MIN: usize = 4 << 10;

/// Room that the head of a deliver frame takes at most, in bytes.
const HEAD_LEN: usize = 16;

/// The messages of the read at hand that wait to be delivered together.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Where their sections lie in the bytes of the read.
    sections: Vec<Range<u32>>,
    sections_len: usize,
    /// Where the subject of the first lies.
    subject: Range<u32>,
    /// Who gets them, as long as there are any.
    route: Option<Route<Arc<Peer>>>,
    reach: Reach,
    /// The acknowledgements that are due once they have been delivered, with the places of their messages in the run.
    acknowledge: Vec<(usize, RequestId)>,
}

impl Run {
    /// Whether the run is to this subject.
    #[inline]
    pub(crate) fn is_to(&self, subject: &[u8], bytes: &[u8]) -> bool {
        !self.sections.is_empty() && slice(bytes, &self.subject) == subject
    }

    /// Whether anybody gets the run.
    #[inline]
    pub(crate) fn has_receivers(&self) -> bool {
        self.route.as_ref().is_some_and(|route| !route.is_empty())
    }

    /// Notes that the last message is to be acknowledged.
    #[inline]
    pub(crate) fn acknowledge(&mut self, request: RequestId) {
        let last = self.sections.len().saturating_sub(1);
        self.acknowledge.push((last, request));
    }

    /// Begins a run with the message whose section lies at `section`.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        route: Route<Arc<Peer>>,
        reach: Reach,
        subject: Range<u32>,
        section: Range<u32>,
    ) {
        self.route = Some(route);
        self.reach = reach;
        self.subject = subject;
        self.push(section);
    }

    #[inline]
    pub(crate) fn push(&mut self, section: Range<u32>) {
        self.sections_len += (section.end - section.start) as usize;
        self.sections.push(section);
    }

    /// Delivers the run, acknowledges what its publisher asked for, and empties it.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        bytes: &[u8],
        shared: &Shared,
        publisher: &Arc<Peer>,
        effects: &mut Effects,
    ) {
        let Some(route) = self.route.take() else {
            return;
        };
        for part in route.parts() {
            self.deliver_to(part.targets(), bytes, effects);
            self.deliver_to(part.taps(), bytes, effects);
        }
        if route.links().is_empty() {
            for (_, request) in self.acknowledge.drain(..) {
                effects.acknowledge(publisher, request, Ok(route.count()));
            }
        } else {
            self.deliver_onward(&route, bytes, shared, publisher, effects);
        }
        self.sections.clear();
        self.sections_len = 0;
    }

    /// Other nodes get the run as receivers here do, and count their own.
    fn deliver_onward(
        &mut self,
        route: &Route<Arc<Peer>>,
        bytes: &[u8],
        shared: &Shared,
        publisher: &Arc<Peer>,
        effects: &mut Effects,
    ) {
        let onward: Onward = onward::linked(route, self.reach).collect();
        let questions = self.questions(route.count(), &onward, shared, publisher, effects);
        let asked = (!questions.is_empty()).then(|| self.encode_asking(&questions, bytes));
        for send in onward {
            let is_asked = send.counts;
            let target = Target {
                peer: send.peer,
                subscription: SubscriptionId::INBOX,
                drop_oldest: 0,
            };
            match &asked {
                Some(encoded) if is_asked => {
                    let (count, len) = (self.sections.len() as u64, self.sections_len as u64);
                    effects.deliver_encoded(&target, encoded.clone(), count, len);
                }
                Some(_) | None => self.deliver_to(&[target], bytes, effects),
            }
        }
    }

    /// What other nodes are asked, with the places of the messages in the run.
    fn questions(
        &mut self,
        count: u32,
        onward: &Onward,
        shared: &Shared,
        publisher: &Arc<Peer>,
        effects: &mut Effects,
    ) -> Vec<(usize, Frame<'static>)> {
        let mut questions = Vec::new();
        for (place, request) in self.acknowledge.drain(..) {
            let asker = Asker::Publisher(Arc::clone(publisher), request);
            if let Some(question) = effects.begin_asking(shared, asker, count, onward, None) {
                questions.push((place, question));
            }
        }
        questions
    }

    /// The run with each question right before its message.
    fn encode_asking(&self, questions: &[(usize, Frame<'_>)], bytes: &[u8]) -> Bytes {
        let len = self.sections_len + (self.sections.len() + questions.len()) * HEAD_LEN;
        let mut out = Vec::with_capacity(len);
        let mut questions = questions.iter().peekable();
        for (place, section) in self.sections.iter().enumerate() {
            while let Some((_, question)) = questions.next_if(|(of, _)| *of == place) {
                question.encode(&mut out);
            }
            let section = slice(bytes, section);
            message::put_deliver(&mut out, SubscriptionId::INBOX, false, None, section);
        }
        Bytes::from(out)
    }

    fn deliver_to(&self, targets: &[Target<Arc<Peer>>], bytes: &[u8], effects: &mut Effects) {
        // Targets are in the order of their subscription numbers.
        let mut encoded: Option<(SubscriptionId, Bytes)> = None;
        for target in targets {
            if target.drop_oldest > 0 || self.sections_len < ENCODE_LEN_MIN {
                self.deliver_singly(target, bytes, effects);
                continue;
            }
            let shared = match &encoded {
                Some((subscription, shared)) if *subscription == target.subscription => {
                    shared.clone()
                }
                _ => {
                    let shared = self.encode(target.subscription, bytes);
                    encoded = Some((target.subscription, shared.clone()));
                    shared
                }
            };
            effects.deliver_encoded(
                target,
                shared,
                self.sections.len() as u64,
                self.sections_len as u64,
            );
        }
    }

    fn deliver_singly(&self, target: &Target<Arc<Peer>>, bytes: &[u8], effects: &mut Effects) {
        if target.drop_oldest == 0 {
            let sections = self.sections.iter().map(|section| slice(bytes, section));
            return effects.deliver_all(target, sections);
        }
        for section in &self.sections {
            let section = slice(bytes, section);
            effects.deliver(
                target,
                Delivery {
                    unreliable: false,
                    fragment: None,
                    section,
                    shared: None,
                },
            );
        }
    }

    fn encode(&self, subscription: SubscriptionId, bytes: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(self.sections_len + self.sections.len() * HEAD_LEN);
        for section in &self.sections {
            message::put_deliver(&mut out, subscription, false, None, slice(bytes, section));
        }
        Bytes::from(out)
    }
}

#[inline]
fn slice<'b>(bytes: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    bytes
        .get(range.start as usize..range.end as usize)
        .unwrap_or_default()
}

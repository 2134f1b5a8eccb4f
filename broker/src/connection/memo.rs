//! What subjects resolve to, for all connections of a thread whose principals may do everything.
//!
//! A publisher of a hundred thousand subjects waits for memory with each message: none of what
//! leads from its subject to its receiver is in the processor's cache. So all of it lies together
//! here, in one place per subject, and [`warm`] asks for the places of the next messages before
//! they are needed, all at once instead of one after the other.

use std::cell::RefCell;
use std::sync::Arc;

use dialtone_protocol::codec;
use dialtone_protocol::frame::message::PublishView;
use smallvec::SmallVec;

use super::prefetch::prefetch;
use crate::peer::Peer;
use crate::router::{Route, Router};

/// Places of a set. A subject may be in any place of its set.
const WAYS: usize = 16;

/// Sets at the beginning, and by how much their number grows at a time.
const SETS_MIN: usize = 8;
const GROWTH: usize = 4;

/// Most sets: 131,072 subjects, which take 17 MiB for each thread where so many are published to.
const SETS_MAX: usize = 8_192;

/// Longer subjects are not kept, so that memory is bounded; in bytes.
const NAME_LEN_MAX: usize = 256;

/// One in so many subjects takes over a place of a full set, so that a publisher of more subjects
/// than there are places does not write for each message.
const TAKE_OVER: u8 = 16;

/// Messages whose places are asked for at once; the processor does not follow many more.
const AHEAD: usize = 16;

/// With fewer sets than this, everything is in the processor's cache.
const WARM_SETS_MIN: usize = 128;

/// How many messages pass without a look ahead where the last ones were all to one subject.
const SAME_LEN: usize = 8 * AHEAD;

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

type Table = Router<Arc<Peer>>;

/// What a subject of this hash resolves to, if that is known.
#[inline]
pub(super) fn find(router: &Table, hash: u64, subject: &[u8]) -> Option<Route<Arc<Peer>>> {
    MEMO.with_borrow(|memo| memo.find(router, hash, subject))
}

/// Keeps what a subject resolves to.
pub(super) fn keep(router: &Table, hash: u64, subject: &[u8], route: &Route<Arc<Peer>>) {
    MEMO.with_borrow_mut(|memo| memo.keep(router, hash, subject, route));
}

/// Brings the places of the messages at the beginning of `bytes` into the processor's cache;
/// returns up to where it looked.
pub(super) fn warm(router: &Table, bytes: &[u8], frame_len_max: u32) -> usize {
    MEMO.with_borrow(|memo| memo.warm(router, bytes, frame_len_max))
}

#[derive(Debug, Default)]
struct Memo {
    /// Of which router. A thread mostly serves one; another one begins anew.
    router: u64,
    /// A power of two in number, or none as long as nothing was published.
    sets: Vec<Set>,
    used: usize,
    turn: u8,
    /// The set that is looked through next for routes that do not hold any more.
    swept: usize,
}

/// The tags of a set lie apart from its places, so that one look finds the right one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    tags: [u16; WAYS],
    places: Option<Box<[Place; WAYS]>>,
}

/// The subject in the first line of the processor's cache, the route in the second.
#[derive(Debug)]
#[repr(C, align(128))]
struct Place {
    hash: u64,
    subject: SmallVec<[u8; 48]>,
    route: Option<Route<Arc<Peer>>>,
}

impl Memo {
    fn find(&self, router: &Table, hash: u64, subject: &[u8]) -> Option<Route<Arc<Peer>>> {
        if self.router != router.id() {
            return None;
        }
        let place = self.set(hash)?.place(hash)?;
        let route = place.route.as_ref()?;
        let same = place.hash == hash && *place.subject == *subject;
        (same && router.is_current(route, hash)).then(|| route.clone())
    }

    #[inline]
    fn set(&self, hash: u64) -> Option<&Set> {
        self.sets.get(set_of(hash, self.sets.len()))
    }

    fn keep(&mut self, router: &Table, hash: u64, subject: &[u8], route: &Route<Arc<Peer>>) {
        if subject.len() > NAME_LEN_MAX {
            return;
        }
        if self.router != router.id() {
            *self = Self {
                router: router.id(),
                ..Self::default()
            };
        }
        self.sweep(router);
        self.make_room();
        let index = set_of(hash, self.sets.len());
        let Some(set) = self.sets.get_mut(index) else {
            return;
        };
        let Some(way) = set.way(hash) else {
            self.turn = self.turn.wrapping_add(1);
            if self.turn.is_multiple_of(TAKE_OVER) {
                let way = usize::from(self.turn / TAKE_OVER) % WAYS;
                set.put(way, hash, subject, route);
            }
            return;
        };
        self.used += usize::from(set.put(way, hash, subject, route));
    }

    /// Begins anew with more sets when most places are taken: what is published to comes back by
    /// itself, and nobody waits for all of it to be moved.
    fn make_room(&mut self) {
        let len = self.sets.len();
        if self.used * 4 >= len * WAYS * 3 && len < SETS_MAX {
            let len = (len * GROWTH).clamp(SETS_MIN, SETS_MAX);
            self.sets = std::iter::repeat_with(Set::default).take(len).collect();
            self.used = 0;
        }
    }

    /// Lets go of receivers that are gone, a set at a time.
    fn sweep(&mut self, router: &Table) {
        self.swept = (self.swept + 1) & self.sets.len().wrapping_sub(1);
        if let Some(set) = self.sets.get_mut(self.swept) {
            self.used -= set.sweep(router);
        }
    }

    fn warm(&self, router: &Table, bytes: &[u8], frame_len_max: u32) -> usize {
        if self.sets.len() < WARM_SETS_MIN || self.router != router.id() {
            return bytes.len();
        }
        let (mut at, mut hashes) = (0, SmallVec::<[u64; AHEAD]>::new());
        while hashes.len() < AHEAD {
            let rest = bytes.get(at..).unwrap_or_default();
            let Ok(Some((body, len))) = codec::split_frame(rest, frame_len_max) else {
                at = bytes.len();
                break;
            };
            at += len;
            let Ok(publish) = PublishView::decode(body) else {
                continue;
            };
            let hash = router.hash(publish.subject);
            if let Some(set) = self.set(hash) {
                prefetch(set);
            }
            hashes.push(hash);
        }
        for hash in &hashes {
            if let Some(place) = self.set(*hash).and_then(|set| set.place(*hash)) {
                prefetch(place);
                prefetch(&place.route);
            }
        }
        let same = hashes.iter().all(|hash| Some(hash) == hashes.first());
        if same {
            at * (1 + SAME_LEN / AHEAD)
        } else {
            at
        }
    }
}

impl Set {
    #[inline]
    fn place(&self, hash: u64) -> Option<&Place> {
        self.places.as_ref()?.get(self.tagged(tag(hash))?)
    }

    /// Compares all tags at once, since it is rarely the same one twice running.
    #[inline]
    fn tagged(&self, tag: u16) -> Option<usize> {
        let mut found = 0_u32;
        for (way, other) in self.tags.iter().enumerate() {
            found |= u32::from(*other == tag) << way;
        }
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    /// Where a subject of this hash is, or may be put; `None` when all places are taken.
    fn way(&self, hash: u64) -> Option<usize> {
        self.tagged(tag(hash)).or_else(|| self.tagged(0))
    }

    /// Whether the place was free.
    fn put(&mut self, way: usize, hash: u64, subject: &[u8], route: &Route<Arc<Peer>>) -> bool {
        let places = self
            .places
            .get_or_insert_with(|| Box::new(std::array::from_fn(|_| Place::default())));
        let (Some(place), Some(slot)) = (places.get_mut(way), self.tags.get_mut(way)) else {
            return false;
        };
        *place = Place {
            hash,
            subject: SmallVec::from_slice(subject),
            route: Some(route.clone()),
        };
        std::mem::replace(slot, tag(hash)) == 0
    }

    /// Empties the places whose routes do not hold any more; returns how many.
    fn sweep(&mut self, router: &Table) -> usize {
        let Some(places) = &mut self.places else {
            return 0;
        };
        let mut emptied = 0;
        for (place, tag) in places.iter_mut().zip(&mut self.tags) {
            let outdated = |route| !router.is_current(route, place.hash);
            if place.route.as_ref().is_some_and(outdated) {
                *place = Place::default();
                *tag = 0;
                emptied += 1;
            }
        }
        emptied
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            hash: 0,
            subject: SmallVec::new(),
            route: None,
        }
    }
}

/// The router takes the low bits for its generations, so that higher ones are taken here.
#[inline]
fn set_of(hash: u64, len: usize) -> usize {
    (hash >> 32) as usize & len.wrapping_sub(1)
}

/// 15 bits that [`set_of`] does not take, and one that says that the place is not free.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "only some of the bits are wanted"
)]
fn tag(hash: u64) -> u16 {
    (hash >> 16) as u16 | 1
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::{Pattern, SubscriptionId};
    use dialtone_transport::memory;

    use super::*;
    use crate::outbox::Outbox;
    use crate::peer::About;
    use crate::router::{Member, Target};

    fn peer(id: u64) -> Arc<Peer> {
        let writer = memory::pair(1).0.writer;
        let outbox = Outbox::new(
            writer,
            crate::outbox::Lanes::default(),
            &crate::OutboxConfig::default(),
        );
        Arc::new(Peer::new(
            dialtone_protocol::ConnectionId(id),
            About::for_tests(),
            outbox,
        ))
    }

    fn subscribe(router: &Table, peer: &Arc<Peer>, subject: &str) {
        let member = Member {
            target: Target {
                peer: Arc::clone(peer),
                subscription: SubscriptionId(1),
                drop_oldest: 0,
            },
            group: None,
            tap: false,
        };
        router.subscribe(&Pattern::new(subject).unwrap(), member);
    }

    fn look_up(memo: &mut Memo, router: &Table, subject: &str) -> (Route<Arc<Peer>>, bool) {
        let hash = router.hash(subject.as_bytes());
        if let Some(route) = memo.find(router, hash, subject.as_bytes()) {
            return (route, true);
        }
        let route = router.resolve(subject, hash);
        memo.keep(router, hash, subject.as_bytes(), &route);
        (route, false)
    }

    #[test]
    fn nearly_all_of_a_hundred_thousand_subjects_are_kept_and_are_right() {
        let (router, mut memo, peer) = (Table::default(), Memo::default(), peer(1));
        let subjects: Vec<String> = (0..100_000).map(|i| format!("sensor.{i}.value")).collect();
        for subject in subjects.iter().step_by(2) {
            subscribe(&router, &peer, subject);
        }
        for _ in 0..8 {
            for subject in &subjects {
                look_up(&mut memo, &router, subject);
            }
        }
        let mut found = 0;
        for (index, subject) in subjects.iter().enumerate() {
            let (route, kept) = look_up(&mut memo, &router, subject);
            assert_eq!(route.count(), u32::from(index % 2 == 0), "{subject}");
            found += usize::from(kept);
        }
        assert!(found > 90_000, "{found}");
        assert!(memo.sets.len() <= SETS_MAX);
    }

    #[test]
    fn a_place_is_two_lines_of_the_cache_and_the_route_is_in_the_second() {
        assert_eq!(std::mem::offset_of!(Place, route), 64);
        assert_eq!(size_of::<Place>(), 128);
        assert_eq!(size_of::<Set>(), 64);
    }

    #[test]
    fn a_change_is_seen_and_another_router_is_another_one() {
        let (router, mut memo, peer) = (Table::default(), Memo::default(), peer(1));
        for expected in [false, true] {
            let (route, kept) = look_up(&mut memo, &router, "a");
            assert_eq!((route.count(), kept), (0, expected));
        }
        subscribe(&router, &peer, "a");
        assert_eq!(look_up(&mut memo, &router, "a").0.count(), 1);
        subscribe(&router, &peer, "*");
        assert_eq!(look_up(&mut memo, &router, "a").0.count(), 2);
        let other = Table::default();
        assert_eq!(look_up(&mut memo, &other, "a").0.count(), 0);
    }

    #[test]
    fn receivers_that_are_gone_are_let_go() {
        let (router, mut memo, peer) = (Table::default(), Memo::default(), peer(1));
        let subjects: Vec<String> = (0..1_000).map(|i| format!("a.{i}")).collect();
        for subject in &subjects {
            subscribe(&router, &peer, subject);
            look_up(&mut memo, &router, subject);
        }
        let mut entries = Vec::new();
        router.each_entry(|entry| entries.push(Arc::clone(entry)));
        for entry in entries {
            router.unsubscribe(&entry, |_| true);
        }
        assert!(Arc::strong_count(&peer) > 100);
        for number in 0..2 * memo.sets.len() {
            look_up(&mut memo, &router, &format!("b.{number}"));
        }
        assert_eq!(Arc::strong_count(&peer), 1);
    }
}

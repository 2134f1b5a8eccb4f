//! Messages of drop-oldest subscriptions that wait for a lagging peer: of each subscription the
//! newest few.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dialtone_protocol::frame::Dropped;
use dialtone_protocol::{Frame, SubscriptionId};

/// A peer with more bytes than this waiting lags.
pub(super) const BEGIN_LEN: usize = 64 << 10;

/// Most bytes that are released to the writer at once.
const TAKE_LEN: usize = 64 << 10;

/// The newest messages of each drop-oldest subscription.
#[derive(Debug, Default)]
pub(super) struct Latest {
    rings: BTreeMap<SubscriptionId, Ring>,
    /// In which order subscriptions are served: each once, oldest first.
    turns: VecDeque<SubscriptionId>,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<Bytes>,
    dropped: u64,
}

impl Latest {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Keeps a frame; returns the bytes and the number of messages that were dropped for it.
    pub(super) fn push(
        &mut self,
        subscription: SubscriptionId,
        limit: u16,
        frame: Bytes,
    ) -> (usize, u64) {
        let ring = self.rings.entry(subscription).or_default();
        if ring.frames.is_empty() && ring.dropped == 0 {
            self.turns.push_back(subscription);
        }
        ring.frames.push_back(frame);
        let (mut freed, mut dropped) = (0, 0);
        while ring.frames.len() > usize::from(limit.max(1)) {
            freed += ring.frames.pop_front().map_or(0, |oldest| oldest.len());
            dropped += 1;
        }
        ring.dropped += dropped;
        (freed, dropped)
    }

    /// Notes that a message was left out.
    pub(super) fn skip(&mut self, subscription: SubscriptionId) {
        let ring = self.rings.entry(subscription).or_default();
        if ring.frames.is_empty() && ring.dropped == 0 {
            self.turns.push_back(subscription);
        }
        ring.dropped += 1;
    }

    /// Forgets what is kept for a subscription; returns its bytes.
    pub(super) fn forget(&mut self, subscription: SubscriptionId) -> usize {
        self.turns.retain(|turn| *turn != subscription);
        let ring = self.rings.remove(&subscription).unwrap_or_default();
        ring.frames.iter().map(Bytes::len).sum()
    }

    /// Releases some frames, each subscription's gap notice first. The second value is by how much
    /// the released bytes exceed those that were pushed, which are the notices.
    pub(super) fn take(&mut self) -> (Vec<Bytes>, usize) {
        let (mut frames, mut len, mut added) = (Vec::new(), 0, 0);
        while len < TAKE_LEN {
            let Some(subscription) = self.turns.pop_front() else {
                break;
            };
            let Some(mut ring) = self.rings.remove(&subscription) else {
                continue;
            };
            if ring.dropped > 0 {
                let notice = Frame::Dropped(Dropped {
                    subscription,
                    count: ring.dropped,
                })
                .to_vec();
                added += notice.len();
                frames.push(Bytes::from(notice));
                ring.dropped = 0;
            }
            while len < TAKE_LEN
                && let Some(frame) = ring.frames.pop_front()
            {
                len += frame.len();
                frames.push(frame);
            }
            if !ring.frames.is_empty() {
                self.rings.insert(subscription, ring);
                self.turns.push_back(subscription);
            }
        }
        (frames, added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SubscriptionId = SubscriptionId(1);

    #[test]
    fn the_newest_stay_and_the_gap_is_told_first() {
        let mut latest = Latest::default();
        let mut lost = (0, 0);
        for byte in 0..5_u8 {
            let (freed, dropped) = latest.push(ONE, 2, Bytes::from(vec![byte; 10]));
            lost = (lost.0 + freed, lost.1 + dropped);
        }
        assert_eq!(lost, (30, 3));
        let (frames, added) = latest.take();
        assert!(latest.is_empty());
        let notice = Frame::Dropped(Dropped {
            subscription: ONE,
            count: 3,
        })
        .to_vec();
        assert_eq!((frames.len(), added), (3, notice.len()));
        assert_eq!(frames[0], notice);
        assert_eq!((frames[1][0], frames[2][0]), (3, 4));
    }

    #[test]
    fn subscriptions_take_turns() {
        let mut latest = Latest::default();
        for id in [1, 2] {
            for _ in 0..3 {
                latest.push(
                    SubscriptionId(id),
                    10,
                    Bytes::from(vec![u8::try_from(id).unwrap(); TAKE_LEN / 2]),
                );
            }
        }
        let mut order = Vec::new();
        while !latest.is_empty() {
            order.extend(latest.take().0.iter().map(|frame| frame[0]));
        }
        assert_eq!(order, [1, 1, 2, 2, 1, 2]);
    }
}

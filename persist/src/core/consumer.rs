//! A reader whose place the stream keeps: what is delivered, to be acknowledged, to be delivered again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::wire::ConsumerConfig;
use serde::{Deserialize, Serialize};

use super::commit::{ConsumerChange, ConsumerWhat};
use super::feed::Budget;
use super::records::Records;

/// Most records that one fetch looks at.
const SCAN_MAX: usize = 65_536;

/// A snapshot is made when the deltas since the last one are at least this long, and longer than it, in bytes.
const DELTAS_LEN_MIN: usize = 4_096;

/// Tokens for each millisecond of the clock. A delivery needs not be stored, so that a node that was killed has forgotten
/// some: with the time in them, the next one gives no token for the second time. They stay below 2⁵³ until the year 2248.
const TOKENS_PER_MS: u64 = 1 << 10;

/// A consumer.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub(super) kept: Kept,
    /// The slots by when they are due.
    pub(super) due: BTreeSet<(u64, u64)>,
    /// Bytes of the last snapshot, and of the deltas since.
    snapshot_len: usize,
    deltas_len: usize,
}

/// What survives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(with = "as_json")]
    pub(super) config: ConsumerConfig,
    created: u64,
    /// The first number that was never delivered.
    pub(super) next: u64,
    pub(super) token: u64,
    /// What was delivered and is not done with, by number.
    pub(super) slots: BTreeMap<u64, Slot>,
}

/// A record that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) token: u64,
    pub(super) deliveries: u32,
    /// When it may be delivered again.
    pub(super) due: u64,
    /// Somebody works on it; otherwise it waits for its repetition.
    pub(super) out: bool,
}

/// A change of what survives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Delta {
    Config(#[serde(with = "as_json")] ConsumerConfig),
    /// These slots are as follows, and this is the next number and the last token.
    Slots {
        next: u64,
        token: u64,
        slots: Vec<(u64, Slot)>,
    },
    Done(Vec<u64>),
}

/// A delivery that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The record.
    pub seq: u64,
    /// Proves which delivery an acknowledgement is about.
    pub token: u64,
    /// How often it was delivered, with this time.
    pub deliveries: u32,
    /// Until when it is to be acknowledged, in milliseconds since 1970.
    pub deadline: u64,
}

/// What a fetch gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// To be delivered, oldest first.
    pub due: Vec<Due>,
    /// To be given up: each goes to the dead-letter stream, and is then terminated under its token.
    pub dead: Vec<Due>,
    /// Records were passed over, so that there may be more behind them at once.
    pub passed: bool,
    /// When there may be something again though nobody appends, in milliseconds since 1970.
    pub again: Option<u64>,
    /// How many records were not delivered yet; with a prefix, at most.
    pub pending: u64,
}

/// A consumer in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// How it delivers.
    pub config: ConsumerConfig,
    /// When it was made, in milliseconds since 1970.
    pub created: u64,
    /// Everything up to this number is done with.
    pub ack_floor: u64,
    /// The last number that was delivered.
    pub delivered: u64,
    /// What somebody works on.
    pub ack_pending: u64,
    /// What waits for its repetition.
    pub redelivering: u64,
    /// What was not delivered yet.
    pub pending: u64,
}

impl Consumer {
    pub(super) fn new(config: ConsumerConfig, created: u64, next: u64) -> Self {
        Self::of(Kept {
            config,
            created,
            next,
            token: 0,
            slots: BTreeMap::new(),
        })
    }

    fn of(kept: Kept) -> Self {
        let due = kept.slots.iter().map(|(seq, slot)| (slot.due, *seq));
        Self {
            due: due.collect(),
            kept,
            snapshot_len: 0,
            deltas_len: 0,
        }
    }

    /// A consumer as a store has kept it.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn load(parts: &[Bytes]) -> Result<Self, rmp_serde::decode::Error> {
        let missing = || rmp_serde::decode::Error::Uncategorized("no snapshot".to_owned());
        let (snapshot, deltas) = parts.split_first().ok_or_else(missing)?;
        let mut kept: Kept = rmp_serde::from_slice(snapshot)?;
        for delta in deltas {
            kept.apply(rmp_serde::from_slice(delta)?);
        }
        let mut consumer = Self::of(kept);
        consumer.snapshot_len = snapshot.len();
        consumer.deltas_len = deltas.iter().map(Bytes::len).sum();
        Ok(consumer)
    }

    /// What is to be stored because of a delta that was applied already.
    pub(super) fn change(&mut self, name: &Arc<str>, delta: &Delta) -> ConsumerChange {
        let bytes = encode(delta);
        self.deltas_len += bytes.len();
        let is_long = self.deltas_len >= DELTAS_LEN_MIN.max(self.snapshot_len);
        if is_long {
            return self.snapshot(name);
        }
        ConsumerChange {
            name: Arc::clone(name),
            what: ConsumerWhat::Delta(bytes),
        }
    }

    pub(super) fn snapshot(&mut self, name: &Arc<str>) -> ConsumerChange {
        let bytes = encode(&self.kept);
        (self.snapshot_len, self.deltas_len) = (bytes.len(), 0);
        ConsumerChange {
            name: Arc::clone(name),
            what: ConsumerWhat::Snapshot(bytes),
        }
    }

    fn is_wanted(&self, records: &Records, seq: u64) -> bool {
        self.kept.config.prefix.as_deref().is_none_or(|prefix| {
            records
                .key_of(seq)
                .is_some_and(|key| key.starts_with(prefix))
        })
    }

    pub(super) fn set(&mut self, seq: u64, slot: Slot) {
        if let Some(old) = self.kept.slots.insert(seq, slot) {
            self.due.remove(&(old.due, seq));
        }
        self.due.insert((slot.due, seq));
    }

    pub(super) fn take_out(&mut self, seq: u64) {
        if let Some(old) = self.kept.slots.remove(&seq) {
            self.due.remove(&(old.due, seq));
        }
    }

    pub(super) fn pending(&self, records: &Records) -> u64 {
        records.count_from(self.kept.next)
    }

    pub(super) fn counts(&self, records: &Records) -> Counts {
        let kept = &self.kept;
        let out = kept.slots.values().filter(|slot| slot.out).count() as u64;
        let first = kept.slots.keys().next().copied().unwrap_or(kept.next);
        Counts {
            config: kept.config.clone(),
            created: kept.created,
            ack_floor: first - 1,
            delivered: kept.next - 1,
            ack_pending: out,
            redelivering: kept.slots.len() as u64 - out,
            pending: self.pending(records),
        }
    }

    /// What is due again, whose record is still there.
    pub(super) fn repeat(
        &mut self,
        records: &Records,
        now: u64,
        meter: &mut Meter,
        taken: &mut Taken,
    ) -> Vec<u64> {
        let mut gone = Vec::new();
        let due: Vec<u64> = self
            .due
            .iter()
            .take_while(|(due, _)| *due <= now)
            .map(|(_, seq)| *seq)
            .collect();
        for seq in due {
            let Some(record) = records.get(seq) else {
                gone.push(seq);
                continue;
            };
            let slot = self.kept.slots[&seq];
            let max = self.kept.config.max_deliveries;
            let is_dead = max > 0 && slot.deliveries >= max;
            if !is_dead && !meter.take(record.size) {
                break;
            }
            let next = self.issue(seq, slot.deliveries + u32::from(!is_dead), now);
            if is_dead {
                taken.dead.push(next);
            } else {
                taken.due.push(next);
            }
        }
        for seq in &gone {
            self.take_out(*seq);
        }
        gone
    }

    /// What was never delivered, as far as there may be more at once.
    pub(super) fn advance(
        &mut self,
        records: &Records,
        now: u64,
        meter: &mut Meter,
        taken: &mut Taken,
    ) {
        let slots_max = self.kept.config.max_ack_pending as usize;
        let mut scanned = 0;
        for (seq, size, _) in records.iter_from(self.kept.next) {
            scanned += 1;
            if scanned > SCAN_MAX || self.kept.slots.len() >= slots_max {
                return;
            }
            if self.is_wanted(records, seq) {
                if !meter.take(size) {
                    return;
                }
                let due = self.issue(seq, 1, now);
                taken.due.push(due);
            }
            self.kept.next = seq + 1;
        }
    }

    fn issue(&mut self, seq: u64, deliveries: u32, now: u64) -> Due {
        self.kept.token = (self.kept.token + 1).max(now.saturating_mul(TOKENS_PER_MS));
        let slot = Slot {
            token: self.kept.token,
            deliveries,
            due: now + self.kept.config.ack_wait,
            out: true,
        };
        self.set(seq, slot);
        Due {
            seq,
            token: slot.token,
            deliveries,
            deadline: slot.due,
        }
    }
}

impl Kept {
    fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::Config(config) => self.config = config,
            Delta::Slots { next, token, slots } => {
                self.next = next;
                self.token = token;
                self.slots.extend(slots);
            }
            Delta::Done(seqs) => {
                for seq in seqs {
                    self.slots.remove(&seq);
                }
            }
        }
    }
}

/// The configuration by names, since it grows; everything else is by place, since it is written often.
mod as_json {
    use dialtone_client::persist::wire::ConsumerConfig;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        config: &ConsumerConfig,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(config).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ConsumerConfig, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map_err(D::Error::custom)
    }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    rmp_serde::to_vec(value)
        .expect("numbers, texts and maps of them can always be written")
        .into()
}

/// Counts what a fetch has already.
pub(super) struct Meter {
    budget: Budget,
    bytes: u64,
    entries: usize,
}

impl Meter {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            bytes: 0,
            entries: 0,
        }
    }

    fn take(&mut self, size: u32) -> bool {
        let has_room = self.entries < self.budget.entries
            && (self.entries == 0 || self.bytes + u64::from(size) <= self.budget.bytes);
        if has_room {
            self.entries += 1;
            self.bytes += u64::from(size);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that was killed starts with the consumer as it was before the delivery.
    #[test]
    fn what_was_delivered_before_a_crash_has_another_token() {
        let mut before = Consumer::new(ConsumerConfig::default(), 1_000, 1);
        let change = before.snapshot(&"c".into());
        let ConsumerWhat::Snapshot(stored) = change.what else {
            panic!("{change:?}")
        };
        let mut after = Consumer::load(&[stored]).unwrap();
        let (lost, again) = (before.issue(1, 1, 2_000), after.issue(1, 1, 2_001));
        assert_ne!(lost.token, again.token);
        // A clock that was set back does not bring old tokens back either.
        assert!(after.issue(2, 1, 500).token > again.token);
    }
}

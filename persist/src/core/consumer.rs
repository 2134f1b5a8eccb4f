//! A reader whose place the stream keeps: what is delivered, to be acknowledged, to be delivered again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::wire::{
    AckKind, ConsumerConfig, Durability, Fault, FaultKind, StartAt,
};
use serde::{Deserialize, Serialize};

use super::check;
use super::commit::{ConsumerChange, ConsumerWhat};
use super::feed::Budget;
use super::records::Records;
use super::state::State;

/// Most consumers of a stream.
pub const CONSUMERS_MAX: usize = 1_000;

/// Most records that one fetch looks at.
const SCAN_MAX: usize = 65_536;

/// A snapshot is made when the deltas since the last one are at least this long, and longer than it, in bytes.
const DELTAS_LEN_MIN: usize = 4_096;

/// A consumer.
#[derive(Debug, Clone)]
pub struct Consumer {
    kept: Kept,
    /// The slots by when they are due.
    due: BTreeSet<(u64, u64)>,
    /// Bytes of the last snapshot, and of the deltas since.
    snapshot_len: usize,
    deltas_len: usize,
}

/// What survives.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(with = "as_json")]
    config: ConsumerConfig,
    created: u64,
    /// The first number that was never delivered.
    next: u64,
    token: u64,
    /// What was delivered and is not done with, by number.
    slots: BTreeMap<u64, Slot>,
}

/// A record that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    token: u64,
    deliveries: u32,
    /// When it may be delivered again.
    due: u64,
    /// Somebody works on it; otherwise it waits for its repetition.
    out: bool,
}

/// A change of what survives.
#[derive(Debug, Serialize, Deserialize)]
enum Delta {
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
    fn new(config: ConsumerConfig, created: u64, next: u64) -> Self {
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
    fn change(&mut self, name: &Arc<str>, delta: &Delta) -> ConsumerChange {
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

    fn snapshot(&mut self, name: &Arc<str>) -> ConsumerChange {
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

    fn set(&mut self, seq: u64, slot: Slot) {
        if let Some(old) = self.kept.slots.insert(seq, slot) {
            self.due.remove(&(old.due, seq));
        }
        self.due.insert((slot.due, seq));
    }

    fn take_out(&mut self, seq: u64) {
        if let Some(old) = self.kept.slots.remove(&seq) {
            self.due.remove(&(old.due, seq));
        }
    }

    fn pending(&self, records: &Records) -> u64 {
        records.count_from(self.kept.next)
    }

    fn counts(&self, records: &Records) -> Counts {
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
    fn repeat(
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
    fn advance(&mut self, records: &Records, now: u64, meter: &mut Meter, taken: &mut Taken) {
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
        self.kept.token += 1;
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
struct Meter {
    budget: Budget,
    bytes: u64,
    entries: usize,
}

impl Meter {
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

impl State {
    /// Makes a consumer, or changes the configuration of one with `exist_ok`; whether it is new.
    ///
    /// # Errors
    /// `bad-request`, `exists`, `reject` when there are [`CONSUMERS_MAX`] already.
    pub fn create_consumer(
        &mut self,
        now: u64,
        name: &str,
        config: ConsumerConfig,
        exist_ok: bool,
    ) -> Result<bool, Fault> {
        self.writable()?;
        check::consumer_name(name)?;
        check::consumer(&config)?;
        if self.consumers.contains_key(name) {
            return self.update_consumer(name, config, exist_ok).map(|()| false);
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            let text = format!("the stream has {CONSUMERS_MAX} consumers already");
            return Err(Fault::new(FaultKind::Reject, text));
        }
        let next = match config.start {
            StartAt::First => 1,
            StartAt::New => self.last_seq + 1,
            StartAt::Seq(seq) => seq.clamp(1, self.last_seq + 1),
            StartAt::Time(time) => {
                let first = self.records.first_since(0, time);
                first.unwrap_or(self.last_seq + 1)
            }
        };
        let name: Arc<str> = name.into();
        let mut consumer = Consumer::new(config, now, next);
        let change = consumer.snapshot(&name);
        self.consumers.insert(name, consumer);
        self.change_consumer(change, self.meta.config.durability);
        Ok(true)
    }

    fn update_consumer(
        &mut self,
        name: &str,
        config: ConsumerConfig,
        exist_ok: bool,
    ) -> Result<(), Fault> {
        let (name, consumer) = entry(&mut self.consumers, name)?;
        let old = &consumer.kept.config;
        if !exist_ok || old.start != config.start || old.prefix != config.prefix {
            let text = if exist_ok {
                format!("consumer {name} exists with another start or prefix")
            } else {
                format!("consumer {name} exists already")
            };
            return Err(Fault::new(FaultKind::Exists, text));
        }
        if *old == config {
            return Ok(());
        }
        consumer.kept.config = config.clone();
        let change = consumer.change(&name, &Delta::Config(config));
        self.change_consumer(change, self.meta.config.durability);
        Ok(())
    }

    /// Deletes a consumer; whether there was one.
    ///
    /// # Errors
    /// `restoring`.
    pub fn delete_consumer(&mut self, name: &str) -> Result<bool, Fault> {
        self.writable()?;
        let Some((name, _)) = self.consumers.remove_entry(name) else {
            return Ok(false);
        };
        let change = ConsumerChange {
            name,
            what: ConsumerWhat::Delete,
        };
        self.change_consumer(change, self.meta.config.durability);
        Ok(true)
    }

    /// The names of the consumers, in the order of their bytes.
    pub fn consumer_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.consumers.keys()
    }

    /// A consumer in numbers.
    ///
    /// # Errors
    /// `not-found`.
    pub fn consumer(&self, name: &str) -> Result<Counts, Fault> {
        let consumer = self.consumers.get(name).ok_or_else(|| unknown(name))?;
        Ok(consumer.counts(&self.records))
    }

    /// Takes deliveries.
    ///
    /// # Errors
    /// `not-found`, `restoring`.
    pub fn fetch(&mut self, now: u64, name: &str, budget: Budget) -> Result<Taken, Fault> {
        self.writable()?;
        self.expire(now);
        let (name, consumer) = entry(&mut self.consumers, name)?;
        let before = consumer.kept.next;
        let mut taken = Taken::default();
        let mut meter = Meter {
            budget,
            bytes: 0,
            entries: 0,
        };
        let gone = consumer.repeat(&self.records, now, &mut meter, &mut taken);
        consumer.advance(&self.records, now, &mut meter, &mut taken);
        taken.again = consumer.due.first().map(|(due, _)| *due);
        taken.pending = consumer.pending(&self.records);
        let mut changes = Vec::new();
        if !gone.is_empty() {
            changes.push(consumer.change(&name, &Delta::Done(gone)));
        }
        if !taken.due.is_empty() || !taken.dead.is_empty() || consumer.kept.next > before {
            let issued = taken.due.iter().chain(&taken.dead);
            let slots = issued.map(|due| (due.seq, consumer.kept.slots[&due.seq]));
            let delta = Delta::Slots {
                next: consumer.kept.next,
                token: consumer.kept.token,
                slots: slots.collect(),
            };
            changes.push(consumer.change(&name, &delta));
        }
        // A delivery that is forgotten is made again, so that it needs not wait for the disk.
        for change in changes {
            self.change_consumer(change, Durability::Memory);
        }
        Ok(taken)
    }

    /// Says something about deliveries; returns the numbers of those that are not pending under their tokens.
    ///
    /// # Errors
    /// `not-found`, `restoring`.
    pub fn ack(
        &mut self,
        now: u64,
        name: &str,
        deliveries: &[(u64, u64)],
        kind: AckKind,
    ) -> Result<Vec<u64>, Fault> {
        self.writable()?;
        let (name, consumer) = entry(&mut self.consumers, name)?;
        let mut not_pending = Vec::new();
        let (mut done, mut slots) = (Vec::new(), Vec::new());
        for (seq, token) in deliveries.iter().copied() {
            let slot = consumer.kept.slots.get(&seq).copied();
            let Some(slot) = slot.filter(|slot| slot.out && slot.token == token) else {
                not_pending.push(seq);
                continue;
            };
            match after(slot, kind, now, &consumer.kept.config) {
                Some(slot) => {
                    consumer.set(seq, slot);
                    slots.push((seq, slot));
                }
                None => {
                    consumer.take_out(seq);
                    done.push(seq);
                }
            }
        }
        let mut changes = Vec::new();
        if !done.is_empty() {
            changes.push(consumer.change(&name, &Delta::Done(done)));
        }
        if !slots.is_empty() {
            let delta = Delta::Slots {
                next: consumer.kept.next,
                token: consumer.kept.token,
                slots,
            };
            changes.push(consumer.change(&name, &delta));
        }
        for change in changes {
            self.change_consumer(change, self.meta.config.durability);
        }
        Ok(not_pending)
    }
}

/// A slot after what was said about it; `None` when it is done with.
fn after(slot: Slot, kind: AckKind, now: u64, config: &ConsumerConfig) -> Option<Slot> {
    match kind {
        AckKind::Ack | AckKind::Terminate => None,
        AckKind::Nack(delay) => Some(Slot {
            due: now + delay.min(check::NUMBER_MAX),
            out: false,
            ..slot
        }),
        AckKind::Progress => Some(Slot {
            due: now + config.ack_wait,
            ..slot
        }),
    }
}

fn entry<'a>(
    consumers: &'a mut BTreeMap<Arc<str>, Consumer>,
    name: &str,
) -> Result<(Arc<str>, &'a mut Consumer), Fault> {
    let key = consumers
        .get_key_value(name)
        .map(|(key, _)| Arc::clone(key));
    let key = key.ok_or_else(|| unknown(name))?;
    let consumer = consumers.get_mut(&key).ok_or_else(|| unknown(name))?;
    Ok((key, consumer))
}

fn unknown(name: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        format!("the stream has no consumer {name}"),
    )
}

//! Random histories from a seed: a small core that decides, and a model that remembers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Config, Durability, RemovalCause};
use dialtone_persist::backend::memory::Memory;
use dialtone_persist::backend::{Backend, Error, StreamId};
use dialtone_persist::core::commit::{
    Append, Change, Commit, ConsumerChange, ConsumerWhat, Meta, Remove, Totals,
};

use super::node::{block_on, commit};

/// The times of a history; none of its message ids is ever too old.
pub(crate) const NOW: u64 = 1_700_000_000_000;

/// Steele and Vigna's `SplitMix64`.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        mixed % bound
    }

    pub(crate) fn len(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    pub(crate) fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// Something that is written.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Create(StreamName, Meta),
    Commit(StreamName, Commit),
    Delete(StreamName),
}

/// What a core knows of a stream.
#[derive(Debug, Clone, Default)]
struct Core {
    totals: Totals,
    records: BTreeMap<u64, (Option<Arc<str>>, u64)>,
    horizon: u64,
    epoch: u64,
    /// When the first lifetime of all ends, and before that of a changed description.
    due: Option<u64>,
}

/// Decides what is written.
pub(crate) struct Decider {
    prefix: String,
    streams: BTreeMap<StreamName, Core>,
    epochs: u64,
    time: u64,
}

impl Default for Decider {
    fn default() -> Self {
        Self::with_prefix("hub/")
    }
}

impl Decider {
    /// One that makes streams with names of its own.
    pub(crate) fn with_prefix(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            streams: BTreeMap::new(),
            epochs: 0,
            time: 0,
        }
    }

    /// Something to write, which the decider takes for written.
    pub(crate) fn next(&mut self, dice: &mut Dice) -> Write {
        // Clocks jump.
        self.time = if dice.is(10) {
            dice.below(60_000)
        } else {
            self.time + dice.below(100)
        };
        let name = StreamName::new(format!("{}s{}", self.prefix, dice.below(4))).unwrap();
        if !self.streams.contains_key(&name) {
            return self.create(name);
        }
        if dice.is(40) {
            self.streams.remove(&name);
            return Write::Delete(name);
        }
        let time = NOW + self.time;
        let core = self.streams.get_mut(&name).unwrap();
        Write::Commit(name, core.decide(dice, time))
    }

    fn create(&mut self, name: StreamName) -> Write {
        self.epochs += 1;
        let core = Core {
            epoch: self.epochs,
            ..Core::default()
        };
        let meta = core.meta(NOW, 0);
        self.streams.insert(name.clone(), core);
        Write::Create(name, meta)
    }
}

impl Core {
    fn meta(&self, created: u64, max_msgs: u64) -> Meta {
        Meta {
            epoch: self.epoch,
            created,
            restoring: max_msgs == 3,
            config: Config {
                max_msgs,
                duplicate_window: 604_800_000,
                ..Config::default()
            },
        }
    }

    fn decide(&mut self, dice: &mut Dice, time: u64) -> Commit {
        let revision = self.totals.revision + 1;
        let mut changes = Vec::new();
        let count = if dice.is(4) { dice.below(6) } else { 1 };
        for _ in 0..count {
            changes.push(match dice.below(12) {
                0 => self.remove(dice, time),
                1 => Change::Meta(Box::new(self.meta(time, dice.below(5)))),
                _ => self.append(dice, time),
            });
        }
        let mut consumers = Vec::new();
        if changes.is_empty() || dice.is(6) {
            consumers.push(consumer(dice));
        }
        self.totals.revision += changes.len() as u64;
        self.totals.messages = self.records.len() as u64;
        self.totals.bytes = self.records.values().map(|(_, size)| size).sum();
        if dice.is(5) {
            self.horizon = self
                .horizon
                .max(self.totals.revision.saturating_sub(dice.below(20)));
        }
        Commit {
            revision,
            changes,
            consumers,
            horizon: self.horizon,
            totals: self.totals,
            durability: Durability::Fsync,
            fence: 0,
            time,
            due: self.due,
        }
    }

    fn append(&mut self, dice: &mut Dice, time: u64) -> Change {
        self.totals.last_seq += 1;
        self.totals.last_time = time;
        let seq = self.totals.last_seq;
        let key = (!dice.is(3)).then(|| Arc::from(format!("k{}", dice.below(5))));
        let of_key = self
            .records
            .iter()
            .filter(|(_, (other, _))| key.is_some() && *other == key);
        let replaced: Vec<u64> = of_key.map(|(seq, _)| *seq).collect();
        for seq in &replaced {
            self.records.remove(seq);
        }
        let payload = match dice.below(3) {
            0 => vec![dice.byte(); dice.len(800)],
            _ => (0..dice.below(300)).map(|_| dice.byte()).collect(),
        };
        let append = Append {
            seq,
            time,
            key,
            encoding: dice.byte() % 3,
            headers: dice.is(4).then(|| Bytes::from_static(b"{\"a\":1}")),
            ttl: dice.is(5).then(|| dice.below(100_000)),
            id: dice.is(3).then(|| Arc::from(format!("id-{seq}"))),
            payload: Bytes::from(payload),
            replaced,
        };
        let end = append.ttl.map(|ttl| time + ttl);
        self.due = self.due.into_iter().chain(end).min();
        self.records
            .insert(seq, (append.key.clone(), append.size()));
        Change::Append(append)
    }

    fn remove(&mut self, dice: &mut Dice, time: u64) -> Change {
        let first = 1 + dice.below(self.totals.last_seq + 1);
        let last = if dice.is(8) {
            self.totals.last_seq.max(first)
        } else {
            first + dice.below(3)
        };
        let gone: Vec<u64> = self
            .records
            .range(first..=last)
            .map(|(seq, _)| *seq)
            .collect();
        let mut keys = Vec::new();
        for seq in gone {
            if let Some((Some(key), _)) = self.records.remove(&seq) {
                keys.push((seq, key));
            }
        }
        Change::Remove(Remove {
            time,
            cause: RemovalCause::Request,
            ranges: vec![(first, last)],
            keys,
        })
    }
}

fn consumer(dice: &mut Dice) -> ConsumerChange {
    let state = Bytes::from(vec![dice.byte(); 5]);
    ConsumerChange {
        name: Arc::from(format!("c{}", dice.below(3))),
        what: match dice.below(6) {
            0 => ConsumerWhat::Delete,
            1..4 => ConsumerWhat::Delta(state),
            _ => ConsumerWhat::Snapshot(state),
        },
    }
}

/// A backend with the numbers that it gave to streams.
pub(crate) struct Applied<'b> {
    pub(crate) backend: &'b dyn Backend,
    pub(crate) ids: BTreeMap<StreamName, StreamId>,
}

impl<'b> Applied<'b> {
    pub(crate) fn new(backend: &'b dyn Backend) -> Self {
        Self {
            backend,
            ids: BTreeMap::new(),
        }
    }

    pub(crate) fn write(&mut self, write: &Write) -> Result<(), Error> {
        match write {
            Write::Create(name, meta) => {
                let id = block_on(self.backend.create(name, meta))?;
                self.ids.insert(name.clone(), id);
                Ok(())
            }
            Write::Commit(name, decided) => {
                let obtained = commit(self.backend, self.ids[name], decided.clone())?;
                assert!(obtained <= decided.durability);
                Ok(())
            }
            Write::Delete(name) => block_on(self.backend.delete(self.ids[name])),
        }
    }

    /// After the backend was opened again.
    pub(crate) fn reload(&mut self) {
        self.ids.clear();
        for entry in block_on(self.backend.list("", None, 1000)).unwrap() {
            let loaded = block_on(self.backend.load(&entry.name, 0))
                .unwrap()
                .unwrap();
            self.ids.insert(entry.name, loaded.id);
        }
    }
}

/// A backend in memory to which all of this was written.
pub(crate) fn model(writes: &[Write]) -> Memory {
    let memory = Memory::new();
    let mut applied = Applied::new(&memory);
    for write in writes {
        applied.write(write).unwrap();
    }
    memory
}

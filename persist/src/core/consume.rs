//! What is asked of the consumers of a stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_client::persist::wire::{
    AckKind, ConsumerConfig, Durability, Fault, FaultKind, StartAt,
};

use super::check;
use super::commit::{ConsumerChange, ConsumerWhat};
use super::consumer::{Consumer, Counts, Delta, Meter, Slot, Taken};
use super::feed::Budget;
use super::state::State;

/// Most consumers of a stream.
const CONSUMERS_MAX: usize = 1_000;

impl State {
    /// Makes a consumer, or changes the configuration of one with `exist_ok`; whether it is new.
    ///
    /// # Errors
    /// `bad-request`, `exists`, `reject` when there are 1,000 already.
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
        let mut meter = Meter::new(budget);
        let gone = consumer.repeat(&self.records, now, &mut meter, &mut taken);
        consumer.advance(&self.records, now, &mut meter, &mut taken);
        taken.passed = consumer.kept.next > before;
        taken.again = consumer.due.first().map(|(due, _)| *due);
        taken.pending = consumer.pending(&self.records);
        let mut changes = Vec::new();
        if !gone.is_empty() {
            changes.push(consumer.change(&name, &Delta::Done(gone)));
        }
        if !taken.due.is_empty() || !taken.dead.is_empty() || taken.passed {
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

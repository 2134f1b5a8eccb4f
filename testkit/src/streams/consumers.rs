//! The model's consumers.

use std::collections::BTreeMap;

use dialtone_client::Encoding;
use dialtone_client::persist::wire::{
    AckKind, Acked, ConsumerConfig, ConsumerInfo, ConsumerNames, Deleted, Delivery, Fault,
    FaultKind, Fetch, Fetched, Request, StartAt,
};

use super::reading::matches;
use super::state::{State, Stream, fault};
use super::written;

/// A place in a stream.
#[derive(Debug)]
pub(super) struct Consumer {
    config: ConsumerConfig,
    created: u64,
    /// The next number to be delivered for the first time.
    next: u64,
    tokens: u64,
    pending: BTreeMap<u64, Pending>,
}

/// A record that was delivered and not acknowledged.
#[derive(Debug)]
struct Pending {
    token: u64,
    deliveries: u32,
    /// Delivered again from then on.
    due: u64,
}

fn consumer<'s>(stream: &'s mut Stream, name: &str) -> Result<&'s mut Consumer, Fault> {
    let found = stream.consumers.get_mut(name);
    found.ok_or_else(|| Fault::new(FaultKind::NotFound, format!("there is no consumer {name}")))
}

impl State {
    pub(super) fn fetch(&mut self, fetch: &Fetch, now: u64) -> Result<Fetched, Fault> {
        let stream = self.stream(&fetch.stream, now)?;
        let records = stream.records.clone();
        let consumer = consumer(stream, &fetch.consumer)?;
        consumer.pending.retain(|seq, _| records.contains_key(seq));
        let again = consumer
            .pending
            .iter()
            .filter(|(_, pending)| pending.due <= now);
        let mut seqs: Vec<u64> = again.map(|(seq, _)| *seq).collect();
        let prefix = consumer.config.prefix.as_deref();
        let fresh = records
            .range(consumer.next..)
            .filter(|(_, record)| matches(record.key.as_deref(), prefix));
        seqs.extend(fresh.map(|(seq, _)| *seq));
        seqs.truncate(fetch.max_msgs as usize);
        let mut deliveries = Vec::new();
        for seq in seqs {
            consumer.tokens += 1;
            consumer.next = consumer.next.max(seq + 1);
            let deadline = now + consumer.config.ack_wait;
            let pending = consumer.pending.entry(seq).or_insert(Pending {
                token: 0,
                deliveries: 0,
                due: 0,
            });
            pending.token = consumer.tokens;
            pending.deliveries += 1;
            pending.due = deadline;
            deliveries.push(Delivery {
                record: records[&seq].clone(),
                token: pending.token,
                deliveries: pending.deliveries,
                deadline,
            });
        }
        let pending = records.range(consumer.next..).count() as u64;
        Ok(Fetched {
            deliveries,
            pending,
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other requests are answered elsewhere"
    )]
    pub(super) fn consumer(
        &mut self,
        request: Request,
        now: u64,
        encoding: Encoding,
    ) -> Result<Vec<u8>, Fault> {
        match request {
            Request::ConsumerCreate(create) => {
                let stream = self.stream(&create.stream, now)?;
                if stream.consumers.contains_key(&create.consumer) && !create.exist_ok {
                    return fault(FaultKind::Exists, "the consumer exists");
                }
                let next = match create.config.start {
                    StartAt::First => 1,
                    StartAt::New => stream.records.keys().last().map_or(1, |seq| seq + 1),
                    StartAt::Seq(seq) => seq,
                    StartAt::Time(_) => return fault(FaultKind::BadRequest, "not in the model"),
                };
                let made = stream
                    .consumers
                    .entry(create.consumer.clone())
                    .or_insert(Consumer {
                        config: create.config,
                        created: now,
                        next,
                        tokens: 0,
                        pending: BTreeMap::new(),
                    });
                written(&made.info(&create.stream, &create.consumer), encoding)
            }
            Request::ConsumerInfo(show) => {
                let found = consumer(self.stream(&show.stream, now)?, &show.consumer)?;
                written(&found.info(&show.stream, &show.consumer), encoding)
            }
            Request::ConsumerList(list) => {
                let stream = self.stream(&list.stream, now)?;
                let consumers = stream.consumers.keys().cloned().collect();
                written(&ConsumerNames { consumers }, encoding)
            }
            Request::ConsumerDelete(delete) => {
                let stream = self.stream(&delete.stream, now)?;
                let deleted = stream.consumers.remove(&delete.consumer).is_some();
                written(&Deleted { deleted }, encoding)
            }
            Request::Ack(ack) => {
                let found = consumer(self.stream(&ack.stream, now)?, &ack.consumer)?;
                written(&found.ack(&ack.deliveries, ack.kind, now), encoding)
            }
            _ => fault(FaultKind::BadRequest, "not about a consumer"),
        }
    }
}

impl Consumer {
    fn ack(&mut self, deliveries: &[(u64, u64)], kind: AckKind, now: u64) -> Acked {
        let mut acked = Acked {
            count: 0,
            not_pending: Vec::new(),
        };
        for (seq, token) in deliveries {
            let Some(pending) = self
                .pending
                .get_mut(seq)
                .filter(|pending| pending.token == *token)
            else {
                acked.not_pending.push(*seq);
                continue;
            };
            acked.count += 1;
            match kind {
                AckKind::Ack | AckKind::Terminate => drop(self.pending.remove(seq)),
                AckKind::Nack(delay) => pending.due = now + delay,
                AckKind::Progress => pending.due = now + self.config.ack_wait,
            }
        }
        acked
    }

    fn info(&self, stream: &str, consumer: &str) -> ConsumerInfo {
        ConsumerInfo {
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            config: self.config.clone(),
            created: self.created,
            ack_floor: 0,
            delivered: self.next - 1,
            ack_pending: self.pending.len() as u64,
            redelivering: 0,
            pending: 0,
        }
    }
}

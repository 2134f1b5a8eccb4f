//! Consumers: fetching, acknowledging, giving up.

use std::sync::Arc;

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    self, Ack, AckKind, Acked, Append, Appended, ConsumerCreate, ConsumerDelete, ConsumerInfo,
    ConsumerNames, ConsumerShow, Deleted, Delivery, Fault, FaultKind, Fetch, Fetched, Outcome,
    Record, Request, StoredRecord,
};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::read::{self, budget};
use super::reply::Reply;
use super::shared::Shared;
use super::watch::{Waiting, deadline};
use super::write::durably;
use crate::core::consumer::{Counts, Due, Taken};
use crate::core::state::State;
use crate::counters;
use crate::stream::Stream;

/// Most deliveries of a fetch, and most that one acknowledgement is about.
const DELIVERIES_MAX: usize = 10_000;

pub(crate) fn create(
    stream: &Arc<Stream>,
    shared: &Arc<Shared>,
    create: ConsumerCreate,
    reply: Reply,
) {
    let (now, name) = (shared.now(), stream.name.to_string());
    let decide = |state: &mut State| {
        state.create_consumer(now, &create.consumer, create.config, create.exist_ok)?;
        let counts = state.consumer(&create.consumer)?;
        Ok(described(name, create.consumer, counts))
    };
    durably(stream, reply, decide, |reply, info, _| reply.answer(&info));
}

pub(crate) fn info(stream: &Arc<Stream>, shared: &Arc<Shared>, show: &ConsumerShow, reply: Reply) {
    let now = shared.now();
    let decide = |state: &mut State| {
        state.expire(now);
        let counts = state.consumer(&show.consumer)?;
        Ok(described(
            stream.name.to_string(),
            show.consumer.clone(),
            counts,
        ))
    };
    durably(stream, reply, decide, |reply, info, _| reply.answer(&info));
}

fn described(stream: String, consumer: String, counts: Counts) -> ConsumerInfo {
    ConsumerInfo {
        stream,
        consumer,
        config: counts.config,
        created: counts.created,
        ack_floor: counts.ack_floor,
        delivered: counts.delivered,
        ack_pending: counts.ack_pending,
        redelivering: counts.redelivering,
        pending: counts.pending,
    }
}

pub(crate) fn list(stream: &Arc<Stream>, reply: Reply) {
    let decide = |state: &mut State| Ok(state.consumer_names().map(ToString::to_string).collect());
    durably(stream, reply, decide, |reply, consumers, _| {
        reply.answer(&ConsumerNames { consumers });
    });
}

pub(crate) fn delete(stream: &Arc<Stream>, delete: &ConsumerDelete, reply: Reply) {
    let decide = |state: &mut State| state.delete_consumer(&delete.consumer);
    durably(stream, reply, decide, |reply, deleted, _| {
        reply.answer(&Deleted { deleted });
    });
}

pub(crate) fn fetch(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    owner: Owner,
    fetch: Fetch,
    reply: Reply,
) {
    let consume = Consume {
        shared: Arc::clone(shared),
        stream: Arc::clone(stream),
        owner,
        consumer: fetch.consumer.clone(),
    };
    shared.spawn(reply, |reply| async move {
        reply.finish(consume.fetch(&fetch).await);
    });
}

pub(crate) fn ack(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    owner: Owner,
    ack: Ack,
    reply: Reply,
) {
    if ack.deliveries.len() > DELIVERIES_MAX {
        let text = format!("an acknowledgement is about at most {DELIVERIES_MAX} deliveries");
        reply.fault(&Fault::new(FaultKind::BadRequest, text));
        return;
    }
    let now = shared.now();
    if ack.kind == AckKind::Terminate {
        let consume = Consume {
            shared: Arc::clone(shared),
            stream: Arc::clone(stream),
            owner,
            consumer: ack.consumer.clone(),
        };
        shared.spawn(reply, |reply| async move {
            reply.finish(consume.terminate(&ack).await);
        });
        return;
    }
    let count = ack.deliveries.len();
    let decide = |state: &mut State| state.ack(now, &ack.consumer, &ack.deliveries, ack.kind);
    let woken = Arc::clone(stream);
    durably(stream, reply, decide, move |reply, not_pending, _| {
        // Room for further deliveries, or one that is due at once.
        woken.changed.notify_waiters();
        reply.answer(&acked(count, not_pending));
    });
}

fn acked(count: usize, not_pending: Vec<u64>) -> Acked {
    Acked {
        count: u32::try_from(count - not_pending.len()).unwrap_or(u32::MAX),
        not_pending,
    }
}

/// One consumer, for one request.
struct Consume {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    owner: Owner,
    consumer: String,
}

impl Consume {
    async fn fetch(&self, fetch: &Fetch) -> Result<Fetched, Fault> {
        let deadline = deadline(fetch.wait);
        let max_msgs = fetch.max_msgs.clamp(1, 10_000);
        let mut waiting = None;
        loop {
            let changed = self.stream.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed that happens after the look at the stream.
            changed.as_mut().enable();
            let budget = budget(fetch.max_bytes, Some(max_msgs));
            let decide = |state: &mut State, now| state.fetch(now, &fetch.consumer, budget);
            let (taken, _) = self.shared.decide(&self.stream, decide).await?;
            self.give_up(&taken.dead).await;
            let is_stopping = self.shared.stopping.is_cancelled();
            let is_over = is_stopping || Instant::now() >= deadline;
            let fetched = self.deliver(&taken).await?;
            if !fetched.deliveries.is_empty() || is_stopping {
                return Ok(fetched);
            }
            // Each look goes on where the last one ended, also when nothing is to be waited for: what is wanted may stand
            // behind many records that are not.
            if taken.passed {
                continue;
            }
            if is_over {
                return Ok(fetched);
            }
            if !taken.due.is_empty() || !taken.dead.is_empty() {
                continue;
            }
            if waiting.is_none() {
                waiting = Some(Waiting::new(&self.shared, &self.stream)?);
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(self.wake(deadline, &taken)) => {}
                () = self.shared.stopping.cancelled() => {}
            }
        }
    }

    /// When to look again though nothing was appended.
    fn wake(&self, deadline: Instant, taken: &Taken) -> Instant {
        let now = self.shared.now();
        let again = taken.again.map(|again| again.saturating_sub(now).max(1));
        let again =
            again.and_then(|ms| Instant::now().checked_add(std::time::Duration::from_millis(ms)));
        again.map_or(deadline, |again| again.min(deadline))
    }

    /// The deliveries whose records are still there. One that is damaged is given up.
    async fn deliver(&self, taken: &Taken) -> Result<Fetched, Fault> {
        let mut due = taken.due.clone();
        due.sort_unstable_by_key(|due| due.seq);
        let mut deliveries = Vec::with_capacity(due.len());
        while !due.is_empty() {
            let seqs: Vec<u64> = due.iter().map(|due| due.seq).collect();
            let read = read::records(&self.shared, &self.stream, &seqs).await?;
            deliveries.extend(read.records.into_iter().filter_map(|record| {
                let at = due.binary_search_by_key(&record.seq, |due| due.seq).ok()?;
                Some(delivery(record, due[at]))
            }));
            let Some(damaged) = read.damaged else {
                break;
            };
            let bad: Vec<Due> = due
                .iter()
                .filter(|due| due.seq == damaged.seq)
                .copied()
                .collect();
            tracing::error!(stream = %self.stream.name, seq = damaged.seq, error = %damaged.text, "a record is damaged; its delivery is given up");
            self.done(&bad).await?;
            due.retain(|due| due.seq > damaged.seq);
        }
        counters::add(&self.shared.counters.deliveries, deliveries.len() as u64);
        let again = deliveries.iter().filter(|delivery| delivery.deliveries > 1);
        counters::add(&self.shared.counters.redeliveries, again.count() as u64);
        Ok(Fetched {
            deliveries,
            pending: taken.pending,
        })
    }

    async fn done(&self, due: &[Due]) -> Result<(), Fault> {
        let pairs: Vec<(u64, u64)> = due.iter().map(|due| (due.seq, due.token)).collect();
        let decide =
            |state: &mut State, now| state.ack(now, &self.consumer, &pairs, AckKind::Terminate);
        self.shared.decide(&self.stream, decide).await.map(drop)
    }

    /// Moves records to the dead-letter stream. What cannot be moved now is tried again when it is due again.
    async fn give_up(&self, dead: &[Due]) {
        for due in dead {
            let result = match self.bury(due.seq, due.deliveries).await {
                Ok(()) => self.done(&[*due]).await,
                Err(fault) => Err(fault),
            };
            if let Err(fault) = result {
                tracing::warn!(stream = %self.stream.name, consumer = %self.consumer, seq = due.seq, error = %fault.text, "cannot give up a delivery yet");
            }
        }
    }

    async fn terminate(&self, ack: &Ack) -> Result<Acked, Fault> {
        let mut not_pending = Vec::new();
        for (seq, token) in ack.deliveries.iter().copied() {
            // Kept for its owner while it is being moved, if it is still the owner's.
            let hold = |state: &mut State, now| {
                let held = state.ack(now, &self.consumer, &[(seq, token)], AckKind::Progress)?;
                Ok(held.is_empty())
            };
            let (is_held, _) = self.shared.decide(&self.stream, hold).await?;
            if !is_held {
                not_pending.push(seq);
                continue;
            }
            self.bury(seq, 0).await?;
            let decide = |state: &mut State, now| {
                state.ack(now, &self.consumer, &[(seq, token)], AckKind::Terminate)
            };
            self.shared.decide(&self.stream, decide).await?;
        }
        self.stream.changed.notify_waiters();
        Ok(acked(ack.deliveries.len(), not_pending))
    }

    /// Appends a record to the dead-letter stream, if the consumer has one; twice is as good as once.
    async fn bury(&self, seq: u64, deliveries: u32) -> Result<(), Fault> {
        let facts = self.stream.decide(|state| {
            let counts = state.consumer(&self.consumer)?;
            Ok((counts.config.dead_letter, state.meta().epoch))
        });
        let (Some(target), epoch) = facts? else {
            return Ok(());
        };
        let read = read::records(&self.shared, &self.stream, &[seq]).await?;
        let Some(record) = read.records.into_iter().next() else {
            return Ok(());
        };
        let append = Append {
            stream: target,
            records: vec![self.letter(record, deliveries, epoch)],
            ..Append::default()
        };
        self.call(append).await?;
        counters::add(&self.shared.counters.dead_letters, 1);
        Ok(())
    }

    fn letter(&self, record: StoredRecord, deliveries: u32, epoch: u64) -> Record {
        let headers = record.headers.as_ref();
        let headers =
            headers.and_then(|headers| serde_json::from_slice::<Map<String, Value>>(headers).ok());
        let mut headers = headers.unwrap_or_default();
        headers.insert(
            "dead_letter_stream".to_owned(),
            self.stream.name.as_str().into(),
        );
        headers.insert(
            "dead_letter_consumer".to_owned(),
            self.consumer.as_str().into(),
        );
        headers.insert("dead_letter_seq".to_owned(), record.seq.into());
        if deliveries > 0 {
            headers.insert("dead_letter_deliveries".to_owned(), deliveries.into());
        }
        Record {
            key: record.key,
            payload: record.payload,
            encoding: record.encoding,
            headers: Some(Value::Object(headers).to_string().into()),
            id: Some(format!("dead:{epoch}:{}:{}", self.consumer, record.seq)),
            ..Record::default()
        }
    }

    /// Asks whichever node has the stream, with the rights of who asked for the deliveries.
    async fn call(&self, append: Append) -> Result<(), Fault> {
        let subject = self.owner.call_subject();
        let failed = |error: &dyn std::error::Error| {
            Fault::new(
                FaultKind::Unavailable,
                format!("the dead-letter stream: {error}"),
            )
        };
        let mut to = subject;
        for _ in 0..2 {
            let draft = self.shared.client.message(to.as_str());
            let draft = draft.msgpack(&Request::Append(append.clone()));
            let draft = draft.map_err(|error| failed(&error))?;
            let answer = draft.request().await.map_err(|error| failed(&error))?;
            let headers = answer.headers().unwrap_or_default();
            match Fault::from_headers(&headers) {
                Some(Fault {
                    kind: FaultKind::Moved,
                    node: Some(node),
                    ..
                }) => to = self.owner.node_subject(&node),
                Some(fault) => return Err(fault),
                None => return written(&answer).map_err(|error| failed(&error))?,
            }
        }
        let text = "the dead-letter stream moves from node to node";
        Err(Fault::new(FaultKind::Unavailable, text))
    }
}

fn written(
    answer: &dialtone_client::Message,
) -> Result<Result<(), Fault>, dialtone_client::PayloadError> {
    let appended: Appended = wire::decode(answer.payload(), answer.encoding())?;
    Ok(match appended.results.into_iter().next() {
        Some(Outcome::Refused(fault)) => Err(fault),
        Some(Outcome::Written(_)) | None => Ok(()),
    })
}

fn delivery(record: StoredRecord, due: Due) -> Delivery {
    Delivery {
        record,
        token: due.token,
        deliveries: due.deliveries,
        deadline: due.deadline,
    }
}

//! What is read of a stream.

use std::sync::Arc;

use dialtone_client::persist::wire::{
    ANSWER_BYTES_DEFAULT, ANSWER_BYTES_MAX, ANSWER_ENTRIES_MAX, Fault, FaultKind, Found, Get,
    KeyEntry, KeyList, KeyPage, Page, Read, Select, StoredRecord,
};

use super::reply::Reply;
use super::shared::Shared;
use super::write::durably;
use crate::backend::{Batch, Damaged};
use crate::core::feed::Budget;
use crate::core::state::State;
use crate::counters;
use crate::stream::{Stream, fault_of};

/// How often a record is looked up again that was replaced while it was being read.
const ATTEMPTS_MAX: usize = 100;

/// Keys of a page where a request says nothing, and at most.
const KEYS_DEFAULT: u32 = 1_000;
const KEYS_MAX: u32 = 10_000;

/// What a request may have, of what it asks for.
pub(crate) fn budget(bytes: Option<u32>, entries: Option<u32>) -> Budget {
    let bytes = bytes.unwrap_or(ANSWER_BYTES_DEFAULT).min(ANSWER_BYTES_MAX);
    let entries = entries
        .unwrap_or(ANSWER_ENTRIES_MAX)
        .clamp(1, ANSWER_ENTRIES_MAX);
    Budget {
        bytes: u64::from(bytes),
        entries: entries as usize,
    }
}

/// What was read of certain records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// In the order of their numbers, as far as they are still there.
    pub(crate) records: Vec<StoredRecord>,
    /// The one that ended reading.
    pub(crate) damaged: Option<Damaged>,
}

/// Reads the records with these numbers, which ascend.
///
/// # Errors
/// What the store says.
pub(crate) async fn records(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    seqs: &[u64],
) -> Result<Records, Fault> {
    let mut ranges = ranges(seqs);
    let mut found = Records::default();
    if ranges.is_empty() {
        return Ok(found);
    }
    let _permit = shared.reads.acquire().await;
    loop {
        let read = stream.backend.read(stream.id, &ranges, u64::MAX).await;
        let batch: Batch = read.map_err(|error| fault_of(&error))?;
        found.records.extend(batch.records);
        found.damaged = batch.damaged;
        let Some(next) = batch.next.filter(|_| found.damaged.is_none()) else {
            break;
        };
        ranges.retain(|(_, to)| *to >= next);
        if let Some(first) = ranges.first_mut() {
            first.0 = first.0.max(next);
        }
    }
    counters::add(&shared.counters.records_read, found.records.len() as u64);
    Ok(found)
}

fn ranges(seqs: &[u64]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in seqs.iter().copied() {
        match ranges.last_mut() {
            Some(range) if range.1 + 1 == seq => range.1 = seq,
            _ => ranges.push((seq, seq)),
        }
    }
    ranges
}

/// A record that cannot be given back.
pub(crate) fn corrupt(damaged: &Damaged) -> Fault {
    let text = format!("record {} is damaged: {}", damaged.seq, damaged.text);
    Fault::new(FaultKind::Corrupt, text).seq(damaged.seq)
}

pub(crate) fn get(shared: &Arc<Shared>, stream: &Arc<Stream>, get: Get, reply: Reply) {
    let (own, stream) = (Arc::clone(shared), Arc::clone(stream));
    shared.spawn(reply, |reply| async move {
        reply.finish(found(&own, &stream, &get.select).await);
    });
}

async fn found(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    select: &Select,
) -> Result<Found, Fault> {
    for _ in 0..ATTEMPTS_MAX {
        let decide = |state: &mut State, now| {
            state.expire(now);
            Ok((selected(state, select), state.last_seq()))
        };
        let ((seq, last_seq), _) = shared.decide(stream, decide).await?;
        let Some(seq) = seq else {
            return Ok(Found {
                record: None,
                last_seq,
            });
        };
        let read = records(shared, stream, &[seq]).await?;
        if let Some(damaged) = &read.damaged {
            return Err(corrupt(damaged));
        }
        if let Some(record) = read.records.into_iter().next() {
            return Ok(Found {
                record: Some(record),
                last_seq,
            });
        }
    }
    let text = "the record is replaced faster than it can be read";
    Err(Fault::new(FaultKind::Busy, text).retry_after(100))
}

fn selected(state: &State, select: &Select) -> Option<u64> {
    let records = state.records();
    match select {
        Select::Seq(seq) => records.contains(*seq).then_some(*seq),
        Select::Key(key) => records.seqs_of(key).last().copied(),
        Select::Last => records.last_seq(),
    }
}

pub(crate) fn read(shared: &Arc<Shared>, stream: &Arc<Stream>, read: Read, reply: Reply) {
    let (own, stream) = (Arc::clone(shared), Arc::clone(stream));
    shared.spawn(reply, |reply| async move {
        reply.finish(page(&own, &stream, &read).await);
    });
}

async fn page(shared: &Arc<Shared>, stream: &Arc<Stream>, read: &Read) -> Result<Page, Fault> {
    let decide = |state: &mut State, now| {
        state.expire(now);
        let plan = state.plan(read, budget(read.max_bytes, read.max_msgs));
        Ok((plan, state.last_seq(), state.position()))
    };
    let ((plan, last_seq, position), _) = shared.decide(stream, decide).await?;
    let found = records(shared, stream, &plan.seqs).await?;
    let mut next = plan.next;
    if let Some(damaged) = &found.damaged {
        if found.records.is_empty() {
            return Err(corrupt(damaged));
        }
        next = Some(damaged.seq);
    }
    Ok(Page {
        records: found.records,
        next,
        last_seq,
        epoch: position.epoch,
        revision: position.revision,
    })
}

pub(crate) fn keys(stream: &Arc<Stream>, shared: &Arc<Shared>, list: &KeyList, reply: Reply) {
    let now = shared.now();
    let limit = list.limit.unwrap_or(KEYS_DEFAULT).clamp(1, KEYS_MAX) as usize;
    let decide = |state: &mut State| {
        state.expire(now);
        let prefix = list.prefix.as_deref().unwrap_or_default();
        let mut keys = state.records().keys(prefix, list.after.as_deref());
        let entries = keys.by_ref().take(limit).filter_map(|(key, seqs)| {
            let seq = *seqs.last()?;
            let key = key.to_string();
            Some(KeyEntry { key, seq })
        });
        let entries = entries.collect();
        let more = keys.next().is_some();
        Ok(KeyPage {
            keys: entries,
            more,
            revision: state.revision(),
        })
    };
    durably(stream, reply, decide, |reply, page, _| reply.answer(&page));
}

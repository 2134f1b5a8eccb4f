//! What changes a stream.

use std::sync::Arc;

use dialtone_client::persist::wire::{
    APPEND_RECORDS_MAX, Append, Appended, Durability, Fault, FaultKind, Record, Remove, Removed,
    Restore, Restored, Update, What,
};

use super::admin;
use super::reply::Reply;
use super::shared::{Shared, busy};
use crate::core::state::State;
use crate::stream::Stream;

/// Most ranges in the answer to a removal.
const RANGES_MAX: usize = 10_000;

/// Decides something, and answers when everything up to it is durable.
pub(crate) fn durably<T: Send + 'static>(
    stream: &Arc<Stream>,
    reply: Reply,
    decide: impl FnOnce(&mut State) -> Result<T, Fault>,
    answer: impl FnOnce(Reply, T, Durability) + Send + 'static,
) {
    stream.decide_then(decide, move |result| match result {
        Ok((value, durability)) => answer(reply, value, durability),
        Err(fault) => reply.fault(&fault),
    });
}

pub(crate) fn append(shared: &Arc<Shared>, stream: &Arc<Stream>, append: Append, reply: Reply) {
    let now = shared.now();
    if let Err(fault) = check_append(stream, &append, now) {
        reply.fault(&fault);
        return;
    }
    let decide = |state: &mut State| {
        let epoch = state.meta().epoch;
        if append.epoch.is_some_and(|expected| expected != epoch) {
            let text = format!("the stream has epoch {epoch}");
            return Err(Fault::new(FaultKind::WrongEpoch, text));
        }
        check_room(shared, state)?;
        let results = state.append(now, append.records, append.atomic, append.durability)?;
        Ok((results, epoch))
    };
    durably(
        stream,
        reply,
        decide,
        |reply, (results, epoch), durability| {
            reply.answer(&Appended {
                results,
                durability,
                epoch,
            });
        },
    );
}

fn check_append(stream: &Stream, append: &Append, now: u64) -> Result<(), Fault> {
    let len = append.records.len();
    if len == 0 || len > APPEND_RECORDS_MAX {
        let text = format!("an append has 1 to {APPEND_RECORDS_MAX} records, and this has {len}");
        return Err(Fault::new(FaultKind::BadRequest, text));
    }
    let bytes = append.records.iter().map(Record::size).sum();
    let checked = stream.usage.check_write(now, len as u64, bytes);
    checked.map_err(|fault| Fault {
        text: format!("{}: {}", stream.name.owner().scope(), fault.text),
        ..fault
    })
}

/// Whether more may be decided before what was decided is stored.
fn check_room(shared: &Arc<Shared>, state: &State) -> Result<(), Fault> {
    if state.open_len().0 > shared.config.uncommitted_bytes_max {
        return Err(busy("too much of this stream waits to be stored"));
    }
    Ok(())
}

pub(crate) fn remove(stream: &Arc<Stream>, shared: &Arc<Shared>, remove: &Remove, reply: Reply) {
    if let What::Seqs(seqs) = &remove.what
        && seqs.len() > APPEND_RECORDS_MAX
    {
        let text = format!("a removal has at most {APPEND_RECORDS_MAX} numbers");
        reply.fault(&Fault::new(FaultKind::BadRequest, text));
        return;
    }
    let now = shared.now();
    let decide = |state: &mut State| {
        let (count, mut ranges) =
            state.remove(now, &remove.what, remove.expect, remove.durability)?;
        ranges.truncate(RANGES_MAX);
        Ok((count, ranges, state.revision()))
    };
    durably(
        stream,
        reply,
        decide,
        |reply, (count, ranges, revision), durability| {
            reply.answer(&Removed {
                count,
                ranges,
                revision,
                durability,
            });
        },
    );
}

pub(crate) fn update(stream: &Arc<Stream>, shared: &Arc<Shared>, update: Update, reply: Reply) {
    let now = shared.now();
    let (node, name) = (shared.config.node.clone(), stream.name.clone());
    let decide = |state: &mut State| {
        state.writable()?;
        state.update(now, update.config)?;
        Ok(admin::describe(state, &name, &node))
    };
    durably(stream, reply, decide, |reply, info, _| reply.answer(&info));
}

pub(crate) fn restore(stream: &Arc<Stream>, shared: &Arc<Shared>, restore: Restore, reply: Reply) {
    let now = shared.now();
    let bytes = restore
        .records
        .iter()
        .map(|record| record.payload.len() as u64);
    let checked = stream
        .usage
        .check_write(now, restore.records.len() as u64, bytes.sum());
    if let Err(fault) = checked {
        reply.fault(&fault);
        return;
    }
    let decide = |state: &mut State| {
        if restore.records.len() > APPEND_RECORDS_MAX {
            let text = format!("a restore has at most {APPEND_RECORDS_MAX} records");
            return Err(Fault::new(FaultKind::BadRequest, text));
        }
        check_room(shared, state)?;
        state.restore(restore.records, restore.last_seq, restore.done, now)?;
        Ok(Restored {
            last_seq: state.last_seq(),
            messages: state.records().messages(),
        })
    };
    durably(stream, reply, decide, |reply, restored, _| {
        reply.answer(&restored);
    });
}

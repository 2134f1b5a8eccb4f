//! Reads records, and verifies them.

use std::sync::Arc;

use dialtone_client::persist::wire::{StoredRecord, VerifyProblem};

use super::Inner;
use super::frames::{ReadFrame, Unreadable, problem_at};
use super::head;
use super::load;
use super::positions::{Positions, Run};
use super::queue::Placed;
use super::streams::Stream;
use crate::backend::{Batch, Damaged, Error, StreamId, Verified};

/// Times that a read begins again because the records moved meanwhile.
const TRIES_MAX: u32 = 8;

/// Most problems that one verification names.
const PROBLEMS_MAX: usize = 1_000;

/// Runs that are to be read.
struct Plan {
    runs: Vec<Run>,
    /// Where the plan ends before the ranges do.
    next: Option<u64>,
}

impl Inner {
    pub(super) fn read(
        &self,
        stream: StreamId,
        ranges: &[(u64, u64)],
        bytes: u64,
    ) -> Result<Batch, Error> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let (_, plan) = self.plan(stream, ranges, bytes)?;
            let mut reading = Reading::new(plan.next, bytes);
            self.each_run(&plan.runs, |run, read| reading.take(run, read));
            match reading.gone {
                Some(unreadable) => last = Some(unreadable.text),
                None => return Ok(reading.batch),
            }
        }
        Err(Error::Unavailable(last.unwrap_or_default()))
    }

    /// The runs with records in `ranges`, for about so many bytes.
    fn plan(
        &self,
        stream: StreamId,
        ranges: &[(u64, u64)],
        bytes: u64,
    ) -> Result<(Arc<Stream>, Plan), Error> {
        self.unless_closed(())?;
        let stream = self.streams.by_id(stream).ok_or(Error::NotFound)?;
        load::find(&self.frames, &stream)?;
        let state = stream.state.lock();
        let nothing = Positions::default();
        let positions = state.positions.as_deref().unwrap_or(&nothing);
        let plan = plan(positions, ranges, bytes);
        drop(state);
        Ok((stream, plan))
    }

    /// Reads the frames of runs, each once as long as it follows itself.
    fn each_run(
        &self,
        runs: &[Run],
        mut each: impl FnMut(&Run, &Result<ReadFrame, Unreadable>) -> bool,
    ) {
        let mut rest = runs;
        // Ends because a window has at least one run.
        while !rest.is_empty() {
            let (window, behind) = rest.split_at(window_len(rest));
            rest = behind;
            let mut frames: Vec<Placed> = Vec::with_capacity(window.len());
            for run in window {
                if frames
                    .last()
                    .is_none_or(|last| last.position != run.position)
                {
                    frames.push(placed(run));
                }
            }
            let mut left = window.iter().peekable();
            let mut goes_on = true;
            self.frames.each(&frames, |read| {
                let position = read
                    .as_ref()
                    .map_or_else(|wrong| wrong.placed, |read| read.placed);
                while let Some(run) = left.next_if(|run| run.position == position.position) {
                    goes_on = goes_on && each(run, &read);
                }
            });
            if !goes_on {
                return;
            }
        }
    }

    pub(super) fn verify(
        &self,
        stream: StreamId,
        from: u64,
        bytes: u64,
    ) -> Result<Verified, Error> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let (stream, plan) = self.plan(stream, &[(from, u64::MAX)], bytes)?;
            let mut verifying = Verifying {
                verified: Verified {
                    next: plan.next,
                    ..Verified::default()
                },
                gone: None,
            };
            if from <= 1 {
                verifying.structure(load::read(&self.frames, &stream));
            }
            self.each_run(&plan.runs, |run, read| verifying.take(run, read));
            match verifying.gone {
                Some(unreadable) => last = Some(unreadable.text),
                None => return Ok(verifying.verified),
            }
        }
        Err(Error::Unavailable(last.unwrap_or_default()))
    }
}

fn placed(run: &Run) -> Placed {
    Placed {
        position: run.position,
        len: run.len,
    }
}

/// Bytes of frames that are in memory at once.
const WINDOW_LEN: u64 = 16 << 20;

fn window_len(runs: &[Run]) -> usize {
    let mut len = 0;
    let fits = |run: &&Run| {
        let before = len;
        len += u64::from(run.len);
        before < WINDOW_LEN
    };
    runs.iter().take_while(fits).count().max(1)
}

fn plan(positions: &Positions, ranges: &[(u64, u64)], bytes: u64) -> Plan {
    let mut plan = Plan {
        runs: Vec::new(),
        next: None,
    };
    let mut planned = 0;
    for (first, last) in ranges {
        for mut run in positions.from(*first) {
            if run.seq > *last {
                break;
            }
            if planned >= bytes && !plan.runs.is_empty() {
                plan.next = Some(run.seq);
                return plan;
            }
            run.count = run.count.min(last - run.seq + 1);
            planned += run.share(run.count);
            plan.runs.push(run);
        }
    }
    plan
}

/// The state of reading a batch.
struct Reading {
    batch: Batch,
    bytes: u64,
    bytes_max: u64,
    gone: Option<Unreadable>,
}

impl Reading {
    fn new(next: Option<u64>, bytes_max: u64) -> Self {
        Self {
            batch: Batch {
                next,
                ..Batch::default()
            },
            bytes: 0,
            bytes_max,
            gone: None,
        }
    }

    /// Takes the records of a run. Whether more are wanted.
    fn take(&mut self, run: &Run, read: &Result<ReadFrame, Unreadable>) -> bool {
        let read = match read {
            Ok(read) => read,
            Err(unreadable) => {
                if unreadable.is_gone {
                    self.gone = Some(unreadable.clone());
                } else {
                    self.damaged(run.seq, unreadable.text.clone());
                }
                return false;
            }
        };
        let mut expected = run.seq;
        for record in records(run, read) {
            match record {
                Ok(record) if record.seq == expected => {
                    if self.bytes >= self.bytes_max && !self.batch.records.is_empty() {
                        self.batch.next = Some(record.seq);
                        return false;
                    }
                    self.bytes += len(&record);
                    self.batch.records.push(record);
                }
                Ok(_) => break,
                Err(damaged) => {
                    self.damaged(damaged.seq, damaged.text);
                    return false;
                }
            }
            expected += 1;
        }
        if expected < run.end() {
            self.damaged(
                expected,
                problem_at(placed(run), "the record is not in the frame"),
            );
            return false;
        }
        true
    }

    fn damaged(&mut self, seq: u64, text: String) {
        self.batch.damaged = Some(Damaged { seq, text });
        self.batch.next = Some(seq + 1);
    }
}

fn len(record: &StoredRecord) -> u64 {
    let key = record.key.as_ref().map_or(0, String::len);
    let headers = record.headers.as_ref().map_or(0, |headers| headers.len());
    (record.payload.len() + headers + key) as u64
}

/// The records of a run from its frame, in order.
fn records<'r>(
    run: &'r Run,
    read: &'r ReadFrame,
) -> impl Iterator<Item = Result<StoredRecord, Damaged>> + 'r {
    let mut all = head::records(read.kind, &read.head).unwrap_or_default();
    // Where records were moved to, they stand in the order in which they were found.
    all.sort_unstable_by_key(|(record, _)| record.seq);
    let wanted = all
        .into_iter()
        .filter(|(record, _)| (run.seq..run.end()).contains(&record.seq));
    wanted.map(|(record, from)| {
        let damaged = |what: &str| Damaged {
            seq: record.seq,
            text: problem_at(read.placed, &format!("record {}: {what}", record.seq)),
        };
        let end = from + record.stored_len;
        if end > read.data.len() {
            return Err(damaged("it ends behind its frame"));
        }
        record
            .stored(&read.data.slice(from..end))
            .map_err(|what| damaged(&what))
    })
}

/// The state of a verification.
struct Verifying {
    verified: Verified,
    gone: Option<Unreadable>,
}

impl Verifying {
    fn problem(&mut self, seq: Option<u64>, text: String) {
        if self.verified.problems.len() < PROBLEMS_MAX {
            self.verified.problems.push(VerifyProblem { seq, text });
        }
    }

    /// What stands in the heads.
    fn structure(&mut self, read: Result<load::Found, Error>) {
        match read {
            Ok(found) => {
                for problem in found.problems {
                    self.problem(None, problem);
                }
            }
            Err(error) => self.problem(None, error.to_string()),
        }
    }

    fn take(&mut self, run: &Run, read: &Result<ReadFrame, Unreadable>) -> bool {
        let read = match read {
            Ok(read) => read,
            Err(unreadable) if unreadable.is_gone => {
                self.gone = Some(unreadable.clone());
                return false;
            }
            Err(unreadable) => {
                for seq in run.seq..run.end() {
                    self.problem(Some(seq), unreadable.text.clone());
                }
                return true;
            }
        };
        let mut left: std::collections::BTreeSet<u64> = (run.seq..run.end()).collect();
        for record in records(run, read) {
            match record {
                Ok(record) => {
                    left.remove(&record.seq);
                    self.verified.records += 1;
                    self.verified.bytes += len(&record);
                }
                Err(damaged) => {
                    left.remove(&damaged.seq);
                    self.problem(Some(damaged.seq), damaged.text);
                }
            }
        }
        for seq in left {
            self.problem(
                Some(seq),
                problem_at(placed(run), "the record is not in the frame"),
            );
        }
        true
    }
}

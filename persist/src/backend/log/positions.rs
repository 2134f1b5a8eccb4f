//! Where the records of a stream are: a few bytes for each, however they are scattered.
//!
//! Records that were written by one commit are one *run*. Runs stand in blocks, by number, each
//! as its difference to the one before: mostly a byte or two for each of four fields. Looking one
//! up is a binary search over the blocks and a walk through one of them.

use std::collections::VecDeque;

use super::bytes::{Cursor, put_number, unzigzag, zigzag};
use super::position::Position;

/// Most runs in a block; twice that before it is split. A walk through it takes about as long as
/// copying a record.
const BLOCK_RUNS: usize = 64;

/// Records with numbers that follow each other, in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Number of the first.
    pub(crate) seq: u64,
    /// How many.
    pub(crate) count: u64,
    /// Where the frame is.
    pub(crate) position: Position,
    /// Bytes that the frame takes.
    pub(crate) len: u32,
    /// How many records were in it when it was written.
    pub(crate) records: u64,
}

impl Run {
    /// Number behind the last.
    pub(crate) fn end(&self) -> u64 {
        self.seq + self.count
    }

    /// Bytes of the frame that are for `count` of its records, about.
    pub(crate) fn share(&self, count: u64) -> u64 {
        u64::from(self.len) * count / self.records.max(1)
    }

    fn same_frame(&self, other: &Self) -> bool {
        self.position == other.position && self.end() == other.seq
    }
}

/// All runs of a stream, by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Positions {
    blocks: VecDeque<Block>,
}

/// Some runs; never none.
#[derive(Debug, Clone)]
struct Block {
    /// Number of the first record.
    first: u64,
    /// Number behind the last.
    end: u64,
    runs: usize,
    /// All runs but the last one.
    bytes: Vec<u8>,
    /// The run before the last one, from which that one will differ.
    before: Run,
    /// Not among the bytes, because it may grow.
    last: Run,
}

const NOTHING: Run = Run {
    seq: 0,
    count: 0,
    position: Position::ZERO,
    len: 0,
    records: 1,
};

fn put_run(bytes: &mut Vec<u8>, before: &Run, run: &Run) {
    // One record, alone in its frame, right behind the one before: no more than its position
    // and length need to be said.
    let plain = run.count == 1 && run.records == 1 && run.seq == before.end();
    put_number(
        bytes,
        zigzag(u64::from(before.len), u64::from(run.len)) << 1 | u64::from(!plain),
    );
    put_number(
        bytes,
        zigzag(before.position.number(), run.position.number()),
    );
    if !plain {
        put_number(bytes, run.seq - before.end());
        put_number(bytes, run.count);
        put_number(bytes, run.records);
    }
}

fn read_run(cursor: &mut Cursor<'_>, before: &Run) -> Option<Run> {
    let len = cursor.number()?;
    let position = cursor.number()?;
    let mut run = Run {
        seq: before.end(),
        count: 1,
        position: Position::from_number(unzigzag(before.position.number(), position)),
        len: u32::try_from(unzigzag(u64::from(before.len), len >> 1)).ok()?,
        records: 1,
    };
    if len & 1 == 1 {
        run.seq = before.end().checked_add(cursor.number()?)?;
        run.count = cursor.number()?;
        run.records = cursor.number()?;
    }
    Some(run)
}

impl Block {
    fn new(runs: &[Run]) -> Self {
        let mut block = Self {
            first: runs[0].seq,
            end: runs[0].end(),
            runs: 1,
            bytes: Vec::new(),
            before: NOTHING,
            last: runs[0],
        };
        runs[1..].iter().for_each(|run| block.push(run));
        block
    }

    fn push(&mut self, run: &Run) {
        self.end = run.end();
        if self.last.same_frame(run) {
            self.last.count += run.count;
            return;
        }
        put_run(&mut self.bytes, &self.before, &self.last);
        self.before = self.last;
        self.last = *run;
        self.runs += 1;
    }

    fn runs(&self) -> impl Iterator<Item = Run> {
        let mut cursor = Cursor::new(&self.bytes);
        let mut before = NOTHING;
        let but_the_last = std::iter::from_fn(move || {
            if cursor.is_empty() {
                return None;
            }
            before = read_run(&mut cursor, &before).expect("it was written by put_run");
            Some(before)
        });
        but_the_last.chain(std::iter::once(self.last))
    }
}

impl Positions {
    /// Adds records with greater numbers than all that are there.
    pub(crate) fn push(&mut self, run: Run) {
        match self.blocks.back_mut() {
            Some(block) if block.runs < BLOCK_RUNS || block.last.same_frame(&run) => {
                block.push(&run);
            }
            Some(block) => {
                // It grows no more.
                block.bytes.shrink_to_fit();
                self.blocks.push_back(Block::new(&[run]));
            }
            None => self.blocks.push_back(Block::new(&[run])),
        }
    }

    /// The run that a record is in.
    pub(crate) fn get(&self, seq: u64) -> Option<Run> {
        let block = self.blocks.get(self.block_of(seq)?)?;
        block
            .runs()
            .find(|run| run.end() > seq)
            .filter(|run| run.seq <= seq)
    }

    /// The runs with records from `from` on; the first is cut to begin there.
    pub(crate) fn from(&self, from: u64) -> impl Iterator<Item = Run> {
        let start = self.blocks.partition_point(|block| block.end <= from);
        self.blocks
            .range(start..)
            .flat_map(Block::runs)
            .skip_while(move |run| run.end() <= from)
            .map(move |run| cut(run, from, u64::MAX))
    }

    /// Takes out all records with numbers from `first` to `last`, and calls `gone` for each run.
    pub(crate) fn remove(&mut self, first: u64, last: u64, mut gone: impl FnMut(Run)) {
        let Some(end) = last.checked_add(1).filter(|end| *end > first) else {
            return;
        };
        let mut at = self.blocks.partition_point(|block| block.end <= first);
        // Ends because each round leaves the block behind or takes it away.
        while let Some(block) = self.blocks.get(at).filter(|block| block.first < end) {
            let mut kept = Vec::new();
            for run in block.runs() {
                if run.end() <= first || run.seq >= end {
                    kept.push(run);
                    continue;
                }
                gone(cut(run, first, end));
                if run.seq < first {
                    kept.push(cut(run, 0, first));
                }
                if run.end() > end {
                    kept.push(cut(run, end, u64::MAX));
                }
            }
            at += self.replace(at, &kept);
        }
    }

    /// Gives a record, if it is there and still at `from`, a new place. Says whether it was.
    pub(crate) fn relocate(&mut self, seq: u64, from: Position, to: Run) -> bool {
        if self.get(seq).is_none_or(|run| run.position != from) {
            return false;
        }
        self.place(seq, to)
    }

    /// Gives a record, if it is there, a new place. Says whether it was.
    pub(crate) fn place(&mut self, seq: u64, to: Run) -> bool {
        let Some(at) = self.block_of(seq) else {
            return false;
        };
        let mut found = false;
        let mut runs: Vec<Run> = Vec::new();
        let mut add = |run: Run| match runs.last_mut() {
            Some(last) if last.same_frame(&run) => last.count += run.count,
            _ => runs.push(run),
        };
        for run in self.blocks[at].runs() {
            if !(run.seq..run.end()).contains(&seq) {
                add(run);
                continue;
            }
            found = true;
            if run.seq < seq {
                add(cut(run, 0, seq));
            }
            add(Run {
                seq,
                count: 1,
                ..to
            });
            if run.end() > seq + 1 {
                add(cut(run, seq + 1, u64::MAX));
            }
        }
        if found {
            self.replace(at, &runs);
        }
        found
    }

    /// Puts runs in the place of a block, and says how many blocks they are.
    fn replace(&mut self, at: usize, runs: &[Run]) -> usize {
        if runs.is_empty() {
            self.blocks.remove(at);
            return 0;
        }
        if runs.len() <= 2 * BLOCK_RUNS {
            self.blocks[at] = Block::new(runs);
            return 1;
        }
        let mut blocks = 0;
        self.blocks.remove(at);
        for chunk in runs.chunks(BLOCK_RUNS) {
            self.blocks.insert(at + blocks, Block::new(chunk));
            blocks += 1;
        }
        blocks
    }

    fn block_of(&self, seq: u64) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.end <= seq);
        self.blocks.get(at).filter(|block| block.first <= seq)?;
        Some(at)
    }

    /// Bytes of memory, about.
    #[cfg(test)]
    fn memory(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| block.bytes.capacity());
        blocks.sum::<usize>() + self.blocks.capacity() * size_of::<Block>()
    }
}

/// The part of a run with numbers of at least `from` and less than `end`.
fn cut(run: Run, from: u64, end: u64) -> Run {
    let seq = run.seq.max(from);
    let count = run.end().min(end) - seq;
    Run { seq, count, ..run }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Operation {
        Push {
            gap: u64,
            count: u64,
        },
        Remove {
            from: prop::sample::Index,
            count: u64,
        },
        Move(prop::sample::Index),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => (0..3_u64, prop_oneof![Just(1_u64), 1..20_u64])
                .prop_map(|(gap, count)| Operation::Push { gap, count }),
            2 => (any::<prop::sample::Index>(), prop_oneof![Just(1_u64), 1..200_u64])
                .prop_map(|(from, count)| Operation::Remove { from, count }),
            1 => any::<prop::sample::Index>().prop_map(Operation::Move),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_map_from_numbers_to_places(
            operations in prop::collection::vec(operation(), 1..200),
        ) {
            let mut positions = Positions::default();
            let mut model: BTreeMap<u64, Position> = BTreeMap::new();
            let mut next = 1;
            let mut offset = 24;
            for operation in operations {
                match operation {
                    Operation::Push { gap, count } => {
                        let position = Position::new(1 + offset / 5000, offset);
                        offset += 96;
                        let run = Run { seq: next + gap, count, position, len: 96, records: count };
                        positions.push(run);
                        model.extend((run.seq..run.end()).map(|seq| (seq, position)));
                        next = run.end();
                    }
                    Operation::Remove { from, count } => {
                        let first = from.index(usize::try_from(next).unwrap()) as u64;
                        let mut gone = BTreeMap::new();
                        positions.remove(first, first + count - 1, |run| {
                            gone.extend((run.seq..run.end()).map(|seq| (seq, run.position)));
                        });
                        let mut expected = model.split_off(&first);
                        let mut behind = expected.split_off(&(first + count));
                        model.append(&mut behind);
                        prop_assert_eq!(gone, expected);
                    }
                    Operation::Move(seq) => {
                        let seq = seq.index(usize::try_from(next).unwrap()) as u64;
                        let position = Position::new(900, offset);
                        offset += 64;
                        let from = model.get(&seq).copied().unwrap_or_default();
                        let to = Run { seq, count: 1, position, len: 64, records: 1 };
                        prop_assert_eq!(positions.relocate(seq, from, to), model.contains_key(&seq));
                        prop_assert!(!positions.relocate(seq, from, to), "it is not there any more");
                        model.entry(seq).and_modify(|at| *at = position);
                    }
                }
                for seq in 0..next + 2 {
                    let found = positions.get(seq).map(|run| run.position);
                    prop_assert_eq!(found, model.get(&seq).copied(), "{}", seq);
                }
            }
            let from = next / 2;
            let listed: BTreeMap<u64, Position> = positions.from(from)
                .flat_map(|run| (run.seq..run.end()).map(move |seq| (seq, run.position)))
                .collect();
            prop_assert_eq!(listed, model.split_off(&from));
        }
    }

    #[test]
    fn a_record_takes_a_few_bytes_wherever_it_is() {
        let mut positions = Positions::default();
        // As when a thousand streams of 256-byte records take turns.
        for seq in 1..=100_000_u64 {
            let at = seq * 312_000;
            let position = Position::from_number(at + at / (128 << 20) * ((4 << 30) - (128 << 20)));
            positions.push(Run {
                seq,
                count: 1,
                position,
                len: 304 + 8 * u32::try_from(seq % 3).unwrap(),
                records: 1,
            });
        }
        let each = positions.memory() / 100_000;
        assert!(each <= 8, "{each} bytes");
    }
}

//! What is left of a simulated disk when the power goes.

use std::collections::BTreeSet;

use super::State;
use super::inode::{Change, Inode};

/// How much of what was not synced survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    Lost,
    /// Everything, as when only the process died.
    Kept,
    /// All changes of names, and of the bytes written to files the first so many, in the order
    /// in which they were written.
    Prefix(usize),
    /// Any of it: each block of `block` bytes has one of the contents that it had since its last
    /// sync, each file one of its lengths, each change of a name happened or not.
    Any {
        /// What decides.
        seed: u64,
        /// Bytes that a disk writes all or nothing: 512 or 4,096 for real ones.
        block: usize,
    },
}

/// Steele and Vigna's `SplitMix64`: small, and good enough to choose with.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = u64::try_from(bound).expect("memory is smaller than this");
        usize::try_from(mixed % bound.max(1)).expect("less than the bound")
    }
}

/// The disk that is found afterwards.
pub(super) fn state_after(state: &State, crash: Crash) -> State {
    let mut dice = Dice(match crash {
        Crash::Any { seed, .. } => seed,
        Crash::Lost | Crash::Kept | Crash::Prefix(_) => 0,
    });
    let mut names = state.durable_names.clone();
    for change in &state.changes {
        let happened = match crash {
            Crash::Lost => false,
            Crash::Kept | Crash::Prefix(_) => true,
            Crash::Any { .. } => dice.below(2) == 0,
        };
        if happened {
            change.apply(&mut names);
        }
    }
    let mut left = match crash {
        Crash::Prefix(bytes) => bytes,
        Crash::Lost | Crash::Kept | Crash::Any { .. } => 0,
    };
    let after = |inode: &Inode| {
        Inode::durable(match crash {
            Crash::Lost => inode.durable_contents().to_vec(),
            Crash::Kept => inode.contents().to_vec(),
            Crash::Prefix(_) => prefix(inode, &mut left),
            Crash::Any { block, .. } => any(inode, block, &mut dice),
        })
    };
    State {
        inodes: state.inodes.iter().map(after).collect(),
        durable_names: names.clone(),
        names,
        ..State::default()
    }
}

/// The first `left` bytes of what was written, and what comes with them.
fn prefix(inode: &Inode, left: &mut usize) -> Vec<u8> {
    let mut contents = inode.durable_contents().to_vec();
    for change in &inode.changes {
        match change {
            Change::Write { offset, bytes } => {
                let now = bytes.len().min(*left);
                *left -= now;
                let bytes = bytes[..now].to_vec();
                let offset = *offset;
                if now > 0 {
                    Change::Write { offset, bytes }.apply(&mut contents);
                }
            }
            Change::Len(_) => change.apply(&mut contents),
        }
        if *left == 0 {
            break;
        }
    }
    contents
}

/// For each block one of its contents, and one of the lengths.
fn any(inode: &Inode, block: usize, dice: &mut Dice) -> Vec<u8> {
    let mut versions = vec![inode.durable_contents().to_vec()];
    let mut blocks: BTreeSet<usize> = BTreeSet::new();
    for change in &inode.changes {
        let mut next = versions.last().cloned().unwrap_or_default();
        change.apply(&mut next);
        let (from, to) = match change {
            Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
            Change::Len(len) => (*len, next.len()),
        };
        blocks.extend(from / block..to.div_ceil(block));
        versions.push(next);
    }
    let mut contents = inode.durable_contents().to_vec();
    let longest = versions.iter().map(Vec::len).max().unwrap_or_default();
    let len = versions[dice.below(versions.len())].len();
    contents.resize(longest, 0);
    for number in blocks {
        let chosen = &versions[dice.below(versions.len())];
        let from = (number * block).min(longest);
        let to = (from + block).min(longest);
        for (at, byte) in contents[from..to].iter_mut().enumerate() {
            *byte = chosen.get(from + at).copied().unwrap_or_default();
        }
    }
    contents.truncate(len);
    contents
}

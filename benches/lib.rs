//! Fixtures of the benchmarks: a [`Node`] to measure, and [`Peer`]s that speak the protocol by hand
//! so that what is measured is the broker.
//!
//! Everything is made of fixed seeds. `cargo bench -p dialtone-benches` runs all of it within five
//! minutes; what real sockets and other servers make of it is `dialtone bench compare`.

use std::fmt;

use dialtone_protocol::Subject;

mod node;
pub use node::{Carrier, Node};

mod peer;
pub use peer::{Peer, delivery_len, message_to, publishes, wanted};

/// Message sizes that are measured, in bytes of payload.
pub const PAYLOADS: [usize; 4] = [16, 128, 1 << 10, 64 << 10];

/// A generator of numbers that is the same in every run.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// From any seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        // SplitMix64 by Steele, Lea and Flood, 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let scaled = ((mixed ^ (mixed >> 31)) >> 32) * u64::from(bound);
        u32::try_from(scaled >> 32).unwrap_or(0)
    }
}

/// What the patterns of a table look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// No wildcard.
    Literal,
    /// `*` in the middle.
    Star,
    /// `>` at the end.
    Tail,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 3] = [Self::Literal, Self::Star, Self::Tail];

    /// The pattern with this number; different numbers make different patterns.
    pub fn pattern(self, number: u32) -> String {
        let site = number % 1_000;
        match self {
            Self::Literal => format!("site.{site}.item.{number}"),
            Self::Star => format!("site.{site}.*.{number}"),
            Self::Tail => format!("site.{site}.item.{number}.>"),
        }
    }

    /// A subject that exactly the pattern with this number matches.
    ///
    /// # Panics
    /// Never: all of them are valid.
    pub fn subject(self, number: u32) -> Subject {
        let site = number % 1_000;
        let text = match self {
            Self::Literal | Self::Star => format!("site.{site}.item.{number}"),
            Self::Tail => format!("site.{site}.item.{number}.part.7"),
        };
        Subject::new(&text).expect("the subjects of the fixtures are valid")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Literal => "literal",
            Self::Star => "star",
            Self::Tail => "tail",
        })
    }
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::Pattern;

    use super::*;

    #[test]
    fn a_subject_matches_its_own_pattern_alone() {
        for shape in Shape::ALL {
            for number in [0, 7, 999, 1_007] {
                let subject = shape.subject(number);
                for other in [0, 7, 999, 1_007] {
                    let pattern = Pattern::new(&shape.pattern(other)).unwrap();
                    assert_eq!(
                        pattern.matches(&subject),
                        number == other,
                        "{pattern:?} {subject:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_below_the_bound() {
        let draw = || {
            let mut seeded = Seeded::new(42);
            (0..100).map(|_| seeded.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!(draw().iter().all(|&number| number < 10));
    }
}

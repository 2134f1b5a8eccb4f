//! What is drawn at random and need not be secret: choices between equals, jitter, and the seeds of
//! hash tables. Secrets never come from here.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash};

thread_local! {
    static FIXED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes all further draws of this thread follow from a seed, so that a simulation that runs on one
/// thread can be repeated.
pub fn fix(seed: u64) {
    FIXED.set(Some(seed));
}

/// A number.
pub(crate) fn number() -> u64 {
    match FIXED.get() {
        None => rand::random(),
        Some(state) => {
            // SplitMix64: every state follows another one, and what is returned looks random.
            let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            FIXED.set(Some(state));
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }
}

/// A number from 0 to 1, 1 excluded.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits are what the number can hold"
)]
pub(crate) fn share() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The hashes of a table. Each table has seeds of its own, so that nobody can make its keys collide.
#[derive(Debug, Clone)]
pub(crate) struct RandomState(ahash::RandomState);

impl RandomState {
    pub(crate) fn new() -> Self {
        if FIXED.get().is_none() {
            return Self(ahash::RandomState::new());
        }
        let [a, b, c, d] = [number(), number(), number(), number()];
        Self(ahash::RandomState::with_seeds(a, b, c, d))
    }
}

impl Default for RandomState {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildHasher for RandomState {
    type Hasher = ahash::AHasher;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }

    #[inline]
    fn hash_one<T: Hash>(&self, x: T) -> u64 {
        self.0.hash_one(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_from_the_seed_once_it_is_fixed() {
        let draws = || [number(), number(), number()];
        fix(7);
        let first = draws();
        fix(7);
        assert_eq!(draws(), first);
        assert_ne!(draws(), first);
        fix(7);
        let hash = RandomState::new().hash_one("key");
        assert_ne!(RandomState::new().hash_one("key"), hash);
        fix(7);
        assert_eq!(RandomState::new().hash_one("key"), hash);
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&share())));
    }
}

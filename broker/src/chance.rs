//! What is drawn at random and need not be secret: choices between equals, and jitter. Secrets never
//! come from here.

use std::cell::Cell;

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
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&share())));
    }
}

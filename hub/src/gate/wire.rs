//! What brokers and hubs say to each other about who is let in, as `MessagePack`.
//!
//! | subject | request | answer |
//! |---|---|---|
//! | `auth.admit` | [`Offer`](super::Offer) | [`Identity`](crate::identity::Identity), or why not |
//! | `auth.still` | [`Identity`](crate::identity::Identity) | nothing, or why not |
//! | `auth.fact` | [`Fact`](crate::permission::Fact) | whether it holds |
//! | `auth.changed` | [`Changed`], published by every hub | |
//!
//! Only hubs and brokers may publish and subscribe there: nothing in the [rules](crate::permission) lets anybody else.

use serde::{Deserialize, Serialize};

use crate::caller::Caller;

pub(super) const ADMIT: &str = "auth.admit";
pub(super) const STILL: &str = "auth.still";
pub(super) const FACT: &str = "auth.fact";
pub(super) const CHANGED: &str = "auth.changed";

/// The queue group of all hubs.
pub(super) const GROUP: &str = "0";

/// Longest question, in bytes: the cookies of a request and a little more.
pub(super) const QUESTION_LEN_MAX: usize = 64 << 10;

/// Most of those whose rights changed that are told at once; of more, everybody is to be asked again.
pub(super) const CALLERS_MAX: usize = 1_000;

/// Codes of refusals, as the headers of an answer carry them.
pub(super) const REFUSED: u16 = 401;
pub(super) const GONE: u16 = 471;
pub(super) const UNAVAILABLE: u16 = 500;

/// Whose rights changed, as one hub follows the changes. Every hub tells the same, so that whoever listens takes what is
/// new to it: what goes on behind `after` at the latest, where it has not heard of all up to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed {
    /// The number of the last change that was told before.
    pub(super) after: i64,
    /// The number of the last change that is told.
    pub(super) seq: i64,
    /// Whose.
    pub(super) callers: Vec<Caller>,
    /// Possibly everybody's.
    pub(super) all: bool,
}

/// What a listener has heard, and what follows from hearing more. Pure.
#[derive(Debug, Default)]
pub(super) struct Heard {
    last: Option<i64>,
}

/// What is to be asked again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    Nobody,
    These(Vec<Caller>),
    Everybody,
}

impl Heard {
    /// Takes what a hub tells.
    pub(super) fn take(&mut self, told: Changed) -> Again {
        let Some(last) = self.last else {
            // Nobody was let in by what was before, or nobody knows.
            self.last = Some(told.seq);
            return Again::Everybody;
        };
        if told.seq < told.after || (told.seq <= last && !told.all) {
            return Again::Nobody;
        }
        // Of a database that was restored the numbers begin again.
        self.last = Some(told.seq);
        if told.all || told.after > last {
            return Again::Everybody;
        }
        Again::These(told.callers)
    }

    /// What happens from here on may be missed.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AccountId;

    fn told(after: i64, seq: i64, callers: &[Caller]) -> Changed {
        Changed {
            after,
            seq,
            callers: callers.to_vec(),
            all: false,
        }
    }

    #[test]
    fn what_every_hub_tells_counts_once() {
        let one = Caller::Account(AccountId::random());
        let mut heard = Heard::default();
        assert_eq!(heard.take(told(3, 5, &[])), Again::Everybody);
        assert_eq!(heard.take(told(5, 6, &[one])), Again::These(vec![one]));
        assert_eq!(heard.take(told(5, 6, &[one])), Again::Nobody);
        // A hub that reads in other portions.
        assert_eq!(heard.take(told(4, 7, &[one])), Again::These(vec![one]));
        assert_eq!(heard.take(told(7, 7, &[])), Again::Nobody);
    }

    #[test]
    fn what_was_missed_is_noticed() {
        let mut heard = Heard::default();
        heard.take(told(0, 1, &[]));
        assert_eq!(heard.take(told(2, 3, &[])), Again::Everybody);
        assert_eq!(heard.take(told(3, 4, &[])), Again::These(vec![]));
        // A sign of life says so as well.
        assert_eq!(heard.take(told(9, 9, &[])), Again::Everybody);
        heard.forget();
        assert_eq!(heard.take(told(9, 9, &[])), Again::Everybody);
    }

    proptest::proptest! {
        /// However hubs cut the changes into portions, and whatever is lost: after a portion up to a number, everybody
        /// whose rights changed up to it was named, or everybody was.
        #[test]
        fn nobody_is_left_out(
            changes in proptest::collection::vec(0_u8..4, 1..40),
            cuts in proptest::collection::vec((0_usize..40, 0_usize..40, proptest::bool::ANY), 1..60),
        ) {
            let people: Vec<Caller> = (0..4).map(|_| Caller::Account(AccountId::random())).collect();
            let mut heard = Heard::default();
            let mut known = std::collections::BTreeMap::<usize, usize>::new();
            for (from, len, lost) in cuts {
                let from = from.min(changes.len());
                let to = (from + len).min(changes.len());
                if lost {
                    continue;
                }
                let callers: Vec<Caller> = changes[from..to].iter().map(|who| people[usize::from(*who)]).collect();
                let again = heard.take(told(i64::try_from(from).unwrap(), i64::try_from(to).unwrap(), &callers));
                for (who, person) in people.iter().enumerate() {
                    let asked = match &again {
                        Again::Nobody => false,
                        Again::These(these) => these.contains(person),
                        Again::Everybody => true,
                    };
                    if asked {
                        known.insert(who, to.max(known.get(&who).copied().unwrap_or(0)));
                    }
                }
                let last = usize::try_from(heard.last.unwrap()).unwrap();
                for (number, who) in changes[..last].iter().enumerate() {
                    let who = usize::from(*who);
                    proptest::prop_assert!(known.get(&who).copied().unwrap_or(0) > number, "change {number}");
                }
            }
        }
    }
}

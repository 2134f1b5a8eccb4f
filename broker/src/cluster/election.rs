//! Which of two links to the same node stays. Pure, and decided alike at both ends.
//!
//! When both ends dial at the same time, the link that was dialled by the node with the smaller name
//! is preferred. A later run of a node replaces an earlier one. Otherwise the newer link replaces
//! the older one: nobody dials a node that it has a link with, so that the dialler has lost it.

/// A link, as far as the choice is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The run of the node at the other end.
    pub incarnation: u64,
    /// Whether the end with the smaller name has dialled it.
    pub is_preferred: bool,
}

impl Candidate {
    /// A link of the node `own` with the node `other`.
    pub fn new(own: &str, other: &str, incarnation: u64, own_has_dialled: bool) -> Self {
        Self {
            incarnation,
            is_preferred: own_has_dialled == (own < other),
        }
    }

    /// Whether `newer` takes the place of this link.
    pub fn yields_to(self, newer: Self) -> bool {
        if self.incarnation != newer.incarnation {
            return newer.incarnation > self.incarnation;
        }
        newer.is_preferred || !self.is_preferred
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_two_links_dialled_at_once_both_ends_keep_the_same() {
        let at = |own: &str, other: &str| {
            let dialled = Candidate::new(own, other, 1, true);
            let accepted = Candidate::new(own, other, 1, false);
            // Whichever is there first.
            let keeps_dialled = !dialled.yields_to(accepted);
            assert_eq!(keeps_dialled, accepted.yields_to(dialled));
            keeps_dialled
        };
        assert!(at("a", "b"), "a has dialled the one that stays");
        assert!(!at("b", "a"));
    }

    #[test]
    fn who_has_lost_its_link_gets_another_one() {
        let dead = Candidate::new("b", "a", 1, true);
        assert!(dead.yields_to(dead));
        let restarted = Candidate::new("b", "a", 2, false);
        assert!(dead.yields_to(restarted));
        assert!(!restarted.yields_to(dead));
    }

    proptest! {
        #[test]
        fn one_of_two_always_stays(a in any::<(u64, bool)>(), b in any::<(u64, bool)>()) {
            let link = |(incarnation, is_preferred)| Candidate { incarnation, is_preferred };
            let (a, b) = (link(a), link(b));
            prop_assert!(a.yields_to(b) || b.yields_to(a));
        }
    }
}

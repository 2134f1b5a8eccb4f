//! Which of two links to the same node stays. Pure, and decided alike at both ends.
//!
//! A later run of a node replaces an earlier one. A link that both ends have in place stays, since
//! messages are under way on it: where one end has lost it, the other one finds out by asking, and
//! the next dialling succeeds. Until both have it in place, which happens when both dial at the
//! same time, the one that was dialled by the node with the smaller name is preferred.

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

    /// Whether `newer` takes the place of this link; `is_mutual` says whether both ends are known
    /// to have this one in place.
    pub fn yields_to(self, newer: Self, is_mutual: bool) -> bool {
        if self.incarnation != newer.incarnation {
            return newer.incarnation > self.incarnation;
        }
        !is_mutual && (newer.is_preferred || !self.is_preferred)
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
            let keeps_dialled = !dialled.yields_to(accepted, false);
            assert_eq!(keeps_dialled, accepted.yields_to(dialled, false));
            keeps_dialled
        };
        assert!(at("a", "b"), "a has dialled the one that stays");
        assert!(!at("b", "a"));
    }

    #[test]
    fn a_link_in_place_yields_to_a_later_run_alone() {
        for has_dialled in [true, false] {
            let link = Candidate::new("b", "a", 1, has_dialled);
            let again = Candidate::new("b", "a", 1, !has_dialled);
            assert!(!link.yields_to(again, true));
            let restarted = Candidate::new("b", "a", 2, false);
            assert!(link.yields_to(restarted, true));
            assert!(!restarted.yields_to(link, false));
        }
    }

    proptest! {
        #[test]
        fn one_of_two_always_stays(a in any::<(u64, bool)>(), b in any::<(u64, bool)>()) {
            let link = |(incarnation, is_preferred)| Candidate { incarnation, is_preferred };
            let (a, b) = (link(a), link(b));
            prop_assert!(a.yields_to(b, false) || b.yields_to(a, false));
        }
    }
}

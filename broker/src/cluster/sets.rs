//! Destinations of messages that several queue groups of another node get: sets of their numbers,
//! declared before they are first used (docs/protocol.md §12.4). Pure.

use dialtone_protocol::SubscriptionId;
use dialtone_protocol::frame::link::{DESTINATION_SETS, DESTINATION_SETS_MAX};
use hashbrown::HashMap;

use crate::chance::RandomState;

/// The sets that are declared on one lane of a link. A set that is declared takes the place of the
/// one that was declared longest ago.
#[derive(Debug)]
pub struct Sets {
    first: u32,
    numbers: HashMap<Box<[SubscriptionId]>, u32, RandomState>,
    /// By place; `numbers` holds the same.
    places: Vec<Box<[SubscriptionId]>>,
    next: usize,
}

impl Sets {
    /// Of the lane of this index; lanes have different numbers, since transports with one stream
    /// mix them.
    pub fn new(lane: u32) -> Self {
        Self {
            first: DESTINATION_SETS + lane * DESTINATION_SETS_MAX,
            numbers: HashMap::default(),
            places: Vec::new(),
            next: 0,
        }
    }

    /// The number of a set, and whether it must be declared before it is used.
    pub fn number_of(&mut self, groups: &[SubscriptionId]) -> (SubscriptionId, bool) {
        if let Some(&place) = self.numbers.get(groups) {
            return (SubscriptionId(self.first + place), false);
        }
        let index = self.next;
        self.next = (self.next + 1) % DESTINATION_SETS_MAX as usize;
        match self.places.get_mut(index) {
            Some(old) => {
                self.numbers.remove(old);
                *old = groups.into();
            }
            None => self.places.push(groups.into()),
        }
        let place = u32::try_from(index).unwrap_or(0);
        self.numbers.insert(groups.into(), place);
        (SubscriptionId(self.first + place), true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_number_means_what_was_declared_last() {
        let mut sets = Sets::new(1);
        let mut declared: BTreeMap<u32, Vec<SubscriptionId>> = BTreeMap::new();
        let count = DESTINATION_SETS_MAX + 100;
        let mut declarations = 0;
        for n in (0..count).chain(0..count).chain(count - 10..count) {
            let groups = vec![SubscriptionId(n), SubscriptionId(n + 1)];
            let (number, is_new) = sets.number_of(&groups);
            if is_new {
                declared.insert(number.0, groups.clone());
                declarations += 1;
            }
            assert_eq!(declared.get(&number.0), Some(&groups));
            assert!(number.0 >= DESTINATION_SETS + DESTINATION_SETS_MAX);
        }
        assert_eq!(declared.len(), DESTINATION_SETS_MAX as usize);
        assert_eq!(declarations, 2 * count, "the last ones were there");
    }
}

//! Somebody who follows a stream in pages of any size, at any pace, and applies what is told.

use std::collections::BTreeMap;

use dialtone_client::persist::wire::Cursor;
use dialtone_persist::core::feed::{Budget, Item};
use dialtone_persist::core::state::State;

/// More answers than this for one history are a feed that does not end.
const PAGES_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reader {
    prefix: Option<&'static str>,
    cursor: Cursor,
    /// Numbers with their keys.
    held: BTreeMap<u64, Option<String>>,
    /// The last revision that was told.
    revision: u64,
}

impl Reader {
    pub(crate) fn new(prefix: Option<&'static str>) -> Self {
        Self {
            prefix,
            cursor: Cursor::Seq(1),
            held: BTreeMap::new(),
            revision: 0,
        }
    }

    /// Takes one answer; whether there is more.
    fn page(&mut self, state: &State, bytes: u64) -> bool {
        let budget = Budget { bytes, entries: 50 };
        let feed = state.feed(self.cursor, self.prefix, budget);
        if feed.resync {
            assert!(feed.items.is_empty());
            *self = Self::new(self.prefix);
            return true;
        }
        assert!(
            feed.position.revision >= self.revision,
            "a feed does not go back"
        );
        self.revision = feed.position.revision;
        self.cursor = Cursor::After(feed.position);
        for item in feed.items {
            self.apply(state, item);
        }
        feed.more
    }

    fn apply(&mut self, state: &State, item: Item) {
        match item {
            Item::Append { seq, kept_from } => {
                let key = state.records().key_of(seq).map(ToString::to_string);
                if let Some(key) = &key {
                    self.forget(key, kept_from.unwrap_or(seq));
                }
                self.held.insert(seq, key);
            }
            Item::Remove { ranges, keys, .. } => {
                for (from, to) in ranges {
                    self.held.retain(|seq, _| *seq < from || *seq > to);
                }
                for removed in keys {
                    self.forget(&removed.key, removed.kept_from.unwrap_or(u64::MAX));
                }
            }
            Item::Config(_) => {}
        }
    }

    /// Records of a key below a number are gone.
    fn forget(&mut self, key: &str, below: u64) {
        self.held
            .retain(|seq, held| held.as_deref() != Some(key) || *seq >= below);
    }

    pub(crate) fn read(&mut self, state: &State, bytes: u64) {
        self.page(state, bytes);
    }

    pub(crate) fn read_all(&mut self, state: &State) {
        let pages = (0..PAGES_MAX).take_while(|_| self.page(state, 200)).count();
        assert!(pages < PAGES_MAX, "the feed does not end");
    }

    pub(crate) fn assert_holds(&self, state: &State) {
        let records = state.records();
        let all = records
            .iter_from(0)
            .map(|(seq, ..)| (seq, records.key_of(seq).map(ToString::to_string)));
        let is_wanted = |key: &Option<String>| {
            self.prefix
                .is_none_or(|prefix| key.as_ref().is_some_and(|key| key.starts_with(prefix)))
        };
        let wanted: BTreeMap<u64, Option<String>> = all.filter(|(_, key)| is_wanted(key)).collect();
        assert_eq!(self.held, wanted);
    }
}

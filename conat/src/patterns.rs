//! The patterns that Socket.IO clients of a node subscribe to, so that what several of them are told is encoded once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::json::put_text;

/// The number of the next pattern: packets are kept by it for all tables of the process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Patterns with those who subscribe to them.
#[derive(Debug, Default)]
pub struct Patterns {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    patterns: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    pattern: Arc<Pattern>,
    /// How many subscriptions of each queue group: what is told to one of a group is told to no other one of it.
    groups: HashMap<String, usize>,
}

/// A pattern that at least one client subscribes to.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: Box<str>,
    /// The pattern as a JSON string, which is the name of the event.
    event: Box<[u8]>,
    /// Not given to another one.
    number: u64,
    is_shared: AtomicBool,
}

impl Pattern {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn event(&self) -> &[u8] {
        &self.event
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether several clients are told the same.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.load(Relaxed)
    }
}

impl Patterns {
    /// A subscription begins.
    pub(crate) fn enter(&self, text: &str, group: &str) -> Arc<Pattern> {
        let mut guard = self.table.lock();
        let entry = guard.patterns.entry_ref(text).or_insert_with(|| {
            let mut event = Vec::with_capacity(text.len() + 2);
            put_text(&mut event, text);
            Entry {
                pattern: Arc::new(Pattern {
                    text: text.into(),
                    event: event.into(),
                    number: NEXT.fetch_add(1, Relaxed),
                    is_shared: AtomicBool::new(false),
                }),
                groups: HashMap::new(),
            }
        });
        *entry.groups.entry_ref(group).or_insert(0) += 1;
        entry
            .pattern
            .is_shared
            .store(entry.groups.len() > 1, Relaxed);
        Arc::clone(&entry.pattern)
    }

    /// A subscription has ended.
    pub(crate) fn leave(&self, text: &str, group: &str) {
        let mut table = self.table.lock();
        let Some(entry) = table.patterns.get_mut(text) else {
            return;
        };
        if let Some(count) = entry.groups.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                entry.groups.remove(group);
            }
        }
        entry
            .pattern
            .is_shared
            .store(entry.groups.len() > 1, Relaxed);
        if entry.groups.is_empty() {
            table.patterns.remove(text);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.lock().patterns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_shared_by_several_groups() {
        let patterns = Patterns::default();
        let first = patterns.enter("a.*", "x");
        assert_eq!((first.text(), first.event()), ("a.*", &b"\"a.*\""[..]));
        assert!(!first.is_shared());
        let again = patterns.enter("a.*", "x");
        assert!(Arc::ptr_eq(&first, &again) && !first.is_shared());
        patterns.enter("a.*", "y");
        assert!(first.is_shared());
        patterns.leave("a.*", "x");
        assert!(first.is_shared());
        patterns.leave("a.*", "x");
        assert!(!first.is_shared());
        patterns.leave("a.*", "y");
        assert_eq!(patterns.len(), 0);
        let other = patterns.enter("a.*", "x");
        assert_ne!(other.number(), first.number());
    }
}

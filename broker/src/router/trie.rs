//! Patterns with wildcards, by segment. Single-threaded: the router locks.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::chance::RandomState;

use super::entry::Entry;

/// A tree whose edges are segments.
#[derive(Debug)]
pub struct Trie<P> {
    root: Node<P>,
    len: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Node<P> {
    literals: HashMap<Box<str>, Self, RandomState>,
    star: Option<Box<Self>>,
    /// The pattern that ends here.
    here: Option<Arc<Entry<P>>>,
    /// The pattern that goes on with `>`.
    tail: Option<Arc<Entry<P>>>,
}

impl<P> Default for Trie<P> {
    fn default() -> Self {
        let hasher = RandomState::new();
        Self {
            root: Node::new(&hasher),
            len: 0,
            hasher,
        }
    }
}

impl<P> Trie<P> {
    /// Patterns in the tree.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the tree is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a checked pattern, made when it is not there.
    pub fn entry(&mut self, pattern: &str) -> Arc<Entry<P>> {
        let mut node = &mut self.root;
        let mut slot_is_tail = false;
        for segment in pattern.split('.') {
            match segment {
                ">" => slot_is_tail = true,
                "*" => {
                    let star = &mut node.star;
                    node = star.get_or_insert_with(|| Box::new(Node::new(&self.hasher)));
                }
                literal => {
                    node = node
                        .literals
                        .entry(Box::from(literal))
                        .or_insert_with(|| Node::new(&self.hasher));
                }
            }
        }
        let slot = if slot_is_tail {
            &mut node.tail
        } else {
            &mut node.here
        };
        if slot.is_none() {
            self.len += 1;
        }
        Arc::clone(slot.get_or_insert_with(|| Arc::new(Entry::new(pattern))))
    }

    /// The entry of a checked pattern, if it is there.
    pub fn get(&self, pattern: &str) -> Option<Arc<Entry<P>>> {
        let mut node = &self.root;
        for segment in pattern.split('.') {
            match segment {
                ">" => return node.tail.clone(),
                "*" => node = node.star.as_deref()?,
                literal => node = node.literals.get(literal)?,
            }
        }
        node.here.clone()
    }

    /// Removes a checked pattern and the branches that only it needed.
    pub fn remove(&mut self, pattern: &str) {
        if self.root.remove(pattern.split('.')) {
            self.len -= 1;
        }
    }

    /// Calls `found` for every pattern.
    pub fn each(&self, found: &mut impl FnMut(&Arc<Entry<P>>)) {
        self.root.each(found);
    }

    /// Calls `found` for every pattern that matches a checked subject.
    pub fn each_match(&self, subject: &str, found: &mut impl FnMut(&Arc<Entry<P>>)) {
        self.root.each_match(subject, found);
    }
}

impl<P> Node<P> {
    fn new(hasher: &RandomState) -> Self {
        Self {
            literals: HashMap::with_hasher(hasher.clone()),
            star: None,
            here: None,
            tail: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty()
            && self.star.is_none()
            && self.here.is_none()
            && self.tail.is_none()
    }

    /// The depth of the recursion is bounded by `SEGMENTS_MAX`.
    fn remove<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>) -> bool {
        match segments.next() {
            None => self.here.take().is_some(),
            Some(">") => self.tail.take().is_some(),
            Some("*") => {
                let Some(star) = &mut self.star else {
                    return false;
                };
                let removed = star.remove(segments);
                if star.is_empty() {
                    self.star = None;
                }
                removed
            }
            Some(literal) => {
                let Some(node) = self.literals.get_mut(literal) else {
                    return false;
                };
                let removed = node.remove(segments);
                if node.is_empty() {
                    self.literals.remove(literal);
                }
                removed
            }
        }
    }

    fn each(&self, found: &mut impl FnMut(&Arc<Entry<P>>)) {
        self.here.iter().chain(&self.tail).for_each(&mut *found);
        for node in self.literals.values() {
            node.each(found);
        }
        if let Some(star) = &self.star {
            star.each(found);
        }
    }

    fn each_match(&self, rest: &str, found: &mut impl FnMut(&Arc<Entry<P>>)) {
        if let Some(tail) = &self.tail {
            found(tail);
        }
        let (segment, after) = match rest.split_once('.') {
            Some((segment, after)) => (segment, Some(after)),
            None => (rest, None),
        };
        let literal = self.literals.get(segment);
        for node in self.star.as_deref().into_iter().chain(literal) {
            match after {
                Some(after) => node.each_match(after, found),
                None => {
                    if let Some(here) = &node.here {
                        found(here);
                    }
                }
            }
        }
    }
}

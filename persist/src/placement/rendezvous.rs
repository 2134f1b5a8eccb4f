//! Rendezvous hashing: each node draws a number for a stream, and the highest one has it.

use std::sync::Arc;

/// The nodes that were there at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    number: u64,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: Arc<str>,
    hash: u64,
}

impl View {
    /// A view of these nodes, in any order.
    pub fn new<N: Into<Arc<str>>>(number: u64, nodes: impl IntoIterator<Item = N>) -> Self {
        let node = |name: Arc<str>| Node {
            hash: hash(&name),
            name,
        };
        let mut nodes: Vec<Node> = nodes.into_iter().map(|name| node(name.into())).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup();
        Self { number, nodes }
    }

    /// Its number: a later view has a higher one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.iter().map(|node| &node.name)
    }

    /// The node that has a stream; `None` when there is no node at all.
    pub fn owner(&self, stream: &str) -> Option<&Arc<str>> {
        let stream = hash(stream);
        // Of two equal draws, which happen once in 2⁶⁴, the last name wins, on every node alike.
        let drawn = self.nodes.iter().max_by_key(|node| mix(node.hash ^ stream));
        drawn.map(|node| &node.name)
    }
}

/// FNV-1a of 64 bits, mixed. It is part of what nodes of different versions agree on.
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The end of `SplitMix64`, which spreads every bit over all others.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streams() -> impl Iterator<Item = String> {
        (0..2_000).map(|number| format!("projects/{number}/notes"))
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        prop::collection::btree_set("[a-z][a-z0-9-]{0,12}", 1..8)
            .prop_map(|names| names.into_iter().collect())
    }

    proptest! {
        #[test]
        fn all_nodes_agree_in_whatever_order_they_learn_of_each_other(names in names(), stream in ".*") {
            let mut other = names.clone();
            other.reverse();
            other.push(names[0].clone());
            prop_assert_eq!(
                View::new(1, names.iter().map(String::as_str)).owner(&stream).cloned(),
                View::new(2, other.iter().map(String::as_str)).owner(&stream).cloned()
            );
        }

        #[test]
        fn a_node_that_comes_takes_streams_and_moves_no_others(names in names(), new in "[A-Z]{1,8}") {
            let before = View::new(1, names.iter().map(String::as_str));
            let after = View::new(2, names.iter().map(String::as_str).chain([new.as_str()]));
            for stream in streams() {
                let owner = after.owner(&stream).unwrap();
                prop_assert!(Some(owner) == before.owner(&stream) || **owner == *new);
            }
        }

        #[test]
        fn each_node_has_about_its_share(names in names()) {
            let view = View::new(1, names.iter().map(String::as_str));
            let share = 2_000 / names.len();
            for name in &names {
                let count = streams().filter(|stream| **view.owner(stream).unwrap() == **name).count();
                prop_assert!(count > share * 3 / 4 && count < share * 5 / 4 + 1, "{name} has {count} of 2000");
            }
        }
    }

    #[test]
    fn the_hash_is_what_other_versions_compute() {
        let view = View::new(1, ["a", "b", "c"]);
        let owners: String = (0..12)
            .map(|n| &**view.owner(&n.to_string()).unwrap())
            .collect();
        assert_eq!(owners, "aaaaacacbbba");
        assert_eq!(View::default().owner("x"), None);
    }
}

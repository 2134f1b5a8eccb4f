//! The server under load as its clients see it: one node, or several that act as one.

use crate::target::Target;

/// The nodes of a server, at least one.
#[derive(Debug, Clone)]
pub struct Nodes {
    first: Target,
    others: Vec<Target>,
}

impl Nodes {
    /// A server of several nodes.
    pub const fn new(first: Target, others: Vec<Target>) -> Self {
        Self { first, others }
    }

    /// The node that publishers and requesters connect to.
    pub const fn first(&self) -> &Target {
        &self.first
    }

    /// How many there are, at least 1.
    pub const fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// The node of the number `index`, counted around.
    pub fn at(&self, index: usize) -> &Target {
        match (index % self.count()).checked_sub(1) {
            Some(other) => self.others.get(other).unwrap_or(&self.first),
            None => &self.first,
        }
    }

    /// One of the nodes that publishers are not connected to, counted around; the only one of a
    /// server with one.
    pub fn other(&self, index: usize) -> &Target {
        match index.checked_rem(self.others.len()) {
            Some(other) => self.others.get(other).unwrap_or(&self.first),
            None => &self.first,
        }
    }

    /// The processes of all nodes, if they are known.
    pub fn pids(&self) -> Vec<u32> {
        let all = std::iter::once(&self.first).chain(&self.others);
        all.filter_map(Target::pid).collect()
    }
}

impl From<Target> for Nodes {
    fn from(first: Target) -> Self {
        Self::new(first, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u32) -> Target {
        Target::new(&format!("ws://127.0.0.1:{port}"), Some(port), None).unwrap()
    }

    #[test]
    fn nodes_are_counted_around() {
        let nodes = Nodes::new(target(1), vec![target(2), target(3)]);
        let pids = |of: &dyn Fn(usize) -> Option<u32>| (0..4).filter_map(of).collect::<Vec<_>>();
        assert_eq!(pids(&|index| nodes.at(index).pid()), [1, 2, 3, 1]);
        assert_eq!(pids(&|index| nodes.other(index).pid()), [2, 3, 2, 3]);
        assert_eq!(nodes.pids(), [1, 2, 3]);
        let one = Nodes::from(target(7));
        assert_eq!((one.at(5).pid(), one.other(5).pid()), (Some(7), Some(7)));
    }
}

//! A cluster of real processes.

use rustix::process::Signal;

use crate::process::{Broker, Home};

/// A cluster of processes that can be restarted one by one.
pub(crate) struct Cluster {
    pub(crate) home: Home,
    nodes: Vec<Option<Broker>>,
    more: Vec<&'static str>,
}

impl Cluster {
    /// So many nodes, each linked with all others.
    pub(crate) fn new(count: usize) -> Self {
        Self::with(count, &[])
    }

    /// The same with further flags for each.
    pub(crate) fn with(count: usize, more: &[&'static str]) -> Self {
        let home = Home::new();
        home.run(&["cluster", "init", "--dir", "n0", "--node", "n0"])
            .ok();
        let mut cluster = Self {
            home,
            nodes: Vec::new(),
            more: more.to_vec(),
        };
        for index in 0..count {
            let seeds = cluster.seeds();
            if index > 0 {
                let name = format!("n{index}");
                let args = [
                    &[
                        "cluster",
                        "join-token",
                        "--dir",
                        "n0",
                        "--node",
                        &name,
                        "--seed",
                    ],
                    &[seeds[0].as_str()][..],
                ];
                let token = cluster.home.run(&args.concat()).ok().text();
                cluster
                    .home
                    .run(&["cluster", "join", token.trim(), "--dir", &name])
                    .ok();
            }
            let node = cluster.start(index, "ws://127.0.0.1:0", "quic://127.0.0.1:0", &seeds);
            cluster.nodes.push(Some(node));
        }
        cluster.wait_until_complete();
        cluster
    }

    /// The node of this number.
    pub(crate) fn node(&self, index: usize) -> &Broker {
        self.nodes[index].as_ref().unwrap()
    }

    /// Takes a node out, to be ended in whatever way.
    pub(crate) fn take(&mut self, index: usize) -> Broker {
        self.nodes[index].take().unwrap()
    }

    fn start(&self, index: usize, listen: &str, links: &str, seeds: &[String]) -> Broker {
        let config = format!("n{index}/broker.toml");
        let seeds = seeds.join(",");
        let fixed = [
            "broker",
            "--json",
            "--config",
            &config,
            "--listen",
            listen,
            "--cluster-listen",
            links,
            "--cluster-seeds",
            &seeds,
        ];
        Broker::new(self.home.start(&[&fixed[..], &self.more].concat()))
    }

    fn running(&self) -> impl Iterator<Item = &Broker> {
        self.nodes.iter().flatten()
    }

    fn seeds(&self) -> Vec<String> {
        self.running().map(link_of).collect()
    }

    /// Asks every node until it is linked with all others.
    pub(crate) fn wait_until_complete(&self) {
        const ASKED_MAX: usize = 1_000;
        for node in self.running() {
            let url = node.ws();
            let complete = (0..ASKED_MAX).any(|_| {
                let status = self
                    .home
                    .run(&["cluster", "status", "--json", "--url", &url])
                    .json();
                let members = status["members"].as_array().unwrap();
                let linked = members.iter().filter(|member| member["state"] == "linked");
                linked.count() == self.nodes.len() - 1
            });
            assert!(complete, "{url} is not linked with all nodes");
        }
    }

    /// Drains a node and starts it again at the same addresses.
    pub(crate) fn restart(&mut self, index: usize) {
        let node = self.nodes[index].take().unwrap();
        let (listen, links) = (node.ws(), link_of(&node));
        node.running.signal(Signal::TERM);
        node.running.end().ok().says("stopped");
        let seeds = self.seeds();
        self.nodes[index] = Some(self.start(index, &listen, &links, &seeds));
        self.wait_until_complete();
    }
}

/// Where other nodes reach a node.
pub(crate) fn link_of(node: &Broker) -> String {
    node.ready["cluster"]["urls"][0]
        .as_str()
        .unwrap()
        .to_owned()
}

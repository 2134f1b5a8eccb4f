//! The membership of many nodes against a world that is obviously right: whoever is there and can be
//! reached gets linked with all others, and whoever is gone is forgotten.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dialtone_broker::cluster::backoff::Waits;
use dialtone_broker::cluster::membership::{Bounds, Dialled, Dialling, Membership};
use dialtone_broker::cluster::status::MemberState;
use dialtone_protocol::frame::link::NodeInfo;
use proptest::prelude::*;

const NODES: usize = 6;
const STEP: Duration = Duration::from_millis(100);

fn bounds() -> Bounds {
    Bounds {
        members_max: 64,
        seeds_max: 8,
        forget_after: Duration::from_mins(2),
        gossip_interval: Duration::from_secs(10),
        redial: Waits {
            min: Duration::from_millis(200),
            max: Duration::from_secs(3),
        },
    }
}

#[derive(Debug, Clone)]
enum Op {
    Start(usize),
    Crash(usize),
    Leave(usize),
    /// No link between these two can be made, and one that there is ends.
    Cut(usize, usize),
    Heal,
    Wait(u8),
    /// Clocks show the time of so many runs ago.
    SetBack(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NODES;
    prop_oneof![
        4 => node.clone().prop_map(Op::Start),
        2 => node.clone().prop_map(Op::Crash),
        1 => node.clone().prop_map(Op::Leave),
        2 => (node.clone(), node).prop_map(|(one, other)| Op::Cut(one, other)),
        1 => Just(Op::Heal),
        4 => (1..100_u8).prop_map(Op::Wait),
        1 => (0..9_u8).prop_map(Op::SetBack),
    ]
}

/// The nodes that run, and the network between them.
struct World {
    now: Instant,
    runs: u64,
    /// How many runs ago it is by the clock.
    set_back: u64,
    nodes: BTreeMap<usize, Membership>,
    /// Both ends, the smaller first, with the number of the link.
    links: BTreeMap<(usize, usize), u64>,
    cuts: BTreeSet<(usize, usize)>,
    dials: Vec<(usize, String)>,
}

fn name(index: usize) -> String {
    format!("n{index}")
}

fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            runs: 0,
            set_back: 0,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            dials: Vec::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Start(node) => self.start(node),
            Op::Crash(node) => self.crash(node),
            Op::Leave(node) => self.leave(node),
            Op::Cut(one, other) if one != other => {
                self.cuts.insert(ordered(one, other));
                self.unlink(one, other);
            }
            Op::Cut(..) => {}
            Op::Heal => self.cuts.clear(),
            Op::Wait(steps) => self.wait(steps.into()),
            Op::SetBack(runs) => self.set_back = runs.into(),
        }
    }

    /// Each run has an address of its own, and all are found at their names as well, as by DNS.
    fn start(&mut self, node: usize) {
        if self.nodes.contains_key(&node) {
            return;
        }
        self.runs += 1;
        let own = NodeInfo {
            name: name(node),
            // No two runs begin at the same millisecond.
            incarnation: self.runs.saturating_sub(self.set_back) * 1_000 + self.runs,
            revision: 0,
            left: false,
            addresses: vec![format!("memory:{}-{}", name(node), self.runs)],
            client_addresses: Vec::new(),
        };
        let mut membership = Membership::new(own, bounds(), self.now);
        let seeds = [0, 1, 2].map(|seed| format!("memory:{}", name(seed)).parse().unwrap());
        membership.set_seeds(seeds.to_vec(), self.now);
        self.nodes.insert(node, membership);
    }

    fn crash(&mut self, node: usize) {
        for other in 0..NODES {
            self.unlink(node, other);
        }
        self.nodes.remove(&node);
    }

    fn leave(&mut self, node: usize) {
        let Some(leaving) = self.nodes.get_mut(&node) else {
            return;
        };
        leaving.leave();
        for other in 0..NODES {
            if self.links.contains_key(&ordered(node, other)) {
                self.nodes.get_mut(&other).unwrap().on_leave(&name(node));
            }
        }
        self.crash(node);
    }

    fn unlink(&mut self, one: usize, other: usize) {
        let Some(link) = self.links.remove(&ordered(one, other)) else {
            return;
        };
        for (here, there) in [(one, other), (other, one)] {
            let why = Some("it ended".to_owned());
            let membership = self.nodes.get_mut(&here).unwrap();
            membership.on_unlinked(&name(there), link, why, self.now);
        }
    }

    fn wait(&mut self, steps: usize) {
        for _ in 0..steps {
            self.turn();
            self.now += STEP;
        }
    }

    fn turn(&mut self) {
        for node in 0..NODES {
            let diallings = self
                .nodes
                .get_mut(&node)
                .map_or_else(Vec::new, |membership| membership.poll(self.now));
            for dialling in diallings {
                self.dials.push((node, dialling.endpoint.to_string()));
                let end = self.dial(node, &dialling);
                let membership = self.nodes.get_mut(&node).unwrap();
                membership.on_dialled(&dialling, &end, 0.5, self.now);
            }
            self.gossip(node);
        }
    }

    fn dial(&mut self, node: usize, dialling: &Dialling) -> Dialled {
        let url = dialling.endpoint.to_string();
        let at = |(index, membership): (&usize, &Membership)| {
            let is_there = membership.own().addresses.contains(&url)
                || url == format!("memory:{}", name(*index));
            is_there.then_some(*index)
        };
        let Some(found) = self.nodes.iter().find_map(at) else {
            return Dialled::Failed("nobody is there".to_owned());
        };
        if found == node {
            return Dialled::Itself;
        }
        let pair = ordered(node, found);
        if self.cuts.contains(&pair) {
            return Dialled::Failed("the network is cut".to_owned());
        }
        let (own, other) = (
            self.nodes[&node].own().clone(),
            self.nodes[&found].own().clone(),
        );
        if self.links.contains_key(&pair) {
            return Dialled::Node(name(found));
        }
        for (here, info) in [(node, &other), (found, &own)] {
            if let Err(refused) = self.nodes[&here].admit(info) {
                if let Some(later) = self.nodes[&here].later_run_of(info) {
                    let there = if here == node { found } else { node };
                    let told = self.nodes.get_mut(&there).unwrap();
                    told.on_members(vec![later], self.now);
                }
                return Dialled::Failed(refused.text);
            }
        }
        self.runs += 1;
        self.links.insert(pair, self.runs);
        for (here, there, info) in [(node, found, other), (found, node, own)] {
            let view = self.nodes[&there].view();
            let membership = self.nodes.get_mut(&here).unwrap();
            membership.on_linked(info, self.runs, self.now);
            membership.on_members(view, self.now);
        }
        Dialled::Node(name(found))
    }

    fn gossip(&mut self, node: usize) {
        let Some(membership) = self.nodes.get_mut(&node) else {
            return;
        };
        let news = membership.take_news();
        if news.is_empty() {
            return;
        }
        for other in 0..NODES {
            if self.links.contains_key(&ordered(node, other)) {
                let membership = self.nodes.get_mut(&other).unwrap();
                membership.on_members(news.clone(), self.now);
            }
        }
    }

    fn states(&self, node: usize) -> BTreeMap<String, MemberState> {
        let status = self.nodes[&node].status(self.now);
        let others = status
            .into_iter()
            .filter(|member| member.state != MemberState::Own);
        others.map(|member| (member.node, member.state)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn after_quiet_all_who_are_there_are_linked_and_all_others_forgotten(
        ops in proptest::collection::vec(op(), 0..60),
    ) {
        let mut world = World::new();
        world.start(0);
        for op in &ops {
            world.step(op);
        }
        // The seeds must be there, or whoever has never met anybody stays alone.
        for seed in 0..3 {
            world.start(seed);
        }
        world.cuts.clear();
        world.wait(150);
        let present: Vec<usize> = world.nodes.keys().copied().collect();
        for &node in &present {
            let states = world.states(node);
            for &other in present.iter().filter(|&&other| other != node) {
                prop_assert_eq!(states.get(&name(other)), Some(&MemberState::Linked), "{} at {}", other, node);
            }
        }
        // Nobody who is gone is told of for ever: all forget it, and dial nobody but those seeds
        // at which nobody answers.
        world.wait(1_200 + 1_200 + 200);
        world.dials.clear();
        world.wait(100);
        prop_assert_eq!(&world.dials, &[]);
        for &node in &present {
            let known: Vec<String> = world.states(node).into_keys().collect();
            let expected: Vec<String> = present.iter().filter(|&&other| other != node).map(|&other| name(other)).collect();
            prop_assert_eq!(known, expected, "at {}", node);
        }
    }
}

#[test]
fn a_node_that_was_forgotten_says_that_it_is_there() {
    let mut world = World::new();
    world.start(0);
    world.start(1);
    world.wait(20);
    world.cuts.insert((0, 1));
    world.unlink(0, 1);
    world.start(2);
    world.wait(20);
    let now = world.now;
    world.nodes.get_mut(&0).unwrap().forget("n1", now).unwrap();
    assert!(world.nodes.get_mut(&0).unwrap().forget("n2", now).is_err());
    assert!(world.nodes.get_mut(&0).unwrap().forget("n9", now).is_err());
    world.wait(20);
    // Node 2 has told node 1, which is alive after all.
    world.cuts.clear();
    world.wait(100);
    assert_eq!(world.states(0).get("n1"), Some(&MemberState::Linked));
}

#[test]
fn a_clock_that_was_set_back_keeps_no_node_out() {
    let mut world = World::new();
    world.start(0);
    world.start(1);
    world.start(2);
    world.wait(20);
    world.runs += 10;
    for _ in 0..2 {
        // The second run begins late enough for the third one to be earlier.
        world.leave(1);
        world.wait(20);
        assert_eq!(world.states(0).get("n1"), Some(&MemberState::Left));
        if world.set_back == 0 {
            world.start(1);
            world.wait(20);
            world.set_back = 8;
        }
    }
    world.start(1);
    assert!(world.nodes[&0].admit(world.nodes[&1].own()).is_err());
    world.wait(40);
    assert_eq!(world.states(0).get("n1"), Some(&MemberState::Linked));
    assert_eq!(world.states(2).get("n1"), Some(&MemberState::Linked));
    // Numbers that nobody can count on from do no harm.
    let mut told = world.nodes[&1].own().clone();
    (told.left, told.incarnation) = (true, u64::MAX);
    let now = world.now;
    world.nodes.get_mut(&1).unwrap().on_members(vec![told], now);
    assert_eq!(world.nodes[&1].own().incarnation, u64::MAX);
}

#[test]
fn a_cluster_has_a_limit() {
    let now = Instant::now();
    let info = |index: usize| NodeInfo {
        name: name(index),
        incarnation: 1,
        revision: 0,
        left: false,
        addresses: Vec::new(),
        client_addresses: Vec::new(),
    };
    let mut membership = Membership::new(info(0), bounds(), now);
    for index in 1..=64 {
        assert_eq!(membership.admit(&info(index)), Ok(()));
        membership.on_linked(info(index), index as u64, now);
    }
    assert!(membership.admit(&info(65)).is_err());
    assert_eq!(membership.admit(&info(64)), Ok(()), "it is known");
    membership.on_members((65..200).map(info).collect(), now);
    assert_eq!(membership.status(now).len(), 65);
}

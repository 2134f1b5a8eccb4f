//! Which member of a queue group gets a message.

use dialtone_protocol::frame::Pick;
use dialtone_protocol::{ConnectionId, SubscriptionId};

use super::entry::{Group, Remote, Target};
use super::hash::{mix, stable_hash};

/// What the choice needs to know about a receiver.
pub trait Load {
    /// Bytes that wait for it.
    fn pending(&self) -> usize;
    /// Whether it can still receive.
    fn is_open(&self) -> bool;
    /// What names it for good.
    fn id(&self) -> ConnectionId;
}

/// A generator of pseudo-random numbers that is quick rather than unpredictable.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From any seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        // Xorshift64 by Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the product's high half is below the bound"
        )]
        let scaled = ((u128::from(self.0) * bound as u128) >> 64) as usize;
        scaled
    }
}

/// Who gets a message for a queue group.
#[derive(Debug)]
pub enum Chosen<'g, P> {
    /// A member at this node.
    Member(&'g Target<P>),
    /// One that another node chooses among its members.
    Node(&'g Remote<P>),
}

/// Who gets a message to `subject`, wherever its members are; `None` when all are gone. `own` is the
/// [stable hash](stable_hash) of this node's name.
///
/// Members at this node come first, then those of its cluster, then those of other clusters. Where
/// a key decides, it decides between the nodes of the cluster as well, by their numbers of members,
/// so that the choice is the same wherever a message is published.
pub fn choose<'g, P: Load>(
    group: &'g Group<P>,
    own: u64,
    subject: &[u8],
    dice: &mut Dice,
) -> Option<Chosen<'g, P>> {
    if group.remotes.is_empty() {
        return choose_member(group, subject, dice).map(Chosen::Member);
    }
    let Some(key) = key(group.pick, subject) else {
        let member = less_loaded(&group.members, dice).map(Chosen::Member);
        return member.or_else(|| less_loaded_node(&group.remotes, dice).map(Chosen::Node));
    };
    let key = stable_hash(&[key]);
    let open = |target: &&Target<P>| target.peer.is_open();
    let members = group.members.iter().filter(open).count();
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    match highest_rank_node(&group.remotes, key) {
        Some(remote)
            if members == 0
                || (!remote.link.is_gateway
                    && rank(remote.link.node, key, remote.members) > rank(own, key, members)) =>
        {
            Some(Chosen::Node(remote))
        }
        Some(_) | None => choose_member(group, subject, dice).map(Chosen::Member),
    }
}

/// The member at this node that gets a message to `subject`; `None` when all are gone.
pub fn choose_member<'g, P: Load>(
    group: &'g Group<P>,
    subject: &[u8],
    dice: &mut Dice,
) -> Option<&'g Target<P>> {
    match key(group.pick, subject) {
        None => less_loaded(&group.members, dice),
        Some(key) => highest_rank(&group.members, key),
    }
}

/// What decides between members; `None` when chance and load do.
fn key(pick: Pick, subject: &[u8]) -> Option<&[u8]> {
    match pick {
        Pick::Any => None,
        Pick::Subject => Some(subject),
        Pick::Segment(index) => {
            let segment = subject.split(|&b| b == b'.').nth(index.into());
            Some(segment.unwrap_or(subject))
        }
    }
}

/// Those that can be reached: of the own cluster if there are any, else of others.
fn reachable<P: Load>(remotes: &[Remote<P>]) -> impl Iterator<Item = &Remote<P>> + Clone {
    let open = |remote: &&Remote<P>| remote.link.peer.is_open();
    let has_own = remotes
        .iter()
        .filter(open)
        .any(|remote| !remote.link.is_gateway);
    remotes
        .iter()
        .filter(open)
        .filter(move |remote| remote.link.is_gateway != has_own)
}

/// Of two nodes drawn by their numbers of members the one with less to send.
fn less_loaded_node<'g, P: Load>(
    remotes: &'g [Remote<P>],
    dice: &mut Dice,
) -> Option<&'g Remote<P>> {
    let reachable = reachable(remotes);
    let total: usize = reachable
        .clone()
        .map(|remote| remote.members as usize)
        .sum();
    if total == 0 {
        return None;
    }
    let mut draw = || {
        let mut ticket = dice.below(total);
        reachable.clone().find(|remote| {
            let members = remote.members as usize;
            let is_it = ticket < members;
            ticket = ticket.wrapping_sub(members);
            is_it
        })
    };
    let (one, other) = (draw()?, draw()?);
    let is_lighter = other.link.peer.pending() < one.link.peer.pending();
    Some(if is_lighter { other } else { one })
}

fn highest_rank_node<P: Load>(remotes: &[Remote<P>], key: u64) -> Option<&Remote<P>> {
    let by_rank = |one: &&Remote<P>, other: &&Remote<P>| {
        let rank = |remote: &Remote<P>| rank(remote.link.node, key, remote.members);
        rank(one).total_cmp(&rank(other))
    };
    reachable(remotes).max_by(by_rank)
}

/// Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables",
/// 2005): each node is the highest for its share of the keys, and a node that comes or goes moves
/// only its own.
fn rank(node: u64, key: u64, members: u32) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits of the hash are as good as 64"
    )]
    let share = ((mix(node ^ key.rotate_left(32)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(members) / share.ln()
}

/// Of two random members the one with less to read: nearly as even as asking all of them
/// (Mitzenmacher, "The power of two choices", 2001).
fn less_loaded<'g, P: Load>(members: &'g [Target<P>], dice: &mut Dice) -> Option<&'g Target<P>> {
    let (one, other) = match members {
        [] => return None,
        [only] => (only, only),
        [one, other] => {
            if dice.below(2) == 0 {
                (one, other)
            } else {
                (other, one)
            }
        }
        members => (
            &members[dice.below(members.len())],
            &members[dice.below(members.len())],
        ),
    };
    let lighter = if other.peer.pending() < one.peer.pending() {
        other
    } else {
        one
    };
    if lighter.peer.is_open() {
        return Some(lighter);
    }
    let start = dice.below(members.len());
    members
        .iter()
        .cycle()
        .skip(start)
        .take(members.len())
        .find(|target| target.peer.is_open())
}

/// Rendezvous hashing: a member that leaves or joins moves only its own share of the keys.
fn highest_rank<'g, P: Load>(members: &'g [Target<P>], key: &[u8]) -> Option<&'g Target<P>> {
    // Fixed keys, so that every node of a cluster and every run chooses alike.
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let rank = |target: &Target<P>| -> (u64, ConnectionId, SubscriptionId) {
        let id = target.peer.id();
        (
            hasher.hash_one((key, id, target.subscription)),
            id,
            target.subscription,
        )
    };
    members
        .iter()
        .filter(|target| target.peer.is_open())
        .max_by_key(|target| rank(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Link;

    #[derive(Debug, Clone)]
    struct Fake {
        id: u64,
        pending: usize,
        open: bool,
    }

    impl Load for Fake {
        fn pending(&self) -> usize {
            self.pending
        }
        fn is_open(&self) -> bool {
            self.open
        }
        fn id(&self) -> ConnectionId {
            ConnectionId(self.id)
        }
    }

    fn group(pick: Pick, members: &[Fake]) -> Group<Fake> {
        let target = |peer: &Fake| Target {
            peer: peer.clone(),
            subscription: SubscriptionId(1),
            drop_oldest: 0,
        };
        Group {
            name: "g".into(),
            pick,
            number: SubscriptionId(1),
            members: members.iter().map(target).collect(),
            remotes: Vec::new(),
        }
    }

    fn fakes(count: u64) -> Vec<Fake> {
        (1..=count)
            .map(|id| Fake {
                id,
                pending: 0,
                open: true,
            })
            .collect()
    }

    #[test]
    fn members_share_evenly_and_the_busy_one_gets_less() {
        let mut members = fakes(8);
        let shares = |members: &[Fake]| {
            let (group, mut dice, mut shares) =
                (group(Pick::Any, members), Dice::new(42), [0_u32; 8]);
            for _ in 0..8_000 {
                let chosen = choose_member(&group, b"a", &mut dice).unwrap().peer.id;
                shares[usize::try_from(chosen).unwrap() - 1] += 1;
            }
            shares
        };
        assert!(
            shares(&members)
                .iter()
                .all(|&share| (850..1_150).contains(&share))
        );
        members[3].pending = 1_000;
        assert!(shares(&members)[3] < 250);
        members[3].open = false;
        members[3].pending = 0;
        assert_eq!(shares(&members)[3], 0);
    }

    #[test]
    fn a_key_stays_with_its_member_when_others_come_and_go() {
        let members = fakes(5);
        let (all, without) = (
            group(Pick::Segment(1), &members),
            group(Pick::Segment(1), &members[..4]),
        );
        let mut dice = Dice::new(7);
        let mut moved = 0;
        for key in 0..1_000 {
            let (one, other) = (format!("a.{key}.x"), format!("b.{key}"));
            let before = choose_member(&all, one.as_bytes(), &mut dice)
                .unwrap()
                .peer
                .id;
            assert_eq!(
                before,
                choose_member(&all, other.as_bytes(), &mut dice)
                    .unwrap()
                    .peer
                    .id
            );
            let after = choose_member(&without, one.as_bytes(), &mut dice)
                .unwrap()
                .peer
                .id;
            assert!(before == 5 || before == after);
            moved += u32::from(before != after);
        }
        assert!((130..270).contains(&moved), "{moved}");
    }

    #[test]
    fn a_group_of_the_gone_has_nobody() {
        let mut members = fakes(2);
        for member in &mut members {
            member.open = false;
        }
        for pick in [Pick::Any, Pick::Subject] {
            assert!(choose_member(&group(pick, &members), b"a", &mut Dice::new(1)).is_none());
            let mut group = group(pick, &members);
            group.remotes.push(remote("n2", 3, &members[0], false));
            assert!(choose(&group, 0, b"a", &mut Dice::new(1)).is_none());
        }
    }

    fn remote(node: &str, members: u32, peer: &Fake, is_gateway: bool) -> Remote<Fake> {
        Remote {
            link: Link {
                id: peer.id,
                peer: peer.clone(),
                node: stable_hash(&[node.as_bytes()]),
                is_gateway,
            },
            number: SubscriptionId(7),
            members,
        }
    }

    /// Which node the choice falls on: 0 for a member here.
    fn choose_node(group: &Group<Fake>, own: &str, subject: &str, dice: &mut Dice) -> u64 {
        let own = stable_hash(&[own.as_bytes()]);
        match choose(group, own, subject.as_bytes(), dice).unwrap() {
            Chosen::Member(_) => 0,
            Chosen::Node(remote) => remote.link.id,
        }
    }

    #[test]
    fn members_here_come_first_then_the_cluster_then_other_clusters() {
        let links = fakes(3);
        let mut dice = Dice::new(11);
        let mut all = group(Pick::Any, &fakes(1));
        all.remotes = vec![
            remote("far", 1_000, &links[0], true),
            remote("n2", 1, &links[1], false),
            remote("n3", 3, &links[2], false),
        ];
        assert!((0..100).all(|_| choose_node(&all, "n1", "a", &mut dice) == 0));
        all.members.clear();
        let mut shares = [0_u32; 4];
        for _ in 0..4_000 {
            shares[usize::try_from(choose_node(&all, "n1", "a", &mut dice)).unwrap()] += 1;
        }
        assert_eq!((shares[0], shares[1]), (0, 0));
        assert!((850..1_150).contains(&shares[2]), "{shares:?}");
        all.remotes[1].link.peer.open = false;
        all.remotes[2].link.peer.open = false;
        assert_eq!(choose_node(&all, "n1", "a", &mut dice), 1);
    }

    #[test]
    fn a_key_chooses_the_same_node_wherever_it_is_published() {
        let names = ["n1", "n2", "n3"];
        let counts = [1_u32, 2, 5];
        let peers = fakes(3);
        let mut dice = Dice::new(5);
        let mut shares = [0_u32; 3];
        for key in 0..4_000 {
            let subject = format!("a.{key}");
            let chosen: Vec<usize> = (0..3)
                .map(|own| {
                    let mut seen = group(Pick::Subject, &fakes(counts[own].into()));
                    seen.remotes = (0..3)
                        .filter(|&other| other != own)
                        .map(|other| remote(names[other], counts[other], &peers[other], false))
                        .collect();
                    match choose_node(&seen, names[own], &subject, &mut dice) {
                        0 => own,
                        id => usize::try_from(id).unwrap() - 1,
                    }
                })
                .collect();
            assert!(
                chosen.iter().all(|&node| node == chosen[0]),
                "{subject}: {chosen:?}"
            );
            shares[chosen[0]] += 1;
        }
        assert!((400..600).contains(&shares[0]), "{shares:?}");
        assert!((2_350..2_650).contains(&shares[2]), "{shares:?}");
    }
}

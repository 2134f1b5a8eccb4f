//! Which member of a queue group gets a message.

use dialtone_protocol::frame::Pick;
use dialtone_protocol::{ConnectionId, SubscriptionId};

use super::entry::{Group, Target};

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

/// The member of `group` that gets a message to `subject`; `None` when all are gone.
pub fn choose<'g, P: Load>(
    group: &'g Group<P>,
    subject: &[u8],
    dice: &mut Dice,
) -> Option<&'g Target<P>> {
    match group.pick {
        Pick::Any => less_loaded(&group.members, dice),
        Pick::Subject => highest_rank(&group.members, subject),
        Pick::Segment(index) => {
            let segment = subject.split(|&b| b == b'.').nth(index.into());
            highest_rank(&group.members, segment.unwrap_or(subject))
        }
    }
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
            members: members.iter().map(target).collect(),
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
                let chosen = choose(&group, b"a", &mut dice).unwrap().peer.id;
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
            let before = choose(&all, one.as_bytes(), &mut dice).unwrap().peer.id;
            assert_eq!(
                before,
                choose(&all, other.as_bytes(), &mut dice).unwrap().peer.id
            );
            let after = choose(&without, one.as_bytes(), &mut dice).unwrap().peer.id;
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
            assert!(choose(&group(pick, &members), b"a", &mut Dice::new(1)).is_none());
        }
    }
}

//! When to look names up again, and what is known in the meantime. Time and chance are arguments.

use std::time::{Duration, Instant};

use dialtone_transport::Endpoint;

use super::Seed;
use super::names::Found;
use super::own::Own;

/// An answer is not asked for again sooner than this, whatever it says.
pub(crate) const REFRESH_MIN: Duration = Duration::from_secs(1);
/// An answer is asked for again after this at the latest.
pub(crate) const REFRESH_MAX: Duration = Duration::from_mins(5);
/// An answer that does not say how long it holds is asked for again after this.
const REFRESH_DEFAULT: Duration = Duration::from_secs(30);
/// That a name has no records is believed for this long at most: nodes that are just starting make them.
const REFRESH_EMPTY_MAX: Duration = Duration::from_secs(5);
/// After the first failure; it doubles with each.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Between failures at most.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// What is known about each seed, and when to ask again.
#[derive(Debug)]
pub(crate) struct Plan {
    own: Own,
    seeds: Vec<State>,
}

#[derive(Debug)]
struct State {
    seed: Seed,
    nodes: Vec<Endpoint>,
    /// `None`: never again, since it is no name.
    next: Option<Instant>,
    failures: u32,
}

/// What an answer has changed, for those who read logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// What the name stands for.
    Nodes,
    /// It cannot be looked up; what was known stays.
    Failing,
    /// It can be looked up again.
    Recovered,
}

impl Plan {
    /// Asks about every name at once.
    pub(crate) fn new(seeds: &[Seed], own: Own, now: Instant) -> Self {
        let state = |seed: &Seed| State {
            seed: seed.clone(),
            nodes: seed.url().map(|link| link.0.clone()).into_iter().collect(),
            next: seed.is_name().then_some(now),
            failures: 0,
        };
        Self {
            own,
            seeds: seeds.iter().map(state).collect(),
        }
    }

    /// The seed to ask about next, and when; `None` when there are no names.
    pub(crate) fn next(&self) -> Option<(usize, Instant)> {
        let due = |(index, state): (usize, &State)| Some((index, state.next?));
        self.seeds
            .iter()
            .enumerate()
            .filter_map(due)
            .min_by_key(|(_, at)| *at)
    }

    /// The seed of this number.
    pub(crate) fn seed(&self, index: usize) -> Option<&Seed> {
        self.seeds.get(index).map(|state| &state.seed)
    }

    /// Takes an answer. `jitter`, from 0 to 1, spreads the nodes of a cluster that start together.
    pub(crate) fn answered(
        &mut self,
        index: usize,
        found: Result<Found, ()>,
        now: Instant,
        jitter: f64,
    ) -> Change {
        let Some(state) = self.seeds.get_mut(index) else {
            return Change::None;
        };
        let Ok(mut found) = found else {
            let wait = retry(state.failures);
            state.failures = state.failures.saturating_add(1);
            // Between half and all of it.
            state.next = Some(now + wait.mul_f64(0.5 + jitter / 2.0));
            return if state.failures == 1 {
                Change::Failing
            } else {
                Change::None
            };
        };
        found.nodes.sort_by_cached_key(ToString::to_string);
        found.nodes.dedup();
        let wait = refresh(&found);
        // Never before the answer is out of date, and up to a tenth later.
        state.next = Some(now + wait.mul_f64(1.0 + jitter / 10.0));
        let recovered = std::mem::take(&mut state.failures) > 0;
        if state.nodes != found.nodes {
            state.nodes = found.nodes;
            return Change::Nodes;
        }
        if recovered {
            Change::Recovered
        } else {
            Change::None
        }
    }

    /// How many nodes the seed of this number stands for, ourselves included.
    pub(crate) fn count(&self, index: usize) -> usize {
        self.seeds.get(index).map_or(0, |state| state.nodes.len())
    }

    /// All nodes that are known, without duplicates and without this one.
    pub(crate) fn nodes(&self) -> Vec<Endpoint> {
        let mut nodes: Vec<Endpoint> = Vec::new();
        for node in self.seeds.iter().flat_map(|state| &state.nodes) {
            if !nodes.contains(node) && !self.own.is(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }
}

fn refresh(found: &Found) -> Duration {
    let max = if found.nodes.is_empty() {
        REFRESH_EMPTY_MAX
    } else {
        REFRESH_MAX
    };
    found
        .valid_for
        .unwrap_or(REFRESH_DEFAULT)
        .clamp(REFRESH_MIN, max)
}

fn retry(failures: u32) -> Duration {
    RETRY_MIN
        .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(texts: &[&str]) -> Vec<Seed> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "an answer stands where a failure may stand as well"
    )]
    fn found(nodes: &[&str], secs: Option<u64>) -> Result<Found, ()> {
        Ok(Found {
            nodes: nodes.iter().map(|text| text.parse().unwrap()).collect(),
            valid_for: secs.map(Duration::from_secs),
        })
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.nodes().iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn next_in(plan: &Plan, now: Instant, secs: f64) {
        let (_, at) = plan.next().unwrap();
        let waits = at.duration_since(now).as_secs_f64();
        assert!((waits - secs).abs() < 1e-6, "{waits} instead of {secs}");
    }

    #[test]
    fn urls_are_known_and_never_asked_about() {
        let plan = Plan::new(
            &seeds(&["quic://10.0.0.1", "quic://10.0.0.1:4434"]),
            Own::default(),
            Instant::now(),
        );
        assert_eq!(plan.next(), None);
        assert_eq!(shown(&plan), ["quic://10.0.0.1:4434"]);
    }

    #[test]
    fn answers_hold_as_long_as_they_say_within_bounds() {
        let now = Instant::now();
        let mut plan = Plan::new(&seeds(&["dns://a"]), Own::default(), now);
        assert_eq!(plan.next(), Some((0, now)));
        let node = "quic://10.0.0.1:4434";
        for (nodes, said, waits) in [
            (&[node][..], Some(0), 1.0),
            (&[node], Some(7), 7.0),
            (&[node], Some(86_400), 300.0),
            (&[node], None, 30.0),
            (&[], Some(86_400), 5.0),
            (&[], Some(2), 2.0),
            (&[], None, 5.0),
        ] {
            plan.answered(0, found(nodes, said), now, 0.0);
            next_in(&plan, now, waits);
            plan.answered(0, found(nodes, said), now, 1.0);
            next_in(&plan, now, waits * 1.1);
        }
    }

    #[test]
    fn failures_are_retried_ever_more_rarely_and_change_nothing() {
        let now = Instant::now();
        let mut plan = Plan::new(&seeds(&["dns://a"]), Own::default(), now);
        let node = "quic://10.0.0.1:4434";
        assert_eq!(
            plan.answered(0, found(&[node], Some(7)), now, 0.0),
            Change::Nodes
        );
        for (index, waits) in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
            .into_iter()
            .enumerate()
        {
            let change = plan.answered(0, Err(()), now, 1.0);
            let first = if index == 0 {
                Change::Failing
            } else {
                Change::None
            };
            assert_eq!(change, first);
            next_in(&plan, now, waits);
            assert_eq!(shown(&plan), [node], "what was known stays");
        }
        for _ in 0..100 {
            plan.answered(0, Err(()), now, 0.0);
            next_in(&plan, now, 30.0);
        }
        let change = plan.answered(0, found(&[node], Some(7)), now, 0.0);
        assert_eq!(change, Change::Recovered);
        next_in(&plan, now, 7.0);
        let change = plan.answered(0, found(&[], Some(7)), now, 0.0);
        assert_eq!(change, Change::Nodes);
        assert!(shown(&plan).is_empty());
    }

    #[test]
    fn the_order_of_an_answer_does_not_matter() {
        let now = Instant::now();
        let mut plan = Plan::new(&seeds(&["dns://a"]), Own::default(), now);
        let (a, b) = ("quic://10.0.0.1:4434", "quic://10.0.0.2:4434");
        assert_eq!(
            plan.answered(0, found(&[a, b], None), now, 0.0),
            Change::Nodes
        );
        assert_eq!(
            plan.answered(0, found(&[b, a, b], None), now, 0.0),
            Change::None
        );
        assert_eq!(plan.count(0), 2);
    }

    #[test]
    fn nodes_of_several_seeds_come_once_and_without_ourselves() {
        let now = Instant::now();
        let own = Own::new(vec!["quic://127.0.0.1:4434".parse().unwrap()], Vec::new());
        let mut plan = Plan::new(&seeds(&["dns://a", "dns://b", "quic://10.0.0.9"]), own, now);
        let (a, b) = ("quic://10.0.0.1:4434", "quic://10.0.0.2:4434");
        plan.answered(
            0,
            found(&[a, b, "quic://127.0.0.1:4434"], Some(9)),
            now,
            0.0,
        );
        plan.answered(1, found(&[b], Some(7)), now, 0.0);
        assert_eq!(shown(&plan), [a, b, "quic://10.0.0.9:4434"]);
        assert_eq!(plan.next().unwrap().0, 1, "the one that ends first is next");
    }
}

//! Replicas against a model of the service, with delays, lost answers, expiries and absences.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type Set = BTreeSet<u32>;

/// The service, as it obviously is: numbered puts of keys, with what was ever told.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, (u64, Option<Set>)>,
    ids: BTreeMap<String, (u64, u64)>,
    last_seq: u64,
    /// One entry for each revision, from 1.
    changes: Vec<Remote<Set>>,
}

impl Model {
    fn revision(&self) -> u64 {
        self.changes.len() as u64
    }

    fn write(&mut self, write: &Write<Set>) -> Saved {
        if let Some((seq, revision)) = self.ids.get(&write.id) {
            return Saved::Written {
                seq: *seq,
                revision: *revision,
            };
        }
        let actual = self.keys.get(&write.key).map_or(0, |(seq, _)| *seq);
        if write.expect.is_some_and(|expected| expected != actual) {
            return Saved::Refused(Fault::new(FaultKind::WrongLastSequence, "other").seq(actual));
        }
        self.last_seq += 1;
        let (seq, value) = (self.last_seq, write.value.clone());
        self.keys.insert(write.key.clone(), (seq, value.clone()));
        self.changes.push(Remote::Put {
            key: write.key.clone(),
            id: Some(write.id.clone()),
            revision: self.revision() + 1,
            entry: Confirmed {
                seq,
                time: 0,
                value,
            },
        });
        self.ids.insert(write.id.clone(), (seq, self.revision()));
        Saved::Written {
            seq,
            revision: self.revision(),
        }
    }

    /// A tombstone has outlived its time.
    fn expire_tombstones(&mut self) {
        let dead = self.keys.iter().filter(|(_, (_, value))| value.is_none());
        let dead: Vec<(String, u64)> = dead.map(|(key, (seq, _))| (key.clone(), *seq)).collect();
        for (key, seq) in dead {
            self.keys.remove(&key);
            self.changes.push(Remote::Gone {
                key,
                seq,
                cause: RemovalCause::Expiry,
            });
        }
    }
}

/// A replica with what is on its way.
struct Site {
    number: u32,
    replica: Replica<Set>,
    told: u64,
    next_id: u32,
    sent: Vec<Write<Set>>,
    answers: Vec<(String, String, Saved)>,
    events: Vec<KvEvent<Set>>,
    /// What the events say that the service has.
    seen: BTreeMap<String, Set>,
}

impl Site {
    fn new(number: u32, merge: bool) -> Self {
        let union = |_: &str, base: Option<&Set>, ours: Option<&Set>, theirs: Option<&Set>| {
            let all = [base, ours, theirs].into_iter().flatten().flatten();
            Some(all.copied().collect())
        };
        let merge: Option<Arc<Merge<Set>>> = merge.then(|| Arc::new(union) as Arc<Merge<Set>>);
        Self {
            number,
            replica: Replica::new(merge, false),
            told: 0,
            next_id: 0,
            sent: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn send(&mut self) {
        let (number, next) = (self.number, &mut self.next_id);
        let writes = self.replica.outgoing(|| {
            *next += 1;
            format!("{number}.{next}")
        });
        self.sent.extend(writes);
    }

    /// The service takes what was sent; some answers are lost.
    fn arrive(&mut self, model: &mut Model, lost: bool) {
        for write in std::mem::take(&mut self.sent) {
            let saved = model.write(&write);
            let saved = if lost { Saved::Unknown } else { saved };
            self.answers.push((write.key, write.id, saved));
        }
    }

    fn hear(&mut self) {
        for (key, id, saved) in std::mem::take(&mut self.answers) {
            self.replica.settle(&key, &id, saved, &mut self.events);
        }
    }

    /// The feed tells some changes. As the service does, it is silent about records that are gone again.
    fn follow(&mut self, model: &Model, most: u64) {
        if !self.replica.is_loaded() {
            for (key, (seq, value)) in &model.keys {
                let put = Remote::Put {
                    key: key.clone(),
                    id: None,
                    revision: 0,
                    entry: Confirmed {
                        seq: *seq,
                        time: 0,
                        value: value.clone(),
                    },
                };
                assert!(!self.replica.apply(put, &mut self.events));
            }
            self.told = model.revision();
            self.replica.reach(self.told, true, &mut self.events);
            return;
        }
        let from = usize::try_from(self.told).unwrap();
        let until = (self.told + most).min(model.revision());
        for change in &model.changes[from..usize::try_from(until).unwrap()] {
            if let Remote::Put { key, entry, .. } = change
                && model.keys.get(key).is_none_or(|(seq, _)| *seq != entry.seq)
            {
                continue;
            }
            assert!(!self.replica.apply(change.clone(), &mut self.events));
        }
        self.told = until;
        self.replica.reach(until, true, &mut self.events);
    }

    /// Applies the events, each of which must follow from the last.
    fn check_events(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                KvEvent::Changed {
                    key, value, prev, ..
                } => {
                    assert_eq!(self.seen.get(&key), prev.as_ref(), "{key}");
                    match value {
                        Some(value) => drop(self.seen.insert(key, value)),
                        None => drop(self.seen.remove(&key)),
                    }
                }
                KvEvent::Rejected { .. }
                | KvEvent::Unreadable { .. }
                | KvEvent::Damaged { .. }
                | KvEvent::Saved
                | KvEvent::Ended(_) => panic!("{event:?}"),
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, u8),
    Delete(usize, u8),
    Send(usize),
    Arrive(usize, bool),
    Hear(usize),
    Follow(usize, u64),
    Away(usize),
    Expire,
}

fn steps(delete: bool) -> impl Strategy<Value = Vec<Step>> {
    let site = 0..2_usize;
    let key = 0..3_u8;
    let step = prop_oneof![
        4 => (site.clone(), key.clone()).prop_map(|(site, key)| Step::Add(site, key)),
        u32::from(delete) => (site.clone(), key).prop_map(|(site, key)| Step::Delete(site, key)),
        3 => site.clone().prop_map(Step::Send),
        3 => (site.clone(), any::<bool>()).prop_map(|(site, lost)| Step::Arrive(site, lost)),
        3 => site.clone().prop_map(Step::Hear),
        3 => (site.clone(), 1..4_u64).prop_map(|(site, most)| Step::Follow(site, most)),
        1 => site.prop_map(Step::Away),
        1 => Just(Step::Expire),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Runs a history, lets everything settle, and returns the model, the sites and what was added.
fn run(steps: Vec<Step>, merge: bool) -> (Model, [Site; 2], BTreeMap<String, Set>) {
    let mut model = Model::default();
    let mut sites = [Site::new(0, merge), Site::new(1, merge)];
    let mut added: BTreeMap<String, Set> = BTreeMap::new();
    let mut next = 0;
    for site in &mut sites {
        site.follow(&model, 0);
    }
    for step in steps {
        match step {
            Step::Add(site, key) => {
                let key = format!("k{key}");
                next += 1;
                let mut set = sites[site].replica.get(&key).cloned().unwrap_or_default();
                set.insert(next);
                added.entry(key.clone()).or_default().insert(next);
                sites[site].replica.set(&key, Some(set.clone()), None);
                assert_eq!(sites[site].replica.get(&key), Some(&set));
            }
            Step::Delete(site, key) => {
                let key = format!("k{key}");
                sites[site].replica.set(&key, None, None);
                assert_eq!(sites[site].replica.get(&key), None);
                assert!(!sites[site].replica.keys().contains(&key));
            }
            Step::Send(site) => sites[site].send(),
            Step::Arrive(site, lost) => sites[site].arrive(&mut model, lost),
            Step::Hear(site) => sites[site].hear(),
            Step::Follow(site, most) => sites[site].follow(&model, most),
            Step::Away(site) => sites[site].replica.resync(false),
            Step::Expire => model.expire_tombstones(),
        }
        sites.iter_mut().for_each(Site::check_events);
    }
    settle(&mut model, &mut sites);
    (model, sites, added)
}

fn settle(model: &mut Model, sites: &mut [Site; 2]) {
    for _ in 0..200 {
        for site in &mut *sites {
            site.send();
            site.arrive(model, false);
            site.hear();
            site.follow(model, u64::MAX >> 1);
            site.check_events();
        }
        if sites.iter().all(|site| site.replica.is_saved()) {
            for site in sites {
                site.follow(model, u64::MAX >> 1);
                site.check_events();
            }
            return;
        }
    }
    panic!("it does not settle");
}

fn check(model: &Model, sites: &[Site; 2]) {
    let held: BTreeMap<String, Set> = model
        .keys
        .iter()
        .filter_map(|(key, (_, value))| Some((key.clone(), value.clone()?)))
        .collect();
    for site in sites {
        let keys: Vec<String> = held.keys().cloned().collect();
        assert_eq!(site.replica.keys(), keys);
        for (key, value) in &held {
            assert_eq!(site.replica.get(key), Some(value), "{key}");
        }
        assert_eq!(site.seen, held, "the events tell the same");
        assert!(site.replica.local.is_empty(), "nothing is pending");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn merged_replicas_converge_and_lose_nothing(steps in steps(false)) {
        let (model, sites, added) = run(steps, true);
        check(&model, &sites);
        for (key, set) in added {
            prop_assert_eq!(sites[0].replica.get(&key), Some(&set), "{}", key);
        }
    }

    #[test]
    fn merged_replicas_converge_with_deletions(steps in steps(true)) {
        let (model, sites, _) = run(steps, true);
        check(&model, &sites);
    }

    #[test]
    fn replicas_without_merge_converge(steps in steps(true)) {
        let (model, sites, _) = run(steps, false);
        check(&model, &sites);
    }
}

#[test]
fn a_pending_deletion_is_merged_as_well() {
    let keep_theirs = |_: &str, base: Option<&u32>, ours: Option<&u32>, theirs: Option<&u32>| {
        assert_eq!((base, ours), (Some(&1), None));
        theirs.copied()
    };
    let mut replica: Replica<u32> = Replica::new(Some(Arc::new(keep_theirs)), false);
    let mut events = Vec::new();
    let put = |seq, value| Remote::Put {
        key: "k".to_owned(),
        id: None,
        revision: seq,
        entry: Confirmed {
            seq,
            time: 0,
            value: Some(value),
        },
    };
    replica.apply(put(1, 1), &mut events);
    replica.reach(1, true, &mut events);
    replica.set("k", None, None);
    replica.apply(put(2, 5), &mut events);
    replica.reach(2, true, &mut events);
    assert_eq!(replica.get("k"), Some(&5));
    assert!(replica.is_saved());
}

#[test]
fn a_refused_value_is_taken_back_and_told() {
    let mut replica: Replica<u32> = Replica::new(None, false);
    let mut events = Vec::new();
    replica.reach(0, true, &mut events);
    replica.set("k", Some(1), None);
    let write = replica.outgoing(|| "a".to_owned()).remove(0);
    assert!(
        replica.outgoing(|| "b".to_owned()).is_empty(),
        "it is on its way"
    );
    let fault = Fault::new(FaultKind::Reject, "full");
    replica.settle("k", &write.id, Saved::Refused(fault), &mut events);
    assert_eq!(replica.get("k"), None);
    assert!(
        matches!(&events[..], [KvEvent::Rejected { key, value: Some(1), .. }] if key == "k"),
        "{events:?}"
    );
}

#[test]
fn another_epoch_starts_from_nothing_but_what_is_not_saved() {
    let mut replica: Replica<u32> = Replica::new(
        Some(Arc::new(
            |_: &str, _: Option<&u32>, ours: Option<&u32>, _: Option<&u32>| ours.copied(),
        )),
        false,
    );
    let mut events = Vec::new();
    replica.reach(90, true, &mut events);
    replica.set("seen", Some(1), None);
    let write = replica.outgoing(|| "a".to_owned()).remove(0);
    let saved = Saved::Written {
        seq: 50,
        revision: 99,
    };
    replica.settle("seen", &write.id, saved, &mut events);
    replica.set("seen", Some(2), None);
    replica.resync(true);
    replica.reach(3, true, &mut events);
    let write = replica.outgoing(|| "b".to_owned()).remove(0);
    assert_eq!((write.value, write.expect), (Some(2), Some(0)));
}

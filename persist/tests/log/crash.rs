//! The power goes at every step, and everything that was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Durability, Record};
use dialtone_persist::backend::log::{Config, Log};
use dialtone_persist::backend::{Backend as _, Error};
use dialtone_persist::core::commit::{Commit, Meta};
use dialtone_persist::core::limits::due;
use dialtone_persist::core::state::State;
use dialtone_persist::disk::{Crash, Disk as _, Fault, Simulated};

use super::history::{Applied, Decider, Dice, NOW, Write, model};
use super::node::{begin, block_on, commit, config, open, open_with, view, view_of};

/// What a run of a history left.
struct Run {
    disk: Simulated,
    acknowledged: Vec<Write>,
    /// The write that failed, and of which nobody knows whether it is there.
    doubtful: Option<Write>,
}

/// Writes a history until the disk fails.
fn run(seed: u64, writes: u64, faults: &[Fault]) -> Run {
    let disk = Simulated::new();
    for fault in faults {
        disk.fault(*fault);
    }
    let mut run = Run {
        disk: disk.clone(),
        acknowledged: Vec::new(),
        doubtful: None,
    };
    let Ok(log) = open(&disk) else {
        return run;
    };
    let mut dice = Dice(seed);
    let mut decider = Decider::default();
    let mut applied = Applied::new(&log);
    for _ in 0..writes {
        let write = decider.next(&mut dice);
        if applied.write(&write).is_err() {
            run.doubtful = Some(write);
            return run;
        }
        run.acknowledged.push(write);
        let maintained = match dice.below(12) {
            0 => log.checkpoint().map(|()| false),
            1 => log.compact(),
            _ => Ok(false),
        };
        if maintained.is_err() {
            return run;
        }
    }
    run
}

/// The log holds what was acknowledged, and at most what is doubtful beside it.
#[track_caller]
fn check(log: &Log, run: &Run, what: &str) {
    check_due(log, what);
    let found = view(log, NOW);
    let expected = view(&model(&run.acknowledged), NOW);
    if found == expected {
        return;
    }
    let mut with_doubtful = run.acknowledged.clone();
    with_doubtful.extend(run.doubtful.clone());
    let more = view(&model(&with_doubtful), NOW);
    if found == more {
        return;
    }
    assert_eq!(found, expected, "{what}");
}

/// After a crash the log opens without damage, holds what it must, and goes on.
#[track_caller]
fn check_crash(run: &Run, crash: Crash, what: &str) {
    let what = format!("{what}, {crash:?}");
    let disk = run.disk.crashed(crash);
    let log = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(log.report().problems, Vec::<String>::new(), "{what}");
    check(&log, run, &what);
    // What was found is durable: a second loss of power changes nothing.
    drop(log);
    let log = open(&disk.crashed(Crash::Lost)).unwrap();
    check(&log, run, &format!("{what}, then lost again"));
}

#[test]
fn what_is_acknowledged_survives_a_crash_at_every_step() {
    for seed in 0..2 {
        let complete = run(seed, 45, &[]);
        assert!(complete.doubtful.is_none());
        let operations = complete.disk.operations();
        for step in 0..=operations {
            let run = run(seed, 45, &[Fault::PowerOff(step)]);
            let what = format!("seed {seed}, step {step} of {operations}");
            for crash in [
                Crash::Lost,
                Crash::Kept,
                Crash::Any {
                    seed: step,
                    block: 512,
                },
                Crash::Any {
                    seed: step + 7,
                    block: 4096,
                },
            ] {
                check_crash(&run, crash, &what);
            }
        }
    }
}

#[test]
fn every_torn_end_is_cut_off() {
    let seed = 5;
    let complete = run(seed, 25, &[]);
    for step in 0..complete.disk.operations() {
        let before = run(seed, 25, &[Fault::PowerOff(step)]);
        let unsynced = before.disk.unsynced();
        for bytes in (0..=unsynced).step_by(7) {
            check_crash(&before, Crash::Prefix(bytes), &format!("step {step}"));
        }
    }
}

#[test]
fn groups_of_commits_may_arrive_in_any_order_of_blocks() {
    for seed in 0..16 {
        let disk = Simulated::new();
        let log = open(&disk).unwrap();
        let mut dice = Dice(seed);
        let mut decider = Decider::default();
        let mut applied = Applied::new(&log);
        let mut run = Run {
            disk: disk.clone(),
            acknowledged: Vec::new(),
            doubtful: None,
        };
        while run.acknowledged.len() < 20 {
            let write = decider.next(&mut dice);
            applied.write(&write).unwrap();
            run.acknowledged.push(write);
        }
        // One commit of each stream, in one group, and the power goes before it is synced.
        disk.hold();
        let mut waiting = Vec::new();
        let mut group = BTreeMap::new();
        while group.len() < 3 {
            let Write::Commit(name, mut commit) = decider.next(&mut dice) else {
                break;
            };
            if group.contains_key(&name) {
                break;
            }
            // Nobody waits for the disk, so that the group is acknowledged and not synced.
            commit.durability = Durability::Memory;
            waiting.push(begin(&log, applied.ids[&name], commit.clone()));
            group.insert(name.clone(), Write::Commit(name, commit));
        }
        disk.release();
        for receiver in waiting {
            receiver.recv().unwrap().unwrap();
        }
        drop(log);
        for crash in 0..20 {
            let disk = disk.crashed(Crash::Any {
                seed: crash,
                block: 512,
            });
            let log = open(&disk).unwrap();
            assert_eq!(log.report().problems, Vec::<String>::new());
            let found = view(&log, NOW);
            // Each stream is as it was before or after its commit, and nothing between.
            for (name, view_found) in &found {
                let before = view(&model(&run.acknowledged), NOW)[name].clone();
                let mut writes = run.acknowledged.clone();
                writes.extend(group.get(name).cloned());
                let after = view(&model(&writes), NOW)[name].clone();
                assert!(
                    *view_found == before || *view_found == after,
                    "seed {seed}, crash {crash}, {name}"
                );
            }
        }
    }
}

#[test]
fn a_failure_of_the_disk_stops_the_log_for_good() {
    let complete = run(1, 20, &[]);
    for step in 4..complete.disk.operations() {
        let disk = Simulated::new();
        disk.fault(Fault::Fails(step));
        let Ok(log) = open(&disk) else {
            continue;
        };
        let mut dice = Dice(1);
        let mut decider = Decider::default();
        let mut applied = Applied::new(&log);
        let mut run = Run {
            disk: disk.clone(),
            acknowledged: Vec::new(),
            doubtful: None,
        };
        for _ in 0..20 {
            let write = decider.next(&mut dice);
            match applied.write(&write) {
                Ok(()) => run.acknowledged.push(write),
                Err(error) => {
                    assert!(error.to_string().contains("simulated failure"), "{error}");
                    run.doubtful = Some(write);
                    break;
                }
            }
        }
        if run.doubtful.is_some() {
            // The disk works again, and the log does not believe it.
            let name = applied.ids.keys().next().cloned();
            if let Some(name) = name {
                let again = commit(&log, applied.ids[&name], empty(&log, &name));
                let error = again.unwrap_err().to_string();
                assert!(error.contains("simulated failure"), "step {step}: {error}");
            }
            assert!(log.status().failure.is_some());
        }
        drop(log);
        disk.heal();
        // The process starts anew, and finds in the page cache what is not on the disk.
        let log = open(&disk).unwrap();
        check(&log, &run, &format!("step {step}"));
        check_that_it_goes_on(&disk, log, &format!("step {step}"));
        check_crash(&run, Crash::Lost, &format!("step {step}"));
        check_crash(
            &run,
            Crash::Any {
                seed: step,
                block: 512,
            },
            &format!("step {step}"),
        );
    }
}

/// What is written after a failed sync does not stand behind a hole: what the page cache showed
/// was written again.
#[track_caller]
fn check_that_it_goes_on(disk: &Simulated, log: Log, what: &str) {
    let mut applied = Applied::new(&log);
    applied.reload();
    for (name, id) in &applied.ids {
        commit(&log, *id, empty(&log, name)).unwrap();
    }
    let expected = view(&log, NOW);
    drop(log);
    let log = open(&disk.crashed(Crash::Lost)).unwrap();
    assert_eq!(log.report().problems, Vec::<String>::new(), "{what}");
    assert_eq!(view(&log, NOW), expected, "{what}");
}

#[test]
fn a_checkpoint_makes_durable_what_was_written_before_it() {
    for seed in 0..5 {
        let disk = Simulated::new();
        let log = open(&disk).unwrap();
        let mut dice = Dice(seed);
        let mut decider = Decider::default();
        let mut applied = Applied::new(&log);
        let mut writes = Vec::new();
        while writes.len() < 30 {
            let mut write = decider.next(&mut dice);
            if let Write::Commit(_, commit) = &mut write {
                commit.durability = [Durability::Memory, Durability::Os][dice.len(2)];
            }
            applied.write(&write).unwrap();
            writes.push(write);
        }
        log.checkpoint().unwrap();
        let log = open(&disk.crashed(Crash::Lost)).unwrap();
        assert_eq!(log.report().problems, Vec::<String>::new());
        assert_eq!(view(&log, NOW), view(&model(&writes), NOW), "seed {seed}");
    }
}

/// Where no stream has so much behind its snapshot that it gets another one, which is synced by itself.
#[test]
fn a_checkpoint_makes_durable_the_little_that_was_written_before_it() {
    let disk = Simulated::new();
    let log = open(&disk).unwrap();
    let name = StreamName::new("s").unwrap();
    let id = block_on(log.create(&name, &Meta::default())).unwrap();
    for seq in 1..=2 {
        let mut state = State::load(block_on(log.load(&name, NOW)).unwrap().unwrap()).unwrap();
        let record = Record::new(format!("record {seq}"));
        state
            .append(NOW, vec![record], false, Some(Durability::Os))
            .unwrap();
        let decided = state.take_commit(NOW, 0).unwrap();
        assert_eq!(commit(&log, id, decided).unwrap(), Durability::Os);
    }
    log.checkpoint().unwrap();
    let log = open(&disk.crashed(Crash::Lost)).unwrap();
    assert_eq!(log.report().problems, Vec::<String>::new());
    let view = view_of(&log, &name, NOW).unwrap();
    assert_eq!((view.records.len(), view.totals.messages), (2, 2));
}

/// A commit that the stream would take.
fn empty(log: &Log, name: &StreamName) -> Commit {
    let listed = block_on(log.list(name.as_str(), None, 1)).unwrap();
    let totals = listed[0].totals;
    Commit {
        revision: totals.revision + 1,
        changes: Vec::new(),
        consumers: Vec::new(),
        horizon: 0,
        totals,
        durability: Durability::Fsync,
        fence: 0,
        time: NOW,
        due: None,
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    for capacity in (2_000..14_000).step_by(500) {
        let run = run(3, 60, &[Fault::Full(capacity)]);
        run.disk.heal();
        let what = format!("capacity {capacity}");
        check_crash(&run, Crash::Lost, &what);
        check_crash(&run, Crash::Kept, &what);
    }
}

#[test]
fn space_is_kept_for_what_frees_space() {
    let disk = Simulated::new();
    disk.fault(Fault::Full(40_000));
    let config = Config {
        free_bytes_min: 10_000,
        ..config()
    };
    let log = open_with(&disk, config).unwrap();
    let mut dice = Dice(9);
    let mut decider = Decider::default();
    let mut applied = Applied::new(&log);
    let mut writes = Vec::new();
    let error = loop {
        let write = decider.next(&mut dice);
        match applied.write(&write) {
            Ok(()) => writes.push(write),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full(_)), "{error}");
    assert!(disk.free_bytes().unwrap() < 11_000, "{writes:?}");
    // It was refused wholly, and the log goes on.
    assert_eq!(view(&log, NOW), view(&model(&writes), NOW));
    for (name, id) in &applied.ids {
        commit(&log, *id, empty(&log, name)).unwrap();
    }
    assert_eq!(log.status().failure, None);
}

/// Of every stream that nobody has loaded it is known when something is over next, or before that.
#[track_caller]
fn check_due(log: &Log, what: &str) {
    let mut ends = Vec::new();
    for entry in block_on(log.list("", None, 1_000)).unwrap() {
        let loaded = block_on(log.load(&entry.name, NOW)).unwrap().unwrap();
        ends.extend(due(&loaded.meta, &loaded.records).map(|due| (due, entry.name)));
    }
    ends.sort_unstable();
    let mut told = BTreeSet::new();
    for (end, name) in ends {
        told.extend(block_on(log.due(end, 1_000)).unwrap());
        assert!(told.contains(&name), "{what}: {name} is over at {end}");
    }
}

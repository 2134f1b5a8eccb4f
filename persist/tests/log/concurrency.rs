//! Writers, readers, checkpoints and compaction at the same time, on a real folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dialtone_persist::backend::log::{Config, Log};
use dialtone_persist::backend::{Backend as _, Error};
use dialtone_persist::disk::Folder;

use super::history::{Applied, Decider, Dice, NOW, Write, model};
use super::node::{block_on, config, view, view_of};

/// Writes a history of its own streams, and reads them all the time.
fn write(log: &Log, writer: u64, writes: usize) -> Vec<Write> {
    let mut dice = Dice(writer);
    let mut decider = Decider::with_prefix(&format!("hub/w{writer}/"));
    let mut applied = Applied::new(log);
    let mut written = Vec::new();
    while written.len() < writes {
        let write = decider.next(&mut dice);
        applied.write(&write).unwrap();
        written.push(write);
        if dice.is(10)
            && let Some((name, id)) = applied.ids.first_key_value()
        {
            if dice.is(2) {
                log.unload(*id);
            }
            let found = view_of(log, name, NOW);
            assert_eq!(
                found,
                view_of(&model(&written), name, NOW),
                "writer {writer}"
            );
        }
    }
    written
}

#[test]
fn everybody_at_once_changes_nothing_for_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let disk = Folder::open(folder.path()).unwrap();
        let config = Config {
            checkpoint_bytes: 50_000,
            maintenance: true,
            workers: 2,
            ..config()
        };
        Log::open(Arc::new(disk), config).unwrap()
    };
    let log = open();
    let ended = AtomicBool::new(false);
    let mut writes = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                log.compact().unwrap();
                log.checkpoint().unwrap();
                std::thread::yield_now();
            }
        });
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                scope.spawn({
                    let log = &log;
                    move || write(log, writer, 250)
                })
            })
            .collect();
        for writer in writers {
            writes.extend(writer.join().unwrap());
        }
        ended.store(true, Ordering::Release);
    });
    let expected = view(&model(&writes), NOW);
    assert_eq!(view(&log, NOW), expected);
    let counters = log.status().counters;
    let counter = |name| counters.iter().find(|(known, _)| *known == name).unwrap().1;
    assert!(counter("segments_compacted") > 5 && counter("freed_bytes") > 0);
    block_on(log.close()).unwrap();
    assert_eq!(block_on(log.list("", None, 1)), Err(Error::Closed));
    drop(log);
    assert_eq!(view(&open(), NOW), expected);
}

#[test]
fn a_folder_belongs_to_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = Folder::open(folder.path().join("a/b")).unwrap();
    let second = Folder::open(folder.path().join("a/b")).unwrap_err();
    assert!(
        second
            .to_string()
            .ends_with("a/b is in use by another process"),
        "{second}"
    );
    drop(first);
    Folder::open(folder.path().join("a/b")).unwrap();
}

#[test]
fn checkpoints_are_made_without_being_asked_for() {
    let disk = dialtone_persist::disk::Simulated::new();
    let config = Config {
        checkpoint_bytes: 5_000,
        maintenance: true,
        ..config()
    };
    let log = super::node::open_with(&disk, config).unwrap();
    let mut dice = Dice(3);
    let mut decider = Decider::default();
    let mut applied = Applied::new(&log);
    let checkpoints = || {
        let counters = log.status().counters;
        counters
            .into_iter()
            .find(|(name, _)| *name == "checkpoints")
            .unwrap()
            .1
    };
    // It ends when the thread has done its work, however long that takes.
    while checkpoints() < 2 {
        applied.write(&decider.next(&mut dice)).unwrap();
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

//! Compaction frees space and changes nothing that anybody can see.

use dialtone_persist::backend::log::Log;
use dialtone_persist::backend::{Backend as _, Error};
use dialtone_persist::disk::{Crash, Fault, Simulated};

use super::history::{Applied, Decider, Dice, NOW, Write, model};
use super::node::{open, view};

#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..6 {
        let mut disk = Simulated::new();
        let mut dice = Dice(1000 + seed);
        let mut decider = Decider::default();
        let mut writes = Vec::new();
        let mut log = open(&disk).unwrap();
        let mut compacted = 0;
        for _ in 0..12 {
            let mut applied = Applied::new(&log);
            applied.reload();
            for _ in 0..40 {
                let write = decider.next(&mut dice);
                applied.write(&write).unwrap();
                writes.push(write);
                if dice.is(20) {
                    log.checkpoint().unwrap();
                }
                if dice.is(8) {
                    compacted += u64::from(log.compact().unwrap());
                }
                if dice.is(15) {
                    let (_, id) = applied.ids.first_key_value().unwrap();
                    log.unload(*id);
                }
            }
            let expected = view(&model(&writes), NOW);
            assert_eq!(view(&log, NOW), expected, "seed {seed}");
            // It ends in order, is dropped, or the power goes.
            match dice.below(3) {
                0 => super::node::block_on(log.close()).unwrap(),
                1 => disk = disk.crashed(Crash::Lost),
                _ => {}
            }
            drop(log);
            if dice.is(3) {
                forget_checkpoints(&disk);
            }
            log = open(&disk).unwrap();
            assert_eq!(log.report().problems, Vec::<String>::new(), "seed {seed}");
            assert_eq!(view(&log, NOW), expected, "seed {seed}, opened again");
        }
        assert!(compacted > 3, "seed {seed}: {compacted} segments");
    }
}

/// A log without a checkpoint is read from its beginning.
fn forget_checkpoints(disk: &Simulated) {
    use dialtone_persist::disk::Disk as _;
    for name in disk.list().unwrap() {
        if name.starts_with("checkpoint") {
            disk.remove(&name).unwrap();
        }
    }
    disk.sync_names().unwrap();
}

/// A log of several segments of which little is needed, and what was written to it.
fn worn(seed: u64) -> (Simulated, Vec<Write>) {
    let disk = Simulated::new();
    let log = open(&disk).unwrap();
    let mut dice = Dice(seed);
    let mut decider = Decider::default();
    let mut applied = Applied::new(&log);
    let mut writes = Vec::new();
    while writes.len() < 120 {
        let write = decider.next(&mut dice);
        applied.write(&write).unwrap();
        writes.push(write);
    }
    drop(log);
    (disk.crashed(Crash::Lost), writes)
}

/// Compacts until nothing is left to do, or the disk fails.
fn compact_all(log: &Log) -> Result<u32, Error> {
    let mut compacted = 0;
    while log.compact()? {
        compacted += 1;
        log.checkpoint()?;
    }
    Ok(compacted)
}

#[test]
fn the_power_may_go_at_every_step_of_compaction() {
    for seed in [21, 22] {
        let (worn, writes) = worn(seed);
        let expected = view(&model(&writes), NOW);
        let disk = worn.crashed(Crash::Kept);
        let compacted = compact_all(&open(&disk).unwrap()).unwrap();
        assert!(compacted >= 2, "seed {seed}: {compacted} segments");
        let operations = disk.operations();
        let mut failed = 0;
        for step in 0..operations {
            let disk = worn.crashed(Crash::Kept);
            disk.fault(Fault::PowerOff(step));
            if let Ok(log) = open(&disk) {
                // How many operations it takes depends on how frames are grouped, so that the last
                // steps may come after its end.
                failed += u32::from(compact_all(&log).is_err());
            }
            let any = Crash::Any {
                seed: step,
                block: 512,
            };
            for crash in [Crash::Lost, Crash::Kept, any] {
                let what = format!("seed {seed}, step {step} of {operations}, {crash:?}");
                let disk = disk.crashed(crash);
                let log = open(&disk).unwrap();
                assert_eq!(log.report().problems, Vec::<String>::new(), "{what}");
                assert_eq!(view(&log, NOW), expected, "{what}");
                // It is done all the same, in the end.
                compact_all(&log).unwrap();
                assert_eq!(view(&log, NOW), expected, "{what}, compacted");
            }
        }
        assert!(failed > 10, "seed {seed}: {failed}");
    }
}

#[test]
fn what_is_overwritten_takes_no_space_for_ever() {
    let disk = Simulated::new();
    let log = open(&disk).unwrap();
    let mut dice = Dice(77);
    let mut decider = Decider::default();
    let mut applied = Applied::new(&log);
    let mut writes = Vec::new();
    for _ in 0..400 {
        let write = decider.next(&mut dice);
        applied.write(&write).unwrap();
        writes.push(write);
    }
    let before = log.status().disk_bytes;
    while log.compact().unwrap() {
        log.checkpoint().unwrap();
    }
    let status = log.status();
    assert!(
        status.disk_bytes < before / 2,
        "{} of {before}",
        status.disk_bytes
    );
    let live = super::node::block_on(log.sum("")).unwrap().bytes;
    assert!(
        status.disk_bytes < 4 * live + 40_000,
        "{} for {live}",
        status.disk_bytes
    );
    assert_eq!(view(&log, NOW), view(&model(&writes), NOW));
}

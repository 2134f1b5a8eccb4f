//! A bit that flips is noticed, named, and costs the record that it belongs to.

use dialtone_persist::backend::Backend as _;
use dialtone_persist::disk::{Disk as _, Simulated};

use super::history::{Applied, Decider, Dice, NOW, Write, model};
use super::node::{View, block_on, open, view, view_of};

/// A log that was closed in order, and what was written to it.
fn closed(seed: u64, count: usize) -> (Simulated, Vec<Write>) {
    let disk = Simulated::new();
    let log = open(&disk).unwrap();
    let mut dice = Dice(seed);
    let mut decider = Decider::default();
    let mut applied = Applied::new(&log);
    let mut writes = Vec::new();
    while writes.len() < count {
        let write = decider.next(&mut dice);
        applied.write(&write).unwrap();
        writes.push(write);
    }
    block_on(log.close()).unwrap();
    (disk, writes)
}

/// Reads whatever can be read of a stream, and says what cannot.
fn read_around(
    log: &dyn dialtone_persist::backend::Backend,
    expected: &View,
    name: &dialtone_client::persist::StreamName,
) -> (usize, Vec<String>) {
    let loaded = match block_on(log.load(name, NOW)) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return (0, vec!["the stream is not there".to_owned()]),
        Err(error) => return (0, vec![error.to_string()]),
    };
    let (mut read, mut damaged) = (0, Vec::new());
    let mut from = Some(1);
    while let Some(first) = from {
        let batch = block_on(log.read(loaded.id, &[(first, u64::MAX)], 1 << 20)).unwrap();
        for record in &batch.records {
            assert!(
                expected.records.contains(record),
                "{record:?} was never written"
            );
        }
        read += batch.records.len();
        damaged.extend(batch.damaged.map(|damaged| damaged.text));
        from = batch.next;
    }
    (read, damaged)
}

#[test]
fn a_flipped_bit_in_the_log_is_never_served_and_never_silent() {
    let (disk, writes) = closed(4, 60);
    let expected = view(&model(&writes), NOW);
    let segments: Vec<String> = disk.list().unwrap();
    let segments = segments.iter().filter(|name| name.starts_with("segment"));
    let mut dice = Dice(8);
    let mut noticed = 0;
    for name in segments {
        let len = disk.contents(name).unwrap().len();
        for _ in 0..60 {
            let at = dice.len(len as u64);
            let disk = disk.crashed(dialtone_persist::disk::Crash::Kept);
            disk.flip(name, at, dice.byte()).unwrap();
            let log = open(&disk).unwrap();
            let mut complaints = log.report().problems.clone();
            let mut lost = 0;
            for (stream, expected) in &expected {
                let (read, damaged) = read_around(&log, expected, stream);
                lost += expected.records.len() - read;
                complaints.extend(damaged);
                if let Ok(Some(loaded)) = block_on(log.load(stream, NOW)) {
                    let verified = block_on(log.verify(loaded.id, 1, u64::MAX)).unwrap();
                    complaints.extend(verified.problems.into_iter().map(|problem| problem.text));
                }
            }
            // Bytes that nobody needs any more may flip; what is lost is named.
            assert!(
                lost == 0 || !complaints.is_empty(),
                "{name} byte {at}: {lost} lost in silence"
            );
            assert!(
                complaints.iter().all(|text| text.contains("segment-")),
                "{complaints:?}"
            );
            noticed += u32::from(!complaints.is_empty());
        }
    }
    assert!(noticed > 20, "{noticed}");
}

/// A node that was killed has no checkpoint of its last writes, so that the next start reads them. What is damaged there
/// and known to have been on disk is not taken for the torn end of the log: everything behind it stays.
#[test]
fn damage_before_the_last_sync_is_no_torn_end() {
    use dialtone_client::persist::wire::Durability;
    use dialtone_persist::core::commit::{Append, Change, Commit, Meta, Totals};
    let disk = Simulated::new();
    let log = open(&disk).unwrap();
    let name = dialtone_client::persist::StreamName::new("hub/a").unwrap();
    let id = block_on(log.create(&name, &Meta::default())).unwrap();
    for seq in 1..=3_u8 {
        let number = u64::from(seq);
        let append = Append {
            seq: number,
            time: NOW,
            key: None,
            encoding: 0,
            headers: None,
            ttl: None,
            id: None,
            payload: bytes::Bytes::from(vec![0xa0 + seq; 40]),
            replaced: Vec::new(),
        };
        let commit = Commit {
            revision: number,
            changes: vec![Change::Append(append)],
            consumers: Vec::new(),
            horizon: 0,
            totals: Totals {
                messages: number,
                bytes: 40 * number,
                last_seq: number,
                last_time: NOW,
                revision: number,
            },
            durability: Durability::Fsync,
            fence: 0,
            time: NOW,
            due: None,
        };
        super::node::commit(&log, id, commit).unwrap();
    }
    let disk = disk.crashed(dialtone_persist::disk::Crash::Kept);
    let segment = "segment-0000000001.log";
    let contents = disk.contents(segment).unwrap();
    let payload = contents.windows(40).position(|bytes| bytes == [0xa1; 40]);
    // The head ends where the payload begins.
    disk.flip(segment, payload.unwrap() - 3, 5).unwrap();
    let log = open(&disk).unwrap();
    let problems = &log.report().problems;
    assert!(
        problems.len() == 1 && problems[0].starts_with(segment),
        "{problems:?}"
    );
    let id = block_on(log.load(&name, NOW)).unwrap().unwrap().id;
    let batch = block_on(log.read(id, &[(1, 10)], 1000)).unwrap();
    let seqs: Vec<u64> = batch.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [2, 3]);
}

#[test]
fn a_flipped_bit_in_a_payload_costs_one_record() {
    use dialtone_client::persist::wire::Durability;
    use dialtone_persist::core::commit::{Append, Change, Commit, Meta, Totals};
    let disk = Simulated::new();
    let log = open(&disk).unwrap();
    let name = dialtone_client::persist::StreamName::new("hub/a").unwrap();
    let id = block_on(log.create(&name, &Meta::default())).unwrap();
    let appends = (1..=3_u8).map(|seq| {
        Change::Append(Append {
            seq: u64::from(seq),
            time: NOW,
            key: None,
            encoding: 0,
            headers: None,
            ttl: None,
            id: None,
            payload: bytes::Bytes::from(vec![0xa0 + seq; 40]),
            replaced: Vec::new(),
        })
    });
    let commit = Commit {
        revision: 1,
        changes: appends.collect(),
        consumers: Vec::new(),
        horizon: 0,
        totals: Totals {
            messages: 3,
            bytes: 120,
            last_seq: 3,
            last_time: NOW,
            revision: 3,
        },
        durability: Durability::Fsync,
        fence: 0,
        time: NOW,
        due: None,
    };
    super::node::commit(&log, id, commit).unwrap();
    block_on(log.close()).unwrap();
    drop(log);
    let segment = "segment-0000000001.log";
    let contents = disk.contents(segment).unwrap();
    let at = contents
        .windows(40)
        .position(|bytes| bytes == [0xa2; 40])
        .unwrap();
    disk.flip(segment, at + 11, 5).unwrap();
    let log = open(&disk).unwrap();
    let id = block_on(log.load(&name, NOW)).unwrap().unwrap().id;
    let batch = block_on(log.read(id, &[(1, 10)], 1000)).unwrap();
    assert_eq!(batch.records.len(), 1);
    let damaged = batch.damaged.unwrap();
    assert_eq!((damaged.seq, batch.next), (2, Some(3)));
    let offset = contents
        .windows(4)
        .position(|bytes| bytes == b"DF\x01\x01")
        .unwrap()
        - 4;
    let text = format!("{segment}, byte {offset}: record 2: its checksum is wrong");
    assert_eq!(damaged.text, text);
    let batch = block_on(log.read(id, &[(3, 10)], 1000)).unwrap();
    assert_eq!((batch.records.len(), batch.damaged), (1, None));
    let verified = block_on(log.verify(id, 1, u64::MAX)).unwrap();
    assert_eq!(verified.records, 2);
    assert_eq!(verified.problems.len(), 1);
    assert_eq!(
        (verified.problems[0].seq, &verified.problems[0].text),
        (Some(2), &text)
    );
}

#[test]
fn a_damaged_checkpoint_costs_time_and_nothing_else() {
    let (disk, writes) = closed(6, 80);
    let expected = view(&model(&writes), NOW);
    let checkpoint = disk
        .list()
        .unwrap()
        .into_iter()
        .find(|name| name.starts_with("checkpoint"))
        .unwrap();
    disk.flip(&checkpoint, 40, 2).unwrap();
    let log = open(&disk).unwrap();
    assert!(!log.report().from_checkpoint);
    let [problem] = &log.report().problems[..] else {
        panic!("{:?}", log.report().problems);
    };
    assert_eq!(*problem, format!("{checkpoint}: its checksum is wrong"));
    assert_eq!(view(&log, NOW), expected);
}

#[test]
fn a_damaged_snapshot_costs_time_and_no_record() {
    let (disk, writes) = closed(11, 80);
    let expected = view(&model(&writes), NOW);
    let mut snapshots = 0;
    for name in disk.list().unwrap() {
        let contents = disk.contents(&name).unwrap();
        let marks = contents.windows(4).enumerate();
        let marks = marks.filter(|(at, bytes)| at % 8 == 4 && *bytes == b"DF\x01\x03");
        for (at, _) in marks {
            disk.flip(&name, at + 30, 1).unwrap();
            snapshots += 1;
        }
    }
    assert!(snapshots >= 3, "{snapshots}");
    let log = open(&disk).unwrap();
    let mut rebuilt = 0;
    for (name, expected) in &expected {
        let id = block_on(log.load(name, NOW)).unwrap().unwrap().id;
        let verified = block_on(log.verify(id, 1, u64::MAX)).unwrap();
        // A stream of which little was written has no snapshot.
        assert!(verified.problems.len() <= 1, "{:?}", verified.problems);
        for problem in &verified.problems {
            let text = "the checksum of the head is wrong";
            assert!(problem.text.contains(text), "{problem:?}");
            rebuilt += 1;
        }
        let found = view_of(&log, name, NOW).unwrap();
        assert_eq!(found.records, expected.records);
        assert_eq!(found.totals, expected.totals);
        assert_eq!(found.meta, expected.meta);
    }
    assert!(rebuilt >= 2, "{rebuilt}");
}

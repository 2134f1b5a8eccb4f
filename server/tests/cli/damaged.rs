//! A bit flips in a segment of a node that is stopped: it is found and named, and costs the record that it belongs to.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dialtone_client::Options;
use dialtone_client::persist::wire::{FaultKind, Select};
use dialtone_client::persist::{Persist, Stream};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;

use crate::process::{Broker, Home};

/// Records of random bytes, so that compression does not make them smaller: more than a segment holds.
const RECORDS: u64 = 36;
const RECORD_LEN: usize = 4 << 20;

/// Where a bit is flipped, and the record that is there.
const AT: u64 = 50 << 20;
const DAMAGED: u64 = 13;

/// The payload of every record but for its number, which is in front.
fn random() -> Vec<u8> {
    let mut bytes = vec![0; RECORD_LEN];
    StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

fn payload(random: &[u8], seq: u64) -> Vec<u8> {
    [&seq.to_be_bytes(), &random[8..]].concat()
}

async fn stream(up: &Broker) -> Stream {
    let client = Options::new(up.ws()).connect().await.unwrap();
    Persist::new(&client).stream("large").unwrap()
}

async fn fill(up: &Broker) {
    let (stream, random) = (stream(up).await, random());
    for seq in 1..=RECORDS {
        assert_eq!(stream.append(payload(&random, seq)).await.unwrap().seq, seq);
    }
}

fn flip(segment: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(segment);
    let (file, mut byte) = (file.unwrap(), [0]);
    file.read_exact_at(&mut byte, AT).unwrap();
    file.write_all_at(&[byte[0] ^ 1], AT).unwrap();
}

async fn read_around(up: &Broker) {
    let (stream, random) = (stream(up).await, random());
    for seq in 1..=RECORDS {
        match stream.get(Select::Seq(seq)).await {
            Ok(record) => assert!(
                *record.unwrap().payload == payload(&random, seq),
                "record {seq}"
            ),
            Err(error) => {
                assert_eq!((seq, error.kind()), (DAMAGED, Some(FaultKind::Corrupt)));
                let text = error.to_string();
                assert!(text.contains("segment-0000000001.log"), "{text}");
            }
        }
    }
    // It goes on to be written.
    assert_eq!(stream.append("more").await.unwrap().seq, RECORDS + 1);
}

#[test]
fn a_flipped_bit_is_named_and_costs_one_record() {
    let home = Home::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let up = home.up(&["--data", "data"]);
    home.run(&["stream", "add", "large", "--url", &up.ws()])
        .ok();
    home.run(&["stream", "add", "sound", "--url", &up.ws()])
        .ok();
    runtime.block_on(fill(&up));
    up.running.signal(Signal::TERM);
    up.running.end().ok();
    flip(&home.path().join("data/persist/segment-0000000001.log"));
    let up = home.up(&["--data", "data"]);
    let found = home
        .run(&["stream", "verify", "--url", &up.ws()])
        .exits(1)
        .says("1 stream damaged: large");
    let text = found.text();
    let named = format!("large: #{DAMAGED}: segment-0000000001.log, byte ");
    assert_eq!(text.matches(&named).count(), 1, "{text}");
    assert_eq!(text.matches("checksum").count(), 1, "{text}");
    let rest = format!("large: {} records", RECORDS - 1);
    assert!(
        text.contains(&rest) && text.contains("sound: 0 records"),
        "{text}"
    );
    runtime.block_on(read_around(&up));
}

//! The disk of a node is full: what does not fit is refused and was never there, what was acknowledged stays, and when
//! there is room again it is used.
//!
//! Needs the right to mount a file system in memory; where that is missing, the test says so.
#![expect(
    clippy::print_stderr,
    reason = "what was not tested is for who reads along"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dialtone_client::Options;
use dialtone_client::persist::wire::{FaultKind, Record};
use dialtone_client::persist::{AppendError, Persist, ReadOptions, Stream};
use rustix::process::Signal;

use crate::process::{Home, Running};

/// The node keeps 256 MiB of its disk free; this is what it may fill, beside.
const SMALL: &str = "size=264m";
const LARGE: &str = "size=300m";

/// Most records that are tried; many more than there is room for.
const RECORDS_MAX: usize = 1_000;

/// A small file system, which is unmounted when this is dropped.
struct SmallDisk(PathBuf);

fn mount(options: &str, at: &Path) -> bool {
    let args = ["-t", "tmpfs", "-o", options, "tmpfs"];
    let command = Command::new("mount")
        .args(args)
        .arg(at)
        .stderr(Stdio::null())
        .status();
    command.is_ok_and(|status| status.success())
}

impl SmallDisk {
    fn new(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        if !mount(SMALL, &at) {
            eprintln!("NOT TESTED: a full disk, which needs the right to mount a file system");
            return None;
        }
        Some(Self(at))
    }

    fn grow(&self) {
        assert!(
            mount(&format!("remount,{LARGE}"), &self.0),
            "it cannot grow"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "still mounted");
    }
}

async fn stream(url: &str) -> Stream {
    let client = Options::new(url).connect().await.unwrap();
    Persist::new(&client).stream("s").unwrap()
}

/// A record that compression cannot make smaller.
fn record(number: usize) -> Record {
    let mut payload = number.to_string().into_bytes();
    payload.extend((0..128 << 10).map(|_| rand::random::<u8>()));
    Record::new(payload).id(number.to_string())
}

fn is_full(error: &AppendError) -> bool {
    let AppendError::Call(error) = error else {
        return false;
    };
    error.kind() == Some(FaultKind::StoreFailed) && error.to_string().contains("full")
}

/// Writes until nothing fits any more: the ids that were acknowledged.
async fn fill(stream: &Stream) -> Vec<String> {
    let mut acked = Vec::new();
    for number in 0..RECORDS_MAX {
        match stream.append(record(number)).await {
            Ok(_) => acked.push(number.to_string()),
            Err(error) if is_full(&error) => return acked,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it is never full");
}

async fn ids(stream: &Stream) -> Vec<String> {
    let mut ids = Vec::new();
    let mut records = stream.read(ReadOptions::default());
    while let Some(record) = records.next().await {
        ids.extend(record.unwrap().id);
    }
    ids
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let home = Home::new();
    let Some(disk) = SmallDisk::new(home.path().join("data")) else {
        return;
    };
    let broker = home.broker(&[]);
    let url = broker.ws();
    let start = || -> Running {
        let node = home.start(&["persist", "--node", "p1", "--url", &url, "--data", "data"]);
        drop(node.until("is ready"));
        node
    };
    let node = start();
    home.run(&["stream", "add", "s", "--url", &url]).ok();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stream = runtime.block_on(stream(&url));
    let mut acked = runtime.block_on(fill(&stream));
    assert!(!acked.is_empty(), "nothing was ever written");
    assert_eq!(runtime.block_on(ids(&stream)), acked);
    node.signal(Signal::KILL);
    node.end();
    let node = start();
    assert_eq!(runtime.block_on(ids(&stream)), acked, "after the kill");
    let refused = runtime.block_on(stream.append(record(RECORDS_MAX)));
    assert!(
        refused.is_err_and(|error| is_full(&error)),
        "it is still full"
    );
    disk.grow();
    // The one that was refused was never there: it is no duplicate.
    let written = runtime
        .block_on(stream.append(record(RECORDS_MAX)))
        .unwrap();
    assert!(!written.duplicate);
    acked.push(RECORDS_MAX.to_string());
    assert_eq!(runtime.block_on(ids(&stream)), acked, "with more room");
    home.run(&["stream", "verify", "s", "--url", &url]).ok();
    node.signal(Signal::TERM);
    node.end().ok();
}

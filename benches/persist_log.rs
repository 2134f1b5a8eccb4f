//! The log of persist on a real folder, in CPU time of the whole process: its threads count.
//!
//! Wall time on a disk that others use says little; what a record costs says much. The folder is
//! `DIALTONE_BENCH_FOLDER`, or the system's folder for temporary files.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has no result"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures for people are far below 2^53"
)]
#![expect(
    clippy::print_stdout,
    reason = "what criterion does not measure is printed"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::Durability;
use dialtone_persist::backend::log::{Config, Log};
use dialtone_persist::backend::{Backend as _, StreamId};
use dialtone_persist::core::commit::{Append, Change, Commit, Meta, Totals};
use dialtone_persist::disk::Folder;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

const NOW: u64 = 1_700_000_000_000;

/// Time that the processors spent on this process.
struct CpuTime(WallTime);

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, i: Duration) -> Duration {
        cpu_time().saturating_sub(i)
    }

    fn add(&self, v1: &Duration, v2: &Duration) -> Duration {
        *v1 + *v2
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

/// A log in a folder of its own.
struct Node {
    log: Option<Log>,
    folder: TempDir,
    streams: Vec<Stream>,
}

/// What a core would know of a stream.
struct Stream {
    id: StreamId,
    totals: Totals,
}

fn folder() -> TempDir {
    let parent = std::env::var_os("DIALTONE_BENCH_FOLDER").map(PathBuf::from);
    tempfile::tempdir_in(parent.unwrap_or_else(std::env::temp_dir)).unwrap()
}

fn open(folder: &TempDir, config: Config) -> Log {
    let disk = Folder::open(folder.path()).unwrap();
    Log::open(Arc::new(disk), config).unwrap()
}

fn config() -> Config {
    Config {
        free_bytes_min: 1 << 20,
        ..Config::default()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(future)
}

impl Node {
    fn new(streams: usize, config: Config) -> Self {
        let folder = folder();
        let log = open(&folder, config);
        let mut node = Self {
            log: Some(log),
            folder,
            streams: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(node.create(streams));
        node
    }

    /// Makes streams, many at once.
    async fn create(&mut self, streams: usize) {
        let log = self.log.as_ref().unwrap();
        let meta = Meta::default();
        let mut number = 0;
        while number < streams {
            let next = (number + 1000).min(streams);
            let names: Vec<StreamName> = (number..next)
                .map(|number| format!("projects/3fa85f64-5717-4562-b3fc-2c963f66afa6/s{number:07}"))
                .map(|name| StreamName::new(name).unwrap())
                .collect();
            let created = names.iter().map(|name| log.create(name, &meta));
            for id in futures_util::future::join_all(created).await {
                let totals = Totals::default();
                self.streams.push(Stream {
                    id: id.unwrap(),
                    totals,
                });
            }
            number = next;
        }
    }

    /// One commit on each of these streams, all at once, and waits for all of them.
    fn round(
        &mut self,
        streams: std::ops::Range<usize>,
        payloads: &[Bytes],
        durability: Durability,
    ) {
        let log = self.log.as_ref().unwrap();
        let left = Arc::new(AtomicUsize::new(streams.len()));
        for stream in &mut self.streams[streams] {
            let commit = stream.next(payloads, durability);
            let (left, waiter): (_, Thread) = (Arc::clone(&left), std::thread::current());
            log.commit(
                stream.id,
                commit,
                Box::new(move |result| {
                    result.unwrap();
                    if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        waiter.unpark();
                    }
                }),
            );
        }
        while left.load(Ordering::Acquire) > 0 {
            std::thread::park();
        }
    }

    /// As the service does before it reads.
    fn load(&self) {
        let log = self.log.as_ref().unwrap();
        let names = block_on(log.list("", None, self.streams.len())).unwrap();
        for entry in names {
            block_on(log.load(&entry.name, NOW)).unwrap();
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let status = self.log.as_ref().unwrap().status();
        let found = status.counters.iter().find(|(known, _)| *known == name);
        found.unwrap().1
    }
}

impl Stream {
    fn next(&mut self, payloads: &[Bytes], durability: Durability) -> Commit {
        let revision = self.totals.revision + 1;
        let mut changes = Vec::with_capacity(payloads.len());
        for payload in payloads {
            self.totals.last_seq += 1;
            self.totals.messages += 1;
            self.totals.bytes += payload.len() as u64;
            changes.push(Change::Append(Append {
                seq: self.totals.last_seq,
                time: NOW,
                key: None,
                encoding: 0,
                headers: None,
                ttl: None,
                id: None,
                payload: payload.clone(),
                replaced: Vec::new(),
            }));
        }
        self.totals.revision += payloads.len() as u64;
        self.totals.last_time = NOW;
        Commit {
            revision,
            changes,
            consumers: Vec::new(),
            horizon: 0,
            totals: self.totals,
            durability,
            fence: 0,
            time: NOW,
            due: None,
        }
    }
}

/// Bytes that do not compress.
fn payload(len: usize) -> Bytes {
    let mut seeded = dialtone_benches::Seeded::new(7);
    let bytes = (0..len).map(|_| u8::try_from(seeded.below(256)).unwrap_or(0));
    Bytes::from(bytes.collect::<Vec<u8>>())
}

/// Acknowledged appends, with every acknowledgement on disk.
fn appends(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("persist_log/append");
    let cases = [
        (1, 1, 256, false),
        (1, 1, 256, true),
        (1, 64, 256, false),
        (64, 1, 256, false),
        (64, 1, 256, true),
        (1000, 1, 256, false),
        (1000, 1, 256, true),
        (64, 1, 16 << 10, false),
    ];
    for (streams, records, len, reserve) in cases {
        let reserved = if reserve { ", space reserved" } else { "" };
        let name = format!("{streams} streams, {records} records a commit, {len} B{reserved}");
        let config = Config {
            reserve,
            ..config()
        };
        let mut node = Node::new(streams, config);
        let payloads = vec![payload(len); records];
        group.throughput(Throughput::Elements((streams * records) as u64));
        let (began, before) = (Instant::now(), node.counter("written_bytes"));
        let mut rounds = 0_u64;
        let syncs = node.counter("syncs");
        group.bench_function(BenchmarkId::from_parameter(&name), |b| {
            b.iter(|| {
                rounds += 1;
                node.round(0..streams, &payloads, Durability::Fsync);
            });
        });
        let records = rounds as f64 * (streams * records) as f64;
        let bytes = (node.counter("written_bytes") - before) as f64;
        if rounds == 0 {
            continue;
        }
        println!(
            "{name}: {:.0} records/s by the clock, {:.1} records a sync, {:.3} bytes written a byte of payload",
            records / began.elapsed().as_secs_f64(),
            records / (node.counter("syncs") - syncs) as f64,
            bytes / (records * len as f64),
        );
    }
    group.finish();
}

/// Reading everything, from the page cache.
fn reads(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("persist_log/read-all");
    for (streams, len) in [(1, 256), (1, 16 << 10), (100, 256), (100, 16 << 10)] {
        let mut node = Node::new(streams, config());
        let total = 64 << 20;
        let records = if streams == 1 { 64 } else { 1 };
        let payloads = vec![payload(len); records];
        for _ in 0..total / (len * streams * records) {
            node.round(0..streams, &payloads, Durability::Memory);
        }
        node.round(0..streams, &payloads, Durability::Fsync);
        node.load();
        group.throughput(Throughput::Bytes(total as u64));
        let name = format!("{streams} streams, {len} B");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (mut clock, mut times) = (Duration::ZERO, 0);
        group.bench_function(BenchmarkId::from_parameter(&name), |b| {
            b.iter(|| {
                let began = Instant::now();
                runtime.block_on(read_all(&node));
                clock += began.elapsed();
                times += 1;
            });
        });
        if times == 0 {
            continue;
        }
        let rate = f64::from(times) * total as f64 / clock.as_secs_f64();
        println!("{name}: {:.0} MB/s by the clock", rate / 1e6);
    }
    group.finish();
}

async fn read_all(node: &Node) {
    let log = node.log.as_ref().unwrap();
    for stream in &node.streams {
        let mut from = Some(1);
        while let Some(first) = from {
            let batch = log
                .read(stream.id, &[(first, u64::MAX)], 1 << 20)
                .await
                .unwrap();
            from = batch.next;
            drop(batch);
        }
    }
}

/// Bytes of memory of this process.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Names the folder to a process that is to open it and say what that costs.
const OPEN: &str = "DIALTONE_BENCH_OPEN";

fn quiet() -> Config {
    Config {
        maintenance: false,
        ..config()
    }
}

fn open_in_a_process_of_its_own(node: &Node) {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    let status = command.env(OPEN, node.folder.path()).status().unwrap();
    assert!(status.success(), "{status}");
}

fn open_and_say(folder: &Path) {
    let before = memory();
    let began = Instant::now();
    let disk = Folder::open(folder).unwrap();
    let log = Log::open(Arc::new(disk), quiet()).unwrap();
    let took = began.elapsed();
    let streams = log.status().sum.streams;
    println!(
        "  opened in {took:?}, {:?} of a processor, {} bytes of memory a stream; {:?}",
        cpu_time(),
        (memory() - before) / streams.max(1),
        log.report(),
    );
    let name = "projects/3fa85f64-5717-4562-b3fc-2c963f66afa6/s0050000";
    let name = StreamName::new(name).unwrap();
    let began = Instant::now();
    block_on(log.load(&name, NOW)).unwrap().unwrap();
    println!("  the first load of a stream: {:?}", began.elapsed());
}

/// A start with 100,000 streams.
fn opens(c: &mut Criterion<CpuTime>) {
    const STREAMS: usize = 100_000;
    let mut node = Node::new(STREAMS, config());
    for round in 0..3 {
        for first in (0..STREAMS).step_by(1000) {
            node.round(first..first + 1000, &[payload(256)], Durability::Memory);
        }
        // One that was closed in order; in the other the last round is read from the log.
        if round == 1 {
            node.log.as_ref().unwrap().checkpoint().unwrap();
        }
    }
    node.round(0..1, &[payload(256)], Durability::Fsync);
    drop(node.log.take());
    let mut group = c.benchmark_group("persist_log/open");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(STREAMS as u64));
    println!("100,000 streams, a third of the log behind the checkpoint:");
    open_in_a_process_of_its_own(&node);
    group.bench_function("behind a checkpoint, with a tail", |b| {
        b.iter(|| open(&node.folder, quiet()));
    });
    let log = open(&node.folder, quiet());
    log.checkpoint().unwrap();
    drop(log);
    println!("100,000 streams, closed in order:");
    open_in_a_process_of_its_own(&node);
    group.bench_function("closed in order", |b| {
        b.iter(|| open(&node.folder, quiet()));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime(WallTime)).measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = appends, reads, opens
}

fn main() {
    if let Some(folder) = std::env::var_os(OPEN) {
        open_and_say(Path::new(&folder));
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}

//! How often the broker allocates for a message, and how much: counted, not timed.
//!
//! The broker runs on a thread of its own, and only what that thread asks for is counted, after a
//! warm-up. `cargo bench -p dialtone-benches --bench allocations` prints the table.

#![expect(
    unsafe_code,
    reason = "an allocator that counts can only be written so"
)]
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use anyhow::Context as _;
use bytes::Bytes;
use dialtone_benches::{Carrier, Node, Peer, delivery_len, publishes, wanted};
use dialtone_protocol::frame::Wanted;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn note(len: usize) {
    // A thread that ends may allocate after its variables are gone; it is not counted then.
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(len as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds before anything is counted, so that buffers have grown to their size.
const WARM_UP: usize = 200;

/// Rounds that are counted.
const ROUNDS: usize = 1_000;

/// What is published in one round, and by how many it is received.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    subscribers: usize,
    group: bool,
    subjects: usize,
    payload_len: usize,
    messages: usize,
}

const PLAIN: Load = Load {
    name: "",
    subscribers: 1,
    group: false,
    subjects: 1,
    payload_len: 128,
    messages: 256,
};

const LOADS: [Load; 7] = [
    Load {
        name: "1 to 1, one at a time",
        messages: 1,
        ..PLAIN
    },
    Load {
        name: "1 to 1",
        ..PLAIN
    },
    Load {
        name: "1 to 1, 64 KiB",
        payload_len: 64 << 10,
        messages: 4,
        ..PLAIN
    },
    Load {
        name: "1 to 10",
        subscribers: 10,
        ..PLAIN
    },
    Load {
        name: "1 to 100",
        subscribers: 100,
        messages: 32,
        ..PLAIN
    },
    Load {
        name: "1,000 subjects",
        subjects: 1_000,
        messages: 1_000,
        ..PLAIN
    },
    Load {
        name: "queue group",
        group: true,
        ..PLAIN
    },
];

/// Allocations and bytes so far.
fn so_far() -> (u64, u64) {
    (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed))
}

struct Scene {
    publisher: Peer,
    frames: Bytes,
    subscribers: Vec<Peer>,
    len: usize,
}

impl Scene {
    async fn open(node: &Node, carrier: Carrier, load: Load) -> anyhow::Result<Self> {
        let publisher = node.peer(carrier).await?;
        // Of equal length, so that all deliveries are.
        let subjects: Vec<String> = (0..load.subjects)
            .map(|number| format!("item.{number:06}"))
            .collect();
        let mut subscribers = Vec::new();
        for _ in 0..load.subscribers {
            let mut peer = node.peer(carrier).await?;
            let group = load.group.then(|| "workers".to_owned());
            peer.subscribe(vec![Wanted {
                group,
                ..wanted(1, "item.*")
            }])
            .await?;
            subscribers.push(peer);
        }
        let names: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let first = names.first().copied().unwrap_or_default();
        Ok(Self {
            publisher,
            frames: publishes(&names, load.payload_len, load.messages),
            subscribers,
            len: delivery_len(first, load.payload_len, 1)? * load.messages,
        })
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        self.publisher.send(self.frames.clone()).await?;
        for subscriber in &mut self.subscribers {
            subscriber.receive(self.len).await?;
        }
        Ok(())
    }
}

async fn count(node: &Node, carrier: Carrier, load: Load) -> anyhow::Result<()> {
    let mut scene = Scene::open(node, carrier, load).await?;
    for _ in 0..WARM_UP {
        scene.round().await?;
    }
    let before = so_far();
    for _ in 0..ROUNDS {
        scene.round().await?;
    }
    let after = so_far();
    let messages = (ROUNDS * load.messages) as u64;
    let per_message = |amount: u64, digits: u64| {
        let scaled = amount * digits / messages;
        format!(
            "{}.{:0width$}",
            scaled / digits,
            scaled % digits,
            width = digits.ilog10() as usize
        )
    };
    println!(
        "{:<10} {:<24} {:>14} {:>14}",
        carrier.scheme(),
        load.name,
        per_message(after.0 - before.0, 1_000),
        per_message(after.1 - before.1, 10),
    );
    Ok(())
}

/// The thread of the broker: gives the node, and runs until it is told to stop.
fn run_broker(given: &mpsc::SyncSender<anyhow::Result<Node>>, stop: oneshot::Receiver<()>) {
    IS_COUNTED.set(true);
    let started = runtime().and_then(|runtime| Ok((Node::start(&runtime)?, runtime)));
    let (node, runtime) = match started {
        Ok((node, runtime)) => (Ok(node), Some(runtime)),
        Err(error) => (Err(error), None),
    };
    if given.send(node).is_ok()
        && let Some(runtime) = runtime
    {
        // Both ways to end, told and forgotten, mean the same.
        drop(runtime.block_on(stop));
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

fn main() -> anyhow::Result<()> {
    let (given, node) = mpsc::sync_channel(1);
    let (_stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("broker".to_owned());
    let _broker = thread.spawn(move || run_broker(&given, stopped))?;
    let node = node.recv().context("the broker's thread has ended")??;
    let runtime = runtime()?;
    println!(
        "{:<10} {:<24} {:>14} {:>14}",
        "", "per published message", "allocations", "bytes"
    );
    for carrier in Carrier::ALL {
        for load in LOADS {
            runtime.block_on(count(&node, carrier, load))?;
        }
    }
    Ok(())
}

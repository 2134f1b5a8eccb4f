//! Writers and readers of several streams while nodes are killed, stand still, stop and start: the history of each
//! stream is one that a single node could have made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dialtone_client::Client;
use dialtone_client::persist::wire::{
    Append, Appended, Create, Created, Found, Get, Nodes, Outcome, Page, Read, Record, Request,
    Select,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::site::{Site, ask};

const STREAMS: usize = 8;
const WRITERS: usize = 2;

/// Something that was asked and answered: when, in the order of the test, and with which number.
#[derive(Debug, Clone)]
struct Done {
    began: u64,
    ended: u64,
    seq: u64,
    /// What was written; `None` for a look at the last number.
    payload: Option<String>,
}

#[derive(Default)]
struct History {
    clock: AtomicU64,
    done: Mutex<BTreeMap<usize, Vec<Done>>>,
    /// Told of each write that was acknowledged.
    wrote: Notify,
    over: AtomicBool,
}

impl History {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// How many writes of each stream were acknowledged.
    fn written(&self) -> Vec<usize> {
        let done = self.done.lock();
        let count = |stream| {
            done.get(&stream).map_or(0, |done| {
                done.iter().filter(|done| done.payload.is_some()).count()
            })
        };
        (0..STREAMS).map(count).collect()
    }

    /// Waits until every stream has this many more writes.
    async fn progress(&self, more: usize) {
        let before = self.written();
        loop {
            let wrote = self.wrote.notified();
            let now = self.written();
            if before
                .iter()
                .zip(&now)
                .all(|(before, now)| *now >= before + more)
            {
                return;
            }
            wrote.await;
        }
    }
}

fn name(stream: usize) -> String {
    format!("s{stream}")
}

async fn write(client: Client, history: Arc<History>, stream: usize, writer: usize) {
    let mut number = 0;
    while !history.over.load(Ordering::Relaxed) {
        number += 1;
        let payload = format!("{writer}-{number}");
        let record = Record {
            id: Some(payload.clone()),
            ..Record::new(payload.as_str())
        };
        let append = Append {
            stream: name(stream),
            records: vec![record],
            ..Append::default()
        };
        let began = history.tick();
        let appended: Appended = ask(&client, &Request::Append(append)).await.unwrap();
        let ended = history.tick();
        let Outcome::Written(written) = &appended.results[0] else {
            panic!("{appended:?}");
        };
        let done = Done {
            began,
            ended,
            seq: written.seq,
            payload: Some(payload),
        };
        history.done.lock().entry(stream).or_default().push(done);
        history.wrote.notify_one();
        let get = Get {
            stream: name(stream),
            select: Select::Last,
        };
        let began = history.tick();
        let found: Found = ask(&client, &Request::Get(get)).await.unwrap();
        let ended = history.tick();
        let done = Done {
            began,
            ended,
            seq: found.last_seq,
            payload: None,
        };
        history.done.lock().entry(stream).or_default().push(done);
    }
}

async fn contents(client: &Client, stream: usize) -> Vec<(u64, String)> {
    let mut contents = Vec::new();
    let mut next = Some(1);
    while let Some(from) = next {
        let read = Read {
            stream: name(stream),
            from,
            ..Read::default()
        };
        let page: Page = ask(client, &Request::Read(read)).await.unwrap();
        let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
        contents.extend(
            page.records
                .iter()
                .map(|record| (record.seq, text(&record.payload))),
        );
        next = page.next;
    }
    contents
}

/// A stream is one list of records with one end. So a history is linearizable when every write is in the list once,
/// and whatever ended before something else began has no higher number.
fn check(contents: &[(u64, String)], done: &[Done]) {
    let seqs: Vec<u64> = contents.iter().map(|(seq, _)| *seq).collect();
    assert!(
        seqs.iter().copied().eq(1..=seqs.len() as u64),
        "numbers have no gaps"
    );
    let mut acknowledged: Vec<(u64, String)> = done
        .iter()
        .filter_map(|done| Some((done.seq, done.payload.clone()?)))
        .collect();
    acknowledged.sort();
    assert_eq!(contents, acknowledged);
    let mut by_end: Vec<&Done> = done.iter().collect();
    by_end.sort_by_key(|done| done.ended);
    let mut by_begin: Vec<&Done> = done.iter().collect();
    by_begin.sort_by_key(|done| done.began);
    let (mut ended, mut highest) = (by_end.into_iter().peekable(), 0);
    for done in by_begin {
        while let Some(before) = ended.next_if(|before| before.ended < done.began) {
            highest = highest.max(before.seq);
        }
        let is_later = if done.payload.is_some() {
            done.seq > highest
        } else {
            done.seq >= highest
        };
        assert!(is_later, "{done:?} began after {highest} was seen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_a_stream_is_that_of_one_node() {
    let site = Site::new().await;
    let (n1, n2, n3) = (
        site.start("n1").await,
        site.start("n2").await,
        site.start("n3").await,
    );
    let client = site.client().await;
    for stream in 0..STREAMS {
        let create = Create {
            stream: name(stream),
            exist_ok: true,
            ..Create::default()
        };
        let _created: Created = ask(&client, &Request::Create(create)).await.unwrap();
    }
    let history = Arc::new(History::default());
    let mut writers = Vec::new();
    for number in 0..STREAMS * WRITERS {
        let write = write(
            site.client().await,
            Arc::clone(&history),
            number % STREAMS,
            number,
        );
        writers.push(tokio::task::spawn(write));
    }
    history.progress(5).await;
    n1.kill().await;
    history.progress(5).await;
    let n4 = site.start("n4").await;
    history.progress(5).await;
    let resume = n2.pause().await;
    // Also the streams that it had are written, by others.
    history.progress(5).await;
    drop(resume);
    history.progress(5).await;
    n3.stop().await;
    history.progress(5).await;
    history.over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let nodes: Nodes = ask(&client, &Request::Nodes).await.unwrap();
    let alive: Vec<&str> = nodes
        .nodes
        .iter()
        .filter(|node| node.alive)
        .map(|node| node.node.as_str())
        .collect();
    assert_eq!(alive, ["n2", "n4"]);
    assert!(
        nodes
            .nodes
            .iter()
            .all(|node| node.view > 0 && node.lease.is_some() && node.backend == "postgres")
    );
    let done = history.done.lock().clone();
    for (stream, done) in done {
        check(&contents(&client, stream).await, &done);
    }
    n2.stop().await;
    n4.stop().await;
}

//! HTTP/2 clients that do harm or break rules: each hurts its own connection at most.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{PATIENCE, World};

/// Kinds of frames (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Codes of errors (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A flood in bytes: far more than a connection may hold.
const FLOOD_LEN: usize = 24 << 20;

/// How much more memory a flood may take, in bytes: a small part of it.
const MEMORY_MAX: usize = 12 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let mut out = len.to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A header that is in no table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        // A string of fewer than 127 bytes, without Huffman's code.
        out.push(
            u8::try_from(text.len())
                .ok()
                .filter(|len| *len < 127)
                .unwrap(),
        );
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// The head of a request of whoever may.
fn head(world: &World, rest: &str) -> Vec<u8> {
    let host = world.addr.to_string();
    let path = world.path(rest);
    [
        literal(":method", "GET"),
        literal(":scheme", "http"),
        literal(":path", &path),
        literal(":authority", &host),
        literal("cookie", "remember_me=bob"),
    ]
    .concat()
}

fn request(world: &World, stream: u32, rest: &str) -> Vec<u8> {
    let head = head(world, rest);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)
}

/// A connection that has said hello.
struct Client(TcpStream);

/// A frame that came.
#[derive(Debug)]
struct Came {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Came {
    fn code(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl Client {
    async fn connect(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.addr).await.unwrap();
        let hello = [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &frame(SETTINGS, 0, 0, &[]),
        ]
        .concat();
        stream.write_all(&hello).await.unwrap();
        Self(stream)
    }

    /// Sends; that the other side has had enough is what may be asked for.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.0.write_all(bytes))
            .await
            .unwrap()
            .is_ok()
    }

    async fn next(&mut self) -> Option<Came> {
        let mut head = [0; 9];
        let read = timeout(PATIENCE, self.0.read_exact(&mut head))
            .await
            .unwrap();
        read.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        let read = timeout(PATIENCE, self.0.read_exact(&mut payload))
            .await
            .unwrap();
        read.ok()?;
        Some(Came {
            kind: head[3],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
            payload,
        })
    }

    /// Waits for a frame of this kind for this stream, in an answer to nothing or to a ping.
    async fn until(&mut self, kind: u8, stream: u32) -> Came {
        loop {
            let came = self.next().await;
            let came = came.unwrap_or_else(|| panic!("it ended before a frame of kind {kind}"));
            if came.kind == kind && came.stream == stream {
                return came;
            }
            assert_ne!(came.kind, GOAWAY, "{came:?} before a frame of kind {kind}");
        }
    }

    /// The code with which the connection is given up; `None` if it is closed without one.
    async fn given_up(&mut self) -> Option<u32> {
        loop {
            let came = self.next().await?;
            if came.kind == GOAWAY && came.code(4) != 0 {
                return Some(came.code(4));
            }
        }
    }
}

async fn serves_others(world: &World) {
    let curl = world.curl(&["--http2-prior-knowledge"], "x").await;
    assert_eq!(curl.status(), 200, "{curl:?}");
    while world.handle.metrics().requests() > 0 {
        tokio::task::yield_now().await;
    }
}

/// The memory of this process, in bytes.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() << 10
}

/// Sends the same again and again until the other side has had enough or everything has gone; answers are taken, and
/// dropped. Neither takes memory, nor keeps others from being served.
async fn flood(world: &World, start: Vec<u8>, part: Vec<u8>) {
    let Client(stream) = Client::connect(world).await;
    let (mut read, mut write) = stream.into_split();
    let before = memory();
    let sending = crate::world::spawn(async move {
        let block = part.repeat((64 << 10) / part.len() + 1);
        let mut sent = write.write_all(&start).await;
        for _ in 0..FLOOD_LEN / block.len() {
            if sent.is_err() {
                break;
            }
            sent = write.write_all(&block).await;
        }
        // The other side learns that there is no more, and ends as well.
        drop(write.shutdown().await);
    });
    let mut buf = vec![0; 64 << 10];
    while timeout(PATIENCE, read.read(&mut buf))
        .await
        .unwrap()
        .is_ok_and(|len| len > 0)
    {}
    timeout(PATIENCE, sending).await.unwrap().unwrap();
    let more = memory().saturating_sub(before);
    assert!(more < MEMORY_MAX, "it took {more} bytes");
    serves_others(world).await;
}

/// CVE-2023-44487.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_taken_back_at_once_are_few() {
    const COUNT: u32 = 20_000;
    let world = World::new().await;
    let mut client = Client::connect(&world).await;
    let storm: Vec<u8> = (0..COUNT)
        .flat_map(|n| {
            let stream = n * 2 + 1;
            let cancel = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [request(&world, stream, "hang"), cancel].concat()
        })
        .collect();
    client.send(&storm).await;
    let code = client.given_up().await;
    assert!(
        code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{code:?}"
    );
    let asked = world.upstream.requests.load(Ordering::Relaxed);
    assert!(
        asked < 2_000,
        "{asked} of {COUNT} requests came to the server"
    );
    serves_others(&world).await;
}

/// CVE-2024-27316.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_goes_on_for_ever_is_given_up() {
    let world = World::new().await;
    let start = frame(HEADERS, END_STREAM, 1, &head(&world, "x"));
    let part = frame(CONTINUATION, 0, 1, &literal("x-flood", &"y".repeat(100)));
    flood(&world, start, part).await;
    assert_eq!(
        world.upstream.requests.load(Ordering::Relaxed),
        1,
        "that of others"
    );
}

/// CVE-2019-9515, CVE-2019-9512, CVE-2019-9513, CVE-2019-9518.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_small_frames_take_no_memory() {
    let world = World::new().await;
    for part in [
        frame(SETTINGS, 0, 0, &[]),
        frame(PING, 0, 0, &[7; 8]),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]),
        frame(0x7f, 0, 0, &[1; 32]),
    ] {
        flood(&world, Vec::new(), part).await;
    }
}

#[tokio::test]
async fn a_storm_of_priorities_leaves_the_connection_usable() {
    let world = World::new().await;
    let mut client = Client::connect(&world).await;
    let storm: Vec<u8> = (0..50_000_u32)
        .flat_map(|n| frame(PRIORITY, 0, n * 2 + 1, &[0, 0, 0, 0, 200]))
        .collect();
    assert!(client.send(&storm).await);
    client.send(&request(&world, 100_001, "x")).await;
    assert_eq!(client.until(DATA, 100_001).await.payload, b"hello");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let world = World::with(|config| config.limits.head_len_max = 16 << 10).await;
    let mut client = Client::connect(&world).await;
    let fields: Vec<u8> = (0..120)
        .flat_map(|n| literal(&format!("x-{n}"), &"y".repeat(120)))
        .collect();
    let (first, rest) = fields.split_at(14_000);
    let first = [&head(&world, "x")[..], first].concat();
    client.send(&frame(HEADERS, END_STREAM, 1, &first)).await;
    client
        .send(&frame(CONTINUATION, END_HEADERS, 1, rest))
        .await;
    client.send(&request(&world, 3, "x")).await;
    assert_eq!(client.until(DATA, 3).await.payload, b"hello");
    assert_eq!(world.upstream.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_one_by_one() {
    let world = World::with(|config| config.limits.streams_max = 4).await;
    let mut client = Client::connect(&world).await;
    for n in 0..8 {
        client.send(&request(&world, n * 2 + 1, "hang")).await;
    }
    for n in 4..8 {
        let refused = client.until(RST_STREAM, n * 2 + 1).await;
        assert_eq!(
            refused.code(0),
            7,
            "REFUSED_STREAM, so that it is tried again"
        );
    }
    client
        .send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()))
        .await;
    client.send(&frame(PING, 0, 0, &[1; 8])).await;
    client.until(PING, 0).await;
    client.send(&request(&world, 17, "x")).await;
    assert_eq!(client.until(DATA, 17).await.payload, b"hello");
}

/// The library says `PROTOCOL_ERROR` for some frames of a wrong size, for which RFC 9113 has a code of its own.
#[tokio::test]
async fn what_breaks_the_rules_ends_the_connection_with_their_code() {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    for (name, bytes, code) in [
        (
            "a window that overflows",
            frame(WINDOW_UPDATE, 0, 0, &most),
            FLOW_CONTROL_ERROR,
        ),
        (
            "a window that grows by nothing",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            PROTOCOL_ERROR,
        ),
        (
            "a stream of the server's",
            frame(HEADERS, 5, 2, &[0x82]),
            PROTOCOL_ERROR,
        ),
        (
            "a head on no stream",
            frame(HEADERS, 5, 0, &[0x82]),
            PROTOCOL_ERROR,
        ),
        (
            "data on a stream that is none",
            frame(DATA, 0, 5, b"x"),
            PROTOCOL_ERROR,
        ),
        (
            "a promise of a client",
            frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
            PROTOCOL_ERROR,
        ),
        (
            "a ping that is too short",
            frame(PING, 0, 0, &[1; 7]),
            PROTOCOL_ERROR,
        ),
        (
            "settings on a stream",
            frame(SETTINGS, 0, 1, &[]),
            PROTOCOL_ERROR,
        ),
        (
            "settings that confirm with data",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            PROTOCOL_ERROR,
        ),
        (
            "a frame that is too long",
            frame(DATA, 0, 1, &vec![0; 20_000]),
            FRAME_SIZE_ERROR,
        ),
        (
            "the rest of no head",
            frame(CONTINUATION, 4, 1, &[0x82]),
            PROTOCOL_ERROR,
        ),
    ] {
        let world = World::new().await;
        let mut client = Client::connect(&world).await;
        client.send(&bytes).await;
        let given = client.given_up().await;
        assert_eq!(given, Some(code), "{name}");
        serves_others(&world).await;
    }
}

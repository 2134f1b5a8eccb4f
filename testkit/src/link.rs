//! A connection that behaves as badly as a seed says: delay, small chunks, narrow bandwidth, stalls and cuts.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use dialtone_transport::{Connection, Info, Kind};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How a link behaves, the same in both directions.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Longest delay of a chunk; each has one of its own, and none overtakes another.
    pub delay_max: Duration,
    /// Most bytes that are taken at once; each chunk has a length of its own up to this.
    pub chunk_max: usize,
    /// Bytes that are under way at most: beyond it, writing waits.
    pub capacity: usize,
    /// Bytes a second; `None` is without a limit.
    pub bandwidth: Option<u64>,
    /// One chunk of this many stalls what follows it for `stall`; 0 is never.
    pub stall_every: u32,
    /// How long a stall lasts.
    pub stall: Duration,
    /// Cuts the link when this many bytes have been written in one of the two directions.
    pub cut_after: Option<u64>,
}

impl Manner {
    /// Hardly a network at all: nothing is delayed or cut up.
    pub fn ideal() -> Self {
        Self {
            delay_max: Duration::ZERO,
            chunk_max: usize::MAX,
            capacity: 256 << 10,
            bandwidth: None,
            stall_every: 0,
            stall: Duration::ZERO,
            cut_after: None,
        }
    }

    /// One of many ways to be bad that lose nothing.
    pub fn rough(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x6c69_6e6b);
        // Little room and long delays together would take days.
        let (capacity, delay_max_us) = *pick(
            &mut rng,
            &[
                (16, 0),
                (256, 5_000),
                (4_096, 50_000),
                (256 << 10, 50_000),
                (256 << 10, 0),
            ],
        );
        Self {
            delay_max: Duration::from_micros(rng.random_range(0..=delay_max_us)),
            chunk_max: *pick(&mut rng, &[1, 7, 100, 1_500, 64 << 10]),
            capacity,
            bandwidth: None,
            stall_every: *pick(&mut rng, &[0, 0, 20, 200]),
            stall: Duration::from_millis(rng.random_range(1..300)),
            cut_after: None,
        }
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// A hand on a link, for whoever plays the network.
#[derive(Debug, Clone)]
pub struct Link {
    ways: [Arc<Mutex<Way>>; 2],
}

impl Link {
    /// The two ends of a new link, and the hand on it.
    pub fn new(manner: &Manner, seed: u64) -> (Connection, Connection, Self) {
        Self::with_ways(manner, manner, seed)
    }

    /// As [`new`](Self::new), with a manner for what the first end writes and one for what the second writes.
    pub fn with_ways(there: &Manner, back: &Manner, seed: u64) -> (Connection, Connection, Self) {
        let way = |manner: &Manner, number| {
            let seed = seed.wrapping_mul(2).wrapping_add(number);
            Arc::new(Mutex::new(Way::new(manner.clone(), seed)))
        };
        let ways = [way(there, 0), way(back, 1)];
        let link = Self { ways };
        let [there, back] = &link.ways;
        let one = link.end(back, there);
        let other = link.end(there, back);
        (one, other, link)
    }

    fn end(&self, read: &Arc<Mutex<Way>>, write: &Arc<Mutex<Way>>) -> Connection {
        let read = ReadEnd {
            way: Arc::clone(read),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        let write = WriteEnd {
            way: Arc::clone(write),
            link: self.clone(),
        };
        Connection::from_parts(Info::new(Kind::Memory), Box::new(read), Box::new(write))
    }

    /// Cuts the link: what is under way is lost, and both ends see a failure.
    pub fn cut(&self) {
        for way in &self.ways {
            way.lock().cut();
        }
    }

    /// Lets nothing arrive of what the first end writes, or of what the second one writes, until it is to arrive again:
    /// as a network whose ways are lost one by one, and where what was lost is sent again.
    pub fn hold(&self, there: bool, back: bool) {
        for (way, held) in self.ways.iter().zip([there, back]) {
            let mut way = way.lock();
            way.held = held;
            way.wake();
        }
    }

    /// Whether an end has closed or failed, so that the link is of no use any more.
    pub fn is_over(&self) -> bool {
        self.ways.iter().any(|way| {
            let way = way.lock();
            way.cut || way.unread || way.ended
        })
    }

    /// Whether the link was cut.
    pub fn is_cut(&self) -> bool {
        self.ways.iter().any(|way| way.lock().cut)
    }

    /// Bytes that were written from the first end and from the second.
    pub fn written(&self) -> (u64, u64) {
        let [there, back] = &self.ways;
        (there.lock().written, back.lock().written)
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    manner: Manner,
    rng: StdRng,
    chunks: VecDeque<(Instant, Bytes)>,
    len: usize,
    written: u64,
    /// When the last chunk arrives.
    arrival: Instant,
    ended: bool,
    cut: bool,
    held: bool,
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn new(manner: Manner, seed: u64) -> Self {
        Self {
            manner,
            rng: StdRng::seed_from_u64(seed),
            chunks: VecDeque::new(),
            len: 0,
            written: 0,
            arrival: Instant::now(),
            ended: false,
            cut: false,
            held: false,
            unread: false,
            reader: None,
            writer: None,
        }
    }

    fn cut(&mut self) {
        self.cut = true;
        self.chunks.clear();
        self.len = 0;
        self.wake();
    }

    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }

    /// Takes some of `bytes`; `None` when there is no room.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let room = self.manner.capacity.saturating_sub(self.len);
        let most = room.min(bytes.len());
        if most == 0 {
            return None;
        }
        let taken = most.min(self.rng.random_range(1..=self.manner.chunk_max));
        let delay = self.manner.delay_max.mul_f64(self.rng.random());
        let mut arrival = self.arrival.max(Instant::now() + delay);
        if let Some(bandwidth) = self.manner.bandwidth {
            let nanos = taken as u64 * 1_000_000_000 / bandwidth.max(1);
            arrival = self.arrival.max(Instant::now()) + Duration::from_nanos(nanos);
        }
        if self.manner.stall_every > 0 && self.rng.random_ratio(1, self.manner.stall_every) {
            arrival += self.manner.stall;
        }
        self.arrival = arrival;
        self.chunks
            .push_back((arrival, Bytes::copy_from_slice(&bytes[..taken])));
        self.len += taken;
        self.written += taken as u64;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Some(taken)
    }

    fn is_due_for_cut(&self) -> bool {
        self.manner
            .cut_after
            .is_some_and(|after| self.written >= after)
    }
}

struct ReadEnd {
    way: Arc<Mutex<Way>>,
    sleep: Pin<Box<Sleep>>,
}

impl AsyncRead for ReadEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut way = this.way.lock();
        loop {
            if way.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if way.held {
                way.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let Some(&(arrival, _)) = way.chunks.front() else {
                if way.ended {
                    return Poll::Ready(Ok(()));
                }
                way.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if arrival <= Instant::now() {
                way.fill(buf);
                return Poll::Ready(Ok(()));
            }
            way.reader = Some(cx.waker().clone());
            this.sleep.as_mut().reset(arrival);
            if this.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Way {
    /// Moves what has arrived.
    fn fill(&mut self, buf: &mut ReadBuf<'_>) {
        let now = Instant::now();
        while buf.remaining() > 0
            && let Some((arrival, chunk)) = self.chunks.front_mut()
            && *arrival <= now
        {
            let part = chunk.split_to(chunk.len().min(buf.remaining()));
            buf.put_slice(&part);
            self.len -= part.len();
            if !chunk.has_remaining() {
                self.chunks.pop_front();
            }
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl Drop for ReadEnd {
    fn drop(&mut self) {
        let mut way = self.way.lock();
        way.unread = true;
        way.wake();
    }
}

struct WriteEnd {
    way: Arc<Mutex<Way>>,
    link: Link,
}

impl AsyncWrite for WriteEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut way = self.way.lock();
        if way.cut || way.unread || way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(taken) = way.take(buf) else {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let cut = way.is_due_for_cut();
        drop(way);
        if cut {
            self.link.cut();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = self.way.lock();
        way.ended = true;
        way.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        let mut way = self.way.lock();
        way.ended = true;
        way.wake();
    }
}

//! Publishers at full speed, and subscribers that count.
//!
//! One thread writes pre-built buffers for all publishers and one reads for all subscribers, so
//! that the load generator needs less than a core and the server is the bottleneck. A window
//! between sent and received keeps subscribers from being cut as slow.

use std::thread;
use std::time::{Duration, Instant};

use super::Pace;
use super::settle::until_it_flows;
use super::shared::{Finish, IDLE_TURN, Phase, Shared, join, subject, warm_and_watch, watch};
use crate::error::LoadError;
use crate::link::Lane;
use crate::nodes::Nodes;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;
use crate::wire::delivery_len;

/// How many bytes are handed to a connection at once, about.
const CHUNK_LEN: usize = 64 << 10;
/// How long a publisher waits for its subscribers before it looks again.
const WINDOW_TURN: Duration = Duration::from_micros(100);
/// How often the churning connection sends a batch.
const CHURN_TURN: Duration = Duration::from_millis(10);

/// Publishing at full speed. On several nodes, publishers are at the first one and subscribers at all
/// in turn, beginning with the second; members of a group are at the others only, since local ones
/// would get everything.
#[derive(Debug, Clone)]
pub struct PubSub {
    /// Connections that publish.
    pub publishers: usize,
    /// Connections that subscribe.
    pub subscribers: usize,
    /// Payload in bytes.
    pub size: usize,
    /// Subjects that the publishers go through in turn.
    pub subjects: usize,
    /// Subscribe to everything with one wildcard pattern rather than to each subject.
    pub wildcard: bool,
    /// The subscribers form one queue group.
    pub group: bool,
    /// Subscriptions that another connection begins and ends each second.
    pub churn: u32,
    /// Connections that subscribe and never read; they come after a first, undisturbed phase.
    pub stalled: usize,
    /// Most bytes between sent and received, for each subscriber.
    pub window: usize,
}

impl Default for PubSub {
    fn default() -> Self {
        Self {
            publishers: 1,
            subscribers: 1,
            size: 128,
            subjects: 1,
            wildcard: false,
            group: false,
            churn: 0,
            stalled: 0,
            window: 4 << 20,
        }
    }
}

impl PubSub {
    fn patterns(&self) -> Vec<String> {
        if self.wildcard {
            vec!["bench.>".to_owned()]
        } else {
            (0..self.subjects).map(subject).collect()
        }
    }

    fn window_messages(&self) -> u64 {
        (self.window / delivery_len(&subject(0), self.size)).max(1) as u64
    }
}

/// Pre-built messages, ready to be sent any number of times.
struct Chunk {
    bytes: Vec<u8>,
    messages: u64,
}

pub(super) fn run(nodes: &Nodes, scenario: &PubSub, pace: Pace) -> Result<Report, LoadError> {
    let place = |index: usize| {
        if scenario.group {
            nodes.other(index)
        } else {
            nodes.at(index + 1)
        }
    };
    let mut readers = Reactor::connect_to((0..scenario.subscribers).map(place))?;
    for index in 0..readers.len() {
        readers.subscribe(
            index,
            scenario.patterns().into_iter(),
            scenario.group.then_some("workers"),
        )?;
    }
    let mut writers = Reactor::connect(nodes.first(), scenario.publishers)?;
    if nodes.count() > 1 {
        let last = subject(scenario.subjects.saturating_sub(1));
        until_it_flows(&mut writers, &mut readers, &last)?;
    }
    let chunks = chunks(scenario, &mut writers);
    let shared = Shared::new(scenario.subscribers);
    thread::scope(|scope| {
        let over = Finish(&shared);
        let reader = scope.spawn(|| read(readers, &shared));
        let writer = scope.spawn(|| write(writers, &chunks, scenario, &shared));
        let churner = (scenario.churn > 0)
            .then(|| scope.spawn(|| churn(nodes.first(), scenario.churn, &shared)));
        let report = observe(nodes, scenario, pace, &shared);
        drop(over);
        join(reader)?;
        join(writer)?;
        churner.map_or(Ok(()), join)?;
        report
    })
}

fn observe(
    nodes: &Nodes,
    scenario: &PubSub,
    pace: Pace,
    shared: &Shared,
) -> Result<Report, LoadError> {
    let pids = nodes.pids();
    let before = warm_and_watch(shared, pace, &pids)?;
    if scenario.stalled == 0 {
        return Ok(Report::new("deliveries", before.count, before.usage));
    }
    let mut stalled = Reactor::connect(nodes.at(1), scenario.stalled)?;
    for index in 0..stalled.len() {
        stalled.subscribe(index, scenario.patterns().into_iter(), None)?;
    }
    // Nobody reads these connections from here on.
    let beside = watch(shared, Phase::Disturbed, pace.measured * 2, &pids)?;
    stalled.close();
    let mut report = Report::new("deliveries", beside.count, beside.usage);
    let undisturbed = Report::new("deliveries", before.count, before.usage);
    report.kept = Some(report.per_sec / undisturbed.per_sec);
    report.timeline = [before.timeline, beside.timeline].concat();
    Ok(report)
}

fn chunks(scenario: &PubSub, writers: &mut Reactor) -> Vec<Chunk> {
    let conn = writers.conn(0);
    let payload = vec![b'x'; scenario.size];
    let (mut chunks, mut frames, mut messages) = (Vec::new(), Vec::new(), 0);
    for index in 0.. {
        conn.format().publish(
            &mut frames,
            &subject(index % scenario.subjects.max(1)),
            None,
            &payload,
        );
        messages += 1;
        let last =
            index + 1 >= scenario.subjects && (scenario.subjects > 1 || frames.len() >= CHUNK_LEN);
        if last || frames.len() >= CHUNK_LEN {
            chunks.push(Chunk {
                bytes: conn.chunk(std::mem::take(&mut frames)),
                messages,
            });
            messages = 0;
        }
        if last {
            break;
        }
    }
    chunks
}

fn read(mut readers: Reactor, shared: &Shared) -> Result<(), LoadError> {
    let mut counts = vec![0_u64; readers.len()];
    let mut said = counts.clone();
    while !shared.is_over() {
        let turned = readers.turn(IDLE_TURN, &mut |index, _| {
            if let Some(count) = counts.get_mut(index) {
                *count += 1;
            }
        });
        turned.map_err(|(_, error)| error)?;
        for (index, (said, &count)) in said.iter_mut().zip(&counts).enumerate() {
            if *said != count {
                *said = count;
                shared.set(index, count);
            }
        }
    }
    readers.close();
    Ok(())
}

/// Where one publisher stands in the sequence of chunks.
#[derive(Clone, Copy, Default)]
struct Place {
    chunk: usize,
    within: bool,
}

fn write(
    mut writers: Reactor,
    chunks: &[Chunk],
    scenario: &PubSub,
    shared: &Shared,
) -> Result<(), LoadError> {
    let window = scenario.window_messages();
    let mut places = vec![Place::default(); writers.len()];
    let mut sent = 0;
    while !shared.is_over() {
        let received = if scenario.group {
            shared.total()
        } else {
            shared.floor()
        };
        let (mut progress, mut held) = (false, false);
        for (index, place) in places.iter_mut().enumerate() {
            let Some(chunk) = chunks.get(place.chunk) else {
                continue;
            };
            if !place.within && sent > received && sent + chunk.messages > received + window {
                held = true;
                continue;
            }
            if writers.conn(index).send(Lane::Interactive, &chunk.bytes)? {
                sent += chunk.messages;
                *place = Place {
                    chunk: (place.chunk + 1) % chunks.len(),
                    within: false,
                };
                progress = true;
            } else {
                place.within = true;
            }
        }
        let wait = match (progress, held) {
            (true, _) => Duration::ZERO,
            (false, true) => WINDOW_TURN,
            (false, false) => IDLE_TURN,
        };
        writers
            .turn(wait, &mut |_, _| {})
            .map_err(|(_, error)| error)?;
    }
    writers.close();
    Ok(())
}

/// Begins and ends subscriptions that match nothing, in batches at a steady rate.
fn churn(target: &Target, per_second: u32, shared: &Shared) -> Result<(), LoadError> {
    let mut reactor = Reactor::connect(target, 1)?;
    let format = reactor.conn(0).format();
    let batch = (per_second / 100).max(1);
    let mut id = 0;
    let mut next = Instant::now();
    while !shared.is_over() {
        let mut frames = Vec::new();
        for _ in 0..batch {
            id = id % 1_000_000 + 1;
            let pattern = format!("churn.{id}");
            format.subscribe(&mut frames, id, &pattern, None);
            format.unsubscribe(&mut frames, id, &pattern);
        }
        reactor.conn(0).post(&frames)?;
        reactor.fence(0)?;
        next += CHURN_TURN;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    reactor.close();
    Ok(())
}

//! A broker with two peers: one does whatever the input says, the other must not notice.
//!
//! ```text
//! setting   permissions (1 bit), limits (2 bits), pipe to the bad peer (2 bits), whether it has lanes
//!           and datagrams, as QUIC (1 bit)
//! script    see `script.rs`; bytes that arrive are a length field of that many, and nothing else
//! ```

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::{Broker, Config, Handle};
use dialtone_protocol::Limits;
use dialtone_transport::memory;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::script::{Event, Script};

mod bad;
mod good;
mod lanes;
mod provider;

use bad::Bad;
use good::Good;
use provider::Provider;

/// Most events of an input.
const EVENTS_MAX: usize = 256;
/// Most bad peers of an input, one after the other.
const PEERS_MAX: u8 = 8;
/// By when the broker has done all it can: the clock moves only when nobody has anything to do.
const MOMENT: Duration = Duration::from_millis(1);
/// By when whatever is waited for must have come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the input as the events of a broker's life and shuts it down.
pub fn connection(data: &[u8]) {
    let Some((&setting, script)) = data.split_first() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets needs nothing");
    runtime.block_on(live(Setting(setting), Script(script)));
}

#[derive(Debug, Clone, Copy)]
struct Setting(u8);

impl Setting {
    fn asks(self) -> bool {
        self.0 & 1 != 0
    }

    fn limits(self) -> Limits {
        let usual = Limits::default();
        match self.0 >> 1 & 3 {
            0 => usual,
            1 => Limits {
                message_len_max: 100,
                fragment_len_max: 10,
                ..usual
            },
            2 => Limits {
                messages_per_second_max: 2,
                bytes_per_second_max: 1_000,
                ..usual
            },
            _ => Limits {
                fragmented_max: 1,
                subscriptions_max: 2,
                requests_max: 2,
                ..usual
            },
        }
    }

    fn has_lanes(self) -> bool {
        self.0 >> 5 & 1 != 0
    }

    fn pipe(self) -> usize {
        [memory::CAPACITY, 4_096, 64, 1][usize::from(self.0 >> 3 & 3)]
    }
}

async fn live(setting: Setting, script: Script<'_>) {
    let mut config = Config {
        node: Some("n1".to_owned()),
        drain_grace: Duration::from_secs(1),
        ..Config::default()
    };
    // Small enough for an input to fill an outbox of a peer that does not read.
    config.outbox.low_bytes = 1 << 10;
    config.outbox.high_bytes = 2 << 10;
    config.outbox.max_bytes = 64 << 10;
    let broker = Broker::bind(config, Arc::new(Provider(setting))).await;
    let broker = broker.expect("nothing to listen on");
    let handle = broker.handle();
    let stop = CancellationToken::new();
    let story = async {
        let mut world = World::new(setting, handle.clone()).await;
        for event in script.take(EVENTS_MAX) {
            world.happens(event).await;
        }
        world.end().await;
        stop.cancel();
    };
    let stopped = async { tokio::join!(broker.run(stop.clone()), story) };
    timeout(10_000 * PATIENCE, stopped)
        .await
        .expect("the broker stops");
    let status = handle.status();
    let left = (status.connections, status.subscriptions, status.patterns);
    assert_eq!(left, (0, 0, 0), "of peers that are gone");
    assert_eq!((status.interest_waiting, status.outbox_bytes), (0, 0));
}

struct World {
    setting: Setting,
    handle: Handle,
    good: Good,
    bad: Bad,
    peers: u8,
}

impl World {
    async fn new(setting: Setting, handle: Handle) -> Self {
        let (here, there) = memory::pair(memory::CAPACITY);
        handle.serve(there);
        let mut good = Good::new(here);
        within(good.enter(), "a good peer is let in").await;
        let bad = Bad::new(setting, &handle);
        Self {
            setting,
            handle,
            good,
            bad,
            peers: 1,
        }
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Body(body) => self.bad.push_frame(&body),
            Event::Bytes(len) => self.bad.push_length(len),
            Event::Passes(tenths) => self.pass(Duration::from_millis(100 * tenths)).await,
            Event::Deadline => self.pass(Duration::from_mins(1)).await,
            Event::Own(kind) => self.occasion(kind).await,
        }
        self.pass(MOMENT).await;
    }

    async fn occasion(&mut self, kind: u8) {
        match kind % 8 {
            n @ 0..=2 => self.good_talks(n).await,
            3 => self.bad.reads = !self.bad.reads,
            4 => self.new_bad(),
            5 => self.handle.permissions_changed(None),
            6 => self.bad.say_goodbye(),
            _ if kind >= 128 => self.bad.turn_to(kind >> 3),
            _ => self.handle.set_addresses(vec!["memory:n2".to_owned()]),
        }
    }

    fn new_bad(&mut self) {
        if self.peers < PEERS_MAX {
            self.peers += 1;
            self.bad = Bad::new(self.setting, &self.handle);
        }
    }

    /// Time passes, in which both peers read and the good one answers pings.
    async fn pass(&mut self, time: Duration) {
        tokio::select! {
            never = self.good.serve() => match never {},
            never = serve(&mut self.bad) => match never {},
            () = sleep(time) => {}
        }
    }

    async fn good_talks(&mut self, kind: u8) {
        let talk = async {
            tokio::select! {
                () = self.good.talk(kind) => {},
                never = serve(&mut self.bad) => match never {},
            }
        };
        within(talk, "a good peer gets its own messages").await;
    }

    async fn end(mut self) {
        for kind in 0..3 {
            self.good_talks(kind).await;
        }
        let Self { good, bad, .. } = self;
        drop(bad);
        within(good.leave(), "a good peer may leave").await;
    }
}

async fn serve(bad: &mut Bad) -> Infallible {
    poll_fn(|cx| bad.poll(cx)).await
}

async fn within<T>(future: impl Future<Output = T>, what: &str) -> T {
    timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}"))
}

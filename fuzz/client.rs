//! The client's view of its broker, whatever that sends and whenever.

use std::time::{Duration, Instant};

use dialtone_protocol::Frame;
use dialtone_protocol::codec::LEN_FIELD;
use dialtone_protocol::frame::Wanted;
use dialtone_protocol::limits::SUBSCRIBE_BATCH_MAX;
use dialtone_protocol::session::client::{Config, Session};
use dialtone_protocol::session::{Due, client};

use crate::script::{Event, Script};

/// Small, so that short inputs reach the bounds.
fn config() -> Config {
    Config {
        message_len_max: 64,
        partial_len_max: 96,
        partial_max: 3,
        partial_idle_max: Duration::from_secs(10),
        ..Config::default()
    }
}

/// Runs the input as a script against a session, over as many connections as it makes.
pub fn client_session(data: &[u8]) {
    let start = Instant::now();
    let mut broker = Broker {
        session: Session::new(config(), start),
        now: start,
    };
    broker.connect();
    for event in Script(data) {
        if broker.happens(event).is_none() {
            broker.session.disconnected();
            assert!(!broker.session.is_open());
            broker.connect();
        }
    }
    broker.check_restore();
}

struct Broker {
    session: Session,
    now: Instant,
}

impl Broker {
    fn connect(&mut self) {
        let hello = self.session.hello(self.now).to_vec();
        assert!(matches!(
            Frame::decode(hello.get(LEN_FIELD..).expect("a frame has a body")),
            Ok(Frame::Hello(_))
        ));
    }

    /// `None` when the connection ends.
    fn happens(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Body(body) => self.receive(&body)?,
            Event::Passes(tenths) => self.now += Duration::from_millis(tenths * 100),
            Event::Deadline => self.wait()?,
            Event::Bytes(_) => self.session.on_bytes(self.now),
            Event::Own(kind) => self.subscribe(kind),
        }
        Some(())
    }

    fn wait(&mut self) -> Option<()> {
        self.now = self.now.max(self.session.next_deadline());
        let due = self.session.on_timeout(self.now);
        if due == Due::Nothing {
            assert!(
                self.session.next_deadline() > self.now,
                "what was due is not due again at once"
            );
        }
        (!matches!(due, Due::Gone(_))).then_some(())
    }

    fn receive(&mut self, body: &[u8]) -> Option<()> {
        let lost = self.session.lost();
        let whole = match self.session.on_body(body, self.now).ok()? {
            client::Event::Close(_) => return None,
            client::Event::Assembled(_, message) => Some(message.payload),
            client::Event::Welcome(_)
            | client::Event::Message(..)
            | client::Event::Answer(..)
            | client::Event::Ended(_)
            | client::Event::Dropped(_)
            | client::Event::Denied(_)
            | client::Event::Drain(_)
            | client::Event::Addresses(_)
            | client::Event::Ping(_)
            | client::Event::Heard => None,
        };
        assert!(whole.is_none_or(|payload| (1..=64).contains(&payload.len())));
        assert!(self.session.lost() >= lost);
        Some(())
    }

    fn subscribe(&mut self, kind: u8) {
        let wanted = self
            .session
            .add(Wanted::new("a.".repeat(usize::from(kind)) + "b"));
        if kind.is_multiple_of(3) {
            assert!(self.session.remove(wanted.id).is_some());
        }
    }

    fn check_restore(&mut self) {
        let count = self.session.subscriptions().count();
        let restored = self.session.restore();
        assert_eq!(
            restored
                .iter()
                .map(|subscribe| subscribe.wanted.len())
                .sum::<usize>(),
            count
        );
        assert!(
            restored
                .iter()
                .all(|subscribe| (1..=SUBSCRIBE_BATCH_MAX).contains(&subscribe.wanted.len()))
        );
    }
}

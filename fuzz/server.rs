//! The broker's view of a peer, whatever that sends and whenever.

use std::time::{Duration, Instant};

use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::limits::{HEADERS_LEN_MAX, HELLO_LEN_MAX, SUBSCRIBE_BATCH_MAX};
use dialtone_protocol::session::server::{Session, Step};
use dialtone_protocol::session::{Due, Timing};
use dialtone_protocol::{Limits, VERSION};

use crate::script::{Event, Script};

/// Runs the input as a script against a session until that ends the connection.
pub fn server_session(data: &[u8]) {
    let start = Instant::now();
    let mut peer = Peer {
        session: Session::new(Timing::default(), start),
        now: start,
        greeted: false,
    };
    for event in Script(data) {
        if peer.happens(event).is_none() {
            return;
        }
        let limit = if peer.session.is_open() {
            peer.session.limits().frame_len_max
        } else {
            HELLO_LEN_MAX
        };
        assert_eq!(peer.session.frame_len_max(), limit);
    }
}

struct Peer {
    session: Session,
    now: Instant,
    greeted: bool,
}

impl Peer {
    /// `None` when the connection ends.
    fn happens(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Body(body) => self.receive(&body),
            Event::Passes(tenths) => {
                self.now += Duration::from_millis(tenths * 100);
                Some(())
            }
            Event::Deadline => self.wait(),
            Event::Bytes(len) => self.session.on_bytes(len, self.now).ok(),
            Event::Own(kind) => {
                if self.greeted && !self.session.is_open() {
                    self.session.open(limits(kind), self.now);
                }
                Some(())
            }
        }
    }

    fn wait(&mut self) -> Option<()> {
        self.now = self.now.max(self.session.next_deadline());
        match self.session.on_timeout(self.now) {
            Due::Nothing | Due::Ping(_) => Some(()),
            Due::Gone(_) => None,
        }
    }

    fn receive(&mut self, body: &[u8]) -> Option<()> {
        let was_open = self.session.is_open();
        let limits = self.session.limits().clone();
        match self.session.on_body(body, self.now).ok()? {
            Step::Hello(version, _) => {
                assert!(!was_open && !self.greeted, "a hello has its place once");
                assert_eq!(version, VERSION);
                self.greeted = true;
                return Some(());
            }
            Step::Close(_) => {
                let after = self.session.on_body(body, self.now).map(|_step| ());
                after.expect_err("nothing follows a close");
                return None;
            }
            Step::Publish(publish) => check_publish(&publish, &limits),
            Step::Subscribe(subscribe) => assert!(subscribe.wanted.len() <= SUBSCRIBE_BATCH_MAX),
            Step::Unsubscribe(unsubscribe) => assert!(unsubscribe.ids.len() <= SUBSCRIBE_BATCH_MAX),
            Step::Interest(_) | Step::List(_) | Step::Cancel(_) | Step::Ping(_) | Step::Heard => {}
        }
        assert!(was_open, "nothing else has a place before the welcome");
        Some(())
    }
}

fn check_publish(publish: &PublishView<'_>, limits: &Limits) {
    assert!(publish.headers_len <= HEADERS_LEN_MAX);
    assert!(publish.payload_len as u64 <= limits.fragment_len_max.into());
    match publish.fragment {
        None => assert!(publish.payload_len as u64 <= limits.message_len_max),
        Some(fragment) => assert!(fragment.total_len <= limits.message_len_max),
    }
}

fn limits(kind: u8) -> Limits {
    match kind % 4 {
        0 => Limits::default(),
        1 => Limits {
            message_len_max: 100,
            fragment_len_max: 10,
            ..Limits::default()
        },
        2 => Limits {
            messages_per_second_max: 2,
            bytes_per_second_max: 1_000,
            ..Limits::default()
        },
        _ => Limits {
            messages_per_second_max: u32::MAX,
            bytes_per_second_max: u64::MAX,
            ..Limits::default()
        },
    }
}

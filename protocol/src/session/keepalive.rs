//! Finding out that the peer is gone (§8.1): the deadlines of a connection, as one table.

use std::time::{Duration, Instant};

use crate::error::{Code, Violation};

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the connection's first byte to the end of the handshake.
    pub handshake_max: Duration,
    /// How long the peer may be silent before it is asked whether it is there.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub pong_max: Duration,
    /// How far a peer may get ahead of the rates that it was granted: one that sends too fast is
    /// read more slowly, and one that is further ahead than this is closed.
    pub ahead_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake_max: Duration::from_secs(10),
            ping_interval: Duration::from_mins(1),
            pong_max: Duration::from_secs(20),
            // Shorter than a peer waits for its pong, which is not sent while it is not read from.
            ahead_max: Duration::from_secs(10),
        }
    }
}

/// Longer waits are taken as this one, which no connection outlives, so that a deadline can always
/// be told: one may turn a wait off with [`Duration::MAX`].
const WAIT_MAX: Duration = Duration::from_hours(24 * 365);

/// What a deadline asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet: something was heard in the meantime.
    Nothing,
    /// A ping with this token must be sent.
    Ping(u64),
    /// The peer is gone: the connection ends.
    Gone(Violation),
}

/// The deadlines of one connection.
#[derive(Debug, Clone)]
pub struct Keepalive {
    timing: Timing,
    waits: Waits,
    since: Instant,
    token: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Handshake,
    Silence,
    Pong,
}

impl Keepalive {
    /// For a connection whose handshake begins.
    pub fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            waits: Waits::Handshake,
            since: now,
            token: 0,
        }
    }

    /// The handshake is over.
    pub fn open(&mut self, now: Instant) {
        self.waits = Waits::Silence;
        self.since = now;
    }

    /// Something arrived from the peer.
    pub fn heard(&mut self, now: Instant) {
        if self.waits != Waits::Handshake {
            self.waits = Waits::Silence;
            self.since = now;
        }
    }

    /// When to call [`on_timeout`](Self::on_timeout) at the latest.
    pub fn next_deadline(&self) -> Instant {
        let wait = match self.waits {
            Waits::Handshake => self.timing.handshake_max,
            Waits::Silence => self.timing.ping_interval,
            Waits::Pong => self.timing.pong_max,
        };
        self.since + wait.min(WAIT_MAX)
    }

    /// What is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) -> Due {
        if now < self.next_deadline() {
            return Due::Nothing;
        }
        match self.waits {
            Waits::Handshake => gone("the handshake took", self.timing.handshake_max),
            Waits::Pong => gone("a ping was not answered for", self.timing.pong_max),
            Waits::Silence => {
                self.waits = Waits::Pong;
                self.since = now;
                self.token += 1;
                Due::Ping(self.token)
            }
        }
    }
}

fn gone(what: &str, limit: Duration) -> Due {
    Due::Gone(Violation::new(
        Code::Timeout,
        format!("{what} longer than {} s", limit.as_secs_f64()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
    fn start() -> (Keepalive, Timing, Instant) {
        let (timing, now) = (Timing::default(), Instant::now());
        (Keepalive::new(timing, now), timing, now)
    }

    #[test]
    fn a_handshake_must_end_in_time() {
        let (mut keepalive, timing, now) = start();
        keepalive.heard(now + timing.handshake_max / 2);
        assert_eq!(
            keepalive.next_deadline(),
            now + timing.handshake_max,
            "hearing is not enough"
        );
        assert!(
            matches!(keepalive.on_timeout(now + timing.handshake_max), Due::Gone(v) if v.code == Code::Timeout)
        );
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let (mut keepalive, timing, now) = start();
        keepalive.open(now);
        let asked = now + timing.ping_interval;
        assert_eq!(
            keepalive.on_timeout(now + timing.ping_interval / 2),
            Due::Nothing
        );
        assert_eq!(keepalive.on_timeout(asked), Due::Ping(1));
        assert_eq!(keepalive.on_timeout(asked), Due::Nothing);
        keepalive.heard(asked);
        assert_eq!(keepalive.on_timeout(asked + timing.pong_max), Due::Nothing);
        assert_eq!(
            keepalive.on_timeout(asked + timing.ping_interval),
            Due::Ping(2)
        );
        assert!(matches!(
            keepalive.on_timeout(asked + timing.ping_interval + timing.pong_max),
            Due::Gone(_)
        ));
    }

    #[test]
    fn a_wait_can_be_turned_off() {
        let (_, timing, now) = start();
        let mut keepalive = Keepalive::new(
            Timing {
                ping_interval: Duration::MAX,
                ..timing
            },
            now,
        );
        keepalive.open(now);
        assert_eq!(
            keepalive.on_timeout(now + Duration::from_hours(24 * 364)),
            Due::Nothing
        );
    }
}

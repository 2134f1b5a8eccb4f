//! Is the client there?

use std::time::{Duration, Instant};

use super::Broken;

/// When the client is asked, and until when it must have been heard.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    /// When to ask next.
    ping: Instant,
    /// Until when something must be heard, since the client was asked.
    until: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            interval,
            timeout,
            ping: now + interval,
            until: None,
        }
    }

    /// Whatever it was, the client is there.
    pub(super) fn heard(&mut self, now: Instant) {
        if self.until.take().is_some() {
            self.ping = now + self.interval;
        }
    }

    /// Whether the client is to be asked now.
    pub(super) fn on_timeout(&mut self, now: Instant) -> Result<bool, Broken> {
        if self.until.is_some_and(|until| now >= until) {
            return Err(Broken::Silent);
        }
        if self.until.is_some() || now < self.ping {
            return Ok(false);
        }
        self.until = Some(now + self.timeout);
        Ok(true)
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.until.unwrap_or(self.ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_and_given_time() {
        let (interval, timeout) = (Duration::from_secs(25), Duration::from_secs(20));
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(interval, timeout, start);
        assert_eq!(heartbeat.on_timeout(start), Ok(false));
        let asked = heartbeat.next_deadline();
        assert_eq!(asked, start + interval);
        assert_eq!(heartbeat.on_timeout(asked), Ok(true));
        heartbeat.heard(asked + Duration::from_secs(19));
        assert_eq!(heartbeat.on_timeout(asked + timeout), Ok(false));
        let asked = heartbeat.next_deadline();
        assert_eq!(heartbeat.on_timeout(asked), Ok(true));
        assert_eq!(heartbeat.on_timeout(asked + timeout), Err(Broken::Silent));
    }
}

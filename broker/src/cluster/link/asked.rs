//! Whether the other node still answers.

use std::time::{Duration, Instant};

/// A ping whose pong has not come.
///
/// On a narrow path, where control frames share the stream with messages, a ping may wait for seconds behind what was
/// handed to the transport before. That is no silence of the other node's: until the ping must have been written, its
/// time begins anew with everything that is. Afterwards it does not, since the machine of a node that stands still takes
/// what its buffers have room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) token: u64,
    pub(super) sent: Instant,
    /// When the other node's time began.
    since: Instant,
    /// The ping has been written when the outbox has written so much, in bytes.
    behind: u64,
    /// What the outbox had written when that was last looked at, in bytes.
    written: u64,
}

impl Asked {
    /// A ping that was handed to an outbox, which has `written` so many bytes and has `pending` others.
    pub(super) fn new(token: u64, now: Instant, written: u64, pending: usize) -> Self {
        Self {
            token,
            sent: now,
            since: now,
            behind: written + pending as u64,
            written,
        }
    }

    /// Notes what the outbox has written so far.
    pub(super) fn note(&mut self, written: u64, now: Instant) {
        if self.written < self.behind && self.written != written {
            self.written = written;
            self.since = now;
        }
    }

    /// Until when the other node has to be `heard`.
    pub(super) fn deadline(&self, heard: Instant, pong_max: Duration) -> Instant {
        self.since.max(heard) + pong_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PONG_MAX: Duration = Duration::from_secs(5);

    fn second(start: Instant, number: u64) -> Instant {
        start + Duration::from_secs(number)
    }

    #[test]
    fn time_begins_anew_while_the_ping_waits_behind_what_is_written() {
        let start = Instant::now();
        let mut asked = Asked::new(1, start, 1_000, 500);
        asked.note(1_200, second(start, 4));
        assert_eq!(asked.deadline(start, PONG_MAX), second(start, 9));
        asked.note(1_500, second(start, 8));
        assert_eq!(asked.deadline(start, PONG_MAX), second(start, 13));
        // The ping is out: what else is written says nothing about the other node.
        asked.note(9_000, second(start, 12));
        assert_eq!(asked.deadline(start, PONG_MAX), second(start, 13));
    }

    #[test]
    fn nothing_written_is_silence() {
        let start = Instant::now();
        let mut asked = Asked::new(1, start, 1_000, 500);
        asked.note(1_000, second(start, 4));
        assert_eq!(asked.deadline(start, PONG_MAX), second(start, 5));
        assert_eq!(asked.deadline(second(start, 3), PONG_MAX), second(start, 8));
    }
}

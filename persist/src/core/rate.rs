//! How much was written within the last second.

use std::collections::VecDeque;

/// The length of the window, in milliseconds.
const WINDOW: u64 = 1_000;

/// Records and bytes of the last second; one entry per millisecond, so at most a thousand.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    entries: VecDeque<(u64, u64, u64)>,
    msgs: u64,
    bytes: u64,
}

impl Rate {
    /// Records and bytes within the second that ends `now`, in milliseconds since 1970.
    pub fn at(&mut self, now: u64) -> (u64, u64) {
        // What lies ahead was written before the clock was set back, and would block for as long as that was.
        while self.entries.back().is_some_and(|(time, ..)| *time > now) {
            self.forget_newest();
        }
        while let Some((time, msgs, bytes)) = self.entries.front().copied() {
            if now - time < WINDOW {
                break;
            }
            self.entries.pop_front();
            self.msgs -= msgs;
            self.bytes -= bytes;
        }
        (self.msgs, self.bytes)
    }

    fn forget_newest(&mut self) {
        if let Some((_, msgs, bytes)) = self.entries.pop_back() {
            self.msgs -= msgs;
            self.bytes -= bytes;
        }
    }

    /// Counts what was written at `now`.
    pub fn add(&mut self, now: u64, msgs: u64, bytes: u64) {
        self.at(now);
        self.msgs += msgs;
        self.bytes += bytes;
        match self.entries.back_mut() {
            Some(entry) if entry.0 == now => {
                entry.1 += msgs;
                entry.2 += bytes;
            }
            _ => self.entries.push_back((now, msgs, bytes)),
        }
    }

    /// How long it takes until something of the window leaves it, in milliseconds.
    pub fn wait(&self, now: u64) -> u64 {
        self.entries
            .front()
            .map_or(0, |(time, ..)| (time + WINDOW).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_one_second() {
        let mut rate = Rate::default();
        rate.add(5_000, 1, 10);
        rate.add(5_000, 1, 10);
        rate.add(5_999, 1, 1);
        assert_eq!(rate.at(5_999), (3, 21));
        assert_eq!(rate.wait(5_999), 1);
        assert_eq!(rate.at(6_000), (1, 1));
        assert_eq!(rate.at(6_999), (0, 0));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_block() {
        let mut rate = Rate::default();
        rate.add(1_000_000, 5, 5);
        assert_eq!(rate.at(1_000), (0, 0));
        rate.add(1_000, 1, 1);
        assert_eq!(rate.at(1_001), (1, 1));
    }
}

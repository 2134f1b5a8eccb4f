//! What happened, in order and with the time, so that two runs can be compared.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Since the recorder was made.
    pub at: Duration,
    /// To whom.
    pub who: String,
    /// What, as text.
    pub what: String,
}

/// A shared list of events.
#[derive(Debug, Clone)]
pub struct Recorder {
    start: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    /// An empty list that counts time from here on.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            events: Arc::default(),
        }
    }

    /// Notes something.
    pub fn note(&self, who: &str, what: impl Into<String>) {
        let event = Event {
            at: self.start.elapsed(),
            who: who.to_owned(),
            what: what.into(),
        };
        self.events.lock().push(event);
    }

    /// All that was noted.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// Where two records differ first, for people; `None` when they are the same.
pub fn difference(one: &[Event], other: &[Event]) -> Option<String> {
    let at = one.iter().zip(other).position(|(a, b)| a != b);
    let at = at.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))?;
    Some(format!(
        "event {at}: {:?} and {:?}",
        one.get(at),
        other.get(at)
    ))
}

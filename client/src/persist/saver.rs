//! Saving in the background: what is under way, and when it may be tried again.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::kv::Saved;
use super::watch::Pages;

/// Most events that wait to be told; then nothing more is saved until they are read.
pub(super) const TELL_MAX: usize = 4_096;

/// The first and the longest wait before saving is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(10));

/// What became of the writes of one save: key, message id, outcome.
pub(super) type Results = Vec<(String, String, Saved)>;

/// One save at a time.
pub(super) struct Saver {
    saving: Option<BoxFuture<'static, Results>>,
    /// Writes went unanswered: the feed, which may tell what became of them, is asked first.
    unsure: bool,
    retry: Duration,
    /// When saving may be tried again.
    pause: Option<Instant>,
}

impl Saver {
    pub(super) fn new() -> Self {
        Self {
            saving: None,
            unsure: false,
            retry: RETRY.0,
            pause: None,
        }
    }

    /// Whether nothing may be saved at the moment.
    pub(super) fn is_busy(&self) -> bool {
        self.saving.is_some() || self.unsure || self.pause.is_some()
    }

    pub(super) fn start(&mut self, saving: impl Future<Output = Results> + Send + 'static) {
        self.saving = Some(saving.boxed());
    }

    /// What became of a save; or nothing, when it may be tried again. Dropping this in between loses nothing.
    pub(super) async fn next(&mut self) -> Results {
        let Self { saving, pause, .. } = self;
        tokio::select! {
            results = finished(saving) => results,
            () = until(*pause) => {
                *pause = None;
                Vec::new()
            }
        }
    }

    /// A save is over. Where nobody knows what became of some of it, the feed is asked at once.
    pub(super) fn settled(&mut self, results: &Results, pages: &mut Pages) {
        if results
            .iter()
            .any(|(_, _, saved)| matches!(saved, Saved::Unknown))
        {
            self.unsure = true;
            pages.hurry();
            self.pause = Some(Instant::now() + self.retry);
            self.retry = self.retry.mul_f64(1.3).min(RETRY.1);
        } else if !results.is_empty() {
            self.retry = RETRY.0;
        }
    }

    /// The feed was asked, and has told everything unless there is `more`.
    pub(super) fn told(&mut self, more: bool) {
        self.unsure &= more;
    }
}

async fn finished(saving: &mut Option<BoxFuture<'static, Results>>) -> Results {
    let Some(running) = saving else {
        return pending().await;
    };
    let results = running.await;
    *saving = None;
    results
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Those who listen; what was to be told to nobody is forgotten.
pub(super) fn listening<E>(
    listeners: &mut Vec<mpsc::Sender<E>>,
    telling: &mut VecDeque<E>,
) -> Vec<mpsc::Sender<E>> {
    listeners.retain(|listener| !listener.is_closed());
    if listeners.is_empty() {
        telling.clear();
    }
    listeners.clone()
}

/// Tells what there is to tell, each event to all or, when this is dropped in between, to nobody yet: an event is taken
/// out only when everybody has room for it.
pub(super) async fn tell<E: Clone>(telling: &mut VecDeque<E>, listeners: &[mpsc::Sender<E>]) {
    while !telling.is_empty() {
        let mut rooms = Vec::with_capacity(listeners.len());
        for listener in listeners {
            // One that has gone needs no telling.
            if let Ok(room) = listener.reserve().await {
                rooms.push(room);
            }
        }
        if let Some(event) = telling.pop_front() {
            for room in rooms {
                room.send(event.clone());
            }
        }
    }
}

//! Tickets and sessions as texts, and which tickets were shown already.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::Ticket;
use super::seal::Key;
use crate::project::ProjectId;

/// How long a ticket is good for: from one redirect to the next.
const AGE_MAX: Duration = Duration::from_mins(1);

/// Most tickets that are remembered as shown. With more in one minute, those in excess are refused, and their browsers
/// get another one.
const SHOWN_MAX: usize = 100_000;

const TICKET: &str = "ticket";
const SESSION: &str = "session";

/// Seals a ticket whose time begins at this moment.
pub(super) fn seal(key: &Key, ticket: &Ticket) -> String {
    let Ticket {
        project,
        state,
        to,
        cookies,
    } = ticket;
    let until = now().saturating_add(AGE_MAX.as_secs());
    let text = format!("{until}\n{project}\n{state}\n{to}\n{}", cookies.join("\n"));
    key.seal(TICKET, &text)
}

/// What a ticket says that is still good.
pub(super) fn open(key: &Key, sealed: &str) -> Option<Ticket> {
    let text = key.open(TICKET, sealed)?;
    let mut lines = text.split('\n');
    let until: u64 = lines.next()?.parse().ok()?;
    let ticket = Ticket {
        project: lines.next()?.parse().ok()?,
        state: lines.next()?.to_owned(),
        to: lines.next()?.to_owned(),
        cookies: lines.map(str::to_owned).collect(),
    };
    (until >= now()).then_some(ticket)
}

/// The session for the host of this project, or of all.
pub(super) fn seal_session(key: &Key, at: Option<ProjectId>, cookies: &[String]) -> String {
    key.seal(&session_of(at), &cookies.join("\n"))
}

/// The cookies of the site in a session of this host.
pub(super) fn open_session(key: &Key, at: Option<ProjectId>, sealed: &str) -> Option<Vec<String>> {
    let text = key.open(&session_of(at), sealed)?;
    Some(text.split('\n').map(str::to_owned).collect())
}

/// A session of one host is none of another.
fn session_of(at: Option<ProjectId>) -> String {
    match at {
        Some(project) => format!("{SESSION} {project}"),
        None => SESSION.to_owned(),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The tickets that were shown, for as long as they would be good.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    digests: HashSet<[u8; 32]>,
    order: VecDeque<(Instant, [u8; 32])>,
}

impl Tickets {
    /// Whether this one is shown for the first time.
    pub(super) fn take(&self, ticket: &str) -> bool {
        let now = Instant::now();
        let digest: [u8; 32] = Sha256::digest(ticket).into();
        let mut shown = self.0.lock();
        while let Some((since, old)) = shown.order.front().copied() {
            // One second more, since a ticket's end is in whole seconds.
            if now.duration_since(since) <= AGE_MAX + Duration::from_secs(1) {
                break;
            }
            shown.order.pop_front();
            shown.digests.remove(&old);
        }
        if shown.order.len() >= SHOWN_MAX || !shown.digests.insert(digest) {
            return false;
        }
        shown.order.push_back((now, digest));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_taken_once() {
        let tickets = Tickets::default();
        assert!(tickets.take("a"));
        assert!(!tickets.take("a"));
        assert!(tickets.take("b"));
        tokio::time::advance(AGE_MAX * 2).await;
        assert!(tickets.take("c"));
        assert_eq!(tickets.0.lock().order.len(), 1, "old ones are forgotten");
    }

    #[test]
    fn a_session_belongs_to_its_host() {
        let key = Key::random();
        let project = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f".parse().ok();
        let cookies = vec!["remember_me=a".to_owned(), "api_key=b".to_owned()];
        let sealed = seal_session(&key, project, &cookies);
        assert_eq!(open_session(&key, project, &sealed), Some(cookies));
        assert_eq!(open_session(&key, None, &sealed), None);
    }
}

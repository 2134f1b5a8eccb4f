//! Who may pass, remembered: each answer of [`Access`] for a while, each live connection until its access ends.
//!
//! Everything that a client does in a project holds a [`Grant`]. One grant stands for the same credentials in the same
//! project, however many connections there are. When somebody's access changes, what is remembered is forgotten, and each
//! live grant that is concerned is asked about again: it goes on, or it ends, and all its connections with it. The same
//! happens when a grant gets old.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, AccessError, Credentials, Level, Verdict, Whose};
use crate::error::Refusal;
use crate::project::ProjectId;

/// How often a question is asked again because access changed while it was answered.
const ASKS_MAX: u32 = 3;

/// What is known of a project while somebody uses it.
#[derive(Debug)]
struct Project {
    id: ProjectId,
    requests: AtomicU32,
}

/// The right to use a project, as long as it lasts.
#[derive(Debug)]
pub(crate) struct Grant {
    identity: Arc<str>,
    project: Arc<Project>,
    ended: CancellationToken,
}

impl Grant {
    /// Whose it is.
    pub(crate) fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// When it has ended.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    #[cfg(test)]
    fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// A place among the project's requests, until it is dropped; `None` when there are `max`.
    pub(crate) fn enter(self: &Arc<Self>, max: u32) -> Option<Place> {
        let free = |count: u32| (count < max).then_some(count + 1);
        let requests = &self.project.requests;
        requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .ok()?;
        Some(Place(Arc::clone(self)))
    }
}

/// One of a project's requests in progress.
#[derive(Debug)]
pub(crate) struct Place(Arc<Grant>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.project.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    project: ProjectId,
    level: Level,
    credentials: Credentials,
}

#[derive(Clone, Debug)]
enum Known {
    Granted(Arc<Grant>),
    Denied,
    SignIn,
}

impl Known {
    /// Whether something goes on by it.
    fn is_used(&self) -> bool {
        match self {
            Self::Granted(grant) => Arc::strong_count(grant) > 1,
            Self::Denied | Self::SignIn => false,
        }
    }

    fn end(&self) {
        if let Self::Granted(grant) = self {
            grant.ended.cancel();
        }
    }

    fn concerned(&self, whose: &Whose) -> bool {
        match self {
            Self::Granted(grant) => whose.concerns(&grant.identity, grant.project.id),
            // Who was refused may be anybody.
            Self::Denied | Self::SignIn => true,
        }
    }
}

#[derive(Debug)]
struct Entry {
    known: Known,
    until: Instant,
}

/// Everything that is remembered.
pub(crate) struct Grants {
    access: Arc<dyn Access>,
    entries: Mutex<HashMap<Arc<Key>, Entry, RandomState>>,
    projects: Mutex<HashMap<ProjectId, Weak<Project>, RandomState>>,
    /// Counts changes, so that an answer from before one is not remembered after it.
    changes: AtomicU64,
    ttl: Duration,
    refusal_ttl: Duration,
    max: usize,
}

impl Grants {
    pub(crate) fn new(
        access: Arc<dyn Access>,
        ttl: Duration,
        refusal_ttl: Duration,
        max: u32,
    ) -> Self {
        Self {
            access,
            entries: Mutex::default(),
            projects: Mutex::default(),
            changes: AtomicU64::new(0),
            ttl,
            refusal_ttl,
            max: usize::try_from(max).unwrap_or(usize::MAX),
        }
    }

    /// Whether these credentials may do this.
    pub(crate) async fn check(
        &self,
        project: ProjectId,
        credentials: Credentials,
        level: Level,
    ) -> Result<Arc<Grant>, Refusal> {
        let key = Key {
            project,
            level,
            credentials,
        };
        let known = match self.remembered(&key) {
            Some(known) => known,
            None => self
                .ask(Arc::new(key))
                .await
                .map_err(|error| Refusal::Unavailable(error.to_string()))?,
        };
        match known {
            Known::Granted(grant) => Ok(grant),
            Known::Denied => Err(Refusal::Denied),
            Known::SignIn => Err(Refusal::SignIn),
        }
    }

    fn remembered(&self, key: &Key) -> Option<Known> {
        let entries = self.entries.lock();
        let entry = entries
            .get(key)
            .filter(|entry| entry.until > Instant::now())?;
        Some(entry.known.clone())
    }

    async fn ask(&self, key: Arc<Key>) -> Result<Known, AccessError> {
        for _ in 0..ASKS_MAX {
            let changes = self.changes.load(Ordering::Acquire);
            let verdict = self
                .access
                .check(key.project, &key.credentials, key.level)
                .await?;
            let known = self.keep(&key, verdict, changes);
            if let Some(known) = known {
                return Ok(known);
            }
        }
        Err(AccessError("it changes all the time".to_owned()))
    }

    /// Remembers an answer; `None` if access has changed since it was asked for.
    fn keep(&self, key: &Arc<Key>, verdict: Verdict, changes: u64) -> Option<Known> {
        let mut entries = self.entries.lock();
        if self.changes.load(Ordering::Acquire) != changes {
            return None;
        }
        let now = Instant::now();
        if entries.len() >= self.max && !entries.contains_key(key) {
            make_room(&mut entries, now, self.max);
        }
        let ttl = if matches!(verdict, Verdict::Allowed { .. }) {
            self.ttl
        } else {
            self.refusal_ttl
        };
        let until = now + ttl;
        match entries.entry(Arc::clone(key)) {
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                entry.until = until;
                match (&entry.known, &verdict) {
                    (Known::Granted(grant), Verdict::Allowed { identity })
                        if grant.identity == *identity => {}
                    _ => {
                        entry.known.end();
                        entry.known = self.known(key.project, verdict);
                    }
                }
                Some(entry.known.clone())
            }
            Slot::Vacant(slot) => {
                let known = self.known(key.project, verdict);
                Some(slot.insert(Entry { known, until }).known.clone())
            }
        }
    }

    fn known(&self, project: ProjectId, verdict: Verdict) -> Known {
        match verdict {
            Verdict::Allowed { identity } => Known::Granted(Arc::new(Grant {
                identity,
                project: self.project(project),
                ended: CancellationToken::new(),
            })),
            Verdict::Denied => Known::Denied,
            Verdict::SignIn => Known::SignIn,
        }
    }

    fn project(&self, id: ProjectId) -> Arc<Project> {
        let mut projects = self.projects.lock();
        if let Some(project) = projects.get(&id).and_then(Weak::upgrade) {
            return project;
        }
        let project = Arc::new(Project {
            id,
            requests: AtomicU32::new(0),
        });
        if projects.len() >= self.max {
            projects.retain(|_, project| project.strong_count() > 0);
        }
        projects.insert(id, Arc::downgrade(&project));
        project
    }

    /// Forgets what is remembered about these, and asks again about who is connected.
    pub(crate) async fn changed(&self, whose: &Whose) {
        let live = self.forget(whose);
        for key in live {
            self.ask_again(key).await;
        }
    }

    /// Ends what these have under way, whatever they may.
    pub(crate) fn end(&self, whose: &Whose) -> usize {
        let mut entries = self.entries.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        let before = entries.len();
        entries.retain(|_, entry| {
            let concerned = entry.known.concerned(whose);
            if concerned {
                entry.known.end();
            }
            !concerned
        });
        before - entries.len()
    }

    /// Those who go on must be asked about again.
    fn forget(&self, whose: &Whose) -> Vec<Arc<Key>> {
        let mut entries = self.entries.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        let now = Instant::now();
        entries.retain(|_, entry| !entry.known.concerned(whose) || entry.known.is_used());
        let concerned = entries
            .iter_mut()
            .filter(|(_, entry)| entry.known.concerned(whose));
        concerned
            .map(|(key, entry)| {
                entry.until = now;
                Arc::clone(key)
            })
            .collect()
    }

    /// Asks about a live grant; one that cannot be asked about ends when its time is over.
    async fn ask_again(&self, key: Arc<Key>) {
        if let Err(error) = self.ask(Arc::clone(&key)).await {
            tracing::warn!(project = %key.project, %error, "access ends, since it cannot be checked");
            let removed = self.entries.lock().remove(&key);
            if let Some(entry) = removed {
                entry.known.end();
            }
        }
    }

    /// Forgets what is old, and asks again about what is old and still used.
    pub(crate) async fn refresh(&self) {
        let old: Vec<_> = {
            let mut entries = self.entries.lock();
            let now = Instant::now();
            entries.retain(|_, entry| entry.until > now || entry.known.is_used());
            let old = entries.iter().filter(|(_, entry)| entry.until <= now);
            old.map(|(key, _)| Arc::clone(key)).collect()
        };
        for key in old {
            self.ask_again(key).await;
        }
        self.projects
            .lock()
            .retain(|_, project| project.strong_count() > 0);
    }

    /// How many answers are remembered.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }
}

/// Forgets what is old or not used; a connection's own answer stays, so that it can be ended.
fn make_room(entries: &mut HashMap<Arc<Key>, Entry, RandomState>, now: Instant, max: usize) {
    entries.retain(|_, entry| entry.until > now || entry.known.is_used());
    let mut surplus = entries.len().saturating_sub(max.saturating_mul(3) / 4);
    entries.retain(|_, entry| {
        let goes = surplus > 0 && !entry.known.is_used();
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::access::Answer;

    const PROJECT: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

    /// Lets in who is on its list, and counts how often it is asked.
    #[derive(Default)]
    struct List {
        allowed: Mutex<Vec<String>>,
        asked: AtomicUsize,
        broken: std::sync::atomic::AtomicBool,
    }

    impl Access for List {
        fn check<'a>(
            &'a self,
            _project: ProjectId,
            credentials: &'a Credentials,
            _level: Level,
        ) -> Answer<'a, Result<Verdict, AccessError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let key = credentials.key.clone().unwrap_or_default();
            let verdict = if self.allowed.lock().contains(&key) {
                Verdict::Allowed {
                    identity: key.into(),
                }
            } else {
                Verdict::Denied
            };
            let broken = self.broken.load(Ordering::Relaxed);
            let answer = if broken {
                Err(AccessError("down".to_owned()))
            } else {
                Ok(verdict)
            };
            Box::pin(std::future::ready(answer))
        }
    }

    fn grants(max: u32) -> (Arc<List>, Grants) {
        let list = Arc::new(List::default());
        list.allowed
            .lock()
            .extend(["ann".to_owned(), "bob".to_owned()]);
        let ttl = Duration::from_mins(1);
        let access: Arc<dyn Access> = Arc::<List>::clone(&list);
        let grants = Grants::new(access, ttl, Duration::from_secs(10), max);
        (list, grants)
    }

    async fn check(grants: &Grants, key: &str) -> Result<Arc<Grant>, Refusal> {
        let credentials = Credentials {
            cookies: Vec::new(),
            key: Some(key.to_owned()),
        };
        grants
            .check(PROJECT.parse().unwrap(), credentials, Level::Write)
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_for_a_while() {
        let (list, grants) = grants(10);
        for _ in 0..3 {
            assert!(check(&grants, "ann").await.is_ok());
            assert!(matches!(check(&grants, "eve").await, Err(Refusal::Denied)));
        }
        assert_eq!(list.asked.load(Ordering::Relaxed), 2);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(check(&grants, "ann").await.is_ok());
        assert!(check(&grants, "eve").await.is_err());
        assert_eq!(list.asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn whoever_loses_access_is_ended_and_others_go_on() {
        let (list, grants) = grants(10);
        let (ann, bob) = (
            check(&grants, "ann").await.unwrap(),
            check(&grants, "bob").await.unwrap(),
        );
        list.allowed.lock().retain(|name| name != "ann");
        grants
            .changed(&Whose::Project(PROJECT.parse().unwrap()))
            .await;
        assert!(ann.is_ended());
        assert!(!bob.is_ended());
        assert!(check(&grants, "ann").await.is_err());
        assert!(Arc::ptr_eq(&bob, &check(&grants, "bob").await.unwrap()));
    }

    #[tokio::test]
    async fn who_gains_access_is_let_in_at_once() {
        let (list, grants) = grants(10);
        assert!(check(&grants, "eve").await.is_err());
        list.allowed.lock().push("eve".to_owned());
        grants.changed(&Whose::Identity("eve".into())).await;
        assert!(check(&grants, "eve").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn live_grants_are_asked_about_when_they_are_old() {
        let (list, grants) = grants(10);
        let ann = check(&grants, "ann").await.unwrap();
        let unused = check(&grants, "bob").await;
        drop(unused);
        list.allowed.lock().clear();
        tokio::time::advance(Duration::from_secs(61)).await;
        grants.refresh().await;
        assert!(ann.is_ended());
        assert_eq!(
            list.asked.load(Ordering::Relaxed),
            3,
            "nobody asks about what is not used"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn access_that_cannot_be_checked_ends() {
        let (list, grants) = grants(10);
        let ann = check(&grants, "ann").await.unwrap();
        list.broken.store(true, Ordering::Relaxed);
        assert!(matches!(
            check(&grants, "new").await,
            Err(Refusal::Unavailable(_))
        ));
        tokio::time::advance(Duration::from_secs(61)).await;
        grants.refresh().await;
        assert!(ann.is_ended());
    }

    #[tokio::test]
    async fn being_ended_does_not_keep_from_coming_again() {
        let (_list, grants) = grants(10);
        let ann = check(&grants, "ann").await.unwrap();
        grants.end(&Whose::Identity("ann".into()));
        assert!(ann.is_ended());
        assert!(!check(&grants, "ann").await.unwrap().is_ended());
    }

    #[tokio::test]
    async fn what_is_remembered_has_a_bound_and_live_grants_stay() {
        let (_list, grants) = grants(8);
        let ann = check(&grants, "ann").await.unwrap();
        for number in 0..100 {
            drop(check(&grants, &number.to_string()).await);
        }
        assert!(grants.len() <= 8, "{}", grants.len());
        grants.end(&Whose::All);
        assert!(ann.is_ended());
    }

    #[tokio::test]
    async fn a_project_has_so_many_requests() {
        let (_list, grants) = grants(8);
        let (ann, bob) = (
            check(&grants, "ann").await.unwrap(),
            check(&grants, "bob").await.unwrap(),
        );
        let first = ann.enter(2).unwrap();
        let second = bob.enter(2).unwrap();
        assert!(ann.enter(2).is_none());
        drop(first);
        assert!(ann.enter(2).is_some());
        drop(second);
    }
}

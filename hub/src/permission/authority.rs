//! Permissions with the facts that they need, which are kept until they change.
//!
//! ```text
//!   broker ──may(caller, action, subject)──▶ decide ──IfMember──▶ kept? ──no──▶ Facts
//!                                                                   ▲
//!   outbox ──forget(account) when something changed─────────────────┘
//! ```
//!
//! What is kept is the fact and not the decision, so that one entry serves every subject of a project.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Action, Decision, Fact, Facts, LookupError, decide};
use crate::caller::Caller;
use crate::id::AccountId;

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Most facts; 20,000 by default. When there are more, those that were not asked for lately go.
    pub facts_max: usize,
    /// Longest time for which a fact is kept without hearing that it changed; 60 s by default. Changes are told at
    /// once, so that this matters only when telling them fails.
    pub keep_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            facts_max: 20_000,
            keep_max: Duration::from_mins(1),
        }
    }
}

/// What an authority says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Facts that are kept.
    pub kept: usize,
    /// Facts so far that were known.
    pub hits: u64,
    /// Facts so far that were looked up.
    pub lookups: u64,
    /// Look-ups so far that failed.
    pub failures: u64,
    /// How often so far facts were forgotten because they changed.
    pub changes: u64,
}

/// How often a fact is looked up that changes meanwhile.
const LOOKUPS_MAX: usize = 4;

/// Decides about subjects.
#[derive(Debug)]
pub struct Authority<F> {
    facts: F,
    config: Config,
    kept: Mutex<Kept>,
    hits: AtomicU64,
    lookups: AtomicU64,
    failures: AtomicU64,
}

/// Two generations of entries: when the newer is full it becomes the older, and what was the older goes. An entry that
/// is found in the older moves to the newer.
#[derive(Debug, Default)]
struct Kept {
    newer: HashMap<Fact, Entry, RandomState>,
    older: HashMap<Fact, Entry, RandomState>,
    /// How often something was forgotten, counted apart for accounts whose identifiers end with the same byte. An answer
    /// that was under way meanwhile may be from before that change, and does not count.
    changes: Changes,
    forgotten: u64,
}

#[derive(Debug)]
struct Changes([u64; 256]);

impl Default for Changes {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl Changes {
    /// Identifiers of accounts are random, and so is their last byte.
    fn of(&mut self, account: AccountId) -> &mut u64 {
        let [.., last] = account.uuid().into_bytes();
        &mut self.0[usize::from(last)]
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    holds: bool,
    until: Instant,
}

impl<F: Facts> Authority<F> {
    /// Decides by `facts`.
    pub fn new(facts: F, config: Config) -> Self {
        Self {
            facts,
            config,
            kept: Mutex::new(Kept::default()),
            hits: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether the caller may do that with the subject, or the pattern.
    ///
    /// # Errors
    /// When that depends on a fact that cannot be looked up.
    pub async fn may(
        &self,
        caller: Caller,
        action: Action,
        subject: &str,
    ) -> Result<bool, LookupError> {
        match self.may_now(caller, action, subject) {
            Ok(allowed) => Ok(allowed),
            Err(fact) => self.look_up(fact).await,
        }
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// The fact that it depends on, if that is not known.
    pub fn may_now(&self, caller: Caller, action: Action, subject: &str) -> Result<bool, Fact> {
        let fact = match (decide(caller, action, subject), caller.account()) {
            (Decision::Allow, _) => return Ok(true),
            (Decision::IfAdmin, Some(account)) => Fact::Admin(account),
            (Decision::IfMember(project), Some(account)) => Fact::Member(account, project),
            (Decision::Deny | Decision::IfAdmin | Decision::IfMember(_), _) => return Ok(false),
        };
        self.known(fact).ok_or(fact)
    }

    /// Whether it is so, kept or looked up.
    ///
    /// # Errors
    /// When it cannot be looked up.
    pub async fn holds(&self, fact: Fact) -> Result<bool, LookupError> {
        match self.known(fact) {
            Some(holds) => Ok(holds),
            None => self.look_up(fact).await,
        }
    }

    /// Everything known about an account is to be looked up again. Called when its groups, a membership, a ban or its
    /// deletion was committed, and before the broker is told to ask again.
    pub fn forget(&self, account: AccountId) {
        let mut kept = self.kept.lock();
        *kept.changes.of(account) += 1;
        kept.forgotten += 1;
        kept.newer.retain(|fact, _| fact.account() != account);
        kept.older.retain(|fact, _| fact.account() != account);
    }

    /// Everything known about a caller is to be looked up again; only accounts have facts.
    pub fn forget_caller(&self, caller: Caller) {
        if let Some(account) = caller.account() {
            self.forget(account);
        }
    }

    /// Everything is to be looked up again. Called when changes may have been missed.
    pub fn forget_all(&self) {
        let mut kept = self.kept.lock();
        kept.changes.0.iter_mut().for_each(|changes| *changes += 1);
        kept.forgotten += 1;
        kept.newer.clear();
        kept.older.clear();
    }

    /// What it says about itself.
    pub fn status(&self) -> Status {
        let (kept, changes) = {
            let kept = self.kept.lock();
            (kept.newer.len() + kept.older.len(), kept.forgotten)
        };
        Status {
            kept,
            hits: self.hits.load(Ordering::Relaxed),
            lookups: self.lookups.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            changes,
        }
    }

    fn known(&self, fact: Fact) -> Option<bool> {
        let found = self.kept.lock().get(fact, self.generation_max());
        let entry = found.filter(|entry| entry.until > Instant::now())?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(entry.holds)
    }

    async fn look_up(&self, fact: Fact) -> Result<bool, LookupError> {
        for _ in 0..LOOKUPS_MAX {
            if let Some(holds) = self.look_up_once(fact).await? {
                return Ok(holds);
            }
        }
        Err(LookupError("it changes all the time".to_owned()))
    }

    /// `None` if it may have changed meanwhile.
    async fn look_up_once(&self, fact: Fact) -> Result<Option<bool>, LookupError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let changes = *self.kept.lock().changes.of(fact.account());
        let until = Instant::now() + self.config.keep_max;
        let holds = self.facts.look_up(fact).await.inspect_err(|_error| {
            self.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        let mut kept = self.kept.lock();
        if *kept.changes.of(fact.account()) != changes {
            return Ok(None);
        }
        kept.put(fact, Entry { holds, until }, self.generation_max());
        Ok(Some(holds))
    }

    fn generation_max(&self) -> usize {
        (self.config.facts_max / 2).max(1)
    }
}

impl Kept {
    fn get(&mut self, fact: Fact, generation_max: usize) -> Option<Entry> {
        if let Some(entry) = self.newer.get(&fact) {
            return Some(*entry);
        }
        let entry = self.older.remove(&fact)?;
        self.put(fact, entry, generation_max);
        Some(entry)
    }

    fn put(&mut self, fact: Fact, entry: Entry, generation_max: usize) {
        if self.newer.len() >= generation_max && !self.newer.contains_key(&fact) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(fact, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::id::ProjectId;

    /// Facts that can change, fail, and be held back.
    #[derive(Clone)]
    struct Known {
        facts: Arc<Mutex<Option<HashSet<Fact>>>>,
        gate: Arc<Semaphore>,
    }

    impl Known {
        fn new(facts: impl IntoIterator<Item = Fact>) -> Self {
            Self {
                facts: Arc::new(Mutex::new(Some(facts.into_iter().collect()))),
                gate: Arc::new(Semaphore::new(1)),
            }
        }

        fn set(&self, facts: impl IntoIterator<Item = Fact>) {
            *self.facts.lock() = Some(facts.into_iter().collect());
        }
    }

    impl Facts for Known {
        fn look_up(&self, fact: Fact) -> BoxFuture<'_, Result<bool, LookupError>> {
            let found = self
                .facts
                .lock()
                .as_ref()
                .map(|facts| facts.contains(&fact));
            async move {
                // Whoever holds the gate lets answers be under way while something changes.
                let _open = self.gate.acquire().await;
                found.ok_or_else(|| LookupError("no database".to_owned()))
            }
            .boxed()
        }
    }

    fn ids() -> (AccountId, ProjectId) {
        (AccountId::random(), ProjectId::random())
    }

    #[tokio::test]
    async fn a_fact_is_looked_up_once_for_all_subjects_of_a_project() {
        let (account, project) = ids();
        let authority = Authority::new(
            Known::new([Fact::Member(account, project)]),
            Config::default(),
        );
        let caller = Caller::Account(account);
        for n in 0..10 {
            let subject = format!("project.{project}.{n}.api");
            assert_eq!(
                authority.may(caller, Action::Publish, &subject).await,
                Ok(true)
            );
        }
        let other = format!("project.{}.x.y", ProjectId::random());
        assert_eq!(
            authority.may(caller, Action::Publish, &other).await,
            Ok(false)
        );
        assert_eq!(
            authority.may(caller, Action::Publish, "sys.x").await,
            Ok(false)
        );
        let status = authority.status();
        assert_eq!((status.lookups, status.hits, status.kept), (3, 9, 3));
    }

    #[tokio::test]
    async fn a_change_is_seen_at_once() {
        let (account, project) = ids();
        let known = Known::new([Fact::Member(account, project), Fact::Admin(account)]);
        let authority = Authority::new(known.clone(), Config::default());
        let caller = Caller::Account(account);
        let subject = format!("project.{project}.x.y");
        assert_eq!(
            authority.may(caller, Action::Subscribe, &subject).await,
            Ok(true)
        );
        assert_eq!(
            authority.may(caller, Action::Subscribe, "sys.>").await,
            Ok(true)
        );
        known.set([]);
        authority.forget(AccountId::random());
        assert_eq!(
            authority.may_now(caller, Action::Subscribe, &subject),
            Ok(true)
        );
        authority.forget(account);
        assert_eq!(
            authority.may(caller, Action::Subscribe, &subject).await,
            Ok(false)
        );
        assert_eq!(
            authority.may(caller, Action::Subscribe, "sys.>").await,
            Ok(false)
        );
    }

    #[tokio::test]
    async fn an_answer_from_before_a_change_does_not_count() {
        let (account, project) = ids();
        let fact = Fact::Member(account, project);
        let known = Known::new([fact]);
        let authority = Authority::new(known.clone(), Config::default());
        let held = known.gate.acquire().await.unwrap();
        let mut under_way = Box::pin(authority.holds(fact));
        assert!(under_way.as_mut().now_or_never().is_none());
        known.set([]);
        authority.forget(account);
        drop(held);
        assert_eq!(under_way.await, Ok(false));
        assert_eq!(authority.holds(fact).await, Ok(false));
    }

    #[tokio::test]
    async fn what_cannot_be_looked_up_is_an_error_and_is_asked_again() {
        let (account, project) = ids();
        let fact = Fact::Member(account, project);
        let known = Known::new([]);
        *known.facts.lock() = None;
        let authority = Authority::new(known.clone(), Config::default());
        assert!(authority.holds(fact).await.is_err());
        known.set([fact]);
        assert_eq!(authority.holds(fact).await, Ok(true));
        assert_eq!(authority.status().failures, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn facts_are_kept_for_a_time_and_in_a_number() {
        let (account, _) = ids();
        let config = Config {
            facts_max: 8,
            keep_max: Duration::from_mins(1),
        };
        let authority = Authority::new(Known::new([]), config);
        for _ in 0..100 {
            assert_eq!(
                authority
                    .holds(Fact::Member(account, ProjectId::random()))
                    .await,
                Ok(false)
            );
            assert!(authority.status().kept <= config.facts_max);
        }
        let fact = Fact::Admin(account);
        assert_eq!(authority.holds(fact).await, Ok(false));
        assert_eq!(authority.known(fact), Some(false));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(authority.known(fact), None);
    }
}

//! How many feeds there are, how much they hold, and in which projects their callers are.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::api::{Code, Error};
use crate::caller::Caller;
use crate::id::{AccountId, ProjectId};
use crate::store::{self, Store, projects};

/// Most projects of an account that are kept; about those of somebody who is in more it is asked one by one.
const OWN_MAX: usize = 20_000;

/// Bounds of feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "each says of what it is the most"
)]
pub struct Bounds {
    /// Feeds of one caller on a hub; 1,000 by default, as in the original.
    pub per_caller_max: usize,
    /// Feeds of a hub; 50,000 by default, as in the original.
    pub feeds_max: usize,
    /// Bytes of rows that all feeds of one caller hold on a hub, about; 64 MiB by default. What a browser follows takes
    /// less than one.
    pub bytes_per_caller_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            per_caller_max: 1_000,
            feeds_max: 50_000,
            bytes_per_caller_max: 64 << 20,
        }
    }
}

/// The feeds of a hub.
#[derive(Debug)]
pub(super) struct Seats {
    bounds: Bounds,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    feeds: usize,
    per_caller: HashMap<Caller, Held>,
    /// How often something was forgotten: what was read before is not kept then.
    forgotten: u64,
}

/// What the feeds of one caller have.
#[derive(Debug, Default)]
struct Held {
    feeds: usize,
    bytes: usize,
    projects: Option<Own>,
}

/// The projects that an account is in, unless they are too many.
type Own = Option<Arc<HashSet<ProjectId>>>;

/// The place of a feed among all, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    caller: Caller,
    bounds: Bounds,
    /// What it was said to hold.
    bytes: usize,
    taken: Arc<Mutex<Taken>>,
}

impl Seats {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            taken: Arc::default(),
        }
    }

    /// How many feeds there are.
    pub(super) fn count(&self) -> usize {
        self.taken.lock().feeds
    }

    /// A place for one more.
    pub(super) fn take(&self, caller: Caller) -> Result<Seat, Error> {
        let mut taken = self.taken.lock();
        if taken.feeds >= self.bounds.feeds_max {
            return Err(Error::new(Code::Unavailable, "too many feeds on this hub"));
        }
        let max = self.bounds.per_caller_max;
        if taken
            .per_caller
            .get(&caller)
            .is_some_and(|held| held.feeds >= max)
        {
            let text = format!("more than {max} feeds at the same time");
            return Err(Error::new(Code::TooMany, text));
        }
        taken.per_caller.entry(caller).or_default().feeds += 1;
        taken.feeds += 1;
        Ok(Seat {
            caller,
            bounds: self.bounds,
            bytes: 0,
            taken: Arc::clone(&self.taken),
        })
    }

    /// Whether an account that has feeds is in a project; `None` if it is in too many to be kept.
    pub(super) async fn is_in(
        &self,
        store: &Store,
        account: AccountId,
        project: ProjectId,
    ) -> Result<Option<bool>, store::Error> {
        let own = self.own(store, account).await?;
        Ok(own.map(|own| own.contains(&project)))
    }

    async fn own(&self, store: &Store, account: AccountId) -> Result<Own, store::Error> {
        let caller = Caller::Account(account);
        let forgotten = {
            let taken = self.taken.lock();
            let held = taken.per_caller.get(&caller);
            if let Some(own) = held.and_then(|held| held.projects.clone()) {
                return Ok(own);
            }
            taken.forgotten
        };
        let limit = i64::try_from(OWN_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let found = {
            let mut on = store.read().await?;
            projects::ids_of_account(&mut on, account, limit).await?
        };
        let own = (found.len() <= OWN_MAX).then(|| Arc::new(found.into_iter().collect()));
        let mut taken = self.taken.lock();
        if taken.forgotten == forgotten
            && let Some(held) = taken.per_caller.get_mut(&caller)
        {
            held.projects = Some(own.clone());
        }
        Ok(own)
    }

    /// An account is in other projects than before.
    pub(super) fn forget(&self, account: AccountId) {
        let mut taken = self.taken.lock();
        taken.forgotten += 1;
        if let Some(held) = taken.per_caller.get_mut(&Caller::Account(account)) {
            held.projects = None;
        }
    }

    /// Nobody knows who is in which project.
    pub(super) fn forget_all(&self) {
        let mut taken = self.taken.lock();
        taken.forgotten += 1;
        let all = taken.per_caller.values_mut();
        all.for_each(|held| held.projects = None);
    }
}

impl Seat {
    /// The feed holds so many bytes of rows from here on.
    ///
    /// # Errors
    /// When that is more than the caller may have; the feed is to end then.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        let mut taken = self.taken.lock();
        let held = taken.per_caller.entry(self.caller).or_default();
        held.bytes = held.bytes.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        let max = self.bounds.bytes_per_caller_max;
        if held.bytes > max {
            let text = format!("feeds hold more than {max} bytes");
            return Err(Error::new(Code::TooMany, text));
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.feeds -= 1;
        if let Slot::Occupied(mut own) = taken.per_caller.entry(self.caller) {
            let held = own.get_mut();
            held.feeds -= 1;
            held.bytes = held.bytes.saturating_sub(self.bytes);
            if held.feeds == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_and_what_they_hold_are_bounded_for_each_caller() {
        let seats = Seats::new(Bounds {
            per_caller_max: 2,
            feeds_max: 3,
            bytes_per_caller_max: 100,
        });
        let [ada, bob] = [(); 2].map(|()| Caller::Account(AccountId::random()));
        let mut first = seats.take(ada).unwrap();
        let mut second = seats.take(ada).unwrap();
        assert_eq!(seats.take(ada).unwrap_err().code, Code::TooMany);
        first.hold(60).unwrap();
        second.hold(40).unwrap();
        assert_eq!(second.hold(41).unwrap_err().code, Code::TooMany);
        first.hold(0).unwrap();
        second.hold(100).unwrap();
        let mut others = seats.take(bob).unwrap();
        others.hold(100).unwrap();
        assert_eq!(seats.take(bob).unwrap_err().code, Code::Unavailable);
        drop((first, second, others));
        assert_eq!(seats.count(), 0);
        assert!(seats.taken.lock().per_caller.is_empty());
    }
}

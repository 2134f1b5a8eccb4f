//! How many things run at once, for a caller and for a hub.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::{Code, Error};
use crate::caller::Caller;

/// Bounds of what runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Those of one caller; 32 calls by default. A browser has few at a time, and one that has more waits for them.
    pub per_caller_max: usize,
    /// Those of all; 2,048 calls by default.
    pub calls_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            per_caller_max: 32,
            calls_max: 2_048,
        }
    }
}

/// Counts what runs.
#[derive(Debug)]
pub(crate) struct Admission {
    bounds: Bounds,
    /// What is counted, in the plural, for who is refused.
    what: &'static str,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    all: usize,
    per_caller: HashMap<Caller, usize>,
}

/// Something that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    caller: Caller,
    running: Arc<Mutex<Running>>,
}

impl Admission {
    pub(crate) fn new(what: &'static str, bounds: Bounds) -> Self {
        Self {
            bounds,
            what,
            running: Arc::default(),
        }
    }

    /// Lets one more run.
    pub(crate) fn admit(&self, caller: Caller) -> Result<Permit, Error> {
        let (mut running, what) = (self.running.lock(), self.what);
        if running.all >= self.bounds.calls_max {
            return Err(Error::new(
                Code::Unavailable,
                format!("too many {what} at the same time on this hub"),
            ));
        }
        let max = self.bounds.per_caller_max;
        let own = running.per_caller.get(&caller).copied().unwrap_or(0);
        if own >= max && caller != Caller::Hub {
            return Err(Error::new(
                Code::TooMany,
                format!("more than {max} {what} at the same time"),
            ));
        }
        running.per_caller.insert(caller, own + 1);
        running.all += 1;
        Ok(Permit {
            caller,
            running: Arc::clone(&self.running),
        })
    }

    /// How many run.
    pub(crate) fn count(&self) -> usize {
        self.running.lock().all
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        running.all -= 1;
        if let Entry::Occupied(mut own) = running.per_caller.entry(self.caller) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AccountId;

    #[test]
    fn a_caller_and_a_hub_have_bounds() {
        let bounds = Bounds {
            per_caller_max: 2,
            calls_max: 3,
        };
        let admission = Admission::new("calls", bounds);
        let one = Caller::Account(AccountId::random());
        let other = Caller::Account(AccountId::random());
        let first = admission.admit(one).unwrap();
        let second = admission.admit(one).unwrap();
        let refused = admission.admit(one).unwrap_err();
        assert_eq!(
            (refused.code, &*refused.text),
            (Code::TooMany, "more than 2 calls at the same time")
        );
        let third = admission.admit(other).unwrap();
        assert_eq!(admission.admit(other).unwrap_err().code, Code::Unavailable);
        drop(first);
        let again = admission.admit(one).unwrap();
        assert_eq!(admission.count(), 3);
        drop((second, third, again));
        assert_eq!(admission.count(), 0);
        assert!(admission.running.lock().per_caller.is_empty());
    }
}

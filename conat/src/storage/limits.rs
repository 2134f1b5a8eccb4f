//! How many streams are open, for whom.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::reply::Refusal;

/// Counts open streams.
#[derive(Debug)]
pub(super) struct Usage {
    max: usize,
    per_scope_max: usize,
    open: Mutex<(usize, HashMap<String, usize>)>,
}

/// One open stream, until it is dropped.
#[derive(Debug)]
pub(super) struct Use {
    usage: Arc<Usage>,
    scope: String,
}

impl Usage {
    pub(super) fn new(max: usize, per_scope_max: usize) -> Self {
        Self {
            max,
            per_scope_max,
            open: Mutex::default(),
        }
    }

    /// One more stream of a scope.
    pub(super) fn enter(self: &Arc<Self>, scope: &str) -> Result<Use, Refusal> {
        let mut open = self.open.lock();
        let (total, scopes) = &mut *open;
        let of_scope = scopes.get(scope).copied().unwrap_or_default();
        let limit = if *total >= self.max {
            Some(("global ", self.max))
        } else if of_scope >= self.per_scope_max {
            Some(("", self.per_scope_max))
        } else {
            None
        };
        if let Some((which, max)) = limit {
            let text = format!(
                "There is a {which}limit of {max} persistent streams. Please close browser tabs or files or come \
                 back later."
            );
            return Err(Refusal::with_code(text, 429));
        }
        *total += 1;
        scopes.insert(scope.to_owned(), of_scope + 1);
        Ok(Use {
            usage: Arc::clone(self),
            scope: scope.to_owned(),
        })
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut open = self.usage.open.lock();
        let (total, scopes) = &mut *open;
        *total -= 1;
        if let Some(count) = scopes.get_mut(&self.scope) {
            *count -= 1;
            if *count == 0 {
                scopes.remove(&self.scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_by_scope_and_in_all() {
        let usage = Arc::new(Usage::new(3, 2));
        let one = usage.enter("a").unwrap();
        let _two = usage.enter("a").unwrap();
        assert_eq!(usage.enter("a").unwrap_err().code, Some(429.into()));
        let _three = usage.enter("b").unwrap();
        assert!(
            usage
                .enter("c")
                .unwrap_err()
                .text
                .contains("global limit of 3")
        );
        drop(one);
        usage.enter("a").unwrap();
    }
}

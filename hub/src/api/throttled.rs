//! Counting what somebody may do only so often, for all hubs together.

use super::error::{Code, Error};
use crate::auth::throttle::{Action, Counts, Verdict, strictest};
use crate::store::{Store, throttle};

/// Counts an attempt before it is made, so that many at the same time are counted as well.
///
/// # Errors
/// [`Code::TooMany`] with how long to wait.
pub(super) async fn count(store: &Store, action: Action, who: &str) -> Result<(), Error> {
    let mut on = store.write().await?;
    let now = throttle::now(&mut on).await?;
    let mut verdicts = Vec::new();
    for rule in action.rules() {
        let (start, before) = (rule.window_start(now), rule.window_before(now));
        let keys = [action.key(rule, who, before)];
        let (earlier, _) = throttle::counts(&mut on, &keys).await?;
        let this = throttle::add(&mut on, &action.key(rule, who, start), 2 * rule.window).await?;
        let counts = Counts {
            now: number(this - 1),
            before: number(earlier.first().copied().unwrap_or(0)),
        };
        verdicts.push(rule.judge(counts, now));
    }
    on.commit().await?;
    match strictest(verdicts) {
        Verdict::Allowed => Ok(()),
        Verdict::Wait(wait) => {
            let seconds = wait.as_secs() + 1;
            Err(Error::new(
                Code::TooMany,
                format!("too many attempts; wait {seconds} s"),
            ))
        }
    }
}

fn number(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

//! Counting attempts before they are made, for all hubs together.

use super::{Origin, Refused};
use crate::auth::throttle::{Action, Counts, Verdict, strictest};
use crate::store::{self, Store, throttle};

/// Attempts that were counted, to be taken back if they were no abuse.
#[derive(Debug)]
pub(super) struct Attempt {
    keys: Vec<String>,
}

/// Counts an attempt of each of these, or refuses it and counts nothing.
///
/// It is counted before it is judged: the count's row is then ours until the end of the transaction, so that of many
/// who come at the same time no more get through than may.
pub(super) async fn count(store: &Store, who: &[(Action, &str)]) -> Result<Attempt, Refused> {
    let mut on = store.write().await?;
    let now = throttle::now(&mut on).await?;
    let mut keys = Vec::new();
    let mut verdicts = Vec::new();
    for (action, who) in who {
        for rule in action.rules() {
            let (start, before) = (rule.window_start(now), rule.window_before(now));
            let key = action.key(rule, who, start);
            let keep = rule.expire(start).since(now);
            let counted = throttle::add(&mut on, &key, keep).await?;
            let earlier = [action.key(rule, who, before)];
            let (earlier, _) = throttle::counts(&mut on, &earlier).await?;
            let counts = Counts {
                now: number(counted - 1),
                before: number(earlier.first().copied().unwrap_or(0)),
            };
            verdicts.push(rule.judge(counts, now));
            keys.push(key);
        }
    }
    match strictest(verdicts) {
        Verdict::Allowed => {
            on.commit().await?;
            Ok(Attempt { keys })
        }
        // Dropped with the transaction: who waits as told is let in.
        Verdict::Wait(wait) => Err(Refused::Throttled { wait }),
    }
}

/// Counts that somebody offers a token, by where they come from, if that is known.
pub(super) async fn count_token(store: &Store, origin: &Origin) -> Result<(), Refused> {
    match &origin.ip {
        Some(ip) => count(store, &[(Action::TokenIp, ip)]).await.map(drop),
        None => Ok(()),
    }
}

fn number(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

impl Attempt {
    /// Takes it back: it was the right password.
    pub(super) async fn take_back(self, store: &Store) -> Result<(), store::Error> {
        let mut on = store.write().await?;
        for key in &self.keys {
            throttle::take_back(&mut on, key).await?;
        }
        on.commit().await
    }
}

//! Who is here, as a table; time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::PresenceEvent;

/// See the module.
#[derive(Debug)]
pub(super) struct Members<T> {
    here: BTreeMap<String, Member<T>>,
    expiry: Duration,
    max: usize,
}

#[derive(Debug)]
struct Member<T> {
    number: u64,
    count: u64,
    state: T,
    heard: Instant,
}

impl<T: Clone + PartialEq> Members<T> {
    pub(super) fn new(expiry: Duration, max: usize) -> Self {
        Self {
            here: BTreeMap::new(),
            expiry,
            max,
        }
    }

    pub(super) fn all(&self) -> Vec<(String, T)> {
        let all = self.here.iter();
        all.map(|(key, member)| (key.clone(), member.state.clone()))
            .collect()
    }

    /// A member said something, with its number and the count of what it said.
    pub(super) fn here(
        &mut self,
        key: String,
        (member, count): (u64, u64),
        state: T,
        now: Instant,
        events: &mut VecDeque<PresenceEvent<T>>,
    ) {
        let is_full = self.here.len() >= self.max;
        let Some(known) = self.here.get_mut(&key) else {
            if is_full {
                return;
            }
            events.push_back(PresenceEvent::Joined {
                key: key.clone(),
                state: state.clone(),
            });
            let member = Member {
                number: member,
                count,
                state,
                heard: now,
            };
            self.here.insert(key, member);
            return;
        };
        if known.number == member && known.count >= count {
            return;
        }
        known.number = member;
        known.count = count;
        known.heard = now;
        if known.state != state {
            known.state = state.clone();
            events.push_back(PresenceEvent::Changed { key, state });
        }
    }

    /// A member goes, unless another one has its key by now.
    pub(super) fn gone(&mut self, key: &str, member: u64, events: &mut VecDeque<PresenceEvent<T>>) {
        if self
            .here
            .get(key)
            .is_some_and(|known| known.number == member)
        {
            self.here.remove(key);
            events.push_back(PresenceEvent::Left {
                key: key.to_owned(),
            });
        }
    }

    /// Those who were not heard of for too long go.
    pub(super) fn expire(&mut self, now: Instant, events: &mut VecDeque<PresenceEvent<T>>) {
        let expiry = self.expiry;
        self.here.retain(|key, member| {
            let stays = now.duration_since(member.heard) < expiry;
            if !stays {
                events.push_back(PresenceEvent::Left { key: key.clone() });
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_change_and_go() {
        let (mut members, mut events) = (Members::new(Duration::from_secs(10), 2), VecDeque::new());
        let now = Instant::now();
        let mut here = |key: &str, member, count, state: u8, members: &mut Members<u8>| {
            members.here(key.to_owned(), (member, count), state, now, &mut events);
        };
        here("a", 1, 1, 7, &mut members);
        here("a", 1, 3, 8, &mut members);
        here("a", 1, 2, 7, &mut members);
        here("b", 2, 1, 7, &mut members);
        here("c", 3, 1, 7, &mut members);
        here("b", 4, 1, 7, &mut members);
        members.gone("b", 2, &mut events);
        assert_eq!(members.all(), [("a".to_owned(), 8), ("b".to_owned(), 7)]);
        members.expire(now + Duration::from_secs(9), &mut events);
        members.gone("a", 1, &mut events);
        members.expire(now + Duration::from_secs(10), &mut events);
        let key = |key: &str| key.to_owned();
        let expected = [
            PresenceEvent::Joined {
                key: key("a"),
                state: 7,
            },
            PresenceEvent::Changed {
                key: key("a"),
                state: 8,
            },
            PresenceEvent::Joined {
                key: key("b"),
                state: 7,
            },
            PresenceEvent::Left { key: key("a") },
            PresenceEvent::Left { key: key("b") },
        ];
        assert_eq!(events, expected);
    }
}

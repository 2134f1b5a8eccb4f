//! Who is here, and what they are doing right now: state that nobody keeps.
//!
//! [`Presence`] is a set of members under one subject, each with a key and a state, such as the position of a cursor.
//! Members say it again and again, and one that has not been heard of for a while is gone. All of it is plain messages:
//! there is no service behind it, and it costs nothing when nobody is there. Messages that nobody takes in time give way
//! to newer ones.
//!
//! ```no_run
//! use dialtone_client::persist::presence::{Presence, PresenceEvent};
//!
//! # async fn example(client: dialtone_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut here = Presence::join(&client, "doc.7.cursors", "alice", &(12, 40)).await?;
//! here.update(&(13, 1)).await?;
//! while let Some(event) = here.next().await {
//!     match event {
//!         PresenceEvent::Joined { key, state } => println!("{key} is here: {state:?}"),
//!         PresenceEvent::Changed { key, state } => println!("{key}: {state:?}"),
//!         PresenceEvent::Left { key } => println!("{key} has gone"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod members;

use std::collections::VecDeque;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior};

use super::wire::Blob;
use crate::client::Client;
use crate::error::{EncodeError, PublishError, SubscribeError};
use crate::subscription::Subscription;
use members::Members;

/// How often a member says that it is here.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// After this long without a word a member is gone: three heartbeats may be lost.
const EXPIRY: Duration = Duration::from_secs(35);

/// Messages that wait at the broker; older ones give way.
const WAITING_MAX: u16 = 4_096;

/// Most members that are kept; those who come later are not seen. A bound against floods, not against crowds.
const MEMBERS_MAX: usize = 10_000;

/// What members tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// A member is here with its state.
    Here {
        key: String,
        /// Tells members with the same key apart, and one from its successor.
        member: u64,
        /// Counts what the member said, so that what was overtaken changes nothing.
        count: u64,
        /// As `MessagePack`.
        state: Blob,
    },
    /// A member goes.
    Gone { key: String, member: u64 },
    /// Somebody wants to know who is here.
    Who,
}

/// Something that happened among the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceEvent<T> {
    /// Somebody is here.
    Joined {
        /// Who.
        key: String,
        /// Its state.
        state: T,
    },
    /// Somebody has another state.
    Changed {
        /// Who.
        key: String,
        /// Its state.
        state: T,
    },
    /// Somebody has gone, or was not heard of for too long.
    Left {
        /// Who.
        key: String,
    },
}

/// Why somebody is not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// The broker refused the subscription.
    #[error("cannot follow who is here")]
    Subscribe(#[from] SubscribeError),
    /// The broker refused the messages.
    #[error("cannot tell who is here")]
    Publish(#[from] PublishError),
    /// The state cannot be written.
    #[error("the state cannot be encoded")]
    Encode(#[from] EncodeError),
}

/// A member of those who are here, or somebody who only watches them.
///
/// Heartbeats and expiry happen in [`next`](Self::next); a member that does not call it is gone for the others after a
/// while. Dropping it does not say goodbye, [`leave`](Self::leave) does.
#[derive(Debug)]
pub struct Presence<T> {
    client: Client,
    subject: String,
    subscription: Subscription,
    me: Option<Me>,
    members: Members<T>,
    events: VecDeque<PresenceEvent<T>>,
    ticks: tokio::time::Interval,
}

/// What this member says about itself.
#[derive(Debug)]
struct Me {
    key: String,
    member: u64,
    count: u64,
    /// The state as it was encoded.
    state: Blob,
}

impl<T: Serialize + DeserializeOwned + Clone + PartialEq> Presence<T> {
    /// Follows who is here, and is here under a key.
    ///
    /// # Errors
    /// When the broker refuses, or the state cannot be encoded.
    pub async fn join(
        client: &Client,
        subject: impl Into<String>,
        key: impl Into<String>,
        state: &T,
    ) -> Result<Self, PresenceError> {
        let me = Me {
            key: key.into(),
            member: rand::random(),
            count: 0,
            state: encoded(state)?,
        };
        Self::begin(client, subject.into(), Some(me)).await
    }

    /// Follows who is here without being here.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn watch(client: &Client, subject: impl Into<String>) -> Result<Self, PresenceError> {
        Self::begin(client, subject.into(), None).await
    }

    async fn begin(
        client: &Client,
        subject: String,
        me: Option<Me>,
    ) -> Result<Self, PresenceError> {
        let subscription = client
            .subscription(subject.as_str())
            .drop_oldest(WAITING_MAX)
            .subscribe()
            .await?;
        let mut ticks = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut presence = Self {
            client: client.clone(),
            subject,
            subscription,
            me,
            members: Members::new(EXPIRY, MEMBERS_MAX),
            events: VecDeque::new(),
            ticks,
        };
        presence.say(&Said::Who).await?;
        presence.say_here().await?;
        Ok(presence)
    }

    /// Tells the others another state.
    ///
    /// # Errors
    /// When the broker refuses, or the state cannot be encoded. A member that only watches has no state to tell, and
    /// nothing happens.
    pub async fn update(&mut self, state: &T) -> Result<(), PresenceError> {
        let Some(me) = &mut self.me else {
            return Ok(());
        };
        me.state = encoded(state)?;
        self.say_here().await
    }

    /// Says goodbye, and ends.
    ///
    /// # Errors
    /// When the message cannot be sent; the others find out after a while.
    pub async fn leave(mut self) -> Result<(), PresenceError> {
        if let Some(Me { key, member, .. }) = self.me.take() {
            self.say(&Said::Gone { key, member }).await?;
        }
        Ok(())
    }

    /// Those who are here, oneself included once the own message has come back, in the order of their keys.
    pub fn members(&self) -> Vec<(String, T)> {
        self.members.all()
    }

    /// The next event; `None` when the broker ended the subscription or the client has ended.
    pub async fn next(&mut self) -> Option<PresenceEvent<T>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            tokio::select! {
                message = self.subscription.next() => {
                    let message = message?;
                    // What is not of this kind was said by somebody else about something else.
                    if let Ok(said) = message.msgpack::<Said>() {
                        self.hear(said).await;
                    }
                }
                _ = self.ticks.tick() => {
                    self.members.expire(Instant::now(), &mut self.events);
                    // A message that cannot be sent now is sent with the next beat.
                    drop(self.say_here().await);
                }
            }
        }
    }

    async fn hear(&mut self, said: Said) {
        match said {
            Said::Here {
                key,
                member,
                count,
                state,
            } => {
                if let Ok(state) = rmp_serde::from_slice(&state) {
                    let now = Instant::now();
                    self.members
                        .here(key, (member, count), state, now, &mut self.events);
                }
            }
            Said::Gone { key, member } => self.members.gone(&key, member, &mut self.events),
            // Whoever asks again after an outage of its own is answered as well.
            Said::Who => drop(self.say_here().await),
        }
    }

    async fn say_here(&mut self) -> Result<(), PresenceError> {
        let Some(me) = &mut self.me else {
            return Ok(());
        };
        me.count += 1;
        let said = Said::Here {
            key: me.key.clone(),
            member: me.member,
            count: me.count,
            state: me.state.clone(),
        };
        self.say(&said).await
    }

    async fn say(&self, said: &Said) -> Result<(), PresenceError> {
        let payload = rmp_serde::to_vec_named(said).map_err(EncodeError::from)?;
        Ok(self.client.publish(self.subject.as_str(), payload).await?)
    }
}

fn encoded<T: Serialize>(state: &T) -> Result<Blob, PresenceError> {
    let bytes = rmp_serde::to_vec_named(state).map_err(EncodeError::from)?;
    Ok(Blob::from(bytes))
}

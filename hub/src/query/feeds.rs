//! Following queries: the rows now, and then what changes, from the log of changes.
//!
//! ```text
//!   outbox ──one follower per hub──▶ news ──▶ Feed: touched? ──▶ select again ──▶ Known ──▶ updates
//! ```
//!
//! What is told has the number of the change up to which it is true. Whoever comes back with that number, to whichever
//! hub, is told what changed since; if that is no longer known, it gets the rows anew. Rights are looked at again
//! whenever something about the caller changes, and every row is selected with the conditions that keep the caller in
//! its own: a feed shows nothing that the query would not.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::known::{Found, Known, Update, key_fields};
use super::plan::{Condition, Plan, Select, plan};
use super::seats::{Bounds, Seat, Seats};
use super::touched::{Row, Seen, Touched};
use super::{Direction, ROWS_MAX};
use crate::api::{Code, Error, Need, meet};
use crate::caller::Caller;
use crate::feed::{Follower, News};
use crate::id::ProjectId;
use crate::permission::{Authority, Fact, Facts};
use crate::store::outbox::{self, Batch, Change, Entry};
use crate::store::query as stored;
use crate::store::{self, Store};
use crate::time::Time;

/// How many portions of changes may wait for a feed that is busy; then it looks at all of its rows again.
const NEWS_WAITING_MAX: usize = 256;

/// How many changes are looked through for somebody who comes back; who was away for longer gets the rows anew.
const MISSED_MAX: i64 = 10 * outbox::BATCH_MAX;

/// Rows that are selected one by one for a portion of changes; for more, all are selected.
const ROWS_ALONE_MAX: usize = 32;

/// How long to wait to ask again when the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// A portion of changes, for all feeds.
#[derive(Debug, Clone)]
enum Told {
    Changes { entries: Arc<[Entry]>, seq: i64 },
    Gap { seq: i64 },
}

/// The feeds of a hub. Cheap to clone.
#[derive(Debug)]
pub struct Feeds<F> {
    shared: Arc<Shared<F>>,
}

impl<F> Clone for Feeds<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

#[derive(Debug)]
struct Shared<F> {
    store: Store,
    authority: Arc<Authority<F>>,
    seats: Seats,
    news: broadcast::Sender<Told>,
    /// Up to which change all feeds were told.
    at: watch::Sender<i64>,
    follower: Mutex<Option<Follower>>,
}

/// What a follower is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// All rows, as of this change; what it had is to be forgotten.
    Rows {
        /// The number of the change.
        seq: i64,
        /// The rows.
        rows: Vec<Json>,
    },
    /// What changed up to this change.
    Updates {
        /// The number of the change.
        seq: i64,
        /// What changed; nothing, where somebody came back and missed nothing.
        updates: Vec<Update>,
    },
}

/// A query that is followed.
#[derive(Debug)]
pub struct Feed<F> {
    shared: Arc<Shared<F>>,
    caller: Caller,
    query: Json,
    options: Json,
    select: Select,
    known: Known,
    seq: i64,
    news: broadcast::Receiver<Told>,
    first: Option<Event>,
    /// What is to be looked at again, and up to which change.
    pending: Option<(Touched, i64)>,
    seat: Seat,
}

impl<F: Facts> Feeds<F> {
    /// On this store, as far as the authority lets callers.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_on(
        store: Store,
        authority: Arc<Authority<F>>,
        bounds: Bounds,
    ) -> Result<Self, store::Error> {
        let follower = Follower::from_now(&store).await?;
        let (news, _) = broadcast::channel(NEWS_WAITING_MAX);
        let (at, _) = watch::channel(follower.at());
        Ok(Self {
            shared: Arc::new(Shared {
                store,
                authority,
                seats: Seats::new(bounds),
                news,
                at,
                follower: Mutex::new(Some(follower)),
            }),
        })
    }

    /// Tells all feeds of changes until it is told to stop. To be run once, as long as feeds are wanted.
    pub async fn run(&self, stop: &CancellationToken) {
        let Some(mut follower) = self.shared.follower.lock().take() else {
            return;
        };
        let telling = async {
            loop {
                let told = match follower.next().await {
                    Ok(News::Changes(entries)) => Told::Changes {
                        entries: entries.into(),
                        seq: follower.at(),
                    },
                    Ok(News::Gap) => Told::Gap { seq: follower.at() },
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "feeds are late while the database does not answer"
                        );
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                };
                // Rights that changed are known anew before feeds look at them.
                self.forget(&told);
                // Nobody may follow anything at the moment.
                drop(self.shared.news.send(told));
                self.shared.at.send_replace(follower.at());
            }
        };
        stop.run_until_cancelled(telling).await.unwrap_or(());
    }

    fn forget(&self, told: &Told) {
        match told {
            Told::Changes { entries, .. } => {
                for entry in entries.iter() {
                    self.forget_projects(&entry.change);
                    if let Some(caller) = crate::permission::affected(&entry.change) {
                        self.shared.authority.forget_caller(caller);
                    }
                }
            }
            Told::Gap { .. } => {
                self.shared.seats.forget_all();
                self.shared.authority.forget_all();
            }
        }
    }

    fn forget_projects(&self, change: &Change) {
        if change.table != outbox::Table::ProjectMembers {
            return;
        }
        match change.account_id {
            Some(account) => self.shared.seats.forget(account),
            // Nobody knows whose.
            None => self.shared.seats.forget_all(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.seats.count()
    }

    /// Follows a query, from now on or from where its follower was.
    ///
    /// # Errors
    /// When it is no query that can be followed, is not the caller's, there are too many feeds, or the store does not
    /// answer.
    pub async fn open(
        &self,
        caller: Caller,
        query: Json,
        options: Json,
        after: Option<i64>,
    ) -> Result<Feed<F>, Error> {
        let (select, needs) = followed(caller, &query, &options)?;
        let mut seat = self.shared.seats.take(caller)?;
        meet(&self.shared.authority, needs).await?;
        // Before the rows are selected: what changes meanwhile is looked at again.
        let news = self.shared.news.subscribe();
        let seq = *self.shared.at.borrow();
        let known = Known::new(select.table, self.shared.rows(&select, &[]).await?);
        seat.hold(known.bytes())?;
        let mut feed = Feed {
            shared: Arc::clone(&self.shared),
            caller,
            query,
            options,
            select,
            known,
            seq,
            news,
            first: None,
            pending: None,
            seat,
        };
        feed.first = Some(feed.beginning(after).await?);
        Ok(feed)
    }
}

impl<F: Facts> Feed<F> {
    /// Waits for what is next. The first comes at once. It may be dropped while it waits, and then nothing is lost.
    ///
    /// # Errors
    /// When the caller may not follow it any more, or the store does not answer; the feed has ended then, and its follower
    /// may open another one behind [`seq`](Self::seq).
    pub async fn next(&mut self) -> Result<Event, Error> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            if self.pending.is_none() {
                self.pending = Some(self.heard().await?);
            }
            let looked = match &self.pending {
                Some((touched, seq)) => (self.look_again(touched).await?, *seq),
                None => continue,
            };
            // Nothing is waited for from here on.
            self.pending = None;
            let (found, seq) = looked;
            self.seq = self.seq.max(seq);
            let updates = self.known.take(found);
            self.seat.hold(self.known.bytes())?;
            if !updates.is_empty() {
                return Ok(Event::Updates {
                    seq: self.seq,
                    updates,
                });
            }
        }
    }

    async fn heard(&mut self) -> Result<(Touched, i64), Error> {
        match self.news.recv().await {
            Ok(Told::Changes { entries, seq }) => Ok((self.touched(&entries), seq)),
            Ok(Told::Gap { seq }) => Ok((Touched::everything(), seq)),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                Ok((Touched::everything(), *self.shared.at.borrow()))
            }
            Err(broadcast::error::RecvError::Closed) => {
                Err(Error::new(Code::Unavailable, "the hub is going away"))
            }
        }
    }

    /// The number of the change up to which everything was told.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    fn touched(&self, entries: &[Entry]) -> Touched {
        let mut touched = Touched::default();
        for entry in entries {
            touched.add(&self.select, self.caller, &entry.change);
        }
        touched
    }

    async fn look_again(&self, touched: &Touched) -> Result<Found, Error> {
        if touched.rights {
            let (_, needs) = followed(self.caller, &self.query, &self.options)?;
            meet(&self.shared.authority, needs).await?;
        }
        let all = touched.all || self.is_in_any(&touched.shared).await?;
        if all || touched.rows.len() > ROWS_ALONE_MAX {
            return Ok(Found::All(self.shared.rows(&self.select, &[]).await?));
        }
        let mut found = Vec::with_capacity(touched.rows.len());
        for row in &touched.rows {
            // Most of what changes is other people's.
            if !self.known.has(&row.key) && self.sees(row).await? == Some(false) {
                continue;
            }
            let now = self.shared.rows(&self.select, &row.conditions).await?.pop();
            found.push((row.key.clone(), now));
        }
        Ok(Found::Some(found))
    }

    /// The rows; for somebody who comes back, what changed since, if that can be told.
    async fn beginning(&self, after: Option<i64>) -> Result<Event, Error> {
        let missed = match after {
            Some(after) => self.missed(after).await?,
            None => None,
        };
        let missed = missed.filter(|touched| !touched.all && touched.shared.is_empty());
        if let Some(touched) = missed
            && let Some(updates) = self.again(&touched.rows).await?
        {
            return Ok(Event::Updates {
                seq: self.seq,
                updates,
            });
        }
        Ok(Event::Rows {
            seq: self.seq,
            rows: self.known.rows(),
        })
    }

    /// What somebody who comes back is told of these rows; `None` if that would say something about rows of others.
    async fn again(&self, rows: &[Row]) -> Result<Option<Vec<Update>>, Error> {
        let mut updates = Vec::new();
        for row in rows {
            match self.known.again(&row.key) {
                Some(update) => updates.push(update),
                None => match self.sees(row).await? {
                    Some(true) => updates.push(self.known.gone(&row.key)),
                    Some(false) => {}
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(updates))
    }

    /// Whether a row that the follower does not have is one of those that it may see.
    async fn sees(&self, row: &Row) -> Result<Option<bool>, Error> {
        Ok(match row.seen(&self.select, self.caller) {
            Seen::Yes => Some(true),
            Seen::No => Some(false),
            Seen::If(fact) => Some(self.holds(fact).await?),
            Seen::Unknown => None,
        })
    }

    /// Whether a fact about the caller holds. In which projects it is is known without asking for each.
    async fn holds(&self, fact: Fact) -> Result<bool, Error> {
        let shared = &self.shared;
        if let Fact::Member(account, project) = fact
            && Caller::Account(account) == self.caller
            && let Some(is_in) = shared.seats.is_in(&shared.store, account, project).await?
        {
            return Ok(is_in);
        }
        Ok(shared.authority.holds(fact).await?)
    }

    async fn is_in_any(&self, projects: &[ProjectId]) -> Result<bool, Error> {
        let Some(account) = self.caller.account() else {
            return Ok(!projects.is_empty());
        };
        for project in projects {
            if self.holds(Fact::Member(account, *project)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the changes behind this number have touched; `None` if they are too many, or not kept.
    async fn missed(&self, after: i64) -> Result<Option<Touched>, Error> {
        let mut touched = Touched::default();
        let (mut at, end) = (after, after.saturating_add(MISSED_MAX));
        let mut on = self.shared.store.read().await?;
        loop {
            match outbox::read(&mut on, at, outbox::BATCH_MAX).await? {
                // Also for a number that was never given, of another database.
                Batch::Gap { .. } => return Ok(None),
                Batch::Changes { next, .. } if next == at => return Ok(Some(touched)),
                Batch::Changes { entries, next } => {
                    for entry in &entries {
                        touched.add(&self.select, self.caller, &entry.change);
                    }
                    at = next;
                }
            }
            if at >= end {
                return Ok(None);
            }
        }
    }
}

impl<F> Shared<F> {
    /// The rows that a query finds for which these conditions hold as well.
    async fn rows(&self, select: &Select, more: &[Condition]) -> Result<Vec<Json>, Error> {
        let mut select = select.clone();
        select.conditions.extend_from_slice(more);
        let mut on = self.store.read().await?;
        let rows = stored::select(&mut on, &select).await?;
        if rows.len() >= ROWS_MAX as usize {
            let text = format!("finds {ROWS_MAX} rows or more, which are too many to be followed");
            return Err(Error::argument(select.table.name, text));
        }
        Ok(rows)
    }
}

/// A query that can be followed: one that reads a list of rows of a table whose changes are told, with their keys.
fn followed(caller: Caller, query: &Json, options: &Json) -> Result<(Select, Vec<Need>), Error> {
    if query.is_array() {
        return Err(Error::argument("query", "must be one query to be followed"));
    }
    let planned = plan(caller, query, options, Time::now())?.pop();
    let planned = planned.ok_or_else(|| Error::argument("query", "must be one query"))?;
    let Plan::Get(mut select) = planned.plan else {
        return Err(Error::argument(planned.name, "must read to be followed"));
    };
    if !planned.many {
        return Err(Error::argument(
            planned.name,
            "must be a list of one to be followed",
        ));
    }
    let table = select.table;
    if outbox::Table::from_name(table.real).is_none() {
        return Err(Error::argument(table.name, "cannot be followed"));
    }
    for name in key_fields(table) {
        if !select.fields.iter().any(|field| field.name == name) {
            let text = format!("must ask for {name:?} to be followed");
            return Err(Error::argument(table.name, text));
        }
    }
    // All of them, in an order that does not change.
    select.limit = ROWS_MAX;
    select.order = table
        .key
        .iter()
        .map(|column| (*column, Direction::Ascending))
        .collect();
    Ok((select, planned.needs))
}

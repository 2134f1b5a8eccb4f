//! Doing what was planned for a query.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::plan::{Plan, Planned, plan};
use super::rule::Table;
use crate::api::{Call, Code, Error, Handlers, meet};
use crate::caller::Caller;
use crate::permission::{Authority, Facts};
use crate::store::query::{self as stored, Outcome};
use crate::store::{self, Store};
use crate::time::Time;

/// Answers queries from a store.
#[derive(Debug)]
pub struct Queries<F> {
    store: Store,
    authority: Arc<Authority<F>>,
    now: fn() -> Time,
}

impl<F> Clone for Queries<F> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            authority: Arc::clone(&self.authority),
            now: self.now,
        }
    }
}

#[derive(Deserialize)]
struct UserQuery {
    query: Json,
    #[serde(default)]
    options: Json,
}

impl<F: Facts> Queries<F> {
    /// Answers from this store, as far as the authority lets the caller.
    pub fn new(store: Store, authority: Arc<Authority<F>>) -> Self {
        Self {
            store,
            authority,
            now: Time::now,
        }
    }

    /// The handlers with that of `db.userQuery`.
    pub fn install(self, handlers: Handlers) -> Handlers {
        handlers.with("db.userQuery", move |mut call: Call| {
            let queries = self.clone();
            async move {
                let UserQuery { query, options } = call.argument(0)?;
                queries.run(call.caller, &query, &options).await
            }
        })
    }

    /// Does a query, or several in their order. Those before one that fails stay done.
    ///
    /// # Errors
    /// When one is none, is not the caller's, or the store does not do it.
    pub async fn run(&self, caller: Caller, query: &Json, options: &Json) -> Result<Json, Error> {
        let planned = plan(caller, query, options, (self.now)())?;
        let mut answers = Vec::with_capacity(planned.len());
        for one in planned {
            answers.push(self.run_one(one).await?);
        }
        if query.is_array() {
            return Ok(Json::Array(answers));
        }
        Ok(answers.pop().unwrap_or_default())
    }

    async fn run_one(&self, planned: Planned) -> Result<Json, Error> {
        meet(&self.authority, planned.needs).await?;
        let value = match planned.plan {
            Plan::Nothing => None,
            Plan::Get(select) => {
                let mut on = self.store.read().await.map_err(Error::from)?;
                let mut rows = stored::select(&mut on, &select).await?;
                if planned.many {
                    Some(Json::Array(rows))
                } else {
                    rows.pop()
                }
            }
            Plan::Set(change) => {
                let mut on = self.store.write().await?;
                let outcome = stored::change(&mut on, &change).await?;
                refused(change.table, outcome)?;
                on.commit().await?;
                None
            }
        };
        let answer: Map<String, Json> = value
            .map(|value| (planned.name.to_owned(), value))
            .into_iter()
            .collect();
        Ok(json!(answer))
    }
}

fn refused(table: &Table, outcome: Outcome) -> Result<(), Error> {
    let name = table.name;
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::NotFound => Err(Error::new(
            Code::NotFound,
            format!("{name}: there is no such row"),
        )),
        Outcome::Refused => Err(Error::denied(format!(
            "{name}: the row is not the caller's to change"
        ))),
        Outcome::Exists => Err(Error::new(
            Code::Conflict,
            format!("{name}: there is such a row already"),
        )),
        Outcome::TooLarge => Err(Error::argument(
            name,
            "what is there and what is added are too large together",
        )),
    }
}

impl From<store::Error> for Error {
    /// What a caller may know of it; the rest is in the log of the store.
    fn from(error: store::Error) -> Self {
        use store::Error as Stored;
        let code = match &error {
            Stored::Unavailable(_)
            | Stored::Overloaded { .. }
            | Stored::Deadlock(_)
            | Stored::Full(_)
            | Stored::Uncertain(_) => Code::Unavailable,
            Stored::Conflict { .. } => Code::Conflict,
            Stored::Missing(_) => Code::NotFound,
            Stored::Invalid(_) => Code::InvalidArgument,
            Stored::Corrupt(_) | Stored::Unusable(_) | Stored::Mistake(_) => Code::Internal,
        };
        let text = match &error {
            Stored::Uncertain(_) => "it is not known whether the change was stored",
            Stored::Conflict { .. } => "there is one already",
            Stored::Missing(_) => "refers to what is not there",
            Stored::Invalid(_) => "a value is missing or not of its form",
            Stored::Unavailable(_)
            | Stored::Overloaded { .. }
            | Stored::Deadlock(_)
            | Stored::Full(_) => "the database is not available; try again later",
            Stored::Corrupt(_) | Stored::Unusable(_) | Stored::Mistake(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                "the hub failed"
            }
        };
        Self::new(code, text)
    }
}

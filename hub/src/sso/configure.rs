//! Setting the ways to sign in: by an administrator, or from a file that is read when a hub starts.
//!
//! The file is an object of JSON: the name of each strategy, and `{conf, info}`; `null` removes one. Those that are not
//! named stay.

use serde_json::{Map, Value as Json, json};

use super::strategy::{Invalid, Strategy, checked_name};
use crate::store::passports::{self, Stored};
use crate::store::{Error, Store};

/// Most ways to sign in of one file.
const STRATEGIES_MAX: usize = 200;

/// Why nothing was set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The file is something else.
    #[error("the ways to sign in must be an object of JSON with at most {STRATEGIES_MAX} names")]
    NotAnObject,
    /// One of them cannot be.
    #[error("the way to sign in {name:?}")]
    Invalid {
        /// Which one.
        name: String,
        /// Why.
        #[source]
        source: Invalid,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// How many were made or replaced.
    pub set: usize,
    /// How many were removed.
    pub removed: usize,
}

/// Sets all of a file, or nothing of it.
///
/// # Errors
/// What is wrong, and with which one.
pub async fn apply(store: &Store, file: &Json) -> Result<Applied, SetError> {
    let all = file
        .as_object()
        .filter(|all| all.len() <= STRATEGIES_MAX)
        .ok_or(SetError::NotAnObject)?;
    let wanted = read(all)?;
    let mut applied = Applied::default();
    let mut on = store.write().await?;
    for (name, strategy) in wanted {
        match strategy {
            Some(strategy) => {
                passports::put_strategy(&mut on, &strategy).await?;
                applied.set += 1;
            }
            None => {
                let gone = passports::delete_strategy(&mut on, name).await?;
                applied.removed += usize::from(gone);
            }
        }
    }
    on.commit().await?;
    Ok(applied)
}

fn read(all: &Map<String, Json>) -> Result<Vec<(&str, Option<Stored>)>, SetError> {
    all.iter()
        .map(|(name, value)| {
            let strategy = if value.is_null() {
                None
            } else {
                Some(checked(name, value).map_err(|source| SetError::Invalid {
                    name: name.clone(),
                    source,
                })?)
            };
            Ok((name.as_str(), strategy))
        })
        .collect()
}

/// One that can be used.
fn checked(name: &str, value: &Json) -> Result<Stored, Invalid> {
    checked_name(name)?;
    let part = |part: &str| value.get(part).cloned().unwrap_or_else(|| json!({}));
    let stored = Stored {
        strategy: name.to_owned(),
        conf: part("conf"),
        info: part("info"),
    };
    Strategy::read(&stored)?;
    Ok(stored)
}

/// Sets one.
///
/// # Errors
/// What is wrong with it.
pub async fn set(store: &Store, name: &str, value: &Json) -> Result<(), SetError> {
    let stored = checked(name, value).map_err(|source| SetError::Invalid {
        name: name.to_owned(),
        source,
    })?;
    let mut on = store.write().await?;
    passports::put_strategy(&mut on, &stored).await?;
    Ok(on.commit().await?)
}

/// Removes one. Accounts that it vouches for keep that, in case it comes back. `false` if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn remove(store: &Store, name: &str) -> Result<bool, Error> {
    let mut on = store.write().await?;
    let gone = passports::delete_strategy(&mut on, name).await?;
    on.commit().await?;
    Ok(gone)
}

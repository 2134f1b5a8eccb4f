//! The settings of the site as they are stored: texts by name.

use serde_json::json;

use super::error::Error;
use super::outbox::{Change, Table};
use super::sql::Sql;
use super::transaction::{Reader, Transaction};

/// A setting as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether the environment of the hubs has set it.
    pub readonly: bool,
}

/// All that are stored, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn all(on: &mut Reader) -> Result<Vec<Stored>, Error> {
    let all = Sql::same("SELECT name, value, readonly FROM server_settings ORDER BY name");
    let rows = on.rows(all.into()).await?;
    rows.iter()
        .map(|row| {
            Ok(Stored {
                name: row.get("name")?,
                value: row.get("value")?,
                readonly: row.get("readonly")?,
            })
        })
        .collect()
}

/// Sets one, unless the environment has. `false` if it has.
///
/// # Errors
/// When the database does not answer.
pub async fn set(on: &mut Transaction, name: &str, value: &str) -> Result<bool, Error> {
    let set = Sql::same(
        "INSERT INTO server_settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE NOT server_settings.readonly",
    );
    let set = on.execute(set.bind(name).bind(value)).await? > 0;
    if set {
        told(on, name);
    }
    Ok(set)
}

/// Sets one that nobody has set, or only to nothing. Of several at the same time the first one sets it.
///
/// # Errors
/// When the database does not answer.
pub async fn set_if_empty(on: &mut Transaction, name: &str, value: &str) -> Result<(), Error> {
    let set = Sql::same(
        "INSERT INTO server_settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE server_settings.value = ''",
    );
    if on.execute(set.bind(name).bind(value)).await? > 0 {
        told(on, name);
    }
    Ok(())
}

/// Removes one, so that its default holds again, unless the environment has set it. `false` if there was none to remove.
///
/// # Errors
/// When the database does not answer.
pub async fn unset(on: &mut Transaction, name: &str) -> Result<bool, Error> {
    let unset = Sql::same("DELETE FROM server_settings WHERE name = $1 AND NOT readonly");
    let gone = on.execute(unset.bind(name)).await? > 0;
    if gone {
        told(on, name);
    }
    Ok(gone)
}

/// Sets those that the environment has, and lets those be changed again that it had before and has no longer.
///
/// # Errors
/// When the database does not answer.
pub async fn set_readonly(
    on: &mut Transaction,
    settings: &[(String, String)],
) -> Result<(), Error> {
    for stored in all(on).await? {
        let still = settings.iter().any(|(name, _)| *name == stored.name);
        if stored.readonly && !still {
            let free = Sql::same("UPDATE server_settings SET readonly = $2 WHERE name = $1");
            on.execute(free.bind(&stored.name).bind(false)).await?;
            told(on, &stored.name);
        }
    }
    for (name, value) in settings {
        let set = Sql::same(
            "INSERT INTO server_settings (name, value, readonly) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, readonly = excluded.readonly
              WHERE server_settings.value <> excluded.value OR NOT server_settings.readonly",
        );
        if on.execute(set.bind(name).bind(value).bind(true)).await? > 0 {
            told(on, name);
        }
    }
    Ok(())
}

fn told(on: &mut Transaction, name: &str) {
    let key = json!({ "name": name });
    on.changed(Change::update(
        Table::ServerSettings,
        key,
        &["value", "readonly"],
    ));
}

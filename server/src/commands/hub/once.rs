//! What a hub does once, and then ends: `--passwd` and others, as those who run CoCalc know them. Given together, they
//! are done in the order of their declaration.

use std::io::Write as _;

use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::auth::token;
use dialtone_hub::store::{Store, migrate};
use dialtone_hub::{accounts, maintenance, settings, stats};
use serde_json::json;

use super::super::admin::failure;
use crate::args::{Hub, Once};
use crate::config::Strings;
use crate::database;
use crate::exit::{Failure, Outcome};
use crate::hub::{self, Services};
use crate::print::{Output, counted, harmless, note};

/// Length of a password by chance, in characters: nobody guesses one.
const PASSWORD_LEN: usize = 20;

/// Opens the database, and does it.
pub(super) async fn run(args: &Hub, strings: &dyn Strings) -> Outcome {
    let config = database::config(&args.database, strings)?;
    let store = Store::open(config).await.map_err(failure)?;
    let given = hub::given_settings(&args.settings, strings)?;
    settings::set_from_environment(&store, given)
        .await
        .map_err(failure)?;
    super::beginning::make(&store, args.sso_config.clone(), strings).await?;
    let done = args.once.run(&store).await;
    store.close().await;
    done
}

impl Once {
    /// Whether there is anything to be done instead of running these services, which bring the tables up to date
    /// themselves.
    pub(super) fn is_asked(&self, services: Services) -> bool {
        let only_tables = Self {
            update_database_schema: true,
            ..Self::default()
        };
        *self != Self::default() && (*self != only_tables || services == Services::default())
    }

    /// Does it, in a database whose tables are up to date.
    async fn run(&self, store: &Store) -> Outcome {
        if let Some(who) = &self.passwd {
            passwd(store, who).await?;
        }
        if self.update_database_schema {
            let mut on = store.read().await.map_err(failure)?;
            let made = migrate::status(&mut on).await.map_err(failure)?;
            note(format_args!(
                "the tables are up to date, with {}",
                counted(made.len() as u64, "migration")
            ));
        }
        if self.delete_expired {
            let removed = maintenance::round(store, &maintenance::Config::default()).await;
            let removed = removed.map_err(failure)?;
            let rows: usize = removed.rows.iter().map(|(_, rows)| rows).sum();
            note(format_args!(
                "removed {} that were over, and {}",
                counted(rows as u64, "row"),
                counted(removed.changes, "old change")
            ));
        }
        if self.blob_maintenance {
            blob_maintenance(store).await?;
        }
        if self.update_stats {
            let counts = stats::update(store, &stats::Config::default()).await;
            let counts = counts.map_err(failure)?;
            let mut out = Output::stdout();
            out.json(&counts.to_json())?;
            out.flush()?;
        }
        Ok(())
    }
}

/// Prints what stays as JSON, and says how many were removed.
pub(in crate::commands) async fn blob_maintenance(store: &Store) -> Outcome {
    let done = maintenance::blobs(store, &maintenance::Config::default()).await;
    let maintenance::Blobs { removed, kept } = done.map_err(failure)?;
    note(format_args!(
        "removed {} that were over",
        counted(removed as u64, "blob")
    ));
    let mut out = Output::stdout();
    out.json(&json!({
        "removed": removed,
        "blobs": kept.count,
        "ending": kept.ending,
        "bytes": kept.bytes,
    }))?;
    Ok(out.flush()?)
}

/// Prints the password and nothing else on standard output.
async fn passwd(store: &Store, who: &str) -> Outcome {
    let wrong = |error: accounts::Error| match error {
        accounts::Error::Store(error) => failure(error),
        accounts::Error::Unknown
        | accounts::Error::EmailAddressTaken
        | accounts::Error::NameTaken => Failure::from(anyhow::Error::from(error))
            .hint("`dialtone admin users ls` lists accounts"),
    };
    let account = accounts::find(store, who).await.map_err(wrong)?;
    let password = token::random_text(PASSWORD_LEN);
    let hasher = Hasher::new(password::Config::default()).map_err(anyhow::Error::from)?;
    let hash = hasher.hash(&password).await.map_err(anyhow::Error::from)?;
    let set = accounts::set_password(store, account.id, &hash, None).await;
    set.map_err(wrong)?;
    let shown = account
        .email_address
        .unwrap_or_else(|| account.id.to_string());
    note(format_args!(
        "{} is signed out everywhere and has this password now:",
        harmless(&shown)
    ));
    let mut out = Output::stdout();
    out.line(password)?;
    Ok(out.flush()?)
}

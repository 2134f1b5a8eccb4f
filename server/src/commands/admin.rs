//! `dialtone admin`: what administrators do in the database of the hub, whether or not a hub runs.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use dialtone_hub::store::{self, Store, hubs, leases};
use dialtone_hub::time::Time;
use dialtone_hub::{maintenance, stats};
use serde_json::json;

use super::records::table;
use crate::args::{Admin as Args, AdminCommand};
use crate::config::Environment;
use crate::database;
use crate::exit::{Failure, Outcome};
use crate::print::{Output, counted, harmless};

mod db;
mod letters;
mod migrations;
mod settings;
pub(super) mod sso;
mod tokens;
mod users;

/// `dialtone admin`
pub(super) async fn run(args: Args) -> Outcome {
    let config = database::config(&args.database, &Environment)?;
    if let AdminCommand::Migrations(command) = args.command {
        return migrations::run(command, config, args.json).await;
    }
    let store = Store::open(config).await.map_err(failure)?;
    let site = Site {
        store: &store,
        json: args.json,
    };
    let done = match args.command {
        AdminCommand::Settings(command) => settings::run(&site, command).await,
        AdminCommand::Tokens(command) => tokens::run(&site, command).await,
        AdminCommand::Users(command) => users::run(&site, command).await,
        AdminCommand::Leases => site.leases().await,
        AdminCommand::Hubs => site.hubs().await,
        AdminCommand::DeleteExpired => site.delete_expired().await,
        AdminCommand::BlobMaintenance => super::hub::blob_maintenance(site.store).await,
        AdminCommand::UpdateStats => site.update_stats().await,
        AdminCommand::Letters(command) => letters::run(&site, command).await,
        AdminCommand::Sso(command) => sso::run(&site, command).await,
        AdminCommand::Db(command) => db::run(&site, command).await,
        AdminCommand::Migrations(_) => Ok(()),
    };
    store.close().await;
    done
}

/// A database that is open, and how to print.
struct Site<'a> {
    store: &'a Store,
    json: bool,
}

/// What an error of the store means on the command line.
pub(crate) fn failure(error: store::Error) -> Failure {
    let unusable = matches!(error, store::Error::Unusable(_));
    let unavailable = matches!(error, store::Error::Unavailable(_));
    let failure = Failure::from(anyhow::Error::from(error));
    if unusable {
        failure.hint("--database-url names another database")
    } else if unavailable {
        failure.hint("--database-url says where the database is; is it running?")
    } else {
        failure
    }
}

/// A point in time for people.
fn when(time: Option<Time>) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    let millis = u64::try_from(time.millis()).unwrap_or(0);
    crate::print::time(UNIX_EPOCH + Duration::from_millis(millis))
}

impl Site<'_> {
    async fn leases(&self) -> Outcome {
        let mut on = self.store.read().await.map_err(failure)?;
        let leases = leases::list(&mut on).await.map_err(failure)?;
        let mut out = Output::stdout();
        if self.json {
            for lease in &leases {
                out.json(&json!({
                    "name": lease.name,
                    "holder": lease.holder,
                    "generation": lease.generation,
                    "expires": lease.expires,
                }))?;
            }
        } else {
            let rows: Vec<_> = leases
                .iter()
                .map(|lease| {
                    [
                        lease.name.clone(),
                        lease.generation.to_string(),
                        when(lease.expires),
                        lease.holder.clone().unwrap_or_else(|| "-".to_owned()),
                    ]
                })
                .collect();
            table(
                &mut out,
                ["LEASE", "GENERATION", "EXPIRES", "HOLDER"],
                &rows,
            )?;
        }
        Ok(out.flush()?)
    }

    async fn hubs(&self) -> Outcome {
        let mut on = self.store.read().await.map_err(failure)?;
        let hubs = hubs::all(&mut on).await.map_err(failure)?;
        let mut out = Output::stdout();
        if self.json {
            for hub in &hubs {
                out.json(&json!({
                    "host": hub.host,
                    "port": hub.port,
                    "version": hub.version,
                    "started": hub.started,
                }))?;
            }
        } else {
            let rows: Vec<_> = hubs
                .iter()
                .map(|hub| {
                    [
                        harmless(&hub.host),
                        hub.version.clone(),
                        when(Some(hub.started)),
                    ]
                })
                .collect();
            table(&mut out, ["HUB", "VERSION", "STARTED"], &rows)?;
        }
        Ok(out.flush()?)
    }

    async fn update_stats(&self) -> Outcome {
        let counts = stats::update(self.store, &stats::Config::default()).await;
        let mut out = Output::stdout();
        out.json(&counts.map_err(failure)?.to_json())?;
        Ok(out.flush()?)
    }

    async fn delete_expired(&self) -> Outcome {
        let config = maintenance::Config {
            delay: Duration::ZERO,
            ..maintenance::Config::default()
        };
        let removed = maintenance::round(self.store, &config)
            .await
            .map_err(failure)?;
        let mut out = Output::stdout();
        if self.json {
            let rows: serde_json::Map<_, _> = removed
                .rows
                .iter()
                .map(|(table, count)| ((*table).to_owned(), json!(count)))
                .collect();
            out.json(&json!({"rows": rows, "changes": removed.changes}))?;
        } else {
            for (table, count) in &removed.rows {
                out.line(format_args!("{table}: {}", counted(*count as u64, "row")))?;
            }
            out.line(format_args!(
                "change_log: {}",
                counted(removed.changes, "row")
            ))?;
        }
        Ok(out.flush()?)
    }
}

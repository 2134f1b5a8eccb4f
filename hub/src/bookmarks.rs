//! The migration of stars from the database into a key-value store of each account, where clients look for them.
//!
//! The store is the stream `accounts/<account>/bookmark-starred-files`: a key per project, whose value is the list of
//! what has stars, as `MessagePack`. What is there already is newer than the database and stays, also if it says that
//! somebody has taken all stars away. So moving a row twice does no harm, and a row is removed only after the stream has
//! acknowledged what it holds as stored.

use dialtone_client::Client;
use dialtone_client::persist::kv::Bucket;
use dialtone_client::persist::wire::{Config, Record, Select};
use dialtone_client::persist::{AppendError, Owner, Persist};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use crate::background::{Item, Migration};
use crate::store::{Error, Reader, Store, Transaction, bookmarks};

/// The store of an account, behind its own path.
pub const STORE_NAME: &str = "bookmark-starred-files";

/// Moves stars. See the module.
#[derive(Debug)]
pub struct Bookmarks {
    store: Store,
    client: Client,
}

impl Bookmarks {
    /// From this database to the persist service that the client reaches, on which it may do everything.
    pub fn new(store: Store, client: Client) -> Self {
        Self { store, client }
    }

    async fn try_carry(&self, key: &str) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let id: i64 = key.parse().map_err(|error| said(&error))?;
        let found = {
            let mut on = self.store.read().await.map_err(|error| said(&error))?;
            bookmarks::newest_like(&mut on, id).await
        };
        let Some(bookmark) = found.map_err(|error| said(&error))? else {
            return Ok(());
        };
        let is_list = bookmark
            .stars
            .as_array()
            .is_some_and(|stars| stars.iter().all(Json::is_string));
        if !is_list {
            return Err("its stars are not a list of texts".to_owned());
        }
        let account = bookmark.account_id.to_string();
        let owner = Owner::Account(account.as_str().into());
        let name = format!("{}{STORE_NAME}", owner.prefix());
        let persist = Persist::of(&self.client, owner);
        let bucket = Bucket::open(&persist, name, Config::default()).await;
        let bucket = bucket.map_err(|error| said(&error))?;
        let project = bookmark.project_id.to_string();
        // The trace of a deletion is newer than the database, too.
        let there = bucket.stream().get(Select::Key(project.clone())).await;
        if there.map_err(|error| said(&error))?.is_some() {
            return Ok(());
        }
        let record = Record::msgpack(&bookmark.stars).map_err(|error| said(&error))?;
        match bucket.put(project, record.after_key(0)).await {
            // Somebody was faster: this program, or the one whose stars they are.
            Ok(_) | Err(AppendError::WrongLastSequence { .. }) => Ok(()),
            Err(error) => Err(said(&error)),
        }
    }
}

impl Migration for Bookmarks {
    fn name(&self) -> &'static str {
        "bookmarks-to-streams"
    }

    fn next<'a>(
        &'a self,
        on: &'a mut Reader,
        cursor: Option<&'a Json>,
        limit: i64,
    ) -> BoxFuture<'a, Result<Vec<Item>, Error>> {
        async move {
            let after = cursor.and_then(Json::as_i64).unwrap_or(0);
            let ids = bookmarks::next(on, after, limit).await?;
            let item = |id: i64| Item {
                key: id.to_string(),
                cursor: id.into(),
            };
            Ok(ids.into_iter().map(item).collect())
        }
        .boxed()
    }

    fn carry<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.try_carry(key).boxed()
    }

    fn retire<'a>(
        &'a self,
        on: &'a mut Transaction,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let ids: Vec<i64> = keys.iter().filter_map(|key| key.parse().ok()).collect();
            bookmarks::delete(on, &ids).await
        }
        .boxed()
    }
}

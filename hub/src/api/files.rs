//! `db`: what is known of files, and blobs.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::accounts::caller;
use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::history::Histories;
use crate::id::{AccountId, ProjectId};
use crate::store::{Store, files};

/// How many times are listed, if a call says nothing.
const LISTED: i64 = 1_000;

/// What the functions need.
#[derive(Debug, Clone)]
struct Files {
    store: Store,
    histories: Option<Histories>,
}

#[derive(Deserialize)]
struct File {
    project_id: ProjectId,
    path: String,
}

#[derive(Deserialize)]
struct Named {
    uuid: Uuid,
}

#[derive(Deserialize)]
struct Blobs {
    uuids: Vec<Uuid>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "clients name them")]
struct Times {
    project_id: ProjectId,
    path: String,
    target_account_id: Option<AccountId>,
    limit: Option<i64>,
    access_times: Option<bool>,
    #[serde(default)]
    edit_times: bool,
}

/// The handlers with those of this file. That the caller is a member of the project is in the table. Without histories
/// of documents there are no times at which they were edited.
pub fn install(store: &Store, histories: Option<Histories>, handlers: Handlers) -> Handlers {
    let files = Files {
        store: store.clone(),
        histories,
    };
    handlers
        .with_on("db.getLegacyTimeTravelInfo", store, legacy_info)
        .with_on("db.getLegacyTimeTravelPatches", store, legacy_patches)
        .with_on("db.removeBlobTtls", store, keep_blobs)
        .with_on("db.fileUseTimes", &files, |files, call| async move {
            files.times(call).await
        })
}

async fn legacy_info(store: Store, mut call: Call) -> Result<Json, Error> {
    let File { project_id, path } = call.argument(0)?;
    let mut on = store.read().await?;
    let legacy = files::legacy(&mut on, project_id, &path).await?;
    Ok(legacy.map_or_else(
        || json!({"uuid": "", "users": []}),
        |legacy| json!({"uuid": legacy.blob, "users": legacy.users}),
    ))
}

async fn legacy_patches(store: Store, mut call: Call) -> Result<Json, Error> {
    let Named { uuid } = call.argument(0)?;
    let mut on = store.read().await?;
    let missing = || Error::new(Code::NotFound, format!("there is no blob {uuid}"));
    let blob = files::blob(&mut on, uuid).await?.ok_or_else(missing)?;
    if let Some(how) = blob.compress {
        let text = format!("the blob is compressed in a way that this hub does not read: {how}");
        return Err(Error::new(Code::FailedPrecondition, text));
    }
    let bytes = blob.bytes.ok_or_else(missing)?;
    let text = String::from_utf8(bytes);
    text.map(Json::from)
        .map_err(|_invalid| Error::new(Code::FailedPrecondition, "the blob is no text"))
}

async fn keep_blobs(store: Store, mut call: Call) -> Result<Json, Error> {
    let Blobs { uuids } = call.argument(0)?;
    let mut on = store.write().await?;
    files::keep_blobs(&mut on, uuids).await?;
    on.commit().await?;
    Ok(Json::Null)
}

impl Files {
    async fn times(&self, mut call: Call) -> Result<Json, Error> {
        let wanted: Times = call.argument(0)?;
        let target = match wanted.target_account_id {
            Some(target) => target,
            None => caller(&call)?,
        };
        let limit = wanted.limit.unwrap_or(LISTED);
        let mut times = json!({"target_account_id": target});
        if wanted.access_times.unwrap_or(true) {
            let mut on = self.store.read().await?;
            let found =
                files::access_times(&mut on, wanted.project_id, target, &wanted.path, limit)
                    .await?;
            times["access_times"] = json!(found);
        }
        if wanted.edit_times {
            let histories = self.histories.as_ref().ok_or_else(|| {
                let text = "edit_times are not configured on this site";
                Error::new(Code::NotConfigured, text)
            })?;
            let found = histories
                .edit_times(wanted.project_id, &wanted.path, limit)
                .await?;
            times["edit_times"] = json!(found);
        }
        Ok(times)
    }
}

//! `system.manageApiKeys`: keys of the caller's account and of its projects.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use crate::auth::api_key::{ApiKey, KEYS_MAX};
use crate::id::{AccountId, ProjectId};
use crate::store::{Store, api_keys};
use crate::time::Time;

/// What a key is called by default.
const NAME: &str = "API key";

#[derive(Deserialize)]
struct Manage {
    action: Action,
    project_id: Option<ProjectId>,
    name: Option<String>,
    expire: Option<Time>,
    id: Option<i64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Action {
    Get,
    Create,
    Delete,
    Edit,
}

/// The handlers with that of this file. That the caller is a member of the project, if one is named, is in the table.
pub(super) fn install(store: Store, handlers: Handlers) -> Handlers {
    handlers.with("system.manageApiKeys", move |mut call: Call| {
        let store = store.clone();
        async move {
            let caller = super::accounts::caller(&call)?;
            let manage: Manage = call.argument(0)?;
            match manage.action {
                Action::Get => list(&store, caller, manage.project_id).await,
                Action::Create => create(&store, caller, manage).await,
                Action::Delete => delete(&store, caller, &manage).await,
                Action::Edit => edit(&store, caller, manage).await,
            }
        }
    })
}

async fn list(store: &Store, caller: AccountId, project: Option<ProjectId>) -> Result<Json, Error> {
    let mut on = store.read().await?;
    let limit = i64::from(KEYS_MAX);
    let keys = match project {
        Some(project) => api_keys::of_project(&mut on, project, limit).await?,
        None => api_keys::of_account(&mut on, caller, limit).await?,
    };
    Ok(keys.iter().map(shown).collect())
}

/// A key as it is shown: never its hash, and the key itself only when it is made.
fn shown(key: &api_keys::ApiKey) -> Json {
    json!({
        "id": key.id,
        "account_id": key.account_id,
        "project_id": key.project_id,
        "name": key.name,
        "trunc": key.trunc,
        "created": key.created,
        "expire": key.expire,
        "last_active": key.last_active,
    })
}

async fn create(store: &Store, caller: AccountId, manage: Manage) -> Result<Json, Error> {
    let mut on = store.write().await?;
    let count = api_keys::count(&mut on, caller).await?;
    if count >= i64::from(KEYS_MAX) {
        let text = format!("an account has at most {KEYS_MAX} keys");
        return Err(Error::new(Code::FailedPrecondition, text));
    }
    let new = api_keys::New {
        account_id: caller,
        project_id: manage.project_id,
        name: manage.name.as_deref().unwrap_or(NAME),
        expire: manage.expire,
    };
    let number = api_keys::insert(&mut on, &new).await?;
    let key = ApiKey::new(number)
        .ok_or_else(|| Error::new(Code::Internal, "there are no more numbers for keys"))?;
    api_keys::set_hash(&mut on, number, &key.trunc(), &key.hash()).await?;
    let found = api_keys::find(&mut on, number).await?;
    on.commit().await?;
    let mut answer = found.map(|found| shown(&found.key)).unwrap_or_default();
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("secret".to_owned(), key.reveal().into());
    }
    Ok(json!([answer]))
}

async fn delete(store: &Store, caller: AccountId, manage: &Manage) -> Result<Json, Error> {
    let mut on = store.write().await?;
    let number = owned(&mut on, caller, manage).await?;
    api_keys::delete(&mut on, number).await?;
    on.commit().await?;
    Ok(Json::Null)
}

async fn edit(store: &Store, caller: AccountId, manage: Manage) -> Result<Json, Error> {
    let mut on = store.write().await?;
    let number = owned(&mut on, caller, &manage).await?;
    let update = api_keys::Update {
        name: manage.name,
        expire: manage.expire.map(Some),
    };
    api_keys::update(&mut on, number, update).await?;
    on.commit().await?;
    Ok(Json::Null)
}

/// The number of a key that is the caller's own, or of the project that the call names.
async fn owned(
    on: &mut crate::store::Reader,
    caller: AccountId,
    manage: &Manage,
) -> Result<i64, Error> {
    let number = manage
        .id
        .ok_or_else(|| Error::argument("args[0].id", "is required: the number of a key"))?;
    let found = api_keys::find(on, number).await?;
    let own = found.filter(|found| match (manage.project_id, found.key.project_id) {
        (None, None) => found.key.account_id == caller,
        (Some(named), Some(project)) => named == project,
        (None, Some(_)) | (Some(_), None) => false,
    });
    own.map(|found| found.key.id)
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no key {number}")))
}

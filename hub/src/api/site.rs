//! `system.getCustomize`, and noting that somebody is active.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::error::Error;
use super::handlers::{Call, Handlers};
use crate::caller::Caller;
use crate::id::{AccountId, ProjectId};
use crate::query::{Plan, plan};
use crate::settings::{self, Kind, Live, Settings};
use crate::store::query as stored;
use crate::store::{Store, Transaction, accounts, files, projects, throttle};

/// How often at most it is noted that an account is active.
const TOUCH: Duration = Duration::from_mins(1);

#[derive(Deserialize, Default)]
struct Touch {
    project_id: Option<ProjectId>,
    path: Option<String>,
    action: Option<String>,
}

/// What somebody does with a file, if a call says nothing.
const EDIT: &str = "edit";

/// What is kept apart, so that others can ask when somebody did it.
const OPEN: &str = "open";

/// How long it is kept that somebody opened a file.
const ACCESS_KEEP: Duration = Duration::from_hours(180 * 24);

/// The handlers with those of this file.
pub fn install(store: Store, live: Arc<Live>, handlers: Handlers) -> Handlers {
    handlers
        .with("system.getCustomize", move |mut call: Call| {
            let settings = live.get();
            async move {
                let fields = call.argument::<Option<Vec<String>>>(0)?;
                Ok(customize(&settings, fields.as_deref()))
            }
        })
        .with("db.touch", move |call| {
            let store = store.clone();
            async move { touch(&store, call).await }
        })
}

/// The settings that everybody may read, as what they are.
fn customize(settings: &Settings, fields: Option<&[String]>) -> Json {
    let wanted = |name: &str| fields.is_none_or(|fields| fields.iter().any(|field| field == name));
    let public = settings::definitions()
        .iter()
        .filter(|definition| definition.public && wanted(definition.name));
    let values: Map<String, Json> = public
        .map(|definition| {
            let name = definition.name;
            let value = match definition.kind {
                Kind::YesNo | Kind::TrueFalse => settings.is_on(name).into(),
                Kind::Integer { .. } => settings.number(name).into(),
                Kind::List => settings.list(name).into(),
                Kind::Json => serde_json::from_str(settings.get(name)).unwrap_or_default(),
                Kind::Text | Kind::Secret | Kind::Email | Kind::OneOf(_) => {
                    settings.get(name).into()
                }
            };
            (name.to_owned(), value)
        })
        .collect();
    Json::Object(values)
}

/// That the caller is a member of the project, if one is named, is in the table.
async fn touch(store: &Store, mut call: Call) -> Result<Json, Error> {
    let account = super::accounts::caller(&call)?;
    let wanted = call.argument::<Option<Touch>>(0)?.unwrap_or_default();
    let mut on = store.write().await?;
    accounts::touch(&mut on, account, TOUCH).await?;
    if let Some(project) = wanted.project_id {
        projects::touch(&mut on, project, account).await?;
    }
    if let Some(path) = &wanted.path {
        let project = wanted
            .project_id
            .ok_or_else(|| Error::argument("args[0].project_id", "is required with a path"))?;
        let action = wanted.action.as_deref().unwrap_or(EDIT);
        touch_file(&mut on, account, project, path, action).await?;
        if action == OPEN {
            files::accessed(&mut on, project, account, path, ACCESS_KEEP).await?;
        }
    }
    on.commit().await?;
    Ok(Json::Null)
}

/// Notes the use of a file as a query of the caller would.
async fn touch_file(
    on: &mut Transaction,
    account: AccountId,
    project: ProjectId,
    path: &str,
    action: &str,
) -> Result<(), Error> {
    let now = throttle::now(on).await?;
    let mut row = json!({
        "project_id": project,
        "path": path,
        "users": {account.to_string(): {action: now}},
    });
    if action == EDIT
        && let Some(fields) = row.as_object_mut()
    {
        fields.insert("last_edited".to_owned(), json!(now));
    }
    let planned = plan(
        Caller::Account(account),
        &json!({"file_use": row}),
        &Json::Null,
        now,
    )?;
    for one in planned {
        if let Plan::Set(change) = one.plan {
            stored::change(on, &change).await?;
        }
    }
    Ok(())
}

//! `system`: what programs and browsers tell of their errors and of their users.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::accounts::caller;
use super::error::Error;
use super::handlers::{Call, Handlers};
use super::throttled::count;
use crate::auth::throttle::Action;
use crate::settings::Live;
use crate::store::{Store, logs};

/// How long it is kept, as in the original.
const KEEP: Duration = Duration::from_hours(30 * 24);

/// What the functions need.
#[derive(Debug, Clone)]
struct Logs {
    store: Store,
    settings: Arc<Live>,
}

#[derive(Deserialize)]
struct Tracked {
    event: String,
    #[serde(default)]
    value: Json,
}

#[derive(Deserialize)]
struct ClientError {
    event: String,
    error: String,
}

/// The handlers with those of this file.
pub fn install(store: &Store, settings: &Arc<Live>, handlers: Handlers) -> Handlers {
    let logs = Logs {
        store: store.clone(),
        settings: Arc::clone(settings),
    };
    handlers
        .with_on("system.userTracking", &logs, track)
        .with_on("system.logClientError", &logs, client_error)
        .with_on("system.webappError", &logs, webapp_error)
}

/// Nothing is noted about people unless the site says so, and they are not told whether it does.
async fn track(logs: Logs, mut call: Call) -> Result<Json, Error> {
    let account = caller(&call)?;
    let Tracked { event, value } = call.argument(0)?;
    if event.trim().is_empty() {
        return Err(Error::argument("args[0].event", "must not be empty"));
    }
    if !logs.settings.get().is_on("user_tracking") {
        return Ok(Json::Null);
    }
    count(&logs.store, Action::Report, &call.caller.to_string()).await?;
    let mut on = logs.store.write().await?;
    logs::tracked(&mut on, account, &event, &value, KEEP).await?;
    on.commit().await?;
    Ok(Json::Null)
}

async fn client_error(logs: Logs, mut call: Call) -> Result<Json, Error> {
    let ClientError { event, error } = call.argument(0)?;
    count(&logs.store, Action::Report, &call.caller.to_string()).await?;
    let mut on = logs.store.write().await?;
    logs::client_error(&mut on, call.caller, &event, &error, KEEP).await?;
    on.commit().await?;
    Ok(Json::Null)
}

async fn webapp_error(logs: Logs, mut call: Call) -> Result<Json, Error> {
    let mut value: Json = call.argument(0)?;
    let name = value
        .as_object_mut()
        .and_then(|fields| fields.remove("name"));
    let name = name.as_ref().and_then(Json::as_str).unwrap_or_default();
    if value.is_null() {
        value = json!({});
    }
    count(&logs.store, Action::Report, &call.caller.to_string()).await?;
    let mut on = logs.store.write().await?;
    logs::webapp_error(&mut on, call.caller, name, &value, KEEP).await?;
    on.commit().await?;
    Ok(Json::Null)
}

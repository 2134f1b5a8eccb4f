//! The functions that need nothing but the call itself.

use serde_json::{Value as Json, json};

use super::error::{Code, Error};
use super::handlers::{Call, Handlers};
use super::table;
use crate::caller::Caller;
use crate::time::Time;

/// The handlers with those of this file.
pub(super) fn with_own(handlers: Handlers) -> Handlers {
    let handlers = handlers
        .with("system.ping", |_| async { Ok(json!({"now": Time::now()})) })
        .with("system.test", |call| async move { Ok(test(&call)) });
    let known = handlers.clone();
    handlers.with("system.describe", move |call| {
        let known = known.clone();
        async move { describe(call, &known) }
    })
}

fn test(call: &Call) -> Json {
    let account = call.caller.account().map(|id| id.to_string());
    let mut answer = json!({"account_id": account.unwrap_or_default(), "server_time": Time::now()});
    if let (Caller::Project(id), Some(fields)) = (call.caller, answer.as_object_mut()) {
        fields.insert("project_id".to_owned(), id.to_string().into());
    }
    answer
}

fn describe(mut call: Call, handlers: &Handlers) -> Result<Json, Error> {
    let available = |name: &str| name == "system.describe" || handlers.has(name);
    let Some(name) = call.argument::<Option<String>>(0)? else {
        let all: Vec<Json> = table::functions()
            .map(|function| function.describe(available(function.name)))
            .collect();
        return Ok(json!(all));
    };
    let function = table::find(&name)
        .ok_or_else(|| Error::new(Code::NotFound, format!("unknown function '{name}'")))?;
    Ok(function.describe(available(function.name)))
}

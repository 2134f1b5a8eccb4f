//! The functions of the hub, as somebody who is signed in.

use std::time::Duration;

use dialtone_hub::api::{Api, Code, Error, Request};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::AccountId;
use dialtone_hub::store::Store;
use hyper::StatusCode;
use serde_json::{Value as Json, json};
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

/// Calls as one account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) api: &'a Api<Store>,
    pub(crate) account: AccountId,
}

impl Calls<'_> {
    /// Calls a function with one argument.
    pub(crate) async fn call(self, name: &str, options: Json) -> Result<Json, Error> {
        let request = Request {
            name: name.to_owned(),
            args: vec![options],
            timeout: None,
            id: None,
        };
        self.api.call(Caller::Account(self.account), request).await
    }

    /// The rows of a table that the caller may see, with these fields.
    pub(crate) async fn rows(
        self,
        table: &str,
        fields: &[&str],
        options: Json,
    ) -> Result<Vec<Json>, Error> {
        let row: Json = fields
            .iter()
            .map(|field| ((*field).to_owned(), Json::Null))
            .collect();
        let query = json!({ table: [row] });
        let found = self
            .call("db.userQuery", json!({"query": query, "options": options}))
            .await?;
        match found.get(table) {
            Some(Json::Array(rows)) => Ok(rows.clone()),
            _ => Err(Error::new(Code::Internal, format!("{table} has no rows"))),
        }
    }

    /// One row of a table, with these fields; `key` says which.
    pub(crate) async fn row(
        self,
        table: &str,
        key: (&str, Json),
        fields: &[&str],
    ) -> Result<Option<Json>, Error> {
        let row: Json = fields
            .iter()
            .map(|field| ((*field).to_owned(), Json::Null))
            .chain([(key.0.to_owned(), key.1)])
            .collect();
        let query = json!({ table: [row] });
        let found = self.call("db.userQuery", json!({"query": query})).await?;
        Ok(found.get(table).and_then(|rows| rows.get(0)).cloned())
    }
}

/// What `work` gives if it does so soon; otherwise it goes on by itself, and `None` is given.
///
/// # Errors
/// If it panicked.
pub(crate) async fn soon<T: Send + 'static>(
    tracker: &TaskTracker,
    within: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<Option<T>, JoinError> {
    let task = tracker.spawn(work);
    match tokio::time::timeout(within, task).await {
        Ok(done) => done.map(Some),
        Err(_later) => Ok(None),
    }
}

/// The code of HTTP for an error of a function.
pub(crate) fn status(error: &Error) -> StatusCode {
    match error.code {
        Code::BadRequest | Code::UnknownFunction | Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotSignedIn => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::NotConfigured => StatusCode::NOT_IMPLEMENTED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a person is told of it: what is nobody's business but the operator's is not shown.
pub(crate) fn told(error: &Error) -> String {
    if error.code == Code::Internal {
        "Something went wrong in the hub; its log says more.".to_owned()
    } else {
        error.text.clone()
    }
}

//! What time it is, for existing clients, which set their clocks by it: `time.<scope>.api`.

use std::time::{SystemTime, UNIX_EPOCH};

use dialtone_client::{Client, SubscribeError};
use tokio_util::sync::CancellationToken;

use crate::service::{Convention, serve as answer_calls};

/// Where it is asked; the second segment says who asks.
pub const SUBJECT: &str = "time.*.api";

/// Says what time it is until `stop`, or until the client ends.
///
/// # Errors
/// When the subject cannot be subscribed to.
pub async fn serve(client: Client, stop: CancellationToken) -> Result<(), SubscribeError> {
    let perform = async |call: crate::service::Call| match call.name.as_str() {
        "time" => Ok(now().into()),
        other => Err(format!("{other} not defined")),
    };
    answer_calls(&client, SUBJECT, Convention::Named, stop, perform).await
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

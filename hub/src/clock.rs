//! The time of the hub, for clients that want to know how wrong their own clock is.
//!
//! Whoever asks at `time.<kind>-<own id>.api` is answered with the milliseconds since 1970, in the encoding of the request.

use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};

use crate::time::Time;

/// Where the time is asked for.
const PATTERN: &str = "time.*.api";

/// The queue group of all hubs.
const GROUP: &str = "0";

/// Tells the time until it is stopped.
///
/// # Errors
/// When the broker does not let this client subscribe.
pub async fn serve(client: &Client) -> Result<Service, SubscribeError> {
    let options = ServiceOptions {
        group: GROUP.to_owned(),
        ..ServiceOptions::default()
    };
    client
        .service_with(PATTERN, options, |message| async move { tell(&message) })
        .await
}

fn tell(message: &Message) -> Result<Answer, ServiceError> {
    let now = Time::now().millis();
    Ok(match message.encoding() {
        Encoding::Json => Answer::json(&now)?,
        Encoding::MessagePack | Encoding::Other(_) => Answer::msgpack(&now)?,
    })
}

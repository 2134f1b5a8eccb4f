//! The time of the hub, for clients that want to know how wrong their own clock is.
//!
//! Whoever asks at `time.<kind>-<own id>.api` is answered with the milliseconds since 1970, in the encoding of the request.

use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};

use serde_json::{Value, json};

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
    let said = answer(&message.decode().unwrap_or_default());
    Ok(match message.encoding() {
        Encoding::Json => Answer::json(&said)?,
        Encoding::MessagePack | Encoding::Other(_) => Answer::msgpack(&said)?,
    })
}

/// As listeners for existing clients answer, with whom requests are shared.
fn answer(asked: &Value) -> Value {
    let name = asked.get("name").and_then(Value::as_str);
    match (asked.as_str(), name) {
        (Some("ping"), _) => json!("pong"),
        (_, Some(name)) if name != "time" => {
            json!({ "error": format!("Error: {name} not defined") })
        }
        _ => json!(Time::now().millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_clients_are_answered_in_their_convention() {
        assert_eq!(answer(&json!("ping")), "pong");
        let none = answer(&json!({"name": "dance"}));
        assert_eq!(none, json!({"error": "Error: dance not defined"}));
        assert!(answer(&json!({"name": "time", "args": []})).is_number());
        assert!(answer(&Value::Null).is_number());
    }
}

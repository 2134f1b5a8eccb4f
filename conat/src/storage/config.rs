//! The configuration of a stream as clients know it: no limit is -1, and age is a matter of its own.

use dialtone_client::persist::wire::{Config, ConfigPatch, Discard};
use serde_json::{Map, Value, json};

/// What a stream in memory holds at most, in bytes.
const EPHEMERAL_BYTES_MAX: u64 = 64_000_000;

/// The configuration of a stream that is made for a client.
pub(super) fn of_new(ephemeral: bool) -> Config {
    Config {
        ephemeral,
        allow_ttl: false,
        ..Config::default()
    }
}

/// What a client wants to change.
pub(super) fn patch(wanted: &Map<String, Value>) -> ConfigPatch {
    let limit = |name: &str| wanted.get(name).and_then(limit);
    ConfigPatch {
        description: wanted.get("desc").map(description),
        max_msgs: limit("max_msgs"),
        max_bytes: limit("max_bytes"),
        max_age: limit("max_age"),
        max_msg_size: limit("max_msg_size"),
        max_msgs_per_second: limit("max_msgs_per_second"),
        max_bytes_per_second: limit("max_bytes_per_second"),
        discard: wanted.get("discard_policy").map(|policy| {
            if policy == "new" {
                Discard::New
            } else {
                Discard::Old
            }
        }),
        allow_ttl: wanted.get("allow_msg_ttl").and_then(Value::as_bool),
        ..ConfigPatch::default()
    }
}

/// Nothing that is no number; no limit for what is not positive.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is positive, and what is beyond the type is no limit"
)]
fn limit(value: &Value) -> Option<u64> {
    let number = value.as_f64()?;
    Some(if number > 0.0 {
        number.ceil() as u64
    } else {
        0
    })
}

/// Anything may describe a stream; it is kept as the text that it is in JSON.
fn description(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => value.to_string(),
    }
}

/// The whole configuration.
pub(super) fn shown(config: &Config) -> Map<String, Value> {
    let limited = |limit: u64| if limit == 0 { json!(-1) } else { json!(limit) };
    let max_bytes = match (config.ephemeral, config.max_bytes) {
        (true, 0) => EPHEMERAL_BYTES_MAX,
        (true, set) => set.min(EPHEMERAL_BYTES_MAX),
        (false, set) => set,
    };
    let discard = match config.discard {
        Discard::Old => "old",
        Discard::New => "new",
    };
    let desc = if config.description.is_empty() {
        Value::Null
    } else {
        // What native clients write is a text as it is.
        serde_json::from_str(&config.description)
            .unwrap_or_else(|_plain| config.description.clone().into())
    };
    [
        ("max_msgs", limited(config.max_msgs)),
        ("max_age", json!(config.max_age)),
        ("max_bytes", limited(max_bytes)),
        ("max_msg_size", limited(config.max_msg_size)),
        ("max_bytes_per_second", limited(config.max_bytes_per_second)),
        ("max_msgs_per_second", limited(config.max_msgs_per_second)),
        ("discard_policy", json!(discard)),
        ("allow_msg_ttl", json!(config.allow_ttl)),
        ("desc", desc),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What is not as it is without anybody saying so.
pub(super) fn limits(config: &Config) -> Map<String, Value> {
    let plain = shown(&Config {
        ephemeral: config.ephemeral,
        ..of_new(config.ephemeral)
    });
    shown(config)
        .into_iter()
        .filter(|(name, value)| plain.get(name) != Some(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(wanted: Value) -> Config {
        let Value::Object(wanted) = wanted else {
            panic!("an object");
        };
        patch(&wanted).apply(&of_new(false))
    }

    #[test]
    fn a_new_stream_has_the_defaults_that_clients_know() {
        let shown = Value::Object(shown(&of_new(false)));
        let expected = json!({
            "max_msgs": -1, "max_age": 0, "max_bytes": -1, "max_msg_size": -1, "max_bytes_per_second": -1,
            "max_msgs_per_second": -1, "discard_policy": "old", "allow_msg_ttl": false, "desc": null,
        });
        assert_eq!(shown, expected);
        assert!(limits(&of_new(false)).is_empty());
    }

    #[test]
    fn what_is_changed_is_shown_and_the_rest_stays() {
        let config = changed(json!({
            "max_msgs": 5, "max_bytes": -1, "discard_policy": "new", "allow_msg_ttl": true, "desc": {"a": [1]},
            "max_age": 1000, "unknown": 1, "max_msg_size": null,
        }));
        let found = Value::Object(limits(&config));
        let expected = json!({
            "max_msgs": 5, "max_age": 1000, "discard_policy": "new", "allow_msg_ttl": true, "desc": {"a": [1]},
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_stream_in_memory_is_bounded() {
        let config = of_new(true);
        assert_eq!(shown(&config).get("max_bytes"), Some(&json!(64_000_000)));
        assert!(limits(&config).is_empty());
    }
}

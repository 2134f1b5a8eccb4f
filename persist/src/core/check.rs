//! Bounds of what comes from outside, before anything else looks at it.

use dialtone_client::persist::wire::{
    self, Config, ConsumerConfig, DESCRIPTION_LEN_MAX, Fault, FaultKind, KEY_LEN_MAX,
    MESSAGE_ID_LEN_MAX, PAYLOAD_LEN_MAX, RECORD_HEADERS_LEN_MAX, Record,
};

/// Most bytes of an ephemeral stream.
pub const EPHEMERAL_BYTES_MAX: u64 = 64_000_000;

/// Most records of a key that can be kept.
pub const MSGS_PER_KEY_MAX: u32 = 64;

/// Longest window of message ids, in milliseconds: 7 days.
pub const DUPLICATE_WINDOW_MAX: u64 = 7 * 24 * 3_600_000;

/// Most removals that can be kept.
pub const REMOVALS_KEPT_MAX: u64 = 1_000_000;

/// Greatest number in a configuration, so that sums cannot overflow and JSON can hold it.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

fn too_large(what: &str, len: usize, max: usize) -> Fault {
    Fault::new(
        FaultKind::TooLarge,
        format!("{what} of {len} bytes is longer than the limit of {max}"),
    )
}

fn bad(text: String) -> Fault {
    Fault::new(FaultKind::BadRequest, text)
}

/// Checks a record that is to be appended.
///
/// # Errors
/// `too-large` or `bad-request`, with what is wrong.
pub fn record(record: &Record) -> Result<(), Fault> {
    let key_len = record.key.as_ref().map_or(0, String::len);
    if key_len > KEY_LEN_MAX {
        return Err(too_large("a key", key_len, KEY_LEN_MAX));
    }
    if record.payload.len() > PAYLOAD_LEN_MAX {
        return Err(too_large(
            "a payload",
            record.payload.len(),
            PAYLOAD_LEN_MAX,
        ));
    }
    let headers_len = record.headers.as_ref().map_or(0, |headers| headers.len());
    if headers_len > RECORD_HEADERS_LEN_MAX {
        return Err(too_large("headers", headers_len, RECORD_HEADERS_LEN_MAX));
    }
    let id_len = record.id.as_ref().map_or(0, String::len);
    if id_len > MESSAGE_ID_LEN_MAX {
        return Err(too_large("a message id", id_len, MESSAGE_ID_LEN_MAX));
    }
    if record.ttl.is_some_and(|ttl| ttl > NUMBER_MAX) {
        return Err(bad(format!("a ttl is at most {NUMBER_MAX} ms")));
    }
    let needs_key = matches!(record.expect, Some(wire::Expect::KeySeq(_)));
    if needs_key && record.key.is_none() {
        return Err(bad(
            "an expectation of a key's number needs a record with a key".to_owned(),
        ));
    }
    Ok(())
}

/// Checks a configuration.
///
/// # Errors
/// `bad-request` with the field that is wrong.
pub fn config(config: &Config) -> Result<(), Fault> {
    if config.description.len() > DESCRIPTION_LEN_MAX {
        let len = config.description.len();
        return Err(too_large("a description", len, DESCRIPTION_LEN_MAX));
    }
    let per_key = config.max_msgs_per_key;
    if per_key == 0 || per_key > MSGS_PER_KEY_MAX {
        return Err(bad(format!(
            "max_msgs_per_key is {per_key}, and must be from 1 to {MSGS_PER_KEY_MAX}"
        )));
    }
    let bounded = [
        ("max_msgs", config.max_msgs, NUMBER_MAX),
        ("max_bytes", config.max_bytes, NUMBER_MAX),
        ("max_age", config.max_age, NUMBER_MAX),
        ("max_msg_size", config.max_msg_size, NUMBER_MAX),
        (
            "max_msgs_per_second",
            config.max_msgs_per_second,
            NUMBER_MAX,
        ),
        (
            "max_bytes_per_second",
            config.max_bytes_per_second,
            NUMBER_MAX,
        ),
        (
            "duplicate_window",
            config.duplicate_window,
            DUPLICATE_WINDOW_MAX,
        ),
        ("removals_kept", config.removals_kept, REMOVALS_KEPT_MAX),
    ];
    match bounded.into_iter().find(|(_, value, max)| value > max) {
        Some((name, value, max)) => Err(bad(format!("{name} is {value}, and at most {max}"))),
        None => Ok(()),
    }
}

/// Checks the name of a consumer.
///
/// # Errors
/// `bad-request` with what is wrong.
pub fn consumer_name(name: &str) -> Result<(), Fault> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > wire::CONSUMER_NAME_LEN_MAX || !name.bytes().all(is_allowed)
    {
        return Err(bad(format!(
            "the name of a consumer has 1 to {} letters, digits, `-`, `_`, `.`",
            wire::CONSUMER_NAME_LEN_MAX
        )));
    }
    Ok(())
}

/// Checks how a consumer is to deliver.
///
/// # Errors
/// `bad-request` with the field that is wrong.
pub fn consumer(config: &ConsumerConfig) -> Result<(), Fault> {
    if config.description.len() > DESCRIPTION_LEN_MAX {
        let len = config.description.len();
        return Err(too_large("a description", len, DESCRIPTION_LEN_MAX));
    }
    if !(100..=86_400_000).contains(&config.ack_wait) {
        return Err(bad(format!(
            "ack_wait is {} ms, and must be from 100 to 86400000",
            config.ack_wait
        )));
    }
    if !(1..=10_000).contains(&config.max_ack_pending) {
        return Err(bad(format!(
            "max_ack_pending is {}, and must be from 1 to 10000",
            config.max_ack_pending
        )));
    }
    let prefix_len = config.prefix.as_ref().map_or(0, String::len);
    if prefix_len > KEY_LEN_MAX {
        return Err(too_large("a prefix", prefix_len, KEY_LEN_MAX));
    }
    Ok(())
}

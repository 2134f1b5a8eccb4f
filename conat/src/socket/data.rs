//! What a socket carries, and its bounds.

use std::time::Duration;

use bytes::Bytes;
use dialtone_client::{Encoding, Headers};
use serde::Serialize;

use super::encode;

/// Bounds and times of a socket.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most messages that are sent and not acknowledged.
    pub queue_max: usize,
    /// Most messages that have come and are not taken by the program.
    pub inbound_max: usize,
    /// How often the other end is asked whether it is there.
    pub keep_alive: Duration,
    /// How long its answer may take.
    pub keep_alive_timeout: Duration,
    /// How long the answer to a command may take.
    pub command_timeout: Duration,
    /// First pause before what is not acknowledged is sent again; it grows up to [`resend_max`](Self::resend_max).
    pub resend_min: Duration,
    /// Longest such pause.
    pub resend_max: Duration,
    /// How long what is sent may stay without an acknowledgement.
    pub resend_window: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_max: 1_000,
            inbound_max: 1_000,
            keep_alive: Duration::from_secs(45),
            keep_alive_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(10),
            resend_min: Duration::from_secs(1),
            resend_max: Duration::from_secs(15),
            resend_window: Duration::from_mins(2),
        }
    }
}

/// A message of a socket.
#[derive(Debug, Clone)]
pub struct Data {
    /// What was said beside the payload.
    pub headers: Headers,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// The bytes.
    pub payload: Bytes,
}

impl Data {
    /// A value in `MessagePack`, as existing clients encode theirs.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self {
            headers: Headers::new(),
            encoding: Encoding::MessagePack,
            payload: encode(value).into(),
        }
    }

    /// The same with headers.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        Self { headers, ..self }
    }

    /// Reads the payload as its encoding says.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        match self.encoding {
            Encoding::Json => {
                serde_json::from_slice(&self.payload).map_err(|error| error.to_string())
            }
            Encoding::MessagePack | Encoding::Other(_) => {
                rmp_serde::from_slice(&self.payload).map_err(|error| error.to_string())
            }
        }
    }
}

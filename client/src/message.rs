//! What arrives, and replying to it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_protocol::Subject;
use serde::de::DeserializeOwned;

use crate::error::{PayloadError, RespondError};
use crate::headers::{Headers, HeadersError};
use crate::payload::{Encoding, Payload};
use crate::publish::Draft;
use crate::shared::Shared;

/// A message from the broker.
#[derive(Clone)]
pub struct Message {
    subject: Subject,
    payload: Bytes,
    /// What most messages do not have, aside so that they stay small.
    extras: Option<Box<Extras>>,
    encoding: Encoding,
}

#[derive(Clone, Default)]
struct Extras {
    reply: Option<Box<str>>,
    headers: Option<Bytes>,
    shared: Option<Arc<Shared>>,
}

impl Message {
    pub(crate) fn new(subject: Subject, encoding: u8, payload: Bytes) -> Self {
        Self {
            subject,
            payload,
            extras: None,
            encoding: Encoding::from_number(encoding),
        }
    }

    pub(crate) fn with_headers(mut self, headers: Bytes) -> Self {
        self.extras.get_or_insert_default().headers = Some(headers);
        self
    }

    pub(crate) fn with_reply(mut self, reply: &str, shared: &Arc<Shared>) -> Self {
        let extras = self.extras.get_or_insert_default();
        extras.reply = Some(reply.into());
        extras.shared = Some(Arc::clone(shared));
        self
    }

    /// What it counts for in a queue that is bounded in bytes.
    pub(crate) fn cost(&self) -> usize {
        let headers = self.header_bytes().map_or(0, Bytes::len);
        size_of::<Self>() + self.subject.as_str().len() + headers + self.payload.len()
    }

    /// Its name.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The payload as it came.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload as it came.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// How the payload is to be read.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Where an answer is to go.
    pub fn reply(&self) -> Option<&str> {
        self.extras.as_ref()?.reply.as_deref()
    }

    /// Whether an answer is expected.
    pub fn is_request(&self) -> bool {
        self.reply().is_some()
    }

    /// The headers as they came.
    pub fn header_bytes(&self) -> Option<&Bytes> {
        self.extras.as_ref()?.headers.as_ref()
    }

    /// The headers, read at each call; empty when the message has none.
    ///
    /// # Errors
    /// When they are not one JSON object.
    pub fn headers(&self) -> Result<Headers, HeadersError> {
        self.header_bytes()
            .map_or(Ok(Headers::new()), |bytes| Headers::parse(bytes))
    }

    /// Reads the payload as JSON, whatever its encoding says.
    ///
    /// # Errors
    /// When it is not JSON for a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        Ok(serde_json::from_slice(&self.payload)?)
    }

    /// Reads the payload as `MessagePack`, whatever its encoding says.
    ///
    /// # Errors
    /// When it is not `MessagePack` for a `T`.
    pub fn msgpack<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        Ok(rmp_serde::from_slice(&self.payload)?)
    }

    /// Reads the payload as its encoding says.
    ///
    /// # Errors
    /// When it does not hold a `T` in that encoding, or the encoding is neither JSON nor `MessagePack`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        match self.encoding {
            Encoding::MessagePack => self.msgpack(),
            Encoding::Json => self.json(),
            Encoding::Other(number) => Err(PayloadError::UnknownEncoding(number)),
        }
    }

    /// Answers with a payload, waiting only for room in the outgoing queue.
    ///
    /// # Errors
    /// When the message is not a request, or the answer cannot be published.
    pub async fn respond<'a>(
        &'a self,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), RespondError> {
        Ok(self.answer()?.payload(payload).publish().await?)
    }

    /// Answers with headers, an encoding and a payload.
    ///
    /// # Errors
    /// When the message is not a request, or the answer cannot be published.
    pub async fn respond_with<'a>(
        &'a self,
        headers: &Headers,
        encoding: Encoding,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), RespondError> {
        Ok(self
            .answer()?
            .headers(headers)
            .encoding(encoding)
            .payload(payload)
            .publish()
            .await?)
    }

    /// Begins an answer to which more can be said.
    ///
    /// # Errors
    /// When the message is not a request.
    pub fn answer(&self) -> Result<Draft<'_>, RespondError> {
        let extras = self.extras.as_ref().ok_or(RespondError::NotARequest)?;
        match (&extras.reply, &extras.shared) {
            (Some(reply), Some(shared)) => Ok(Draft::new(shared, (&**reply).into())),
            _ => Err(RespondError::NotARequest),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("reply", &self.reply())
            .field("encoding", &self.encoding)
            .field("headers", &self.header_bytes())
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(subject: &str, payload: &'static [u8]) -> Message {
        Message::new(
            Subject::new(subject).unwrap(),
            0,
            Bytes::from_static(payload),
        )
    }

    #[test]
    fn a_plain_message_is_small() {
        assert!(size_of::<Message>() <= 64);
    }

    #[test]
    fn payloads_are_read_as_their_encoding_says() {
        let mut message = message("a", b"[1,2]");
        assert!(
            message.decode::<Vec<u8>>().is_err(),
            "it is not MessagePack"
        );
        message.encoding = Encoding::Json;
        assert_eq!(message.decode::<Vec<u8>>().unwrap(), [1, 2]);
        message.encoding = Encoding::Other(9);
        assert!(matches!(
            message.decode::<Vec<u8>>(),
            Err(PayloadError::UnknownEncoding(9))
        ));
        assert!(matches!(message.answer(), Err(RespondError::NotARequest)));
        assert!(message.headers().unwrap().is_empty());
    }
}

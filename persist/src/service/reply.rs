//! Answering a request, once.

use std::sync::Arc;

use dialtone_client::persist::wire::{self, Fault, FaultKind};
use dialtone_client::{Encoding, Message, PublishError};
use serde::Serialize;

use super::shared::Shared;
use crate::counters;

/// `MessagePack` for nothing, the payload of an answer that is a fault.
const NIL: &[u8] = &[0xc0];

/// Where the answer to a request goes.
pub(crate) struct Reply {
    message: Message,
    shared: Arc<Shared>,
}

impl Reply {
    pub(crate) fn new(message: Message, shared: &Arc<Shared>) -> Self {
        Self {
            message,
            shared: Arc::clone(shared),
        }
    }

    fn encoding(&self) -> Encoding {
        match self.message.encoding() {
            Encoding::Json => Encoding::Json,
            Encoding::MessagePack | Encoding::Other(_) => Encoding::MessagePack,
        }
    }

    /// Answers with a value or a fault.
    pub(crate) fn finish<T: Serialize>(self, result: Result<T, Fault>) {
        match result {
            Ok(value) => self.answer(&value),
            Err(fault) => self.fault(&fault),
        }
    }

    /// Answers with a value.
    pub(crate) fn answer<T: Serialize>(self, value: &T) {
        if !self.message.is_request() {
            return;
        }
        match wire::encode(value, self.encoding()) {
            Ok(payload) => self.send(None, payload),
            Err(error) => {
                let text = format!("the answer cannot be written: {error}");
                self.fault(&Fault::new(FaultKind::Internal, text));
            }
        }
    }

    /// Answers with a fault.
    pub(crate) fn fault(self, fault: &Fault) {
        counters::add(&self.shared.counters.faults, 1);
        tracing::debug!(subject = %self.message.subject(), kind = fault.kind.word(), text = %fault.text, "refused");
        if self.message.is_request() {
            let payload = match self.encoding() {
                Encoding::Json => b"null".as_slice(),
                Encoding::MessagePack | Encoding::Other(_) => NIL,
            };
            self.send(Some(fault.to_headers()), payload.to_vec());
        }
    }

    fn send(self, headers: Option<dialtone_client::Headers>, payload: Vec<u8>) {
        let payload = bytes::Bytes::from(payload);
        let headers = headers.unwrap_or_default();
        match self.draft(&headers, payload.clone()) {
            Ok(draft) => match draft.try_publish() {
                Ok(()) => {}
                Err(PublishError::Full) => {
                    let shared = Arc::clone(&self.shared);
                    drop(shared.tracker.spawn(self.send_later(headers, payload)));
                }
                Err(error) => self.lost(&error),
            },
            Err(error) => self.lost(&error),
        }
    }

    async fn send_later(self, headers: dialtone_client::Headers, payload: bytes::Bytes) {
        let sent = match self.draft(&headers, payload) {
            Ok(draft) => draft.publish().await,
            Err(_not_a_request) => return,
        };
        if let Err(error) = sent {
            self.lost(&error);
        }
    }

    fn draft(
        &self,
        headers: &dialtone_client::Headers,
        payload: bytes::Bytes,
    ) -> Result<dialtone_client::Draft<'_>, dialtone_client::RespondError> {
        let draft = self.message.answer()?;
        Ok(draft
            .headers(headers)
            .encoding(self.encoding())
            .payload(payload))
    }

    fn lost(&self, error: &(dyn std::error::Error + 'static)) {
        counters::add(&self.shared.counters.answers_lost, 1);
        tracing::warn!(subject = %self.message.subject(), error, "cannot answer");
    }
}

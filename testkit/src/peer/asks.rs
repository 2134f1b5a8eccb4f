//! Questions with their answers, and frames in short form.

use super::{
    Code, Duration, Fragment, Frame, Interest, Message, Peer, Publish, Published, Refused,
    RequestId, Said, Subscribe, SubscriptionId, Unsubscribe, Wanted,
};

/// A publish frame in short form.
pub fn publish<'a>(subject: &'a str, payload: &'a [u8]) -> Publish<'a> {
    let message = Message {
        subject,
        reply: None,
        encoding: 0,
        headers: None,
        payload,
    };
    Publish {
        request: None,
        unreliable: false,
        fragment: None,
        message,
    }
}

/// The publish frames of a message in fragments of at most `fragment_len` bytes.
///
/// # Panics
/// When there are more fragments than a number of 32 bits can count.
pub fn fragments<'a>(
    id: u64,
    subject: &'a str,
    payload: &'a [u8],
    fragment_len: usize,
) -> Vec<Publish<'a>> {
    let total_len = payload.len() as u64;
    let cut = |(index, part): (usize, &'a [u8])| {
        let index = u32::try_from(index).expect("a test's message has few fragments");
        Publish {
            fragment: Some(Fragment {
                id,
                index,
                total_len,
            }),
            ..publish(subject, part)
        }
    };
    payload.chunks(fragment_len).enumerate().map(cut).collect()
}

impl Peer {
    /// Publishes without an acknowledgement.
    pub async fn publish(&mut self, subject: &str, payload: &[u8]) {
        self.send(&Frame::Publish(publish(subject, payload))).await;
    }

    /// Publishes, and waits for the acknowledgement; what else was said meanwhile can still be read.
    ///
    /// # Errors
    /// When the broker refuses the message.
    ///
    /// # Panics
    /// When the connection ends.
    pub async fn publish_acked(&mut self, subject: &str, payload: &[u8]) -> Result<u32, Refused> {
        let request = RequestId(self.number());
        self.send(&Frame::Publish(Publish {
            request: Some(request),
            ..publish(subject, payload)
        }))
        .await;
        self.find(|said| {
            let Said::Published(Published {
                request: of,
                outcome,
            }) = said
            else {
                return None;
            };
            (*of == request).then(|| outcome.clone())
        })
        .await
    }

    /// Subscribes to a pattern, and waits for the answer.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn subscribe(&mut self, pattern: &str) -> Result<SubscriptionId, Refused> {
        self.subscribe_to(Wanted::new(pattern)).await
    }

    /// Begins a subscription under a number that is given to it, and waits for the answer.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn subscribe_to(&mut self, wanted: Wanted) -> Result<SubscriptionId, Refused> {
        let id = SubscriptionId(self.number());
        let mut refused = self.subscribe_all(vec![Wanted { id, ..wanted }]).await;
        match refused.pop() {
            Some((_, refused)) => Err(refused),
            None => Ok(id),
        }
    }

    /// Begins subscriptions in one batch; returns those that were refused.
    pub async fn subscribe_all(&mut self, wanted: Vec<Wanted>) -> Vec<(SubscriptionId, Refused)> {
        let request = RequestId(self.number());
        self.send(&Frame::Subscribe(Subscribe { request, wanted }))
            .await;
        self.find(|said| {
            let Said::Subscribed(answer) = said else {
                return None;
            };
            (answer.request == request).then(|| answer.refused.clone())
        })
        .await
    }

    /// Ends subscriptions, and waits for the answer.
    pub async fn unsubscribe(&mut self, ids: &[SubscriptionId]) {
        let request = RequestId(self.number());
        self.send(&Frame::Unsubscribe(Unsubscribe {
            request,
            ids: ids.to_vec(),
        }))
        .await;
        self.find(|said| {
            matches!(said, Said::Unsubscribed(answer) if answer.request == request).then_some(())
        })
        .await;
    }

    /// Asks for interest without waiting for the answer; returns the number of the question.
    pub async fn ask_interest(&mut self, subject: &str, wait: Duration) -> RequestId {
        let request = RequestId(self.number());
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.send(&Frame::Interest(Interest {
            request,
            subject: subject.to_owned(),
            wait_ms,
        }))
        .await;
        request
    }

    /// The answer to a question about interest.
    ///
    /// # Errors
    /// When the broker refuses to answer.
    pub async fn interested(&mut self, request: RequestId) -> Result<bool, Refused> {
        self.find(|said| {
            let Said::Interested(answer) = said else {
                return None;
            };
            (answer.request == request).then(|| answer.answer.clone())
        })
        .await
    }

    /// Reads until something is found, and takes that out; what came before it can still be read.
    ///
    /// # Panics
    /// When the connection ends first.
    pub async fn find<T>(&mut self, mut found: impl FnMut(&Said) -> Option<T>) -> T {
        let mut skipped = Vec::new();
        loop {
            let said = self.next().await;
            let said =
                said.unwrap_or_else(|| panic!("the connection ended; before that: {skipped:?}"));
            if let Some(found) = found(&said) {
                for said in skipped.into_iter().rev() {
                    self.unread.push_front(said);
                }
                return found;
            }
            skipped.push(said);
        }
    }

    /// The code of a refusal.
    ///
    /// # Panics
    /// When it was none.
    pub fn code<T: std::fmt::Debug>(result: Result<T, Refused>) -> Code {
        result
            .expect_err("the broker was expected to refuse this")
            .code
    }
}

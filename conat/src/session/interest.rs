//! Does anybody subscribe, and when?

use dialtone_protocol::frame::{Interest, Refused};
use dialtone_protocol::limits::{INTEREST_WAIT_MS_MAX, SUBJECT_LEN_MAX};
use dialtone_protocol::{Code, Frame};
use serde_json::Value;

use super::{Asked, Session, error_json};
use crate::event::WaitForInterest;

impl Session {
    /// Without a wish for an answer there is nothing to do.
    pub(super) fn on_wait_for_interest(&mut self, wait: &WaitForInterest, ack: Option<u64>) {
        let Some(ack) = ack else { return };
        let subject = wait.subject.as_deref().unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_LEN_MAX {
            return self.answer_error(Some(ack), "invalid subject", None);
        }
        let wait_ms = wait_ms(wait.timeout.unwrap_or(0.0));
        let request = self.request(Asked::Interest {
            ack,
            subject: subject.into(),
            waits: wait_ms > 0,
        });
        self.frames.push(&Frame::Interest(Interest {
            request,
            subject: subject.to_owned(),
            wait_ms,
        }));
    }

    pub(super) fn on_interested(
        &mut self,
        ack: u64,
        subject: &str,
        waits: bool,
        answer: Result<bool, Refused>,
    ) {
        let answer = match answer {
            Ok(false) if waits => error_json("timeout", None),
            Ok(interested) => Value::Bool(interested),
            Err(refused) => match refused.code {
                Code::InvalidSubject => error_json("invalid subject", None),
                Code::Denied => {
                    let text = format!(
                        "permission denied waiting for interest in '{subject}' from {}",
                        self.user
                    );
                    self.tell_permission(subject, "pub", &text);
                    error_json(&text, Some(403))
                }
                code @ (Code::Normal
                | Code::BadFrame
                | Code::Unauthenticated
                | Code::Timeout
                | Code::Conflict
                | Code::Draining
                | Code::TooLarge
                | Code::UnsupportedVersion
                | Code::TooMany
                | Code::SlowConsumer
                | Code::Kicked
                | Code::Internal
                | Code::NoSubscribers
                | Code::Other(_)) => error_json(&refused.text, Some(code.number())),
            },
        };
        self.output.answer(ack, &answer);
    }
}

/// Anything that is no positive number does not wait.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is within the bounds of the type by then"
)]
fn wait_ms(timeout: f64) -> u32 {
    if timeout > 0.0 {
        timeout.ceil().min(f64::from(INTEREST_WAIT_MS_MAX)) as u32
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        for (timeout, expected) in [
            (0.0, 0),
            (-1.0, 0),
            (f64::NAN, 0),
            (0.2, 1),
            (500.0, 500),
            (90_000.0, 90_000),
            (1e12, 90_000),
            (f64::INFINITY, 90_000),
        ] {
            assert_eq!(wait_ms(timeout), expected, "{timeout}");
        }
    }
}

//! Interest: does anybody subscribe, and tell me when somebody does.

use std::time::{Duration, Instant};

use dialtone_protocol::frame::{Action, Cancel, Interest, Interested, Refused};
use dialtone_protocol::limits::INTEREST_WAIT_MS_MAX;
use dialtone_protocol::{Code, Frame, RequestId, subject};

use super::Conn;
use super::effects::Effects;
use super::read::Flow;
use crate::registry::Inbox;
use crate::sys;

impl Conn {
    pub(super) fn on_interest(
        &mut self,
        interest: Interest,
        effects: &mut Effects,
        now: Instant,
    ) -> Flow {
        let allowed = match subject::check_subject(&interest.subject) {
            Err(error) => Err(Refused::new(Code::InvalidSubject, error.to_string())),
            Ok(()) => match self
                .decisions
                .of(&self.principal, Action::Publish, &interest.subject)
            {
                None => return Flow::Ask(Action::Publish, interest.subject),
                Some(false) => {
                    let text = format!("permission denied: publishing to {:?}", interest.subject);
                    self.shared.metrics.denied.add(1);
                    Err(Refused::new(Code::Denied, text))
                }
                Some(true) => Ok(()),
            },
        };
        match allowed {
            Err(refused) => self.answer(interest.request, Err(refused), effects),
            Ok(()) => self.look_or_wait(interest, effects, now),
        }
        Flow::On
    }

    fn look_or_wait(&mut self, interest: Interest, effects: &mut Effects, now: Instant) {
        let Interest {
            request,
            subject,
            wait_ms,
        } = interest;
        if self.is_interested(&subject) || wait_ms == 0 {
            let answer = self.is_interested(&subject);
            return self.answer(request, Ok(answer), effects);
        }
        if let Err(refused) = self.may_wait(request) {
            return self.answer(request, Err(refused), effects);
        }
        let deadline = now + Duration::from_millis(wait_ms.min(INTEREST_WAIT_MS_MAX).into());
        self.shared.waiting.add(&subject, &self.peer, request);
        // Somebody may have subscribed between the look and the note.
        if self.is_interested(&subject) && self.shared.waiting.remove(&subject, &self.peer, request)
        {
            return self.answer(request, Ok(true), effects);
        }
        self.waits_deadline = Some(
            self.waits_deadline
                .map_or(deadline, |earliest| earliest.min(deadline)),
        );
        self.waits
            .insert(request, (deadline, subject.into_boxed_str()));
    }

    fn may_wait(&mut self, request: RequestId) -> Result<(), Refused> {
        let waits = self.waits.get(&request);
        if waits.is_some_and(|(_, subject)| {
            self.shared.waiting.is_waiting(subject, &self.peer, request)
        }) {
            return Err(Refused::new(
                Code::Conflict,
                format!("question {request} waits already"),
            ));
        }
        let max = self.session.limits().requests_max as usize;
        if self.waits.len() >= max {
            // Those that were answered are still in the list until their deadlines.
            let (waiting, peer) = (&self.shared.waiting, &self.peer);
            self.waits
                .retain(|&request, (_, subject)| waiting.is_waiting(subject, peer, request));
        }
        if self.waits.len() >= max {
            return Err(Refused::new(
                Code::TooMany,
                format!("the connection has its limit of {max} waiting questions"),
            ));
        }
        if self.shared.waiting.len() >= self.shared.config.interest_waiting_max as usize {
            return Err(Refused::new(
                Code::TooMany,
                "the node has its limit of waiting questions",
            ));
        }
        Ok(())
    }

    fn is_interested(&self, subject: &str) -> bool {
        match self.shared.find_inbox(subject.as_bytes()) {
            Inbox::No => {}
            Inbox::Gone => return false,
            Inbox::Of(_) | Inbox::Elsewhere(_) => return true,
        }
        sys::is_own(subject) || self.shared.router.is_interested(subject)
    }

    pub(super) fn on_cancel(&mut self, cancel: &Cancel) {
        if let Some((_, subject)) = self.waits.remove(&cancel.request) {
            self.shared
                .waiting
                .remove(&subject, &self.peer, cancel.request);
        }
    }

    /// Answers the questions whose wait is over.
    pub(super) fn answer_overdue(&mut self, now: Instant) {
        if self.waits_deadline.is_none_or(|earliest| now < earliest) {
            return;
        }
        let overdue = self
            .waits
            .extract_if(.., |_, (deadline, _)| *deadline <= now);
        for (request, (_, subject)) in overdue {
            if self.shared.waiting.remove(&subject, &self.peer, request) {
                let frame = Frame::Interested(Interested {
                    request,
                    answer: Ok(false),
                });
                if self.peer.outbox.push_frame(&frame).claimed {
                    self.peer.outbox.flush();
                }
            }
        }
        self.waits_deadline = self.waits.values().map(|(deadline, _)| *deadline).min();
    }

    fn answer(&self, request: RequestId, answer: Result<bool, Refused>, effects: &mut Effects) {
        effects.push_frame(
            &self.peer,
            &Frame::Interested(Interested { request, answer }),
        );
    }
}

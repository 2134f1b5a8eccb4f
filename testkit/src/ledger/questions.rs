//! Questions whether anybody subscribes, which may wait for somebody who does.

use std::time::Duration;

use dialtone_protocol::frame::Interested;
use dialtone_protocol::{RequestId, Subject};
use tokio::time::Instant;

use super::{ClientId, Ledger, Moment, Subscription};

/// How long it may take, in a calm, until the interest that a client was told to have reaches every node: what travels
/// before it on the slowest way, and what nodes gather before they tell it.
const SPREAD_MAX: Duration = Duration::from_secs(10);

/// A question, and its answer.
#[derive(Debug)]
pub(super) struct Question {
    subject: String,
    /// Until when it waits for a subscriber.
    deadline: Instant,
    /// In which calm it was asked, by number.
    calm: Option<usize>,
    /// When it was answered, and what.
    answer: Option<(Moment, bool)>,
}

impl Ledger {
    /// A client asks whether anybody subscribes to a subject, and waits for so long if nobody does.
    pub fn ask(&mut self, client: ClientId, request: RequestId, subject: &str, wait: Duration) {
        self.tick();
        let question = Question {
            subject: subject.to_owned(),
            deadline: Instant::now() + wait,
            calm: self.is_calm.then(|| self.calms.len() - 1),
            answer: None,
        };
        self.questions.insert((client, request), question);
    }

    /// Whether a client that is there waits for an answer.
    pub fn awaits_answers(&self) -> bool {
        let mut questions = self.questions.iter();
        questions.any(|((client, _), question)| question.answer.is_none() && self.stays(*client))
    }

    pub(super) fn on_interested(
        &mut self,
        client: ClientId,
        said: &Interested,
        now: Moment,
    ) -> Result<(), String> {
        let asked = self.questions.get_mut(&(client, said.request));
        let Some(question) = asked.filter(|question| question.answer.is_none()) else {
            return Err(format!("client {client} did not ask for {said:?}"));
        };
        let answer = said.answer.as_ref();
        let answer =
            *answer.map_err(|refused| format!("client {client} may not ask: {refused:?}"))?;
        question.answer = Some((now, answer));
        Ok(())
    }

    /// Checks the answers; how many were looked at whose truth was known.
    pub(super) fn check_questions(&self) -> Result<usize, String> {
        let mut known = 0;
        for ((client, request), question) in &self.questions {
            let told = self
                .check_question(*client, question)
                .map_err(|wrong| format!("client {client}, {request:?}, {question:?}: {wrong}"))?;
            known += usize::from(told);
        }
        Ok(known)
    }

    fn check_question(&self, client: ClientId, question: &Question) -> Result<bool, String> {
        let subject = Subject::new(&question.subject).map_err(|error| error.to_string())?;
        let held = self
            .subscriptions
            .values()
            .filter(|held| !held.wanted.tap && held.pattern.matches(&subject));
        match question.answer {
            None if self.stays(client) => Err("it was not answered".to_owned()),
            None => Ok(false),
            Some((at, true)) => {
                let mut held = held;
                if held.any(|held| self.may_be_known(question, held, at)) {
                    Ok(question.calm.is_some())
                } else {
                    Err("nobody subscribes".to_owned())
                }
            }
            Some((_, false)) => {
                let mut held = held;
                match held.find(|held| self.must_be_known(client, question, held)) {
                    Some(held) => Err(format!("client {} subscribes: {held:?}", held.owner)),
                    None => Ok(question.calm.is_some()),
                }
            }
        }
    }

    /// Whether a node may take a subscription for one that is there: it was asked for, and its end is not known
    /// everywhere.
    fn may_be_known(&self, question: &Question, held: &Subscription, answered: Moment) -> bool {
        let calm = question.calm.and_then(|calm| self.calms.get(calm));
        let since = calm.map_or(0, |calm| calm.began);
        let gone = self.clients.get(&held.owner).and_then(|owner| owner.gone);
        let is_over = |end: Option<Moment>| end.is_some_and(|end| end < since);
        held.asked < answered && !is_over(held.ended) && !is_over(gone)
    }

    /// Whether every node must know of a subscription when the question is answered: it was there before the calm in
    /// which that was asked, or long enough before the wait ends, and lasts until the calm is over.
    fn must_be_known(&self, client: ClientId, question: &Question, held: &Subscription) -> bool {
        let Some(calm) = question.calm.and_then(|calm| self.calms.get(calm)) else {
            return false;
        };
        let began_before = held.began.is_some_and(|began| began < calm.began);
        let told = held.began_at.map(|at| at + SPREAD_MAX);
        let is_awaited = told.is_some_and(|told| told <= question.deadline);
        (began_before || is_awaited)
            && calm.is_before(held.ending)
            && self.remains(calm, held.owner)
            && self.remains(calm, client)
    }
}

//! Who waits for which answer.

use std::sync::Arc;

use dialtone_protocol::frame::{Denied, Refused, Wanted};
use dialtone_protocol::session::client::Answer;
use dialtone_protocol::{Code, RequestId};
use hashbrown::HashMap;
use tokio::sync::oneshot;

use crate::error::{AskError, ConnectError, PublishError, Reason, RequestError};
use crate::message::Message;
use crate::queue::{Ending, Queue};

/// Why no answer will come.
#[derive(Debug, Clone)]
pub(crate) enum Lost {
    /// The connection that it would have come on has ended.
    Disconnected,
    /// The broker has ended that connection, and said why.
    Cut(Refused),
    /// The client has ended.
    Closed(Reason),
}

impl From<&ConnectError> for Lost {
    fn from(error: &ConnectError) -> Self {
        match error.refusal() {
            Some(why) if why.code != Code::Normal => Self::Cut(why),
            Some(_) | None => Self::Disconnected,
        }
    }
}

impl From<Lost> for AskError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Disconnected => Self::Disconnected,
            Lost::Cut(why) => Self::Cut(why),
            Lost::Closed(reason) => Self::Closed(reason),
        }
    }
}

impl From<Lost> for PublishError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Disconnected => Self::Disconnected,
            Lost::Cut(why) => Self::Cut(why),
            Lost::Closed(reason) => Self::Closed(reason),
        }
    }
}

impl From<Lost> for RequestError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Disconnected => Self::Disconnected,
            Lost::Cut(why) => Self::Cut(why),
            Lost::Closed(reason) => PublishError::Closed(reason).into(),
        }
    }
}

/// Who waits for the broker's answer to a question.
#[derive(Debug)]
pub(crate) enum Waiter {
    Answer(oneshot::Sender<Result<Answer, Lost>>),
    /// The acknowledgement of a request: only a refusal matters, and that nobody subscribes.
    Request {
        subject: String,
    },
    List {
        listed: Vec<Wanted>,
        done: oneshot::Sender<Result<Vec<Wanted>, Lost>>,
    },
}

/// Who waits for messages at a number of the inbox.
#[derive(Debug)]
pub(crate) enum Recipient {
    One(oneshot::Sender<Result<Message, RequestError>>),
    Many(Arc<Queue>),
}

/// An answer that is waited for at a number of the inbox.
#[derive(Debug)]
struct Expected {
    recipient: Recipient,
    /// What was asked at, once the broker has said that somebody subscribes there.
    subject: Option<String>,
}

/// See the module. Its size is bounded by the tasks that wait.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiters: HashMap<RequestId, Waiter, ahash::RandomState>,
    inbox: HashMap<u32, Expected, ahash::RandomState>,
    pongs: HashMap<u64, oneshot::Sender<Result<(), Lost>>, ahash::RandomState>,
    /// Questions with this number and later ones are held back for the next connection: numbers rise.
    held_from: Option<u32>,
    closed: Option<Reason>,
}

impl Pending {
    /// Whether nobody waits for an answer to what was asked on this connection.
    pub(crate) fn is_empty(&self) -> bool {
        let from = self.held_from;
        let mut waiters = self.waiters.keys();
        let mut pongs = self.pongs.keys();
        !waiters.any(|request| is_asked(from, request.0))
            && !pongs.any(|token| is_asked(from, number_of(*token)))
            && !self.has_requests()
    }

    fn has_requests(&self) -> bool {
        let is_one = |expected: &Expected| matches!(expected.recipient, Recipient::One(_));
        self.inbox
            .iter()
            .any(|(number, expected)| is_one(expected) && is_asked(self.held_from, *number))
    }

    /// Questions from this number on are held back, unless some are already.
    pub(crate) fn hold(&mut self, from: u32) {
        self.held_from.get_or_insert(from);
    }

    /// Questions are asked on this connection again.
    pub(crate) fn release(&mut self) {
        self.held_from = None;
    }

    pub(crate) fn wait(&mut self, request: RequestId, waiter: Waiter) -> Result<(), Reason> {
        self.check()?;
        self.waiters.insert(request, waiter);
        Ok(())
    }

    pub(crate) fn wait_inbox(&mut self, number: u32, recipient: Recipient) -> Result<(), Reason> {
        self.check()?;
        let expected = Expected {
            recipient,
            subject: None,
        };
        self.inbox.insert(number, expected);
        Ok(())
    }

    pub(crate) fn wait_pong(
        &mut self,
        token: u64,
        done: oneshot::Sender<Result<(), Lost>>,
    ) -> Result<(), Reason> {
        self.check()?;
        self.pongs.insert(token, done);
        Ok(())
    }

    fn check(&self) -> Result<(), Reason> {
        self.closed.clone().map_or(Ok(()), Err)
    }

    /// Nobody waits any more; returns whether an answer was still awaited.
    pub(crate) fn forget(&mut self, request: RequestId) -> bool {
        self.waiters.remove(&request).is_some()
    }

    pub(crate) fn forget_inbox(&mut self, number: u32) {
        self.inbox.remove(&number);
    }

    pub(crate) fn forget_pong(&mut self, token: u64) {
        self.pongs.remove(&token);
    }

    /// An answer came; one that nobody waits for is dropped.
    pub(crate) fn on_answer(&mut self, request: RequestId, answer: Answer) {
        match self.waiters.remove(&request) {
            // The waiter may have gone in the meantime, which is its own affair.
            Some(Waiter::Answer(done)) => drop(done.send(Ok(answer))),
            Some(Waiter::Request { subject }) => self.on_acknowledged(request, subject, answer),
            Some(Waiter::List { mut listed, done }) => {
                if let Answer::Listed(part, more) = answer {
                    listed.extend(part);
                    if more {
                        self.waiters.insert(request, Waiter::List { listed, done });
                    } else {
                        drop(done.send(Ok(listed)));
                    }
                }
            }
            None => {}
        }
    }

    fn on_acknowledged(&mut self, request: RequestId, subject: String, answer: Answer) {
        let refused = match answer {
            Answer::Published(Ok(0)) => None,
            Answer::Published(Err(refused)) => Some(refused),
            Answer::Published(Ok(_)) => {
                if let Some(expected) = self.inbox.get_mut(&request.0) {
                    expected.subject = Some(subject);
                }
                return;
            }
            Answer::Subscribed(_)
            | Answer::Unsubscribed
            | Answer::Interested(_)
            | Answer::Listed(..) => return,
        };
        let expected = self.inbox.remove(&request.0);
        match expected.map(|expected| expected.recipient) {
            Some(Recipient::One(done)) => {
                let error = match refused {
                    None => RequestError::NoSubscribers { subject },
                    Some(refused) => PublishError::Refused(refused).into(),
                };
                drop(done.send(Err(error)));
            }
            Some(Recipient::Many(queue)) => {
                // The subject alone: the error that is made of it has the words.
                let nobody = || Refused::new(Code::NoSubscribers, subject);
                queue.end(Ending::Refused(refused.unwrap_or_else(nobody)));
            }
            None => {}
        }
    }

    /// A message came to a number of the inbox; returns whether the driver must stop reading.
    pub(crate) fn on_inbox(&mut self, number: u32, message: Message) -> Option<Arc<Queue>> {
        match &self.inbox.get(&number)?.recipient {
            Recipient::One(_) => {
                if let Some(Recipient::One(done)) = self.inbox.remove(&number).map(|e| e.recipient)
                {
                    drop(done.send(Ok(message)));
                }
                None
            }
            Recipient::Many(queue) => queue.append(&mut vec![message]).then(|| Arc::clone(queue)),
        }
    }

    /// The broker does not let this client publish to a subject any more: whoever asked there before that waits no
    /// longer, since what is answered now is not for this client. A request that was not acknowledged yet hears of its own
    /// refusal instead.
    pub(crate) fn on_denied(&mut self, denied: &Denied) {
        let is_it = |_: &u32, expected: &mut Expected| {
            expected.subject.as_deref() == Some(denied.subject.as_str())
        };
        for (_, expected) in self.inbox.extract_if(is_it) {
            let why = Refused::new(denied.code, denied.text.clone());
            match expected.recipient {
                // The waiter may have gone in the meantime, which is its own affair.
                Recipient::One(done) => drop(done.send(Err(RequestError::Withdrawn(why)))),
                Recipient::Many(queue) => queue.end(Ending::Withdrawn(why)),
            }
        }
    }

    pub(crate) fn on_pong(&mut self, token: u64) {
        if let Some(done) = self.pongs.remove(&token) {
            drop(done.send(Ok(())));
        }
    }

    /// Tells everybody that no answer will come; who is held back goes on waiting, unless the client has ended.
    pub(crate) fn fail(&mut self, lost: &Lost) {
        let mut from = self.held_from.take();
        if let Lost::Closed(reason) = lost {
            self.closed = Some(reason.clone());
            from = None;
        }
        let waiters = self
            .waiters
            .extract_if(|request, _| is_asked(from, request.0));
        for (_, waiter) in waiters {
            match waiter {
                Waiter::Answer(done) => drop(done.send(Err(lost.clone()))),
                Waiter::List { done, .. } => drop(done.send(Err(lost.clone()))),
                Waiter::Request { .. } => {}
            }
        }
        for (_, expected) in self.inbox.extract_if(|number, _| is_asked(from, *number)) {
            match expected.recipient {
                Recipient::One(done) => drop(done.send(Err(lost.clone().into()))),
                Recipient::Many(queue) => queue.end(match lost {
                    Lost::Disconnected => Ending::Disconnected,
                    Lost::Cut(why) => Ending::Cut(why.clone()),
                    Lost::Closed(reason) => Ending::Closed(reason.clone()),
                }),
            }
        }
        let pongs = self
            .pongs
            .extract_if(|token, _| is_asked(from, number_of(*token)));
        for (_, done) in pongs {
            drop(done.send(Err(lost.clone())));
        }
    }
}

/// Whether a question of this number is asked on the connection, where those from `held_from` on are held back. Numbers
/// begin again after four billion.
fn is_asked(held_from: Option<u32>, number: u32) -> bool {
    held_from.is_none_or(|from| number.wrapping_sub(from) > u32::MAX / 2)
}

/// The number in a token of a ping.
fn number_of(token: u64) -> u32 {
    u32::try_from(token & u64::from(u32::MAX)).unwrap_or_default()
}

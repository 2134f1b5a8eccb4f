//! An upload that goes on while its answer is read, or after it: by itself, so that a client that does not read the
//! answer can send, and one that is still sending gets the answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::request::{Sending, Stopped};
use crate::body::BoxError;
use crate::socket::Lingering;

/// How long an upload may go on when its answer was whole before it: more than what is in buffers takes, and little
/// enough for work that nobody counts any more.
const AFTER_ANSWER_MAX: Duration = Duration::from_mins(1);

/// The side of the upload. To be run to its end.
pub(crate) struct Uploading {
    sending: Sending,
    stream: OwnedWriteHalf,
    failed: oneshot::Sender<BoxError>,
    answered: oneshot::Receiver<()>,
}

/// The side of the answer. Dropped before the answer is whole, it ends the upload.
pub(super) struct Upload {
    /// Why the upload has failed; closed when it has not, and `None` once that is known.
    failed: Option<oneshot::Receiver<BoxError>>,
    /// To say that the answer is whole.
    answered: Option<oneshot::Sender<()>>,
}

/// Both sides.
pub(super) fn split(sending: Sending, stream: OwnedWriteHalf) -> (Uploading, Upload) {
    let (failing, failed) = oneshot::channel();
    let (answering, answered) = oneshot::channel();
    let uploading = Uploading {
        sending,
        stream,
        failed: failing,
        answered,
    };
    let upload = Upload {
        failed: Some(failed),
        answered: Some(answering),
    };
    (uploading, upload)
}

impl Upload {
    /// The answer is whole.
    pub(super) fn tell_answered(&mut self) {
        let told = self.answered.take().map(|answered| answered.send(()));
        if told == Some(Err(())) {
            tracing::trace!("an upload was over before its answer");
        }
    }

    /// Why the upload has failed, if it has.
    pub(super) fn poll_failed(&mut self, cx: &mut Context<'_>) -> Option<BoxError> {
        let waited = Pin::new(self.failed.as_mut()?).poll(cx);
        let Poll::Ready(failed) = waited else {
            return None;
        };
        self.failed = None;
        failed.ok()
    }
}

impl Uploading {
    /// Sends what there is. Where the server takes no more, the client is let send on, to nobody, until it has read the
    /// answer.
    pub(crate) async fn run(self, lingering: Arc<Lingering>) {
        let Self {
            mut sending,
            mut stream,
            failed,
            answered,
        } = self;
        if sending.has_failed() {
            lingering.begin();
            return;
        }
        let ended = {
            let mut sent = pin!(poll_fn(|cx| sending.poll(cx, &mut stream)));
            tokio::select! {
                biased;
                ended = &mut sent => Some(ended),
                answered = answered => match answered {
                    Ok(()) => timeout(AFTER_ANSWER_MAX, sent).await.ok(),
                    // Nobody waits for the answer.
                    Err(_dropped) => return,
                },
            }
        };
        match ended {
            // What is dropped otherwise tells the server that the client has no more, and some then give up.
            Some(Ok(())) => stream.forget(),
            // The answer may have been read to its end by now.
            Some(Err(Stopped::Upload(error))) => drop(failed.send(error)),
            Some(Err(Stopped::Write(_))) | None => lingering.begin(),
        }
    }
}

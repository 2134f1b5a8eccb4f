//! What ends a body that does not move: silence for too long, and the end of access.
//!
//! Neither costs anything while bytes come: timer and waker are made when a body is waited for, and a timer that fires
//! looks whether anything has moved since.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Why a body is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Silent,
    Ended,
}

/// Watches one body.
pub(crate) struct Watch {
    idle_max: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    moved: bool,
    ended: Option<CancellationToken>,
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Watch {
    pub(crate) fn new(idle_max: Duration, ended: Option<CancellationToken>) -> Self {
        Self {
            idle_max,
            timer: None,
            moved: false,
            ended,
            waiting: None,
        }
    }

    /// Something came. Whether access goes on.
    pub(crate) fn moved(&mut self) -> Result<(), Over> {
        self.moved = true;
        match &self.ended {
            Some(ended) if ended.is_cancelled() => Err(Over::Ended),
            Some(_) | None => Ok(()),
        }
    }

    /// Nothing has come: waits for the reasons to give up.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        if let Some(ended) = &self.ended {
            let waiting = self
                .waiting
                .get_or_insert_with(|| Box::pin(ended.clone().cancelled_owned()));
            if waiting.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Over::Ended);
            }
        }
        let idle_max = self.idle_max;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle_max)));
        while timer.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(Over::Silent);
            }
            timer.as_mut().reset(Instant::now() + idle_max);
        }
        Poll::Pending
    }
}

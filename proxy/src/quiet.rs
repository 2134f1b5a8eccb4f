//! Waiting for what is rare beside what is frequent.
//!
//! A task is woken for each message, and would ask each time whether it should end, which takes locks that all
//! connections share. A [`Quiet`] future asks once, and again only when it was woken itself; in between, a poll of it
//! is one load of a flag that belongs to it alone.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// A future that is polled only after it was woken. It stays in the task that polls it first.
pub(crate) struct Quiet<F> {
    inner: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    /// The task around it, once it was polled.
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> Quiet<F> {
    pub(crate) fn new(inner: F) -> Self {
        let bell = Arc::new(Bell::default());
        bell.rung.store(true, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&bell));
        Self {
            inner: Box::pin(inner),
            bell,
            waker,
        }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before it is polled: a ring from here on is for the next time.
        *this.bell.task.lock() = Some(cx.waker().clone());
        this.bell.rung.store(false, Ordering::Release);
        this.inner
            .as_mut()
            .poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_woken_and_not_before() {
        let mut polls = 0;
        let token = CancellationToken::new();
        let mut inner = Box::pin(token.clone().cancelled_owned());
        let mut quiet = Quiet::new(poll_fn(move |cx| {
            polls += 1;
            inner.as_mut().poll(cx).map(|()| polls)
        }));
        for _ in 0..10 {
            let pending =
                poll_fn(|cx| Poll::Ready(Pin::new(&mut quiet).poll(cx).is_pending())).await;
            assert!(pending);
        }
        token.cancel();
        assert_eq!(quiet.await, 2);
    }
}

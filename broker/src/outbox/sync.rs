//! What threads share an outbox with: the real thing, or loom's, which tries out every order in which
//! they can get at it.

#[cfg(not(feature = "loom"))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

    pub(crate) use futures_util::task::AtomicWaker;
    pub(crate) use parking_lot::Mutex;
}

#[cfg(not(feature = "loom"))]
pub(super) use real::{AtomicBool, AtomicU64, AtomicUsize, AtomicWaker, Mutex};

#[cfg(feature = "loom")]
mod modelled {
    use std::sync::PoisonError;

    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

    /// As the one of `parking_lot`, which knows no poison.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// As the one of `futures_util`.
    #[derive(Debug)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &std::task::Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }
}

#[cfg(feature = "loom")]
pub(super) use modelled::{AtomicBool, AtomicU64, AtomicUsize, AtomicWaker, Mutex};

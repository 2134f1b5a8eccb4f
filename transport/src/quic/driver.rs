//! The task that quinn has for each connection, which whoever writes may run.
//!
//! quinn hands what is written to a stream to the task of its connection, which makes packets of it. Where that task
//! lives on another thread, a small message waits until that thread has been woken, which takes longer than sending
//! it. So a writer on another thread runs the task itself: it holds back the wake-up that its write causes and then
//! takes the task's turn. What comes close behind is left to the task's own thread, which gathers it, and so is what
//! fills packets.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Up to so many bytes are sent by the thread that writes them: about what a turn of the task makes of them is one
/// packet on loopback, and a few elsewhere.
pub(super) const AT_ONCE_LEN_MAX: usize = 4 << 10;

/// How long nothing must have been written from another thread for the next writer to send by itself. Waking a thread
/// takes about as long, and a thread that was woken meanwhile gathers what comes.
const PAUSE: Duration = Duration::from_micros(50);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// The latest driver that was spawned on this thread.
    static SPAWNED: RefCell<Option<Arc<Driver>>> = const { RefCell::new(None) };
    /// The driver whose wake-ups are held back on this thread.
    static HELD: Cell<*const Driver> = const { Cell::new(ptr::null()) };
    /// A number for this thread; 0 is none.
    static THREAD: u64 = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);

/// See the module.
pub(super) struct Driver {
    /// Until it has ended, or its runtime has.
    task: Mutex<Option<Task>>,
    /// Wakes the task on its own thread.
    home: Mutex<Option<Waker>>,
    thread: AtomicU64,
    /// A wake-up was held back.
    held: AtomicBool,
    /// Its own thread wanted to run the task while somebody else did, and is to be woken then.
    missed: AtomicBool,
    /// When another thread has last written, in nanoseconds since `epoch`.
    written_at: AtomicU64,
    epoch: Instant,
}

/// The task as its runtime has it.
pub(super) struct Home(Arc<Driver>);

impl Driver {
    /// Makes a driver of a task that quinn spawns, and remembers it for [`of`](Self::of).
    pub(super) fn spawned(task: Task) -> Home {
        let driver = Arc::new(Self {
            task: Mutex::new(Some(task)),
            home: Mutex::new(None),
            thread: AtomicU64::new(0),
            held: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            written_at: AtomicU64::new(0),
            epoch: Instant::now(),
        });
        SPAWNED.set(Some(Arc::clone(&driver)));
        Home(driver)
    }

    /// Calls `begin`, which makes quinn spawn the task of a connection on this thread; returns that as well.
    pub(super) fn of<T>(begin: impl FnOnce() -> T) -> (T, Option<Arc<Self>>) {
        SPAWNED.set(None);
        let begun = begin();
        (begun, SPAWNED.take())
    }

    /// Whether this thread is to send what it is about to write: the task lives on another one, and nobody but its own
    /// thread has written for a while.
    pub(super) fn is_to_be_run_here(&self) -> bool {
        if self.thread.load(Ordering::Relaxed) == THREAD.with(|thread| *thread) {
            return false;
        }
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let before = self.written_at.swap(now, Ordering::Relaxed);
        u128::from(now.saturating_sub(before)) >= PAUSE.as_nanos()
    }

    /// Writes, and takes the task's turn if that has woken it.
    pub(super) fn run_behind<T>(self: &Arc<Self>, write: impl FnOnce() -> T) -> T {
        let holding = Holding::of(self);
        let written = write();
        drop(holding);
        if self.held.swap(false, Ordering::AcqRel) {
            self.take_turn();
        }
        written
    }

    fn take_turn(self: &Arc<Self>) {
        let Some(mut task) = self.task.try_lock() else {
            // It is having its turn, and may be past what was written.
            return self.wake_home();
        };
        let is_over = self.poll_task(&mut task).is_ready();
        drop(task);
        // With the one in `take_turn_at_home`: either that finds the task free, or this sees that it was not.
        fence(Ordering::SeqCst);
        if self.missed.swap(false, Ordering::Relaxed) || is_over {
            self.wake_home();
        }
    }

    /// The turn of the task's own thread, which has others to run and does not wait for a writer that has the task.
    fn take_turn_at_home(self: &Arc<Self>) -> Poll<()> {
        if let Some(mut task) = self.task.try_lock() {
            return self.poll_task(&mut task);
        }
        self.missed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        match self.task.try_lock() {
            Some(mut task) => self.poll_task(&mut task),
            None => Poll::Pending,
        }
    }

    fn poll_task(self: &Arc<Self>, task: &mut Option<Task>) -> Poll<()> {
        let Some(future) = task else {
            return Poll::Ready(());
        };
        let waker = Waker::from(Arc::clone(self));
        ready!(future.as_mut().poll(&mut Context::from_waker(&waker)));
        *task = None;
        Poll::Ready(())
    }

    fn wake_home(&self) {
        let home = self.home.lock().clone();
        if let Some(home) = home {
            home.wake();
        }
    }
}

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if ptr::eq(HELD.get(), Arc::as_ptr(self)) {
            self.held.store(true, Ordering::Release);
        } else {
            self.wake_home();
        }
    }
}

impl Future for Home {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = &self.0;
        driver
            .thread
            .store(THREAD.with(|thread| *thread), Ordering::Relaxed);
        {
            let mut home = driver.home.lock();
            if !home.as_ref().is_some_and(|home| home.will_wake(cx.waker())) {
                *home = Some(cx.waker().clone());
            }
        }
        driver.take_turn_at_home()
    }
}

/// The timer and the channels of a task are those of its runtime, and nobody may run it when that has ended.
impl Drop for Home {
    fn drop(&mut self) {
        *self.0.home.lock() = None;
        let task = self.0.task.lock().take();
        drop(task);
    }
}

/// Holds back the wake-ups of a driver on this thread while it lives.
struct Holding;

impl Holding {
    fn of(driver: &Arc<Driver>) -> Self {
        HELD.set(Arc::as_ptr(driver));
        Self
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        HELD.set(ptr::null());
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread::{self, ThreadId};

    use super::*;

    /// A task that notes where it is run, and is never done.
    struct Noting(Arc<Mutex<Noted>>);

    #[derive(Default)]
    struct Noted {
        run_on: Vec<ThreadId>,
        waker: Option<Waker>,
        /// What is done during the next turn.
        meanwhile: Option<Box<dyn FnOnce() + Send>>,
    }

    impl Future for Noting {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut noted = self.0.lock();
            noted.run_on.push(thread::current().id());
            noted.waker = Some(cx.waker().clone());
            let meanwhile = noted.meanwhile.take();
            drop(noted);
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A task whose home is another thread, which has run it once.
    struct Elsewhere {
        driver: Arc<Driver>,
        home: Home,
        noted: Arc<Mutex<Noted>>,
        woken: Arc<Woken>,
    }

    impl Elsewhere {
        fn new() -> Self {
            let noted: Arc<Mutex<Noted>> = Arc::default();
            let task = Box::pin(Noting(Arc::clone(&noted)));
            let (mut home, driver) = Driver::of(|| Driver::spawned(task));
            let woken: Arc<Woken> = Arc::default();
            let waker = Waker::from(Arc::clone(&woken));
            let home = thread::spawn(move || {
                let run = Pin::new(&mut home).poll(&mut Context::from_waker(&waker));
                assert_eq!(run, Poll::Pending);
                home
            });
            Self {
                driver: driver.unwrap(),
                home: home.join().unwrap(),
                noted,
                woken,
            }
        }

        /// What writing to a stream does.
        fn wake(&self) {
            let waker = self.noted.lock().waker.take();
            waker.unwrap().wake();
        }

        fn run_here(&self) -> usize {
            let here = thread::current().id();
            let noted = self.noted.lock();
            noted.run_on.iter().filter(|on| **on == here).count()
        }

        fn woken_at_home(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_writer_on_another_thread_runs_the_task_and_wakes_nobody() {
        let task = Elsewhere::new();
        task.driver.run_behind(|| task.wake());
        assert_eq!((task.run_here(), task.woken_at_home()), (1, 0));
        task.wake();
        assert_eq!(
            (task.run_here(), task.woken_at_home()),
            (1, 1),
            "whoever else has woken it has its own thread run it"
        );
    }

    #[test]
    fn a_write_that_wakes_nobody_runs_nothing() {
        let task = Elsewhere::new();
        assert_eq!(task.driver.run_behind(|| 7), 7);
        assert_eq!((task.run_here(), task.woken_at_home()), (0, 0));
    }

    #[test]
    fn a_task_that_has_its_turn_is_given_another_one() {
        let task = Elsewhere::new();
        let turn = task.driver.task.lock();
        task.driver.run_behind(|| task.wake());
        drop(turn);
        assert_eq!((task.run_here(), task.woken_at_home()), (0, 1));
    }

    #[test]
    fn its_own_thread_waits_for_no_writer_and_is_woken_when_that_has_had_its_turn() {
        let Elsewhere {
            driver,
            mut home,
            noted,
            ..
        } = Elsewhere::new();
        let waker = noted.lock().waker.take().unwrap();
        let woken: Arc<Woken> = Arc::default();
        let at_home = Waker::from(Arc::clone(&woken));
        let ended: Arc<Mutex<Option<Home>>> = Arc::default();
        let keep = Arc::clone(&ended);
        noted.lock().meanwhile = Some(Box::new(move || {
            let run = thread::spawn(move || {
                let run = Pin::new(&mut home).poll(&mut Context::from_waker(&at_home));
                *keep.lock() = Some(home);
                run
            });
            assert_eq!(run.join().unwrap(), Poll::Pending);
        }));
        driver.run_behind(|| waker.wake());
        assert_eq!(noted.lock().run_on.len(), 2, "nobody runs it twice at once");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(ended.lock().is_some(), "the task lives");
    }

    #[test]
    fn nobody_runs_a_task_whose_runtime_has_ended() {
        let task = Elsewhere::new();
        let waker = task.noted.lock().waker.take().unwrap();
        drop(task.home);
        assert_eq!(Arc::strong_count(&task.noted), 1, "the task is gone");
        task.driver.run_behind(|| waker.wake());
        assert_eq!(task.noted.lock().run_on.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_close_behind_is_left_to_the_other_thread() {
        let task = Elsewhere::new();
        let mut seen = Vec::new();
        for micros in [60, 10, 60, 49, 51] {
            tokio::time::advance(Duration::from_micros(micros)).await;
            seen.push(task.driver.is_to_be_run_here());
        }
        assert_eq!(seen, [true, false, true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_of_this_thread_is_left_to_its_turn() {
        let task = Box::pin(Noting(Arc::default()));
        let (mut home, driver) = Driver::of(|| Driver::spawned(task));
        let run = Pin::new(&mut home).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(run, Poll::Pending);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!driver.unwrap().is_to_be_run_here());
    }
}

//! Signals: the first one drains, the second one or the end of the grace period stops hard, and
//! `SIGHUP` reloads.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// What asks a running program to stop or to reload.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Never changes; it is gone when standard input has ended.
    stdin: Option<oneshot::Receiver<()>>,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `SIGTERM` or `SIGINT`.
    Stop,
    /// `SIGHUP`.
    Reload,
}

impl Signals {
    /// Takes the signals over; from here on they do not end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stdin: None,
        })
    }

    /// From here on, the end of standard input asks to stop as well: whoever holds its other end has gone.
    pub(crate) fn watch_stdin(&mut self) -> io::Result<()> {
        let (open, ended) = oneshot::channel::<()>();
        // Reading it cannot be cancelled; a thread of its own keeps nobody from ending.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                // What is written there, and why it ended, does not matter.
                drop(io::copy(&mut io::stdin(), &mut io::sink()));
                drop(open);
            })?;
        self.stdin = Some(ended);
        Ok(())
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Asked {
        let stdin = async {
            match &mut self.stdin {
                Some(ended) => drop(ended.await),
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
            () = stdin => {
                // Once is enough; the next one would end the drain.
                self.stdin = None;
                Asked::Stop
            }
        }
    }
}

/// What ends a program that is no service.
#[derive(Debug)]
pub(crate) struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    /// Takes the signals over; from here on they do not end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one; how the process ends if it was not done.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.interrupt.recv() => Exit::Interrupted,
        }
    }
}

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// In good order.
    Drained,
    /// Because somebody was impatient, or the grace period was over.
    Cut,
    /// By itself, though nobody asked for it.
    Unasked,
}

/// Runs a service until it has ended. `stop` asks it to drain; dropping it stops it hard.
///
/// `grace` is how long a drain may take; `reload` is called for each `SIGHUP`, `draining` when the drain begins.
pub(crate) async fn supervise(
    service: impl Future<Output = ()>,
    mut signals: Signals,
    stop: CancellationToken,
    grace: Duration,
    mut reload: impl FnMut(),
    draining: impl FnOnce(),
) -> Ended {
    let mut service = std::pin::pin!(service);
    loop {
        tokio::select! {
            () = &mut service => return Ended::Unasked,
            asked = signals.next() => match asked {
                Asked::Reload => reload(),
                Asked::Stop => break,
            }
        }
    }
    draining();
    stop.cancel();
    let deadline = tokio::time::sleep(grace);
    let mut deadline = std::pin::pin!(deadline);
    loop {
        tokio::select! {
            () = &mut service => return Ended::Drained,
            () = &mut deadline => {
                tracing::warn!("the grace period is over");
                return Ended::Cut;
            }
            asked = signals.next() => {
                if asked == Asked::Stop {
                    tracing::warn!("stopped before the drain was over");
                    return Ended::Cut;
                }
            }
        }
    }
}

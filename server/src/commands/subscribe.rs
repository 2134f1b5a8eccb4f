//! `dialtone sub`: prints what arrives, until there is enough or somebody has enough of it.

use std::io::Write as _;
use std::time::Instant;

use dialtone_client::{Message, SubscribeError, Subscription};
use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::show::{self, Style};
use crate::args::Subscribe;
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, bytes, harmless, note};

/// `dialtone sub`
pub(super) async fn run(args: Subscribe) -> Outcome {
    let client = crate::connect::connect(&args.connect).await?;
    let mut wanted = client.subscription(&args.pattern);
    if let Some(group) = &args.flags.queue {
        wanted = wanted.group(group);
    }
    if args.tap {
        wanted = wanted.tap();
    }
    if let Some(count) = args.drop_oldest {
        wanted = wanted.drop_oldest(count);
    }
    let subscription = wanted.subscribe().await.map_err(refused)?;
    note(format_args!("subscribed to {}", harmless(&args.pattern)));
    let outcome = Printer::new(&args).run(subscription).await;
    client.close().await;
    outcome
}

/// A failed subscription as the shell sees it.
pub(super) fn refused(error: SubscribeError) -> Failure {
    Failure::of(error.code(), error)
}

/// Why a subscription has ended that nobody ended here.
pub(super) fn ended(subscription: &Subscription) -> Failure {
    match (subscription.ended(), subscription.closed()) {
        (Some(refused), _) => Failure::of(
            refused.code,
            anyhow::anyhow!(
                "the broker ended the subscription: {}: {}",
                refused.code,
                refused.text
            ),
        ),
        (None, Some(reason)) => Failure::of(reason.code(), reason),
        (None, None) => Failure::from(anyhow::anyhow!("the subscription has ended")),
    }
}

struct Printer<'a> {
    args: &'a Subscribe,
    style: Style,
    out: Output,
    messages: u64,
    bytes: u64,
    started: Instant,
}

/// What comes next.
enum Event {
    Message(Message),
    Ended,
    Silence,
    Signal,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Subscribe) -> Self {
        let style = Style::new(args.raw, args.json, args.headers);
        Self {
            args,
            style,
            out: Output::stdout(),
            messages: 0,
            bytes: 0,
            started: Instant::now(),
        }
    }

    async fn run(mut self, mut subscription: Subscription) -> Outcome {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        loop {
            let event = match subscription.next().now_or_never() {
                Some(message) => message.map_or(Event::Ended, Event::Message),
                None => {
                    // Whoever reads along sees what there is before it becomes quiet.
                    self.out.flush()?;
                    tokio::select! {
                        biased;
                        _ = interrupt.recv() => Event::Signal,
                        _ = terminate.recv() => Event::Signal,
                        message = subscription.next() => message.map_or(Event::Ended, Event::Message),
                        () = self.silence() => Event::Silence,
                    }
                }
            };
            match event {
                Event::Message(message) => {
                    self.print(&message)?;
                    if Some(self.messages) == self.args.count {
                        self.out.flush()?;
                        return Ok(());
                    }
                    // A flood keeps the runtime's other tasks waiting otherwise, the driver's among them.
                    tokio::task::coop::consume_budget().await;
                }
                Event::Signal => {
                    self.out.flush()?;
                    self.summary(&subscription);
                    return Ok(());
                }
                Event::Silence => {
                    self.out.flush()?;
                    let error = anyhow::anyhow!("nothing came, after {} messages", self.messages);
                    return Err(Failure::new(Exit::Timeout, error));
                }
                Event::Ended => {
                    self.out.flush()?;
                    return Err(ended(&subscription));
                }
            }
        }
    }

    async fn silence(&self) {
        match self.args.timeout {
            Some(limit) => tokio::time::sleep(limit.get()).await,
            None => std::future::pending().await,
        }
    }

    fn print(&mut self, message: &Message) -> std::io::Result<()> {
        self.messages += 1;
        self.bytes += message.payload().len() as u64;
        show::message(&mut self.out, self.style, message)
    }

    fn summary(&self, subscription: &Subscription) {
        let secs = self.started.elapsed().as_secs_f64();
        let dropped = match subscription.dropped() {
            0 => String::new(),
            count => format!(", {count} dropped"),
        };
        note(format_args!(
            "received {} messages, {}, in {secs:.1} s{dropped}",
            self.messages,
            bytes(self.bytes)
        ));
    }
}

//! `dialtone sub`: prints what arrives, until there is enough or somebody has enough of it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use dialtone_client::{Client, Message, SubscribeError, Subscription};
use futures_util::FutureExt as _;

use super::attached::{Outages, until_interrupted};
use super::show::{self, Style};
use crate::args::Subscribe;
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::Interrupts;
use crate::print::{Output, bytes, counted, harmless, note};

/// `dialtone sub`
pub(super) async fn run(args: Subscribe) -> Outcome {
    until_interrupted(&args.connect, async |client, interrupts| {
        print_all(&args, client, interrupts).await
    })
    .await
}

async fn print_all(args: &Subscribe, client: &Client, interrupts: &mut Interrupts) -> Outcome {
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
    Printer::new(args, Outages::of(client))
        .run(subscription, interrupts)
        .await
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
    outages: Outages,
    /// How many lost messages were told of, and when last.
    dropped: (u64, Instant),
}

/// What comes next.
enum Event {
    Message(Message),
    Ended,
    Silence,
    Signal,
    Nothing,
}

/// How often lost messages are told of.
const LOOK: Duration = Duration::from_secs(1);

async fn silence(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Lost messages wake nobody: where there may be some, one looks now and then.
async fn look(args: &Subscribe) {
    match args.drop_oldest {
        Some(_) => tokio::time::sleep(LOOK).await,
        None => std::future::pending().await,
    }
}

impl<'a> Printer<'a> {
    fn new(args: &'a Subscribe, outages: Outages) -> Self {
        let style = Style::new(args.raw, args.json, args.headers).text(args.text);
        let now = Instant::now();
        Self {
            args,
            style,
            out: Output::stdout(),
            messages: 0,
            bytes: 0,
            started: now,
            outages,
            dropped: (0, now),
        }
    }

    async fn run(mut self, mut subscription: Subscription, interrupts: &mut Interrupts) -> Outcome {
        let mut until = self.patience();
        loop {
            self.tell_dropped(&subscription, false)?;
            self.outages.tell();
            let event = match subscription.next().now_or_never() {
                Some(message) => message.map_or(Event::Ended, Event::Message),
                None => {
                    // Whoever reads along sees what there is before it becomes quiet.
                    self.out.flush()?;
                    tokio::select! {
                        biased;
                        _ = interrupts.next() => Event::Signal,
                        () = self.outages.next() => Event::Nothing,
                        message = subscription.next() => message.map_or(Event::Ended, Event::Message),
                        () = silence(until) => Event::Silence,
                        () = look(self.args) => Event::Nothing,
                    }
                }
            };
            match event {
                Event::Message(message) => {
                    until = self.patience();
                    self.print(&message)?;
                    if Some(self.messages) == self.args.count {
                        self.out.flush()?;
                        return Ok(());
                    }
                    // A flood keeps the runtime's other tasks waiting otherwise, the driver's among them.
                    tokio::task::coop::consume_budget().await;
                }
                Event::Nothing => {}
                Event::Signal => {
                    self.tell_dropped(&subscription, true)?;
                    self.out.flush()?;
                    self.summary(&subscription);
                    return Ok(());
                }
                Event::Silence => {
                    self.out.flush()?;
                    let count = counted(self.messages, "message");
                    let error = anyhow::anyhow!("nothing came, after {count}");
                    return Err(Failure::new(Exit::Timeout, error));
                }
                Event::Ended => {
                    self.out.flush()?;
                    return Err(ended(&subscription));
                }
            }
        }
    }

    /// When silence has lasted too long, from here on.
    fn patience(&self) -> Option<tokio::time::Instant> {
        let limit = self.args.timeout?;
        Some(tokio::time::Instant::now() + limit.get())
    }

    /// Tells how many messages were lost since it was told last, at most once a second unless it is the last time.
    fn tell_dropped(&mut self, subscription: &Subscription, last: bool) -> std::io::Result<()> {
        let (told, at) = self.dropped;
        let dropped = subscription.dropped();
        if dropped == told || (!last && told > 0 && at.elapsed() < LOOK) {
            return Ok(());
        }
        self.dropped = (dropped, Instant::now());
        let new = dropped - told;
        if self.style.is_json() {
            self.out.json(&serde_json::json!({ "dropped": new }))?;
        }
        note(format_args!("{new} dropped"));
        Ok(())
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
            "received {}, {}, in {secs:.1} s{dropped}",
            counted(self.messages, "message"),
            bytes(self.bytes)
        ));
    }
}

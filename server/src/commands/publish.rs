//! `dialtone pub`: messages from the command line or standard input.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use dialtone_client::{AskError, Client, Encoding, Headers, PublishError};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::attached::{Outages, until_interrupted, with_client};
use super::show;
use crate::args::{PayloadArgs, Publish};
use crate::exit::{Exit, Failure, Outcome};
use crate::payload;
use crate::print::{Output, bytes, counted, note};

/// Longest payload that is read from standard input, in bytes; brokers accept less by default.
const STDIN_LEN_MAX: u64 = 4 << 30;

/// What stands for the number of the message.
const NUMBER: &str = "{{i}}";

/// `dialtone pub`
pub(super) async fn run(args: Publish) -> Outcome {
    let headers = show::headers(&args.payload.header)?;
    let source = read(&args.payload).await?;
    // What cannot be sent is said before anybody is asked to connect.
    numbered(&args, &source, 1)?;
    if args.interval.is_none() {
        return with_client(&args.connect, async |client| {
            let mut publisher = Publisher::new(&args, &headers, &source, client);
            let outcome = publisher.publish_all().await;
            publisher.out.flush()?;
            outcome?;
            client.flush().await.map_err(unanswered)?;
            publisher.sum_up()
        })
        .await;
    }
    until_interrupted(&args.connect, async |client, interrupts| {
        let mut publisher = Publisher::new(&args, &headers, &source, client);
        let mut outages = Outages::of(client);
        let all = outages.during(async {
            publisher.publish_all().await?;
            client.flush().await.map_err(unanswered)
        });
        let outcome = tokio::select! {
            outcome = all => outcome,
            // Without a count, a signal is how it ends.
            exit = interrupts.next() => match args.count {
                None => Ok(()),
                Some(_) => Err(Failure::silent(exit)),
            },
        };
        publisher.out.flush()?;
        outcome?;
        publisher.sum_up()
    })
    .await
}

/// The payload as it is sent.
pub(super) fn encoded(
    source: Vec<u8>,
    encoding: payload::Encoding,
) -> Result<(Encoding, Bytes), Failure> {
    let (tag, payload) =
        payload::encode(source, encoding).map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok((Encoding::from_number(tag), payload))
}

/// The payload as it was given.
pub(super) async fn read(args: &PayloadArgs) -> Result<Vec<u8>, Failure> {
    match args.payload.as_deref() {
        Some("-") => {
            let mut payload = Vec::new();
            tokio::io::stdin()
                .take(STDIN_LEN_MAX)
                .read_to_end(&mut payload)
                .await?;
            Ok(payload)
        }
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Ok(Vec::new()),
    }
}

/// A failed publish as the shell sees it.
pub(super) fn failed(error: PublishError) -> Failure {
    Failure::of(error.code(), error)
}

/// A failed question as the shell sees it.
pub(super) fn unanswered(error: AskError) -> Failure {
    Failure::of(error.code(), error)
}

/// The payload of the message with this number, as it is sent.
fn numbered(args: &Publish, source: &[u8], number: u64) -> Result<(Encoding, Bytes), Failure> {
    let repeated = args.count.is_some() || args.interval.is_some();
    let source = match std::str::from_utf8(source) {
        Ok(text) if repeated && text.contains(NUMBER) => {
            text.replace(NUMBER, &number.to_string()).into_bytes()
        }
        _ => source.to_vec(),
    };
    encoded(source, args.payload.encoding)
}

struct Publisher<'a> {
    args: &'a Publish,
    headers: &'a Headers,
    source: &'a [u8],
    client: &'a Client,
    out: Output,
    published: u64,
    size: u64,
    /// A message had no subscriber.
    nobody: bool,
}

impl<'a> Publisher<'a> {
    fn new(args: &'a Publish, headers: &'a Headers, source: &'a [u8], client: &'a Client) -> Self {
        Self {
            args,
            headers,
            source,
            client,
            out: Output::stdout(),
            published: 0,
            size: 0,
            nobody: false,
        }
    }

    async fn publish_all(&mut self) -> Outcome {
        let args = self.args;
        let count = match (args.count, args.interval) {
            (Some(count), _) => count,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1,
        };
        // A zero interval is as fast as possible.
        let mut ticks = args
            .interval
            .filter(|span| !span.get().is_zero())
            .map(|span| every(span.get()));
        for number in 1..=count {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let (encoding, payload) = numbered(args, self.source, number)?;
            let len = payload.len() as u64;
            self.nobody |= self.publish(number, encoding, payload).await? == Some(0);
            self.published += 1;
            self.size += len;
        }
        Ok(())
    }

    fn sum_up(&mut self) -> Outcome {
        let args = self.args;
        if !self.is_acknowledged() && args.json {
            self.out
                .json(&serde_json::json!({ "published": self.published }))?;
            self.out.flush()?;
        } else if !self.is_acknowledged() && std::io::stderr().is_terminal() {
            note(format_args!(
                "published {}, {}, to {}",
                counted(self.published, "message"),
                bytes(self.size),
                args.subject
            ));
        }
        match args.wait {
            _ if !self.nobody => Ok(()),
            None => Err(Failure::new(
                Exit::NoSubscriber,
                anyhow::anyhow!("nobody subscribes to {}", args.subject),
            )),
            Some(wait) => Err(Failure::new(
                Exit::Timeout,
                anyhow::anyhow!("nobody subscribed to {} within {wait}", args.subject),
            )),
        }
    }

    fn is_acknowledged(&self) -> bool {
        self.args.ack || self.args.wait.is_some()
    }

    /// Publishes once; returns how many subscribers there were, if that was asked for.
    async fn publish(
        &mut self,
        number: u64,
        encoding: Encoding,
        payload: Bytes,
    ) -> Result<Option<u32>, Failure> {
        let args = self.args;
        let mut draft = self
            .client
            .message(args.subject.as_str())
            .headers(self.headers)
            .encoding(encoding)
            .payload(payload);
        if let Some(reply) = &args.reply {
            draft = draft.reply(reply.as_str());
        }
        if let Some(wait) = args.wait {
            draft = draft.wait_for_interest(wait.get());
        }
        if args.unreliable {
            draft.unreliable().publish().await.map_err(failed)?;
            return Ok(None);
        }
        // The first message is always acknowledged, so that a refusal is told; nothing else would.
        if number > 1 && !self.is_acknowledged() {
            draft.publish().await.map_err(failed)?;
            return Ok(None);
        }
        let subscribers = draft.publish_acked().await.map_err(failed)?;
        if !self.is_acknowledged() {
            return Ok(None);
        }
        if args.json {
            let told = serde_json::json!({ "subject": args.subject, "subscribers": subscribers });
            self.out.json(&told)?;
        } else {
            self.out.line(format_args!(
                "{} got to {}",
                args.subject,
                counted(subscribers.into(), "subscriber")
            ))?;
        }
        if args.interval.is_some() {
            self.out.flush()?;
        }
        Ok(Some(subscribers))
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

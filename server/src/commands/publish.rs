//! `dialtone pub`: messages from the command line or standard input.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use bytes::Bytes;
use dialtone_client::{AskError, Client, Encoding, Headers, PublishError};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, MissedTickBehavior};

use super::show;
use crate::args::{PayloadArgs, Publish};
use crate::exit::{Exit, Failure, Outcome};
use crate::payload;
use crate::print::{Output, bytes, note};

/// Longest payload that is read from standard input, in bytes; brokers accept less by default.
const STDIN_LEN_MAX: u64 = 4 << 30;

/// What stands for the number of the message.
const NUMBER: &str = "{{i}}";

/// `dialtone pub`
pub(super) async fn run(args: Publish) -> Outcome {
    let headers = show::headers(&args.payload.header)?;
    let source = read(&args.payload).await?;
    let client = crate::connect::connect(&args.connect).await?;
    let outcome = Publisher {
        args: &args,
        headers,
        source,
        client: &client,
    }
    .run()
    .await;
    client.close().await;
    outcome
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

struct Publisher<'a> {
    args: &'a Publish,
    headers: Headers,
    source: Vec<u8>,
    client: &'a Client,
}

impl Publisher<'_> {
    async fn run(&self) -> Outcome {
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
        let (mut out, mut nobody, mut size) = (Output::stdout(), false, 0_u64);
        for number in 1..=count {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let (encoding, payload) = self.payload(number)?;
            size += payload.len() as u64;
            nobody |= self.publish(number, encoding, payload, &mut out).await? == Some(0);
        }
        self.client.flush().await.map_err(unanswered)?;
        out.flush()?;
        if !self.is_acknowledged() && !args.json && std::io::stderr().is_terminal() {
            let what = if count == 1 {
                "1 message".to_owned()
            } else {
                format!("{count} messages")
            };
            note(format_args!(
                "published {what}, {}, to {}",
                bytes(size),
                args.subject
            ));
        }
        if nobody {
            return Err(Failure::new(
                Exit::NoSubscriber,
                anyhow::anyhow!("nobody subscribes to {}", args.subject),
            ));
        }
        Ok(())
    }

    fn is_acknowledged(&self) -> bool {
        self.args.ack || self.args.wait.is_some()
    }

    fn payload(&self, number: u64) -> anyhow::Result<(Encoding, Bytes)> {
        let repeated = self.args.count.is_some() || self.args.interval.is_some();
        let source = match std::str::from_utf8(&self.source) {
            Ok(text) if repeated && text.contains(NUMBER) => {
                text.replace(NUMBER, &number.to_string()).into_bytes()
            }
            _ => self.source.clone(),
        };
        let (tag, payload) = payload::encode(source, self.args.payload.encoding)?;
        Ok((Encoding::from_number(tag), payload))
    }

    /// Publishes once; returns how many subscribers there were, if that was asked for.
    async fn publish(
        &self,
        number: u64,
        encoding: Encoding,
        payload: Bytes,
        out: &mut Output,
    ) -> Result<Option<u32>, Failure> {
        let args = self.args;
        let mut draft = self
            .client
            .message(args.subject.as_str())
            .headers(&self.headers)
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
            out.json(&serde_json::json!({ "subject": args.subject, "subscribers": subscribers }))?;
        } else {
            let s = if subscribers == 1 { "" } else { "s" };
            out.line(format_args!(
                "{} got to {subscribers} subscriber{s}",
                args.subject
            ))?;
        }
        if args.interval.is_some() {
            out.flush()?;
        }
        Ok(Some(subscribers))
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

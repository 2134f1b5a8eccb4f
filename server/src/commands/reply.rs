//! `dialtone reply`: answers requests with what they said, or with what a command prints.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_client::{Client, Encoding, Headers, Message, RespondError};
use dialtone_protocol::Code;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::attached::{Outages, until_interrupted};
use super::show::{Style, message};
use super::subscribe::{ended, refused};
use crate::args::Reply;
use crate::exit::{Failure, Outcome};
use crate::lifecycle::Interrupts;
use crate::payload::{self, Shown};
use crate::print::{Output, counted, harmless, note};

/// Most bytes of a failed command's complaints that go into the answer.
const COMPLAINT_LEN_MAX: u64 = 4096;

/// `dialtone reply`
pub(super) async fn run(args: Reply) -> Outcome {
    until_interrupted(&args.connect, async |client, interrupts| {
        answer_all(&args, client, interrupts).await
    })
    .await
}

async fn answer_all(args: &Reply, client: &Client, interrupts: &mut Interrupts) -> Outcome {
    let mut outages = Outages::of(client);
    let mut wanted = client.subscription(&args.pattern);
    if let Some(group) = &args.flags.queue {
        wanted = wanted.group(group);
    }
    let mut requests = wanted.subscribe().await.map_err(refused)?;
    note(format_args!("answering {}", harmless(&args.pattern)));
    let mut out = Output::stdout();
    let mut working = FuturesUnordered::new();
    let (mut begun, mut answered) = (0_u64, 0_u64);
    let outcome = loop {
        if Some(answered) == args.count {
            break Ok(());
        }
        // When enough commands run, further requests wait at the broker.
        let wants_more = working.len() < usize::from(args.parallel)
            && args.count.is_none_or(|count| begun < count);
        tokio::select! {
            biased;
            _ = interrupts.next() => break Ok(()),
            () = outages.next() => {}
            Some(sent) = working.next(), if !working.is_empty() => match sent {
                Ok(()) => answered += 1,
                Err(error) => break Err(error),
            },
            request = requests.next(), if wants_more => match request {
                Some(request) if request.is_request() => {
                    begun += 1;
                    if args.json {
                        message(&mut out, Style::new(false, true, false), &request)?;
                        std::io::Write::flush(&mut out)?;
                    }
                    working.push(answer(args, request));
                }
                Some(other) => tracing::debug!(subject = other.subject().as_str(), "not a request"),
                None => break Err(ended(&requests)),
            },
        }
    };
    note(format_args!("answered {}", counted(answered, "request")));
    outcome
}

async fn answer(args: &Reply, request: Message) -> Result<(), Failure> {
    let sent = match &args.command {
        None => echo(&request).await,
        Some(command) => match output(args, command, &request).await {
            Ok((encoding, payload)) => {
                request
                    .respond_with(&Headers::new(), encoding, payload)
                    .await
            }
            Err(error) => complain(&request, &error).await,
        },
    };
    match sent {
        Ok(()) => Ok(()),
        Err(RespondError::Publish(error @ dialtone_client::PublishError::Closed(_))) => {
            Err(Failure::of(error.code(), error))
        }
        Err(error) => {
            tracing::warn!("{:#}", anyhow::Error::from(error));
            Ok(())
        }
    }
}

async fn echo(request: &Message) -> Result<(), RespondError> {
    let mut answer = request
        .answer()?
        .encoding(request.encoding())
        .payload(request.payload().clone());
    if let Some(headers) = request.header_bytes() {
        answer = answer.header_bytes(headers.clone());
    }
    Ok(answer.publish().await?)
}

/// An error as services send it: in the headers, with an empty payload.
async fn complain(request: &Message, error: &anyhow::Error) -> Result<(), RespondError> {
    tracing::warn!(subject = request.subject().as_str(), "{error:#}");
    let code = if error.is::<TooSlow>() {
        Code::Timeout
    } else {
        Code::Internal
    };
    let headers = Headers::new()
        .with("error", format!("{error:#}"))
        .with("code", code.number());
    request
        .respond_with(&headers, Encoding::MessagePack, b"\xc0")
        .await
}

/// A command was not done in time.
#[derive(Debug)]
struct TooSlow(Duration);

impl std::fmt::Display for TooSlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the command took longer than {:?}", self.0)
    }
}

impl std::error::Error for TooSlow {}

/// What the command prints, encoded.
async fn output(
    args: &Reply,
    command: &str,
    request: &Message,
) -> anyhow::Result<(Encoding, bytes::Bytes)> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("DIALTONE_SUBJECT", request.subject().as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot run sh")?;
    let limit = args.timeout.get();
    let worked = work(&mut child, input(request), args.output_max.0, limit).await;
    if worked.is_err() {
        kill(&child);
    }
    let mut printed = worked?;
    if args.encoding != payload::Encoding::Raw && printed.last() == Some(&b'\n') {
        // As in `$(…)`; with --encoding raw every byte counts.
        printed.pop();
    }
    let (tag, payload) = payload::encode(printed, args.encoding)?;
    Ok((Encoding::from_number(tag), payload))
}

/// The command's standard input: a text as itself, other values as JSON, anything else as its bytes.
fn input(request: &Message) -> Vec<u8> {
    match payload::show(request.encoding().number(), request.payload()) {
        Shown::Value(serde_json::Value::String(text))
            if request.encoding() == Encoding::MessagePack =>
        {
            text.into_bytes()
        }
        Shown::Value(value) if request.encoding() == Encoding::MessagePack => {
            value.to_string().into_bytes()
        }
        Shown::Packed(bytes) => bytes.to_vec(),
        Shown::Value(_) | Shown::Text(_) | Shown::Bytes(_) => request.payload().to_vec(),
    }
}

async fn work(
    child: &mut Child,
    input: Vec<u8>,
    output_max: u64,
    limit: Duration,
) -> anyhow::Result<Vec<u8>> {
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        anyhow::bail!("the command has no pipes");
    };
    let feed = async {
        // A command need not read what it is given.
        let fed = stdin.write_all(&input).await;
        drop(stdin);
        match fed {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    };
    let read = async {
        let mut printed = Vec::new();
        stdout
            .take(output_max.saturating_add(1))
            .read_to_end(&mut printed)
            .await?;
        if printed.len() as u64 > output_max {
            return Err(std::io::Error::other(
                "the command prints more than --output-max allows",
            ));
        }
        Ok(printed)
    };
    let listen = async {
        let mut complaint = Vec::new();
        (&mut stderr)
            .take(COMPLAINT_LEN_MAX)
            .read_to_end(&mut complaint)
            .await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
        Ok(complaint)
    };
    let all = async {
        let ((), printed, complaint) = tokio::try_join!(feed, read, listen)?;
        std::io::Result::Ok((printed, complaint, child.wait().await?))
    };
    let (printed, complaint, status) = tokio::time::timeout(limit, all)
        .await
        .map_err(|_elapsed| TooSlow(limit))??;
    let complaint = String::from_utf8_lossy(&complaint);
    anyhow::ensure!(
        status.success(),
        "the command ended with {status}: {}",
        complaint.trim()
    );
    Ok(printed)
}

/// Ends the command and what it has started.
fn kill(child: &Child) {
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group
        && let Err(error) =
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
    {
        tracing::warn!(%error, "cannot end a command");
    }
}

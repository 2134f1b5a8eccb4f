//! `dialtone request`: asks, and prints the answers.

use std::io::Write as _;

use dialtone_client::{Client, Encoding, Many, Message, RequestError};
use dialtone_protocol::Code;
use tokio::time::Instant;

use super::show::{self, Style};
use crate::args::Request;
use crate::exit::{Exit, Failure, Outcome};
use crate::payload;
use crate::print::{Output, harmless};

/// `dialtone request`
pub(super) async fn run(args: Request) -> Outcome {
    let client = crate::connect::connect(&args.connect).await?;
    let outcome = ask(&args, &client).await;
    client.close().await;
    outcome
}

async fn ask(args: &Request, client: &Client) -> Outcome {
    let headers = show::headers(&args.payload.header)?;
    let (tag, payload) = payload::encode(
        super::publish::read(&args.payload).await?,
        args.payload.encoding,
    )?;
    let limit = args.timeout.get();
    let mut draft = client
        .message(args.subject.as_str())
        .headers(&headers)
        .encoding(Encoding::from_number(tag))
        .payload(payload)
        .timeout(limit);
    if args.wait {
        draft = draft.wait_for_interest(limit);
    }
    let style = Style::new(args.raw, args.json, args.headers);
    let mut out = Output::stdout();
    if args.replies == 1 {
        let reply = draft.request().await.map_err(failed)?;
        show::message(&mut out, style, &reply)?;
        out.flush()?;
        return answered(&reply);
    }
    let deadline = Instant::now() + limit;
    let many = Many {
        wait_max: limit,
        messages_max: Some(args.replies.into()),
    };
    let mut answers = draft.request_many(many).await.map_err(failed)?;
    let mut count = 0_u32;
    while let Ok(Some(reply)) = tokio::time::timeout_at(deadline, answers.next()).await {
        show::message(&mut out, style, &reply)?;
        out.flush()?;
        count += 1;
    }
    match answers.error() {
        Some(error) => Err(failed(error)),
        None if count == 0 => Err(failed(RequestError::TimedOut(limit))),
        None => Ok(()),
    }
}

fn failed(error: RequestError) -> Failure {
    let code = error.code();
    let failure = Failure::of(code, error);
    if code == Code::NoSubscribers {
        failure.hint("--wait waits for somebody to subscribe")
    } else {
        failure
    }
}

/// Services say with headers that an answer is an error.
fn answered(reply: &Message) -> Outcome {
    let headers = reply.headers().unwrap_or_default();
    let Some(text) = headers.text("error") else {
        return Ok(());
    };
    let code = headers
        .get("code")
        .and_then(serde_json::Value::as_u64)
        .and_then(|code| u16::try_from(code).ok());
    let exit = code.map_or(Exit::Failure, |code| {
        match Exit::of(Code::from_number(code)) {
            // Those are about the command line, which is not what the service complains about.
            Exit::Usage | Exit::Quiet => Exit::Failure,
            exit @ (Exit::Failure | Exit::NoSubscriber | Exit::Timeout | Exit::Denied) => exit,
        }
    });
    Err(Failure::new(
        exit,
        anyhow::anyhow!("the service answered with an error: {}", harmless(text)),
    ))
}

//! `dialtone request`: asks, and prints the answers.

use std::io::Write as _;

use dialtone_client::{Client, Draft, Many, Message, RequestError};
use dialtone_protocol::Code;
use tokio::time::Instant;

use super::attached::with_client;
use super::publish::unanswered;
use super::show::{self, Style};
use crate::args::Request;
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, harmless, note};

/// `dialtone request`
pub(super) async fn run(args: Request) -> Outcome {
    let headers = show::headers(&args.payload.header)?;
    let source = super::publish::read(&args.payload).await?;
    let (encoding, payload) = super::publish::encoded(source, args.payload.encoding)?;
    with_client(&args.connect, async |client| {
        let limit = args.timeout.get();
        let draft = client
            .message(args.subject.as_str())
            .headers(&headers)
            .encoding(encoding)
            .payload(payload)
            .timeout(limit);
        let mut printer = Printer {
            style: Style::new(args.raw, args.json, args.headers)
                .text(args.text)
                .payload_only(),
            out: Output::stdout(),
        };
        if args.replies == 1 {
            let draft = if args.wait {
                draft.wait_for_interest(limit)
            } else {
                draft
            };
            let reply = draft
                .request()
                .await
                .map_err(|error| failed(&args, error))?;
            return printer.print(&reply);
        }
        ask_many(&args, client, draft, &mut printer).await
    })
    .await
}

async fn ask_many(
    args: &Request,
    client: &Client,
    draft: Draft<'_>,
    printer: &mut Printer,
) -> Outcome {
    let limit = args.timeout.get();
    let deadline = Instant::now() + limit;
    if args.wait
        && !client
            .wait_for_interest(&args.subject, limit)
            .await
            .map_err(unanswered)?
    {
        return Err(nobody_came(args));
    }
    let many = Many {
        wait_max: limit,
        messages_max: Some(args.replies.into()),
    };
    let mut answers = draft
        .request_many(many)
        .await
        .map_err(|error| failed(args, error))?;
    let (mut good, mut complaint) = (false, None);
    while let Ok(Some(reply)) = tokio::time::timeout_at(deadline, answers.next()).await {
        match printer.print(&reply) {
            Ok(()) => good = true,
            Err(failure) if failure.exit == Exit::Quiet => return Err(failure),
            Err(failure) => {
                // The last one is told by the end of the program, unless there was a good answer as well.
                if let Some(earlier) = complaint.replace(failure) {
                    note(earlier.to_string().trim_end());
                }
            }
        }
    }
    match (answers.error(), complaint) {
        (Some(error), _) => Err(failed(args, error)),
        (None, Some(complaint)) if good => {
            note(complaint.to_string().trim_end());
            Ok(())
        }
        (None, Some(complaint)) => Err(complaint),
        (None, None) if good => Ok(()),
        (None, None) => Err(failed(args, RequestError::TimedOut(limit))),
    }
}

/// Prints answers, but none that is an error.
struct Printer {
    style: Style,
    out: Output,
}

impl Printer {
    /// An answer that is an error is the failure of the request; programs get it as JSON all the same.
    fn print(&mut self, reply: &Message) -> Outcome {
        let answered = answered(reply);
        if answered.is_ok() || self.style.is_json() {
            show::message(&mut self.out, self.style, reply)?;
            self.out.flush()?;
        }
        answered
    }
}

fn nobody_came(args: &Request) -> Failure {
    let error = anyhow::anyhow!(
        "nobody subscribed to {} within {}",
        args.subject,
        args.timeout
    );
    Failure::new(Exit::Timeout, error)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other errors are told alike"
)]
fn failed(args: &Request, error: RequestError) -> Failure {
    match error.code() {
        Code::NoSubscribers if args.wait => nobody_came(args),
        Code::NoSubscribers => {
            Failure::of(Code::NoSubscribers, error).hint("--wait waits for somebody to subscribe")
        }
        code => match error {
            // What the broker or the connection says about the message is all there is to be said.
            RequestError::Publish(error) => Failure::of(code, error),
            error => Failure::of(code, error),
        },
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
            // Those are about this program, which is not what the service complains about.
            Exit::Usage | Exit::Quiet | Exit::Incomplete | Exit::Interrupted | Exit::Terminated => {
                Exit::Failure
            }
            exit @ (Exit::Failure | Exit::NoSubscriber | Exit::Timeout | Exit::Denied) => exit,
        }
    });
    Err(Failure::new(
        exit,
        anyhow::anyhow!("the service answered with an error: {}", harmless(text)),
    ))
}

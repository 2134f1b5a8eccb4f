//! `dialtone interest`: does somebody subscribe?

use std::io::Write as _;

use dialtone_client::Client;

use super::attached::with_client;
use super::publish::unanswered;
use crate::args::Interest;
use crate::exit::{Exit, Failure, Outcome};
use crate::print::Output;

/// `dialtone interest`
pub(super) async fn run(args: Interest) -> Outcome {
    with_client(&args.connect, async |client| ask(&args, client).await).await
}

async fn ask(args: &Interest, client: &Client) -> Outcome {
    let interested = match args.wait {
        Some(wait) => client.wait_for_interest(&args.subject, wait.get()).await,
        None => client.interest(&args.subject).await,
    };
    let interested = interested.map_err(unanswered)?;
    let mut out = Output::stdout();
    if args.json {
        out.json(&serde_json::json!({ "subject": args.subject, "interest": interested }))?;
    } else if interested {
        out.line(format_args!("somebody subscribes to {}", args.subject))?;
    }
    out.flush()?;
    match (interested, args.wait) {
        (true, _) => Ok(()),
        (false, None) => Err(Failure::new(
            Exit::NoSubscriber,
            anyhow::anyhow!("nobody subscribes to {}", args.subject),
        )),
        (false, Some(wait)) => Err(Failure::new(
            Exit::Timeout,
            anyhow::anyhow!("nobody subscribed to {} within {wait}", args.subject),
        )),
    }
}

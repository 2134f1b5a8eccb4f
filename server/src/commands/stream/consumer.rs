//! `dialtone stream consumer`.

use std::io::Write as _;

use dialtone_client::persist::Job;
use dialtone_client::persist::wire::{ConsumerConfig, ConsumerInfo, StartAt};
use serde_json::json;

use crate::args::{ConsumerAdd, ConsumerCommand, ConsumerNamed, ConsumerNext, StreamNamed};
use crate::commands::attached::with_client;
use crate::commands::records::{at, table};
use crate::commands::{records, store};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, harmless, note};

/// `dialtone stream consumer`
pub(super) async fn run(command: ConsumerCommand) -> Outcome {
    match command {
        ConsumerCommand::Add(args) => add(args).await,
        ConsumerCommand::Ls(args) => ls(args).await,
        ConsumerCommand::Info(args) => info(args).await,
        ConsumerCommand::Rm(args) => rm(args).await,
        ConsumerCommand::Next(args) => next(args).await,
    }
}

async fn add(args: ConsumerAdd) -> Outcome {
    let start = match (args.from, args.new) {
        (Some(seq), _) => StartAt::Seq(seq),
        (None, true) => StartAt::New,
        (None, false) => StartAt::First,
    };
    let config = ConsumerConfig {
        description: args.description.clone(),
        start,
        prefix: args.prefix.clone(),
        ack_wait: u64::try_from(args.ack_wait.get().as_millis()).unwrap_or(u64::MAX),
        max_ack_pending: args.max_ack_pending,
        max_deliveries: args.max_deliveries,
        dead_letter: args.dead_letter.clone(),
    };
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.stream.as_str()).map_err(store::open)?;
        let made = if args.exist_ok {
            stream.consumer(args.name.as_str(), config).await
        } else {
            stream.create_consumer(args.name.as_str(), config).await
        };
        let consumer = made.map_err(store::open)?;
        print(&consumer.info().await.map_err(store::call)?, args.json)
    })
    .await
}

async fn ls(args: StreamNamed) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.name.as_str()).map_err(store::open)?;
        let names = stream.consumers().await.map_err(store::call)?;
        let (mut out, mut rows) = (Output::stdout(), Vec::new());
        for name in &names {
            let info = stream.consumer_handle(name.as_str()).info().await;
            let info = info.map_err(store::call)?;
            if args.json {
                out.json(&info)?;
            }
            rows.push([
                harmless(name),
                info.delivered.to_string(),
                info.ack_floor.to_string(),
                info.ack_pending.to_string(),
                info.pending.to_string(),
            ]);
        }
        if names.is_empty() && !args.json {
            note("the stream has no consumers; `dialtone stream consumer add` makes one");
        } else if !args.json {
            let titles = [
                "NAME",
                "DELIVERED",
                "DONE UP TO",
                "UNACKNOWLEDGED",
                "WAITING",
            ];
            table(&mut out, titles, &rows)?;
        }
        Ok(out.flush()?)
    })
    .await
}

async fn info(args: ConsumerNamed) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.stream.as_str()).map_err(store::open)?;
        let info = stream.consumer_handle(args.name.as_str()).info().await;
        print(&info.map_err(store::call)?, args.json)
    })
    .await
}

fn print(info: &ConsumerInfo, as_json: bool) -> Outcome {
    let mut out = Output::stdout();
    if as_json {
        out.json(info)?;
        return Ok(out.flush()?);
    }
    let paint = out.paint;
    out.line(paint.bold(format_args!(
        "{} of {}",
        harmless(&info.consumer),
        harmless(&info.stream)
    )))?;
    let mut line = |name: &str, value: String| {
        let name = paint.dim(format_args!("{name:20}"));
        out.line(format_args!("  {name} {value}"))
    };
    let wait = std::time::Duration::from_millis(info.config.ack_wait);
    line("made", at(info.created))?;
    line("delivered up to", format!("#{}", info.delivered))?;
    line("done up to", format!("#{}", info.ack_floor))?;
    line(
        "unacknowledged",
        format!(
            "{} of at most {}",
            info.ack_pending, info.config.max_ack_pending
        ),
    )?;
    line("to be delivered", info.pending.to_string())?;
    line("again after", crate::config::Span(wait).to_string())?;
    if info.config.max_deliveries > 0 {
        line(
            "given up after",
            format!("{} deliveries", info.config.max_deliveries),
        )?;
    }
    if let Some(dead_letter) = &info.config.dead_letter {
        line("dead letters to", harmless(dead_letter))?;
    }
    Ok(out.flush()?)
}

async fn rm(args: ConsumerNamed) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.stream.as_str()).map_err(store::open)?;
        let consumer = stream.consumer_handle(args.name.as_str());
        if !consumer.delete().await.map_err(store::call)? {
            let error = anyhow::anyhow!("{} has no consumer {}", args.stream, args.name);
            return Err(Failure::new(Exit::Failure, error)
                .hint("`dialtone stream consumer ls STREAM` shows which there are"));
        }
        let mut out = Output::stdout();
        if args.json {
            out.json(&json!({ "stream": args.stream, "consumer": args.name, "deleted": true }))?;
        } else {
            out.line(format_args!("consumer {} is deleted", harmless(&args.name)))?;
        }
        Ok(out.flush()?)
    })
    .await
}

async fn next(args: ConsumerNext) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.stream.as_str()).map_err(store::open)?;
        let consumer = stream.consumer_handle(args.name.as_str());
        let jobs = consumer
            .fetch(args.count, args.wait.get())
            .await
            .map_err(store::call)?;
        if jobs.is_empty() {
            let error = anyhow::anyhow!("{} has nothing for {}", args.stream, args.name);
            return Err(
                Failure::new(Exit::Timeout, error).hint("--wait TIME waits for the next record")
            );
        }
        let mut out = Output::stdout();
        for job in &jobs {
            records::print(&mut out, args.print, job.record())?;
        }
        // What could not be shown is not done.
        out.flush()?;
        if args.no_ack {
            return Ok(());
        }
        acknowledge(&consumer, &jobs).await
    })
    .await
}

async fn acknowledge(consumer: &dialtone_client::persist::Consumer, jobs: &[Job]) -> Outcome {
    let late = consumer.ack_all(jobs).await.map_err(store::call)?;
    match late.first() {
        None => Ok(()),
        Some(seq) => Err(store::ack(dialtone_client::persist::AckError::NotPending {
            seq: *seq,
        })),
    }
}

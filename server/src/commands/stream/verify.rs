//! `dialtone stream verify`: everything that is kept is read, and the checksums are compared.

use std::io::Write as _;

use dialtone_client::persist::Persist;
use dialtone_client::persist::wire::VerifyProblem;
use serde_json::json;

use crate::args::StreamVerify;
use crate::commands::attached::with_client;
use crate::commands::{progress, store};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, bytes, counted, harmless};

/// What was found in a stream.
struct Found {
    stream: String,
    records: u64,
    size: u64,
    problems: Vec<VerifyProblem>,
}

pub(super) async fn run(args: StreamVerify) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let names = if args.names.is_empty() {
            let list = persist.list_all("").await.map_err(store::call)?;
            store::all_there(&list.missing)?;
            let streams = list.streams;
            streams.into_iter().map(|entry| entry.stream).collect()
        } else {
            args.names
        };
        let mut damaged: Vec<String> = Vec::new();
        for name in names {
            let found = verify(&persist, name).await?;
            print(&found, args.json)?;
            if !found.problems.is_empty() {
                damaged.push(found.stream);
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        let text = format!(
            "{} damaged: {}",
            counted(damaged.len() as u64, "stream"),
            damaged.join(", ")
        );
        Err(Failure::new(Exit::Failure, anyhow::anyhow!(text)))
    })
    .await
}

async fn verify(persist: &Persist, name: String) -> Result<Found, Failure> {
    let stream = persist.stream(name.as_str()).map_err(store::open)?;
    let info = stream.info().await.map_err(store::call)?;
    let bar = progress::records("verifying", info.messages);
    let mut found = Found {
        stream: name,
        records: 0,
        size: 0,
        problems: Vec::new(),
    };
    let mut from = 1;
    loop {
        let part = stream.verify(from).await.map_err(store::call)?;
        found.records += part.records;
        found.size += part.bytes;
        found.problems.extend(part.problems);
        bar.set_position(found.records);
        match part.next.filter(|next| *next > from) {
            Some(next) => from = next,
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(found)
}

fn print(found: &Found, as_json: bool) -> Outcome {
    let Found {
        stream,
        records,
        size,
        problems,
    } = found;
    let mut out = Output::stdout();
    if as_json {
        out.json(
            &json!({ "stream": stream, "records": records, "bytes": size, "problems": problems }),
        )?;
        return Ok(out.flush()?);
    }
    let name = harmless(stream);
    for problem in problems {
        let seq = problem
            .seq
            .map(|seq| format!("#{seq}: "))
            .unwrap_or_default();
        out.line(format_args!("{name}: {seq}{}", harmless(&problem.text)))?;
    }
    out.line(format_args!(
        "{name}: {}, {}: {}",
        counted(*records, "record"),
        bytes(*size),
        if problems.is_empty() {
            "sound"
        } else {
            "damaged"
        }
    ))?;
    Ok(out.flush()?)
}

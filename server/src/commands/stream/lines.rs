//! `dialtone stream append --lines`: a record for each line, in large appends, with an exact report.

use std::io::Write as _;
use std::time::Instant;

use dialtone_client::persist::wire::{Durability, Outcome as Became, Record};
use dialtone_client::persist::{AppendError, Stream};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use super::append::line_encoding;
use crate::args::StreamAppend;
use crate::commands::attached::with_client;
use crate::commands::{progress, store};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, bytes, counted, harmless, note};

/// Most records of one append.
const BATCH: usize = 10_000;

/// Most bytes of one append; one line always fits.
const BATCH_BYTES: usize = 4 << 20;

/// Longest line, in bytes, which is also the longest payload of a record.
const LINE_MAX: usize = dialtone_client::persist::wire::PAYLOAD_LEN_MAX;

/// Bytes that are read of the input at once.
const READ_LEN: usize = 1 << 18;

/// What was done so far.
#[derive(Debug, Default)]
struct Report {
    written: u64,
    known: u64,
    bytes: u64,
    first: Option<u64>,
    last: u64,
}

impl Report {
    fn lines(&self) -> u64 {
        self.written + self.known
    }
}

/// `dialtone stream append --lines`
pub(super) async fn run(args: StreamAppend) -> Outcome {
    if args
        .payload
        .payload
        .as_deref()
        .is_some_and(|text| text != "-")
    {
        return Err(Failure::usage(
            "--lines reads standard input or --file, not the command line",
        ));
    }
    let id = args.id.clone().unwrap_or_else(random_id);
    let (source, total): (Box<dyn AsyncBufRead + Unpin>, _) = match &args.file {
        Some(path) => {
            let file = tokio::fs::File::open(path).await.map_err(|error| {
                let error = anyhow::Error::from(error);
                Failure::from(error.context(format!("cannot read {}", path.display())))
            })?;
            let total = file.metadata().await.ok().map(|metadata| metadata.len());
            (Box::new(BufReader::with_capacity(READ_LEN, file)), total)
        }
        None => (
            Box::new(BufReader::with_capacity(READ_LEN, tokio::io::stdin())),
            None,
        ),
    };
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist
            .open(args.name.as_str())
            .await
            .map_err(store::open)?;
        let bar = progress::bytes(&args.name, total.filter(|total| *total > 0));
        let mut lines = Lines {
            source,
            id: &id,
            args: &args,
            number: 0,
        };
        let (mut report, began) = (Report::default(), Instant::now());
        let durability = args.durability.map(Into::into);
        let outcome = append_all(&stream, &mut lines, durability, &bar, &mut report).await;
        bar.finish_and_clear();
        sum_up(&args, &report, began)?;
        outcome.map_err(|failure| {
            let done = report.lines();
            failure.hint(format!(
                "{} stored; the same command with --id {id} goes on there",
                if done == 1 {
                    "1 line is".to_owned()
                } else {
                    format!("{done} lines are")
                }
            ))
        })
    })
    .await
}

fn random_id() -> String {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    format!("{:016x}", hasher.finish())
}

/// Reads the next lines while the last ones are written.
async fn append_all(
    stream: &Stream,
    lines: &mut Lines<'_>,
    durability: Option<Durability>,
    bar: &ProgressBar,
    report: &mut Report,
) -> Outcome {
    let mut batch = lines.batch().await?;
    while !batch.is_empty() {
        let size: usize = batch.iter().map(|record| record.payload.len() + 1).sum();
        let (written, next) = tokio::join!(append(stream, batch, durability), lines.batch());
        let (outcomes, failure) = written;
        count(report, &outcomes);
        if let Some(failure) = failure {
            return Err(failure);
        }
        report.bytes += size as u64;
        bar.set_position(report.bytes);
        if let Some(refused) = outcomes.iter().find_map(refusal) {
            return Err(refused);
        }
        batch = next?;
    }
    Ok(())
}

async fn append(
    stream: &Stream,
    batch: Vec<Record>,
    durability: Option<Durability>,
) -> (Vec<Became>, Option<Failure>) {
    match stream.append_many_with(batch, durability).await {
        Ok(appended) => (appended.results, None),
        Err(error) => (Vec::new(), Some(store::append(error))),
    }
}

fn count(report: &mut Report, outcomes: &[Became]) {
    for outcome in outcomes {
        let Became::Written(written) = outcome else {
            continue;
        };
        if written.duplicate {
            report.known += 1;
        } else {
            report.written += 1;
        }
        report.first.get_or_insert(written.seq);
        report.last = report.last.max(written.seq);
    }
}

fn refusal(outcome: &Became) -> Option<Failure> {
    match outcome {
        Became::Written(_) => None,
        Became::Refused(fault) => Some(store::append(AppendError::from(fault.clone()))),
    }
}

fn sum_up(args: &StreamAppend, report: &Report, began: Instant) -> Outcome {
    let mut out = Output::stdout();
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        out.json(&json!({
            "stream": args.name,
            "appended": report.written,
            "duplicates": report.known,
            "bytes": report.bytes,
            "first_seq": report.first,
            "last_seq": report.last,
            "seconds": seconds,
        }))?;
        return Ok(out.flush()?);
    }
    let known = if report.known > 0 {
        format!(", {} there already", report.known)
    } else {
        String::new()
    };
    let numbers = match report.first {
        Some(first) => format!(", #{first} to #{}", report.last),
        None => String::new(),
    };
    out.line(format_args!(
        "{} appended to {}{known}{numbers}",
        counted(report.written, "line"),
        harmless(&args.name),
    ))?;
    out.flush()?;
    note(format_args!("{} in {seconds:.1} s", bytes(report.bytes)));
    Ok(())
}

/// The lines of the input as records.
struct Lines<'a> {
    source: Box<dyn AsyncBufRead + Unpin>,
    id: &'a str,
    args: &'a StreamAppend,
    number: u64,
}

impl Lines<'_> {
    /// The next records; none at the end.
    async fn batch(&mut self) -> Result<Vec<Record>, Failure> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while batch.len() < BATCH && size < BATCH_BYTES {
            let Some(line) = self.line().await? else {
                break;
            };
            self.number += 1;
            size += line.len();
            let encoding = line_encoding(&line);
            let mut record = Record::from(line)
                .encoding(encoding)
                .id(format!("{}.{}", self.id, self.number));
            record.ttl = self
                .args
                .ttl
                .map(|ttl| u64::try_from(ttl.get().as_millis()).unwrap_or(u64::MAX));
            batch.push(record);
        }
        Ok(batch)
    }

    /// The next line without its newline.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        loop {
            let part = self.source.fill_buf().await?;
            if part.is_empty() {
                return Ok((!line.is_empty()).then_some(line));
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(part.len());
            line.extend_from_slice(part.get(..taken).unwrap_or(part));
            let used = if end.is_some() { taken + 1 } else { taken };
            self.source.consume(used);
            if line.len() > LINE_MAX {
                let number = self.number + 1;
                let error =
                    anyhow::anyhow!("line {number} is longer than {}", bytes(LINE_MAX as u64));
                return Err(Failure::new(Exit::Failure, error));
            }
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }
}

//! `dialtone stream import`: a stream from a file.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};

use anyhow::Context as _;
use dialtone_client::persist::Stream;
use dialtone_client::persist::wire::{Restored, StoredRecord};
use serde_json::json;

use super::file::{FileError, Head, Reader};
use crate::args::StreamImport;
use crate::commands::attached::with_client;
use crate::commands::{progress, store};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, counted, harmless};

/// Most records of one request.
const BATCH: usize = 5_000;

/// Most bytes of records in one request; one record always fits.
const BATCH_BYTES: u64 = 4 << 20;

/// Bytes that are read of the file at once.
const READ_LEN: usize = 1 << 18;

/// `dialtone stream import`
pub(super) async fn run(args: StreamImport) -> Outcome {
    let input: Box<dyn Read> = if args.file == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot read {}", args.file))?;
        Box::new(file)
    };
    let input = BufReader::with_capacity(READ_LEN, input);
    // What is no file of ours is said before anybody is asked to connect.
    let (reader, head) = Reader::new(input).map_err(wrong)?;
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist
            .create(args.name.as_str(), head.config.clone())
            .await
            .map_err(store::open)?;
        let restored = match restore(&stream, reader, &head).await {
            Ok(restored) => restored,
            Err(failure) => {
                // Half a stream would look like a whole one.
                persist
                    .delete(args.name.as_str())
                    .await
                    .map_err(store::open)?;
                return Err(failure);
            }
        };
        let mut out = Output::stdout();
        if args.json {
            out.json(&json!({
                "stream": args.name,
                "records": restored.messages,
                "last_seq": restored.last_seq,
            }))?;
        } else {
            out.line(format_args!(
                "imported {} into {}",
                counted(restored.messages, "record"),
                harmless(&args.name)
            ))?;
        }
        Ok(out.flush()?)
    })
    .await
}

async fn restore<R: Read>(
    stream: &Stream,
    mut reader: Reader<R>,
    head: &Head,
) -> Result<Restored, Failure> {
    let bar = progress::records("importing", head.last_seq);
    loop {
        let (batch, ended) = batch(&mut reader)?;
        let last = batch.last().map(|record| record.seq);
        let last_seq = ended.then_some(head.last_seq);
        let restored = stream
            .restore(batch, last_seq, ended)
            .await
            .map_err(store::call)?;
        bar.set_position(last.unwrap_or(head.last_seq));
        if ended {
            bar.finish_and_clear();
            return Ok(restored);
        }
    }
}

/// The next records, and whether they are the last ones.
fn batch<R: Read>(reader: &mut Reader<R>) -> Result<(Vec<StoredRecord>, bool), Failure> {
    let (mut batch, mut size) = (Vec::new(), 0);
    while batch.len() < BATCH && size < BATCH_BYTES {
        let Some(record) = reader.next().map_err(wrong)? else {
            return Ok((batch, true));
        };
        size += record.size();
        batch.push(record);
    }
    Ok((batch, false))
}

fn wrong(error: FileError) -> Failure {
    match error {
        FileError::Foreign | FileError::Newer(_) => Failure::new(Exit::Usage, error),
        FileError::Damaged { .. } | FileError::CutOff { .. } => Failure::new(Exit::Failure, error)
            .hint("nothing of it was kept; another copy of the file may be whole"),
        FileError::Io(error) => error.into(),
    }
}

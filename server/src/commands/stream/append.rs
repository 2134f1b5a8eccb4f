//! `dialtone stream append`: one record.

use std::io::Write as _;

use dialtone_client::Encoding;
use dialtone_client::persist::wire::{Record, Written};
use serde_json::json;

use crate::args::StreamAppend;
use crate::commands::attached::with_client;
use crate::commands::records::at;
use crate::commands::{publish, show, store};
use crate::exit::{Failure, Outcome};
use crate::print::{Output, harmless};

/// `dialtone stream append`
pub(super) async fn run(args: StreamAppend) -> Outcome {
    if args.lines {
        return super::lines::run(args).await;
    }
    if args.payload.payload.is_none() {
        return Err(Failure::usage("there is nothing to append")
            .hint("give a payload, `-` for standard input, or --lines with a file"));
    }
    let headers = show::headers(&args.payload.header)?;
    let source = publish::read(&args.payload).await?;
    let (encoding, payload) = publish::encoded(source, args.payload.encoding)?;
    let record = Record::from(payload).encoding(encoding).headers(&headers);
    let record = said(&args, record);
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.name.as_str()).map_err(store::open)?;
        let written = stream
            .append_with(record, args.durability.map(Into::into))
            .await
            .map_err(store::append)?;
        print(&args.name, &written, args.json)
    })
    .await
}

/// The record with what the flags say about it.
fn said(args: &StreamAppend, mut record: Record) -> Record {
    if let Some(key) = &args.record_key {
        record = record.key(key.as_str());
    }
    if let Some(ttl) = args.ttl {
        record = record.ttl(ttl.get());
    }
    if let Some(id) = &args.id {
        record = record.id(id.as_str());
    }
    if let Some(seq) = args.if_last_seq {
        record = record.after_last(seq);
    }
    if let Some(seq) = args.if_key_seq {
        record = record.after_key(seq);
    }
    record
}

/// Says where a record is.
pub(in crate::commands) fn print(name: &str, written: &Written, as_json: bool) -> Outcome {
    let mut out = Output::stdout();
    if as_json {
        out.json(&json!({
            "stream": name,
            "seq": written.seq,
            "time": at(written.time),
            "duplicate": written.duplicate,
        }))?;
    } else {
        let known = if written.duplicate {
            " (it was there already)"
        } else {
            ""
        };
        out.line(format_args!("{} #{}{known}", harmless(name), written.seq))?;
    }
    Ok(out.flush()?)
}

/// How a line travels: marked as JSON where it is, and as plain bytes otherwise.
pub(super) fn line_encoding(line: &[u8]) -> Encoding {
    match serde_json::from_slice::<serde::de::IgnoredAny>(line) {
        Ok(_) => Encoding::Json,
        Err(_) => Encoding::from_number(crate::commands::records::PLAIN),
    }
}

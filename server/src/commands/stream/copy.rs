//! `dialtone stream copy`: a stream as it is, or as it was in the archive, in a new one.

use anyhow::Context as _;
use dialtone_client::Client;
use dialtone_client::persist::wire::{APPEND_RECORDS_MAX, StoredRecord};
use dialtone_client::persist::{Persist, ReadOptions, Stream, StreamName};
use dialtone_persist::archive::{self, Copied, CopyError, CopySource, Step};
use serde_json::json;

use super::archive as place;
use crate::args::StreamCopy;
use crate::commands::attached::with_client;
use crate::commands::records::{at, now};
use crate::commands::{progress, store};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, counted, harmless};
use crate::when::When;

/// Most bytes of records in one request; one record always fits.
const BATCH_BYTES: u64 = 4 << 20;

/// `dialtone stream copy`
pub(super) async fn run(args: StreamCopy) -> Outcome {
    let name =
        StreamName::new(args.from.clone()).map_err(|error| Failure::new(Exit::Usage, error))?;
    // What cannot be read is said before anybody is asked to connect.
    let archive = match args.at {
        Some(when) => Some((place::open(&args.archive)?, when)),
        None => None,
    };
    with_client(&args.store.connect, async |client: &Client| {
        let persist = store::persist(client, &args.store)?;
        let copied = match &archive {
            Some((archive, when)) => as_it_was(archive, *when, &name, &persist, &args).await?,
            None => as_it_is(&persist, &args).await?,
        };
        let mut out = Output::stdout();
        if args.json {
            out.json(&json!({
                "stream": args.to,
                "records": copied.messages,
                "last_seq": copied.last_seq,
                "time": at(copied.time),
            }))?;
        } else {
            out.line(format_args!(
                "copied {} of {} to {}, as of {}",
                counted(copied.messages, "record"),
                harmless(&args.from),
                harmless(&args.to),
                at(copied.time)
            ))?;
        }
        Ok(std::io::Write::flush(&mut out)?)
    })
    .await
}

async fn as_it_was(
    archive: &archive::Archive,
    when: When,
    stream: &StreamName,
    persist: &Persist,
    args: &StreamCopy,
) -> Result<Copied, Failure> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("dialtone-copy-");
    let scratch = match &args.scratch {
        Some(folder) => builder
            .tempdir_in(folder)
            .with_context(|| format!("cannot make a folder in {}", folder.display()))?,
        None => builder.tempdir().context("cannot make a scratch folder")?,
    };
    let source = CopySource {
        archive,
        point: place::point(when),
        folder: scratch.path(),
        stream,
    };
    let mut bar = progress::bytes("restoring", Some(0));
    let mut is_copying = false;
    let told = |step| match step {
        Step::Restored(done, all) => {
            bar.set_length(all);
            bar.set_position(done);
        }
        Step::Copied(done, all) => {
            if !std::mem::replace(&mut is_copying, true) {
                bar.finish_and_clear();
                bar = progress::records("copying", all);
            }
            bar.set_position(done);
        }
    };
    let copied = archive::copy(source, persist, &args.to, told).await;
    bar.finish_and_clear();
    let copied = copied.map_err(|error| refused(error, when))?;
    scratch
        .close()
        .context("cannot remove the scratch folder")?;
    Ok(copied)
}

fn refused(error: CopyError, when: When) -> Failure {
    match error {
        CopyError::Restore(error) => place::refused(error, Some(when)),
        CopyError::Open(error) => store::open(error),
        CopyError::Call(error) => store::call(error),
        CopyError::NotThere(_) => Failure::new(Exit::Failure, error).hint(
            "of several nodes, each has an archive of its own: it may be in that of another one",
        ),
        CopyError::Folder(_) | CopyError::Log(_) | CopyError::Damaged { .. } => {
            Failure::new(Exit::Failure, error)
        }
    }
}

async fn as_it_is(persist: &Persist, args: &StreamCopy) -> Result<Copied, Failure> {
    let from = persist
        .open(args.from.as_str())
        .await
        .map_err(store::open)?;
    let info = from.info().await.map_err(store::call)?;
    let time = now();
    let to = persist.create(args.to.as_str(), info.config.clone()).await;
    let to = to.map_err(store::open)?;
    let bar = progress::records("copying", info.messages);
    match fill(&from, &to, info.last_seq, |count| bar.set_position(count)).await {
        Ok(messages) => {
            bar.finish_and_clear();
            Ok(Copied {
                time,
                messages,
                last_seq: info.last_seq,
            })
        }
        Err(failure) => {
            // Half a stream would look like a whole one.
            persist
                .delete(args.to.as_str())
                .await
                .map_err(store::open)?;
            Err(failure)
        }
    }
}

/// Copies what there is up to a number; how many records that were.
async fn fill(
    from: &Stream,
    to: &Stream,
    last_seq: u64,
    told: impl Fn(u64),
) -> Result<u64, Failure> {
    let mut records = from.read(ReadOptions {
        to: Some(last_seq),
        ..ReadOptions::default()
    });
    let (mut batch, mut size, mut count) = (Vec::<StoredRecord>::new(), 0, 0);
    while let Some(record) = records.next().await {
        let record = record.map_err(store::call)?;
        size += record.size();
        count += 1;
        batch.push(record);
        if size >= BATCH_BYTES || batch.len() == APPEND_RECORDS_MAX {
            let full = std::mem::take(&mut batch);
            let _restored = to.restore(full, None, false).await.map_err(store::call)?;
            size = 0;
            told(count);
        }
    }
    let _restored = to
        .restore(batch, Some(last_seq), true)
        .await
        .map_err(store::call)?;
    Ok(count)
}

//! `dialtone stream export`: a stream as a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dialtone_client::persist::{ReadOptions, Stream};

use super::file::Writer;
use crate::args::StreamExport;
use crate::commands::attached::with_client;
use crate::commands::{progress, store};
use crate::exit::{Failure, Outcome};
use crate::print::{counted, harmless, note};

/// Bytes that are written at once.
const WRITE_LEN: usize = 1 << 18;

/// `dialtone stream export`
pub(super) async fn run(args: StreamExport) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist
            .open(args.name.as_str())
            .await
            .map_err(store::open)?;
        if args.file == "-" {
            write(&stream, std::io::stdout()).await?;
            return Ok(());
        }
        let path = Path::new(&args.file);
        if path.exists() && !args.force {
            let text = format!("{} exists already", path.display());
            return Err(Failure::usage(text).hint("--force replaces it"));
        }
        let part = Part::new(path)?;
        let (file, records) = write(&stream, part.open()?).await?;
        file.sync_all().context("cannot flush the file to disk")?;
        part.keep(path)?;
        note(format_args!(
            "exported {} of {} to {}",
            counted(records, "record"),
            harmless(&args.name),
            path.display()
        ));
        Ok(())
    })
    .await
}

async fn write<W: std::io::Write>(stream: &Stream, out: W) -> Result<(W, u64), Failure> {
    let info = stream.info().await.map_err(store::call)?;
    let bar = progress::records("exporting", info.messages);
    let out = BufWriter::with_capacity(WRITE_LEN, out);
    let mut writer = Writer::new(out, stream.name(), info.last_seq, info.config)?;
    let mut records = stream.read(ReadOptions {
        to: Some(info.last_seq),
        ..ReadOptions::default()
    });
    while let Some(record) = records.next().await {
        writer.record(&record.map_err(store::call)?)?;
        bar.inc(1);
    }
    let (out, count) = writer.finish()?;
    bar.finish_and_clear();
    let out = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    Ok((out, count))
}

/// A file that is being written beside the one that it becomes; it goes with its owner unless it is kept.
pub(in crate::commands) struct Part {
    path: Option<PathBuf>,
}

impl Part {
    /// The place for what becomes `whole`.
    pub(in crate::commands) fn new(whole: &Path) -> Result<Self, Failure> {
        let Some(name) = whole.file_name() else {
            return Err(Failure::usage(format_args!(
                "{} is no name of a file",
                whole.display()
            )));
        };
        let mut part = std::ffi::OsString::from(".");
        part.push(name);
        part.push(format!(".{}.part", std::process::id()));
        Ok(Self {
            path: Some(whole.with_file_name(part)),
        })
    }

    /// Makes the file.
    pub(in crate::commands) fn open(&self) -> anyhow::Result<File> {
        let path = self.path.as_deref().unwrap_or_else(|| Path::new(""));
        File::create(path).with_context(|| format!("cannot make {}", path.display()))
    }

    /// Makes it what it becomes.
    pub(in crate::commands) fn keep(mut self, whole: &Path) -> anyhow::Result<()> {
        if let Some(path) = self.path.take() {
            std::fs::rename(&path, whole)
                .with_context(|| format!("cannot make {}", whole.display()))?;
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It may never have been made.
            drop(std::fs::remove_file(path));
        }
    }
}

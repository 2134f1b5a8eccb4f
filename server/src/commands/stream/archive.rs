//! `dialtone stream points` and `restore`: what an archive has, and a log from it.

use std::sync::Arc;

use dialtone_persist::archive::{
    Archive, ArchiveError, Location, OpenError, Point, RestoreError, restore,
};
use dialtone_persist::disk::Folder;
use futures_util::TryFutureExt as _;
use serde_json::json;

use crate::args::{ArchiveArgs, StreamPoints, StreamRestore};
use crate::assemble;
use crate::commands::progress;
use crate::commands::records::{at, now, table};
use crate::config::{Environment, Strings as _};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::Interrupts;
use crate::persist::{self, FOLDER};
use crate::print::{Output, bytes, counted, harmless, note};
use crate::when::When;

/// `dialtone stream points`
pub(super) async fn points(args: StreamPoints) -> Outcome {
    let archive = open(&args.archive)?;
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    let manifests = unless_interrupted(archive.newest(count).map_err(failed)).await?;
    let mut out = Output::stdout();
    if args.json {
        for manifest in &manifests {
            out.json(&json!({
                "generation": manifest.generation,
                "time": at(manifest.time),
                "node": manifest.node,
                "log": manifest.log,
                "segments": manifest.segments.len(),
                "bytes": manifest.bytes(),
            }))?;
        }
        return Ok(std::io::Write::flush(&mut out)?);
    }
    if manifests.is_empty() {
        note("nothing was archived there yet");
        return Ok(());
    }
    let rows: Vec<[String; 5]> = manifests
        .iter()
        .map(|manifest| {
            [
                at(manifest.time),
                manifest.generation.to_string(),
                harmless(&manifest.node),
                manifest.segments.len().to_string(),
                bytes(manifest.bytes()),
            ]
        })
        .collect();
    let titles = ["TIME", "GENERATION", "NODE", "SEGMENTS", "SIZE"];
    table(&mut out, titles, &rows)?;
    Ok(std::io::Write::flush(&mut out)?)
}

/// `dialtone stream restore`
pub(super) async fn run(args: StreamRestore) -> Outcome {
    let archive = open(&args.archive)?;
    let given = args
        .data
        .or_else(|| Environment.get("DIALTONE_DATA").map(Into::into));
    let data = match given {
        Some(data) => data,
        None => assemble::data_dir(&Environment)?,
    };
    let folder = data.join(FOLDER);
    let disk = Folder::open(folder.clone()).map_err(anyhow::Error::from)?;
    let bar = progress::bytes("restoring", Some(0));
    let told = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let point = args.at.map_or(Point::Newest, point);
    let restoring = restore(&archive, Arc::new(disk), point, told);
    let restored = unless_interrupted(restoring.map_err(|error| refused(error, args.at))).await?;
    bar.finish_and_clear();
    let mut out = Output::stdout();
    if args.json {
        out.json(&json!({
            "folder": folder,
            "generation": restored.generation,
            "time": at(restored.time),
            "segments": restored.segments,
            "bytes": restored.bytes,
        }))?;
    } else {
        out.line(format_args!(
            "restored {} in {} to {}, as of {}",
            bytes(restored.bytes),
            counted(restored.segments as u64, "segment"),
            folder.display(),
            at(restored.time)
        ))?;
    }
    Ok(std::io::Write::flush(&mut out)?)
}

/// The point that somebody means.
pub(super) fn point(when: When) -> Point {
    Point::Time(when.ms(now()))
}

/// The archive of the flags, the environment or the file.
pub(super) fn open(args: &ArchiveArgs) -> Result<Archive, Failure> {
    let (_, settings) =
        crate::serve::settings(args.config.as_deref(), args.place.clone().into_flags())?;
    let Some(location) = persist::archive_location(&settings)? else {
        return Err(Failure::usage("no archive is named").hint(
            "--persist-archive s3://BUCKET/PREFIX or a folder, or persist.archive in the file of --config",
        ));
    };
    if let Location::Folder(path) = &location
        && !path.is_dir()
    {
        // Opening one to write to makes the folder; whoever reads has mistyped it.
        let text = format!("there is no archive in {}", path.display());
        return Err(Failure::new(Exit::Failure, anyhow::anyhow!(text)));
    }
    Archive::open(&location).map_err(|error: OpenError| Failure::new(Exit::Failure, error))
}

fn failed(error: ArchiveError) -> Failure {
    Failure::new(Exit::Failure, error)
}

/// Why a log is not restored, as the shell sees it.
pub(super) fn refused(error: RestoreError, when: Option<When>) -> Failure {
    match error {
        RestoreError::Nothing if when.is_some() => Failure::new(Exit::Failure, error)
            .hint("`dialtone stream points` shows to which times one can go back"),
        RestoreError::Nothing => {
            Failure::new(Exit::Failure, anyhow::anyhow!("the archive is empty"))
                .hint("each node has a place of its own; `dialtone stream points` shows what is there")
        }
        RestoreError::NotEmpty(_) => Failure::new(Exit::Failure, error).hint(
            "a node whose log is there needs none of this; move the folder away to go back to an earlier state",
        ),
        RestoreError::Archive(_) | RestoreError::Damaged { .. } | RestoreError::Disk { .. } => {
            Failure::new(Exit::Failure, error)
        }
    }
}

async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = Interrupts::new()?;
    tokio::select! {
        done = work => done,
        exit = interrupts.next() => Err(Failure::silent(exit)),
    }
}

//! `dialtone object`: large values, such as files.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use dialtone_client::Client;
use dialtone_client::persist::object::{
    CHUNK_LEN_MAX, ObjectError, ObjectInfo, ObjectReader, ObjectStore, PutOptions,
};
use dialtone_client::persist::wire::Config;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::attached::with_client;
use super::records::{at, table};
use super::stream::Part;
use super::{progress, show, store};
use crate::args::{ObjectCommand, ObjectGet, ObjectLs, ObjectNamed, ObjectPut, StoreArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, bytes, harmless, note};

/// `dialtone object`
pub(super) async fn run(command: ObjectCommand) -> Outcome {
    match command {
        ObjectCommand::Put(args) => put(args).await,
        ObjectCommand::Get(args) => get(args).await,
        ObjectCommand::Ls(args) => ls(args).await,
        ObjectCommand::Rm(args) => rm(args).await,
        ObjectCommand::Info(args) => info(args).await,
    }
}

/// The store that a stream is, which must be there.
fn existing(client: &Client, name: &str, args: &StoreArgs) -> Result<ObjectStore, Failure> {
    let persist = store::persist(client, args)?;
    Ok(ObjectStore::of(persist.stream(name).map_err(store::open)?))
}

async fn put(args: ObjectPut) -> Outcome {
    let name = match (&args.name, args.file.as_str()) {
        (Some(name), _) => name.clone(),
        (None, "-") => {
            return Err(Failure::usage(
                "what comes from standard input needs a --name",
            ));
        }
        (None, file) => last_part(file)?,
    };
    let chunk = u32::try_from(args.chunk.0)
        .ok()
        .filter(|len| (1..=CHUNK_LEN_MAX).contains(len));
    let chunk_len = chunk.ok_or_else(|| {
        Failure::usage(format_args!(
            "--chunk: a chunk has from 1 B to {}",
            bytes(CHUNK_LEN_MAX.into())
        ))
    })?;
    let (source, total): (Box<dyn AsyncRead + Send + Unpin>, _) = if args.file == "-" {
        (Box::new(tokio::io::stdin()), None)
    } else {
        let file = tokio::fs::File::open(&args.file).await;
        let file = file.with_context(|| format!("cannot read {}", args.file))?;
        let total = file.metadata().await.ok().map(|metadata| metadata.len());
        (Box::new(file), total)
    };
    let metadata = show::headers(&args.header)?;
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let objects = ObjectStore::open(&persist, args.store_name.as_str(), Config::default())
            .await
            .map_err(store::open)?;
        let bar = progress::bytes(&name, total);
        let shown = bar.clone();
        let options = PutOptions {
            metadata,
            chunk_len,
            resume: !args.no_resume,
            progress: Some(Box::new(move |stored| shown.set_position(stored))),
        };
        let put = objects.put(&name, source, options).await;
        bar.finish_and_clear();
        let object = put.map_err(|error| {
            let resumable = !matches!(error, ObjectError::Conflict { .. } | ObjectError::Name);
            let failure = store::object(error);
            if resumable {
                failure.hint("the same command goes on where it was")
            } else {
                failure
            }
        })?;
        print(&object, args.json)
    })
    .await
}

fn last_part(path: &str) -> Result<String, Failure> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| !name.is_empty());
    name.map(str::to_owned)
        .ok_or_else(|| Failure::usage(format_args!("{path:?} gives no name; --name does")))
}

async fn get(args: ObjectGet) -> Outcome {
    let output = match &args.output {
        Some(output) => output.clone(),
        None => last_part(&args.name)?,
    };
    if output != "-" && Path::new(&output).exists() && !args.force {
        return Err(Failure::usage(format_args!("{output} exists already"))
            .hint("--force replaces it, --output names another place"));
    }
    with_client(&args.store.connect, async |client| {
        let objects = existing(client, &args.store_name, &args.store)?;
        let (from, to) = args.range.unwrap_or((0, None));
        let reader = objects
            .reader(&args.name, from..to.unwrap_or(u64::MAX))
            .await
            .map_err(store::object)?;
        let size = reader.info().size;
        let total = to.unwrap_or(size).min(size).saturating_sub(from);
        if output == "-" {
            return copy(reader, total, tokio::io::stdout()).await;
        }
        let path = Path::new(&output);
        let part = Part::new(path)?;
        let file = tokio::fs::File::from_std(part.open()?);
        copy(reader, total, file).await?;
        part.keep(path)?;
        note(format_args!("{} to {}", bytes(total), path.display()));
        Ok(())
    })
    .await
}

async fn copy(
    mut reader: ObjectReader,
    total: u64,
    mut to: impl AsyncWrite + Send + Unpin,
) -> Outcome {
    let bar = progress::bytes(&reader.info().name.clone(), Some(total));
    while let Some(part) = reader.next().await.map_err(store::object)? {
        to.write_all(&part).await?;
        bar.inc(part.len() as u64);
    }
    to.flush().await?;
    bar.finish_and_clear();
    Ok(())
}

async fn ls(args: ObjectLs) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let objects = existing(client, &args.store_name, &args.store)?;
        let all = objects.list(&args.prefix).await.map_err(store::object)?;
        let mut out = Output::stdout();
        if args.json {
            for object in &all {
                out.json(&shown(object))?;
            }
            return Ok(out.flush()?);
        }
        let rows: Vec<[String; 3]> = all
            .iter()
            .map(|object| [bytes(object.size), at(object.time), harmless(&object.name)])
            .collect();
        table(&mut out, ["SIZE", "PUT", "NAME"], &rows)?;
        Ok(out.flush()?)
    })
    .await
}

/// An object as JSON.
fn shown(object: &ObjectInfo) -> serde_json::Value {
    json!({
        "name": object.name,
        "size": object.size,
        "sha256": object.sha256,
        "chunks": object.chunks,
        "chunk_len": object.chunk_len,
        "time": at(object.time),
        "metadata": object.metadata,
    })
}

fn print(object: &ObjectInfo, as_json: bool) -> Outcome {
    let mut out = Output::stdout();
    if as_json {
        out.json(&shown(object))?;
        return Ok(out.flush()?);
    }
    let paint = out.paint;
    out.line(paint.bold(harmless(&object.name)))?;
    let mut line = |name: &str, value: String| {
        let name = paint.dim(format_args!("{name:20}"));
        out.line(format_args!("  {name} {value}"))
    };
    line(
        "size",
        format!("{} ({} bytes)", bytes(object.size), object.size),
    )?;
    line("sha256", object.sha256.clone())?;
    line("put", at(object.time))?;
    let chunk = bytes(object.chunk_len.into());
    line("chunks", format!("{} of at most {chunk}", object.chunks))?;
    for (name, value) in object.metadata.iter() {
        line(&harmless(name), harmless(&value.to_string()))?;
    }
    Ok(out.flush()?)
}

fn missing(args: &ObjectNamed) -> Failure {
    let error = ObjectError::NotFound {
        name: args.name.clone(),
    };
    Failure::new(Exit::Failure, error)
        .hint("`dialtone object ls STORE` shows which objects there are")
}

async fn rm(args: ObjectNamed) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let objects = existing(client, &args.store_name, &args.store)?;
        if !objects.remove(&args.name).await.map_err(store::object)? {
            return Err(missing(&args));
        }
        let mut out = Output::stdout();
        if args.json {
            out.json(&json!({ "name": args.name, "removed": true }))?;
        } else {
            out.line(format_args!("{} is removed", harmless(&args.name)))?;
        }
        Ok(out.flush()?)
    })
    .await
}

async fn info(args: ObjectNamed) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let objects = existing(client, &args.store_name, &args.store)?;
        let object = objects.info(&args.name).await.map_err(store::object)?;
        print(&object.ok_or_else(|| missing(&args))?, args.json)
    })
    .await
}

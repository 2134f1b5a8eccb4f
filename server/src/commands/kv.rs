//! `dialtone kv`: values under keys.

use std::io::Write as _;

use dialtone_client::Client;
use dialtone_client::persist::kv::Bucket;
use dialtone_client::persist::wire::{Config, Record};
use dialtone_client::persist::{Event, Watcher};
use serde_json::json;

use super::attached::{Outages, until_interrupted, with_client};
use super::records::{self, at, table};
use super::show::{self, Style};
use super::stream::print_written;
use super::{publish, store};
use crate::args::{KvCommand, KvGet, KvHistory, KvLs, KvPut, KvRm, KvWatch, PrintArgs, StoreArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, counted, harmless, note};

/// `dialtone kv`
pub(super) async fn run(command: KvCommand) -> Outcome {
    match command {
        KvCommand::Get(args) => get(args).await,
        KvCommand::Put(args) => put(args).await,
        KvCommand::Watch(args) => watch(args).await,
        KvCommand::Ls(args) => ls(args).await,
        KvCommand::Rm(args) => rm(args).await,
        KvCommand::History(args) => history(args).await,
    }
}

fn bucket(client: &Client, name: &str, args: &StoreArgs) -> Result<Bucket, Failure> {
    let persist = store::persist(client, args)?;
    Ok(Bucket::of(persist.stream(name).map_err(store::open)?))
}

async fn get(args: KvGet) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let bucket = bucket(client, &args.store_name, &args.store)?;
        let entry = bucket.get(&args.key).await.map_err(store::call)?;
        let Some(entry) = entry else {
            let error = anyhow::anyhow!("{} has no key {:?}", args.store_name, args.key);
            return Err(Failure::new(Exit::Failure, error)
                .hint("`dialtone kv ls STORE` shows which keys there are"));
        };
        let (mut out, record) = (Output::stdout(), &entry.record);
        if args.json {
            out.json(&records::object(record))?;
        } else if args.raw {
            out.write_all(&record.payload)?;
        } else {
            let style = Style::new(false, false, false).text(true);
            show::value(&mut out, style, record.encoding, &record.payload.0)?;
        }
        Ok(out.flush()?)
    })
    .await
}

async fn put(args: KvPut) -> Outcome {
    if args.payload.payload.is_none() {
        return Err(Failure::usage("there is no value")
            .hint("give one, or `-` for standard input; `dialtone kv rm` deletes a key"));
    }
    let headers = show::headers(&args.payload.header)?;
    let source = publish::read(&args.payload).await?;
    let (encoding, payload) = publish::encoded(source, args.payload.encoding)?;
    let mut record = Record::from(payload).encoding(encoding).headers(&headers);
    if let Some(ttl) = args.ttl {
        record = record.ttl(ttl.get());
    }
    with_client(&args.store.connect, async |client| {
        // What expects a record cannot succeed in a store that is made for it.
        let expects = args.if_seq.is_some_and(|seq| seq > 0);
        let bucket = if expects {
            bucket(client, &args.store_name, &args.store)?
        } else {
            made(client, &args).await?
        };
        let key = args.key.as_str();
        let written = match (args.create, args.if_seq) {
            (true, _) => bucket.create(key, record).await,
            (false, Some(seq)) => bucket.update(key, record, seq).await,
            (false, None) => bucket.put(key, record).await,
        };
        print_written(
            &args.store_name,
            &written.map_err(store::append)?,
            args.json,
        )
    })
    .await
}

/// The store, which is made if there is none.
async fn made(client: &Client, args: &KvPut) -> Result<Bucket, Failure> {
    let persist = store::persist(client, &args.store)?;
    let config = Config {
        max_msgs_per_key: args.history,
        ..Config::default()
    };
    let opened = Bucket::open(&persist, args.store_name.as_str(), config).await;
    opened.map_err(store::open)
}

async fn ls(args: KvLs) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let bucket = bucket(client, &args.store_name, &args.store)?;
        let entries = bucket
            .entries(args.prefix.as_deref())
            .await
            .map_err(store::call)?;
        let mut out = Output::stdout();
        if args.json {
            for entry in &entries {
                out.json(&records::object(&entry.record))?;
            }
        } else if args.long {
            let rows: Vec<[String; 4]> = entries
                .iter()
                .map(|entry| {
                    let (_, value) = show::named(entry.record.encoding, &entry.record.payload.0);
                    let value = harmless(&value.to_string());
                    [
                        harmless(entry.key()),
                        format!("#{}", entry.seq()),
                        at(entry.record.time),
                        shortened(&value.replace(['\n', '\t'], " ")),
                    ]
                })
                .collect();
            table(&mut out, ["KEY", "NUMBER", "WRITTEN", "VALUE"], &rows)?;
        } else {
            for entry in &entries {
                out.line(harmless(entry.key()))?;
            }
        }
        Ok(out.flush()?)
    })
    .await
}

/// Most characters of a value in a table.
const VALUE_LEN_MAX: usize = 60;

fn shortened(text: &str) -> String {
    if text.chars().count() <= VALUE_LEN_MAX {
        return text.to_owned();
    }
    let start: String = text.chars().take(VALUE_LEN_MAX - 1).collect();
    format!("{start}…")
}

async fn rm(args: KvRm) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let bucket = bucket(client, &args.store_name, &args.store)?;
        // A mistyped name must not make a store, nor be nothing.
        bucket.stream().info().await.map_err(store::call)?;
        let mut removed = 0_u64;
        for key in &args.key {
            if args.purge {
                let gone = bucket.purge(key).await.map_err(store::call)?;
                removed += u64::from(gone.count > 0);
            } else if bucket.get(key).await.map_err(store::call)?.is_some() {
                bucket.delete(key).await.map_err(store::append)?;
                removed += 1;
            }
        }
        let mut out = Output::stdout();
        if args.json {
            out.json(&json!({ "store": args.store_name, "deleted": removed }))?;
        } else {
            out.line(format_args!("{} deleted", counted(removed, "key")))?;
        }
        Ok(out.flush()?)
    })
    .await
}

async fn history(args: KvHistory) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let bucket = bucket(client, &args.store_name, &args.store)?;
        let records = bucket.history(&args.key).await.map_err(store::call)?;
        let mut out = Output::stdout();
        for record in &records {
            if record.is_tombstone() && !args.print.json && !args.print.raw {
                out.line(format_args!(
                    "#{}  deleted  {}",
                    record.seq,
                    at(record.time)
                ))?;
            } else {
                records::print(&mut out, args.print, record)?;
            }
        }
        Ok(out.flush()?)
    })
    .await
}

async fn watch(args: KvWatch) -> Outcome {
    until_interrupted(&args.store.connect, async |client, interrupts| {
        let bucket = bucket(client, &args.store_name, &args.store)?;
        let mut outages = Outages::of(client);
        let work = async {
            let watcher = bucket
                .watch(args.prefix.as_deref(), args.new)
                .await
                .map_err(store::watch)?;
            note(format_args!("watching {}", harmless(&args.store_name)));
            follow(&args, watcher).await
        };
        tokio::select! {
            outcome = outages.during(work) => outcome,
            // A signal is how it ends.
            _ = interrupts.next() => Ok(()),
        }
    })
    .await
}

async fn follow(args: &KvWatch, mut watcher: Watcher) -> Outcome {
    let how = PrintArgs {
        raw: false,
        lines: false,
        json: args.json,
    };
    let (mut out, mut printed) = (Output::stdout(), 0);
    while let Some(event) = watcher.next().await {
        match event.map_err(store::watch)? {
            Event::Record { record, .. } if record.is_tombstone() && !args.json => {
                let key = harmless(record.key.as_deref().unwrap_or_default());
                out.line(format_args!("{key} is deleted"))?;
                printed += 1;
            }
            Event::Record { record, .. } => {
                if args.json {
                    records::print(&mut out, how, &record)?;
                } else {
                    let key = harmless(record.key.as_deref().unwrap_or_default());
                    let key = out.paint.cyan(key);
                    write!(out, "{key} = ")?;
                    let style = Style::new(false, false, false);
                    show::value(&mut out, style, record.encoding, &record.payload.0)?;
                }
                printed += 1;
            }
            Event::Removed(removal) if args.json => {
                records::print_removal(&mut out, how, &removal)?;
                printed += 1;
            }
            Event::Removed(removal) => {
                for entry in &removal.keys {
                    let cause = records::cause(removal.cause);
                    out.line(format_args!("{} is {cause}", harmless(&entry.key)))?;
                }
                printed += 1;
            }
            Event::Damaged { seq, error } => {
                note(format_args!("#{seq} cannot be read: {}", harmless(&error)));
            }
            Event::Config(_) => {}
            Event::Resync => {
                note("what was deleted meanwhile is not known any more; all there is follows");
            }
        }
        if args.count.is_some_and(|count| printed >= count) {
            break;
        }
        if watcher.is_current() {
            out.flush()?;
        }
    }
    Ok(out.flush()?)
}

//! `dialtone stream read` and `tail`.

use std::io::Write as _;

use dialtone_client::persist::wire::Cursor;
use dialtone_client::persist::{Event, ReadOptions, WatchOptions, Watcher};

use crate::args::{StreamRead, StreamTail};
use crate::commands::attached::{Outages, until_interrupted, with_client};
use crate::commands::{records, store};
use crate::exit::{Failure, Outcome};
use crate::print::{Output, harmless, note};

/// `dialtone stream read`
pub(super) async fn read(args: StreamRead) -> Outcome {
    let since = args.since.map(|span| {
        let back = u64::try_from(span.get().as_millis()).unwrap_or(u64::MAX);
        records::now().saturating_sub(back)
    });
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.name.as_str()).map_err(store::open)?;
        let mut read = stream.read(ReadOptions {
            from: args.from,
            to: args.to,
            since,
            prefix: args.prefix.clone(),
            max_msgs: args.count,
            ..ReadOptions::default()
        });
        let mut out = Output::stdout();
        while let Some(record) = read.next().await {
            records::print(&mut out, args.print, &record.map_err(store::call)?)?;
        }
        Ok(out.flush()?)
    })
    .await
}

/// `dialtone stream tail`
pub(super) async fn tail(args: StreamTail) -> Outcome {
    until_interrupted(&args.store.connect, async |client, interrupts| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.name.as_str()).map_err(store::open)?;
        let cursor = args.from.map_or(Cursor::Now, Cursor::Seq);
        let options = WatchOptions {
            prefix: args.prefix.clone(),
            ..WatchOptions::default()
        };
        let mut outages = Outages::of(client);
        let work = async {
            let watcher = stream.watch(cursor, options).await.map_err(store::watch)?;
            note(format_args!("following {}", harmless(&args.name)));
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

async fn follow(args: &StreamTail, mut watcher: Watcher) -> Outcome {
    let (mut out, mut printed) = (Output::stdout(), 0);
    while let Some(event) = watcher.next().await {
        match event.map_err(store::watch)? {
            Event::Record { record, .. } => {
                records::print(&mut out, args.print, &record)?;
                printed += 1;
            }
            Event::Removed(removal) => records::print_removal(&mut out, args.print, &removal)?,
            Event::Damaged { seq, error } => {
                note(format_args!("#{seq} cannot be read: {}", harmless(&error)));
            }
            Event::Config(_) => note("the configuration has changed"),
            Event::Resync => {
                note("what was removed meanwhile is not known any more; all there is follows");
            }
        }
        if args.count.is_some_and(|count| printed >= count) {
            break;
        }
        if watcher.is_current() {
            out.flush()?;
        }
    }
    Ok::<(), Failure>(out.flush()?)
}

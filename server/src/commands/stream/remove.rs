//! `dialtone stream rm`: a stream, or some of its records.

use std::io::Write as _;

use dialtone_client::persist::wire::What;
use serde_json::json;

use crate::args::StreamRm;
use crate::commands::attached::with_client;
use crate::commands::store;
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, counted, harmless};

/// `dialtone stream rm`
pub(super) async fn run(args: StreamRm) -> Outcome {
    let what = what(&args);
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let mut out = Output::stdout();
        let Some(what) = what else {
            if !persist
                .delete(args.name.as_str())
                .await
                .map_err(store::open)?
            {
                let error = anyhow::anyhow!("there is no stream {}", args.name);
                return Err(Failure::new(Exit::Failure, error)
                    .hint("`dialtone stream ls` shows which streams there are"));
            }
            if args.json {
                out.json(&json!({ "stream": args.name, "deleted": true }))?;
            } else {
                out.line(format_args!("stream {} is deleted", harmless(&args.name)))?;
            }
            return Ok(out.flush()?);
        };
        let stream = persist.stream(args.name.as_str()).map_err(store::open)?;
        let removed = stream.remove(what).await.map_err(store::call)?;
        if args.json {
            out.json(
                &json!({ "stream": args.name, "removed": removed.count, "ranges": removed.ranges }),
            )?;
        } else {
            out.line(format_args!("{} removed", counted(removed.count, "record")))?;
        }
        Ok(out.flush()?)
    })
    .await
}

fn what(args: &StreamRm) -> Option<What> {
    if args.all {
        return Some(What::All);
    }
    if !args.seq.is_empty() {
        return Some(What::Seqs(args.seq.clone()));
    }
    let up_to = args.up_to.map(What::UpTo);
    let key = args.record_key.clone().map(What::Key);
    let prefix = args.prefix.clone().map(What::Prefix);
    up_to.or(key).or(prefix)
}

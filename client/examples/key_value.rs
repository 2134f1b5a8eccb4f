//! A set that several programs add to at the same time, without losing anything.

use std::collections::BTreeSet;

use dialtone_client::persist::Persist;
use dialtone_client::persist::kv::{KeyValue, KvOptions};
use dialtone_client::{Client, Options};

type Set = BTreeSet<String>;

/// Everything but connecting.
///
/// # Errors
/// When the broker or the service refuses.
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub async fn run(client: &Client) -> anyhow::Result<()> {
    // What two programs added at the same time is all wanted.
    let options = KvOptions::default().merge(|_key, _before, ours: Option<&Set>, theirs| {
        Some(
            [ours, theirs]
                .into_iter()
                .flatten()
                .flatten()
                .cloned()
                .collect(),
        )
    });
    let sets = KeyValue::open(&Persist::new(client), "sets", options).await?;
    let mut events = sets.events();
    let mut set = sets.get("today").unwrap_or_default();
    set.insert("milk".to_owned());
    sets.set("today", set)?;
    println!("{:?} here, not saved yet", sets.get("today"));
    sets.save().await?;
    println!("{:?}", events.recv().await);
    Ok(sets.close().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    run(&Options::new(url).connect().await?).await
}

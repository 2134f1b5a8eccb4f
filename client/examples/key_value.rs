//! A shopping list that several programs change at the same time, without losing anything.

use std::collections::BTreeSet;

use dialtone_client::persist::Persist;
use dialtone_client::persist::kv::{KeyValue, KvEvent, KvOptions};
use dialtone_client::{Client, Options};

type List = BTreeSet<String>;

/// What two programs added at the same time is all wanted.
fn both(
    _key: &str,
    _before: Option<&List>,
    ours: Option<&List>,
    theirs: Option<&List>,
) -> Option<List> {
    Some(
        [ours, theirs]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect(),
    )
}

/// Everything but connecting.
///
/// # Errors
/// When the broker or the service refuses.
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub async fn run(client: &Client) -> anyhow::Result<()> {
    let options = KvOptions::default().merge(both);
    let lists: KeyValue<List> = KeyValue::open(&Persist::new(client), "lists", options).await?;
    let mut events = lists.events();
    let mut list = lists.get("today").unwrap_or_default();
    list.insert("milk".to_owned());
    lists.set("today", list)?;
    println!("{:?}, not saved yet", lists.get("today"));
    lists.save().await?;
    if let Some(KvEvent::Changed { key, value, .. }) = events.recv().await {
        println!("{key} is {value:?} for everybody");
    }
    lists.close().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    run(&Options::new(url).connect().await?).await
}

//! Appends to a durable stream, reads it back, follows it, and works through it with a consumer.

use dialtone_client::persist::wire::{Config, ConsumerConfig, Cursor};
use dialtone_client::persist::{Event, Persist, ReadOptions, WatchOptions};
use dialtone_client::{Client, Options};

/// Everything but connecting.
///
/// # Errors
/// When the broker or the service refuses.
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub async fn run(client: &Client) -> anyhow::Result<()> {
    let persist = Persist::new(client);
    let notes = persist.open_or_create("notes", Config::default()).await?;
    let mut news = notes.watch(Cursor::Now, WatchOptions::default()).await?;
    let written = notes.append("buy milk").await?;
    println!("#{} is on disk", written.seq);

    let mut records = notes.read(ReadOptions::default());
    while let Some(record) = records.next().await {
        let record = record?;
        println!("#{} {:?}", record.seq, record.payload);
    }
    if let Some(Event::Record { record, .. }) = news.next().await.transpose()? {
        println!("seen: #{}", record.seq);
    }
    let mut worker = notes.consumer("worker", ConsumerConfig::default()).await?;
    let job = worker.next().await?;
    println!("done with #{}", job.record().seq);
    job.ack().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    run(&Options::new(url).connect().await?).await
}

//! A list that several programs add to at its end, and that each has wholly in memory.

use dialtone_client::persist::Persist;
use dialtone_client::persist::log::{Log, LogEvent};
use dialtone_client::persist::wire::Config;
use dialtone_client::{Client, Options};

/// Everything but connecting.
///
/// # Errors
/// When the broker or the service refuses.
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub async fn run(client: &Client) -> anyhow::Result<()> {
    let config = Config {
        max_msgs: 1_000,
        ..Config::default()
    };
    let lines = Log::<String>::open(&Persist::new(client), "lines", config).await?;
    let mut events = lines.events();
    lines.push("hello".to_owned())?;
    println!("{} here, not all saved yet", lines.len());
    lines.save().await?;
    while let Some(event) = events.recv().await {
        if let LogEvent::Appended { seq, value } = event {
            println!("#{seq} {value}");
            break;
        }
    }
    Ok(lines.close().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    run(&Options::new(url).connect().await?).await
}

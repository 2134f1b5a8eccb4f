//! Puts a large value, and reads it back as a whole and in part.

use dialtone_client::persist::Persist;
use dialtone_client::persist::object::{ObjectStore, PutOptions};
use dialtone_client::persist::wire::Config;
use dialtone_client::{Client, Options};

/// Everything but connecting.
///
/// # Errors
/// When the broker or the service refuses.
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub async fn run(client: &Client) -> anyhow::Result<()> {
    let files = ObjectStore::open(&Persist::new(client), "files", Config::default()).await?;
    // Anything that can be read will do, a file for example.
    let source = vec![b'x'; 3_000_000];
    let info = files
        .put("xs.txt", &source[..], PutOptions::default())
        .await?;
    println!("{} bytes in {} chunks", info.size, info.chunks);

    let mut copy = Vec::new();
    files.get("xs.txt", &mut copy).await?;
    println!("the same: {}", copy == source);

    let mut part = files.reader("xs.txt", 1_000_000..1_000_005).await?;
    while let Some(bytes) = part.next().await? {
        println!("{bytes:?}");
    }
    files.remove("xs.txt").await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    run(&Options::new(url).connect().await?).await
}

//! Shares messages among the members of a queue group: each goes to one of them.

use std::time::Duration;

use dialtone_client::Options;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    let client = Options::new(url).connect().await?;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(
            client
                .subscription("example.jobs")
                .group("workers")
                .subscribe()
                .await?,
        );
    }
    for job in 0..9 {
        client.publish("example.jobs", format!("job {job}")).await?;
    }
    client.flush().await?;
    for (number, member) in members.iter_mut().enumerate() {
        while let Ok(Some(job)) =
            tokio::time::timeout(Duration::from_millis(100), member.next()).await
        {
            println!(
                "member {number}: {}",
                String::from_utf8_lossy(job.payload())
            );
        }
    }
    client.drain().await?;
    Ok(())
}

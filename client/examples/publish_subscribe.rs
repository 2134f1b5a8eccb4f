//! Publishes three messages and receives them.

use dialtone_client::Options;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    let client = Options::new(url).connect().await?;
    let mut subscription = client.subscribe("example.weather.>").await?;
    for city in ["berlin", "oslo", "rome"] {
        client
            .publish(format!("example.weather.{city}"), "sunny")
            .await?;
    }
    for _ in 0..3 {
        let Some(message) = subscription.next().await else {
            break;
        };
        println!(
            "{}: {}",
            message.subject(),
            String::from_utf8_lossy(message.payload())
        );
    }
    client.drain().await?;
    Ok(())
}

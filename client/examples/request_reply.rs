//! Answers a request with a subscription.

use dialtone_client::Options;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    let client = Options::new(url).connect().await?;
    let mut requests = client.subscribe("example.echo").await?;
    let answering = async {
        let Some(request) = requests.next().await else {
            return Ok(());
        };
        request.respond(request.payload()).await
    };
    let (answer, answered) =
        tokio::join!(client.request("example.echo", "anybody there?"), answering);
    answered?;
    println!("{}", String::from_utf8_lossy(answer?.payload()));
    client.drain().await?;
    Ok(())
}

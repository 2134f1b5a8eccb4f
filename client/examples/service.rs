//! A service that adds numbers, and a call to it.

use dialtone_client::service::{Answer, ServiceError};
use dialtone_client::{Message, Options};

async fn add(request: Message) -> Result<Answer, ServiceError> {
    let numbers: Vec<i64> = request.decode()?;
    let sum = numbers
        .iter()
        .try_fold(0_i64, |sum, &number| sum.checked_add(number));
    let sum = sum.ok_or_else(|| ServiceError::new(400, "the sum is too large"))?;
    Ok(Answer::msgpack(&sum)?)
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    let client = Options::new(url).connect().await?;
    let service = client.service("example.add", "0", add).await?;
    let answer = client
        .message("example.add")
        .msgpack(&[1, 2, 3])?
        .request()
        .await?
        .into_result()?;
    println!("1 + 2 + 3 = {}", answer.msgpack::<i64>()?);
    service.stop().await;
    client.drain().await?;
    Ok(())
}

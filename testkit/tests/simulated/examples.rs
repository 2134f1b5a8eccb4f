//! The examples of the client that need a persist service do what they say.

use crate::persist::service;

#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/key_value.rs"]
mod key_value;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/log.rs"]
mod log;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/objects.rs"]
mod objects;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/presence.rs"]
mod presence;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/streams.rs"]
mod streams;

#[tokio::test(start_paused = true)]
async fn they_run() -> anyhow::Result<()> {
    let (world, _streams) = service(1).await;
    let client = world.client().await?;
    streams::run(&client).await?;
    key_value::run(&client).await?;
    log::run(&client).await?;
    objects::run(&client).await?;
    presence::run(&client).await
}

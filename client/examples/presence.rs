//! Says that it is here, and tells who else is.

use dialtone_client::persist::presence::{Presence, PresenceEvent};
use dialtone_client::{Client, Options};

/// Everything but connecting.
///
/// # Errors
/// When the broker or the service refuses.
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub async fn run(client: &Client) -> anyhow::Result<()> {
    let name = format!("user-{}", std::process::id());
    let cursor = (1_u32, 1_u32);
    let mut here = Presence::join(client, "doc.7.here", name.as_str(), &cursor).await?;
    here.update(&(2, 14)).await?;
    while let Some(event) = here.next().await {
        match event {
            PresenceEvent::Joined { key, state } => println!("{key} is here, at {state:?}"),
            PresenceEvent::Changed { key, state } => {
                println!("{key} is at {state:?}");
                if key == name {
                    break;
                }
            }
            PresenceEvent::Left { key } => println!("{key} has gone"),
        }
    }
    here.leave().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    run(&Options::new(url).connect().await?).await
}

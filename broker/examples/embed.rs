//! A broker inside another program: `cargo run --example embed -- ws://127.0.0.1:4480`.

use std::sync::Arc;

use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Config, Listen};
use dialtone_transport::ListenOptions;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ws://127.0.0.1:4480".to_owned());
    let listen = Listen {
        endpoint: url.parse()?,
        options: ListenOptions::default(),
    };
    let config = Config {
        listen: vec![listen],
        ..Config::default()
    };
    let broker = Broker::bind(config, Arc::new(Open::new())).await?;
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    let running = broker.run(stop);
    tokio::select! {
        () = running => {}
        result = tokio::signal::ctrl_c() => {
            result?;
            stopper.cancel();
        }
    }
    Ok(())
}

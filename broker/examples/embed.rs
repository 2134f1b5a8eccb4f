//! A broker inside another program, listening on the URLs given:
//! `cargo run --example embed -- ws://127.0.0.1:4480 quic://127.0.0.1:4433`.

use std::sync::Arc;

use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Config, Listen};
use dialtone_transport::tls::ServerTls;
use dialtone_transport::{EndpointError, ListenOptions};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls.push("ws://127.0.0.1:4480".to_owned());
    }
    let options = ListenOptions {
        // A certificate made for this run; `wss` and `quic` need one.
        tls: Some(ServerTls::development(None)?),
        ..ListenOptions::default()
    };
    let listen = urls
        .iter()
        .map(|url| {
            Ok(Listen {
                endpoint: url.parse()?,
                options: options.clone(),
            })
        })
        .collect::<Result<_, EndpointError>>()?;
    let config = Config {
        listen,
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

//! Telling `HAProxy` whether to send work: a line of text to whoever connects, as its agent checks expect.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How long it may take to write the line, and how long to wait after a failure to accept.
const WRITE_MAX: Duration = Duration::from_secs(2);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The server, listening but not yet answering.
#[derive(Debug)]
pub struct Agent {
    listener: TcpListener,
}

impl Agent {
    /// Listens; port 0 takes any.
    ///
    /// # Errors
    /// When the address is taken, not of this machine, or forbidden.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
        })
    }

    /// Answers one after the other until it is told to stop.
    pub async fn run(self, health: Arc<Health>, stop: CancellationToken) {
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    // Whoever does not read it asks again.
                    drop(tokio::time::timeout(WRITE_MAX, say(stream, line(&health))).await);
                }
                Err(error) => {
                    tracing::warn!(%error, "the agent of the hub cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

fn line(health: &Health) -> &'static str {
    if health.is_draining() {
        "drain\n"
    } else if health.is_database_there() && !health.is_overloaded() {
        "ready up 100%\n"
    } else {
        "ready up 10%\n"
    }
}

async fn say(mut stream: TcpStream, line: &str) -> io::Result<()> {
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await
}

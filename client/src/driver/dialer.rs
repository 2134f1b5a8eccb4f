//! Making one connection: dial, hello, welcome.

use std::future::poll_fn;
use std::time::Duration;

use dialtone_protocol::codec::{missing, split_frame};
use dialtone_protocol::limits::HELLO_LEN_MAX;
use dialtone_protocol::session::client::{Config, Event, Session};
use dialtone_protocol::{Code, Violation};
use dialtone_transport::{Batch, Connection, DialOptions, Endpoint, Lane, dial};
use tokio::time::Instant;

use crate::error::ConnectError;
use crate::options::Options;

/// What every connection of a client is made with.
#[derive(Debug)]
pub(crate) struct Dialer {
    dial: DialOptions,
    config: Config,
    timeout: Duration,
}

/// A connection whose handshake is over.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) connection: Connection,
    endpoint: Endpoint,
    /// The body of the welcome frame.
    welcome: Vec<u8>,
    /// What came after it.
    pub(super) rest: Vec<u8>,
}

impl Opened {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn welcome(&self) -> &[u8] {
        &self.welcome
    }
}

impl Dialer {
    pub(crate) fn new(options: &Options) -> Self {
        let dial = DialOptions {
            tls: options.tls.clone(),
            timeout: options.connect_timeout,
            headers: options.headers.clone(),
            hub: options.hub.clone(),
            ..DialOptions::default()
        };
        let config = Config {
            name: options.name.clone(),
            credentials: options.credentials.clone(),
            timing: options.timing,
            ..Config::default()
        };
        Self {
            dial,
            config,
            timeout: options.connect_timeout,
        }
    }

    pub(crate) fn config(&self) -> Config {
        self.config.clone()
    }

    /// Tries each of the addresses once.
    ///
    /// Ends at the first one where trying again cannot help, since all addresses belong to one cluster.
    pub(crate) async fn round(&self, endpoints: Vec<Endpoint>) -> Result<Opened, ConnectError> {
        let mut last = ConnectError::NoAddress;
        for endpoint in endpoints {
            match self.open(endpoint).await {
                Ok(opened) => return Ok(opened),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open(&self, endpoint: Endpoint) -> Result<Opened, ConnectError> {
        let limit = self.timeout;
        match tokio::time::timeout(limit, self.open_unbounded(&endpoint)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(ConnectError::TimedOut { endpoint, limit }),
        }
    }

    async fn open_unbounded(&self, endpoint: &Endpoint) -> Result<Opened, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable {
            endpoint: endpoint.clone(),
            source: Box::new(error),
        };
        let mut connection = dial(endpoint, &self.dial).await.map_err(unreachable)?;
        // A session for the handshake alone: the client's own may still be served elsewhere.
        let mut session = Session::new(self.config(), Instant::now().into_std());
        let hello = session.hello(Instant::now().into_std()).to_vec();
        let mut batch: Batch = [hello.into()].into_iter().collect();
        let transport = |source| ConnectError::Transport {
            endpoint: endpoint.clone(),
            source,
        };
        poll_fn(|cx| {
            connection
                .writer
                .poll_send(cx, Lane::Interactive, &mut batch)
        })
        .await
        .map_err(transport)?;
        let (welcome, rest) = first_frame(&mut connection, endpoint).await?;
        let violation = |source| ConnectError::Violation {
            endpoint: endpoint.clone(),
            source,
        };
        let event = session
            .on_body(&welcome, Instant::now().into_std())
            .map_err(violation)?;
        if let Event::Close(close) = event {
            return Err(ConnectError::refused(endpoint, close));
        }
        if !matches!(event, Event::Welcome(_)) {
            return Err(violation(Violation::new(
                Code::BadFrame,
                "the first frame must be a welcome",
            )));
        }
        Ok(Opened {
            connection,
            endpoint: endpoint.clone(),
            welcome,
            rest,
        })
    }
}

/// Reads the body of the first frame, and what came with it.
async fn first_frame(
    connection: &mut Connection,
    endpoint: &Endpoint,
) -> Result<(Vec<u8>, Vec<u8>), ConnectError> {
    let mut buf = Vec::new();
    loop {
        let frame = split_frame(&buf, HELLO_LEN_MAX).map_err(|error| ConnectError::Violation {
            endpoint: endpoint.clone(),
            source: error.into(),
        })?;
        if let Some((body, len)) = frame {
            let body = body.to_vec();
            return Ok((body, buf.split_off(len)));
        }
        buf.reserve(missing(&buf).max(4_096));
        let received =
            poll_fn(|cx| connection.reader.poll_recv(cx, Lane::Interactive, &mut buf)).await;
        match received {
            Ok(0) => {
                return Err(ConnectError::Ended {
                    endpoint: endpoint.clone(),
                });
            }
            Ok(_) => {}
            Err(source) => {
                return Err(ConnectError::Transport {
                    endpoint: endpoint.clone(),
                    source,
                });
            }
        }
    }
}

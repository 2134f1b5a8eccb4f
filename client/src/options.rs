//! What can be set, and connecting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dialtone_protocol::session::Timing;
use dialtone_transport::tls::ClientTls;
use dialtone_transport::{Endpoint, memory};
use http::{HeaderName, HeaderValue};
use tokio::runtime::Handle;

pub use dialtone_protocol::frame::Credentials;

use crate::addresses::Addresses;
use crate::client::Client;
use crate::driver::{Dialer, Driver};
use crate::error::ConnectError;
use crate::queue::Bounds;
use crate::reconnect::Reconnect;
use crate::shared::Shared;

mod credentials;
pub use credentials::{CREDENTIALS_FILE_LEN_MAX, CredentialsError};

/// How to connect. Every field has a default; most programs set an address and perhaps credentials.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where brokers can be reached: `quic://`, `wss://`, `ws://` or `memory:`. The first to be tried is chosen at
    /// random, the others follow in order.
    pub urls: Vec<String>,
    /// Who the client claims to be.
    pub credentials: Credentials,
    /// Whom to trust on encrypted transports, and the client's own certificate.
    pub tls: ClientTls,
    /// Sent with the upgrade request of a WebSocket, for example cookies.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Name and version of the program, for people.
    pub name: String,
    /// Bounds connecting to one address, the handshake included. 10 s by default.
    pub connect_timeout: Duration,
    /// Whether [`connect`](Self::connect) goes on trying, as after a lost connection, when no address can be reached.
    /// Off by default.
    pub retry_on_initial_connect: bool,
    /// How a lost connection is made again.
    pub reconnect: Reconnect,
    /// Most bytes that wait to be written, while connected or not. 16 MiB by default.
    pub outgoing_bytes_max: usize,
    /// The bounds of each subscription that does not set its own.
    pub subscription: Bounds,
    /// When the broker is asked whether it is there, and how long it may take to answer.
    pub timing: Timing,
    /// How long a request waits for its answer. 30 s by default.
    pub request_timeout: Duration,
    /// How long draining waits for messages that were received to be taken. 30 s by default.
    pub drain_timeout: Duration,
    /// Where `memory:` addresses are looked up.
    pub hub: Option<memory::Hub>,
    /// Where the client's tasks run; the current runtime by default.
    pub runtime: Option<Handle>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            credentials: Credentials::None,
            tls: ClientTls::default(),
            headers: Vec::new(),
            name: concat!("dialtone-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            retry_on_initial_connect: false,
            reconnect: Reconnect::default(),
            outgoing_bytes_max: 16 << 20,
            subscription: Bounds::default(),
            timing: Timing::default(),
            request_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            hub: None,
            runtime: None,
        }
    }
}

impl Options {
    /// The defaults, with an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            ..Self::default()
        }
    }

    /// Adds an address.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Sets the credentials.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Sets a token as credentials.
    pub fn token(self, token: impl Into<String>) -> Self {
        self.credentials(Credentials::Token(token.into()))
    }

    /// Sets a name and a password as credentials.
    pub fn password(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    /// Reads the credentials from a TOML file with either `token`, or `user` and `password`.
    ///
    /// # Errors
    /// When the file cannot be read or says something else.
    pub fn credentials_file(self, path: &Path) -> Result<Self, CredentialsError> {
        Ok(self.credentials(credentials::read(path)?))
    }

    /// Sets the name of the program.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets whom to trust on encrypted transports.
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = tls;
        self
    }

    /// Sets where `memory:` addresses are looked up.
    pub fn hub(mut self, hub: memory::Hub) -> Self {
        self.hub = Some(hub);
        self
    }

    /// Connects: tries every address once, or for ever with
    /// [`retry_on_initial_connect`](Self::retry_on_initial_connect).
    ///
    /// # Errors
    /// At once when an address is not valid or the broker does not accept the credentials or the version of the
    /// protocol; after the last address when none can be reached, with the error of that one.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let runtime = self.runtime.clone().map_or_else(Handle::try_current, Ok);
        let Ok(runtime) = runtime else {
            return Err(ConnectError::NoRuntime);
        };
        let endpoints = self.endpoints()?;
        let start = usize::try_from(rand::random::<u32>()).unwrap_or(0);
        let mut addresses = Addresses::new(endpoints, start);
        let dialer = Arc::new(Dialer::new(&self));
        let mut attempt = 0;
        let opened = loop {
            match dialer.round(addresses.round()).await {
                Ok(opened) => break opened,
                Err(error) => {
                    attempt += 1;
                    if error.is_final()
                        || !self.retry_on_initial_connect
                        || !self.reconnect.allows(attempt)
                    {
                        return Err(error);
                    }
                    tracing::debug!(
                        attempt,
                        error = &error as &dyn std::error::Error,
                        "cannot connect yet"
                    );
                    tokio::time::sleep(self.reconnect.delay(attempt - 1, rand::random())).await;
                }
            }
        };
        addresses.using(opened.endpoint());
        let shared = Arc::new(Shared::new(self.outgoing_bytes_max, runtime.clone()));
        let mut driver = Driver::new(
            Arc::clone(&shared),
            dialer,
            addresses,
            self.reconnect.clone(),
        );
        let link = driver.welcome(opened)?;
        let client = Client::new(shared, &self);
        drop(runtime.spawn(driver.run(link)));
        Ok(client)
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, ConnectError> {
        if self.urls.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let parse = |url: &String| {
            url.parse().map_err(|source| ConnectError::BadAddress {
                url: url.clone(),
                source,
            })
        };
        self.urls.iter().map(parse).collect()
    }
}

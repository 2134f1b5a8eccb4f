//! Handing letters over to a mail server.

use std::time::Duration;

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls as LettreTls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use uuid::Uuid;

use super::Letter;
use super::route::{Server, Tls};
use crate::causes::chain;

/// How long the server may take for each step of a conversation.
const STEP_MAX: Duration = Duration::from_secs(20);

/// How long all of a conversation may take: a letter is not claimed for longer.
pub(super) const SENDING_MAX: Duration = Duration::from_mins(1);

/// Most connections to a server, and how long one is kept that nobody uses: servers close them as well.
const CONNECTIONS_MAX: u32 = 2;
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Answers of a server by which it refuses us and not the letter (RFC 4954 §6): the password is wrong, or it wants
/// another way to show it.
const LOGIN_REFUSED: [u16; 5] = [530, 534, 535, 538, 454];

/// Why a letter was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Why, for those who look after the site.
    pub(super) reason: String,
    /// Whether another attempt makes no sense: the server says that it will never take this letter.
    pub(super) forever: bool,
}

impl Refused {
    /// Something that may be different next time.
    fn now(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            forever: false,
        }
    }
}

/// The way to a server. Connections are kept for a while.
#[derive(Debug)]
pub(super) struct Transport {
    server: Server,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl Transport {
    /// Prepares it; nothing is connected yet.
    pub(super) fn new(server: &Server) -> Result<Self, Refused> {
        let tls = |wrap: fn(TlsParameters) -> LettreTls| parameters(server).map(wrap);
        let tls = match server.tls {
            Tls::Implicit => tls(LettreTls::Wrapper)?,
            Tls::AfterStart => tls(LettreTls::Required)?,
            Tls::Opportunistic => tls(LettreTls::Opportunistic)?,
            Tls::None => LettreTls::None,
        };
        let pool = PoolConfig::new()
            .max_size(CONNECTIONS_MAX)
            .idle_timeout(IDLE_MAX);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .tls(tls)
            .timeout(Some(STEP_MAX))
            .pool_config(pool);
        if let Some((user, password)) = &server.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self {
            server: server.clone(),
            transport: builder.build(),
        })
    }

    /// Whether it leads to this server, as it is set now.
    pub(super) fn is_to(&self, server: &Server) -> bool {
        self.server == *server
    }

    /// Hands a letter over. It has the same number whenever it is tried.
    pub(super) async fn send(&self, id: Uuid, site: &str, letter: &Letter) -> Result<(), Refused> {
        let message = message(&self.server, id, site, letter)?;
        match tokio::time::timeout(SENDING_MAX, self.transport.send(message)).await {
            Ok(Ok(_response)) => Ok(()),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_elapsed) => Err(Refused::now(format_args!(
                "the mail server took longer than {} s",
                SENDING_MAX.as_secs()
            ))),
        }
    }
}

fn parameters(server: &Server) -> Result<TlsParameters, Refused> {
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(roots) = &server.roots {
        let roots = Certificate::from_pem(roots.as_bytes());
        builder = builder.add_root_certificate(roots.map_err(|error| {
            Refused::now(format_args!("the certificates of the mail server: {error}"))
        })?);
    }
    builder
        .build_rustls()
        .map_err(|error| Refused::now(format_args!("TLS: {}", chain(&error))))
}

/// Says that a program has written it, so that programs do not answer (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn message(server: &Server, id: Uuid, site: &str, letter: &Letter) -> Result<Message, Refused> {
    let never = |what: &str, error: &dyn std::fmt::Display| Refused {
        reason: format!("{what}: {error}"),
        forever: true,
    };
    let from: Address = server.from.parse().map_err(|error| {
        Refused::now(format_args!("the address that letters are from: {error}"))
    })?;
    let to: Address = letter
        .to
        .as_str()
        .parse()
        .map_err(|error| never("the address", &error))?;
    let number = format!("<{id}@{}>", from.domain());
    Message::builder()
        .from(Mailbox::new(Some(one_line(site)), from))
        .to(Mailbox::new(None, to))
        .subject(one_line(&letter.subject))
        .date_now()
        .message_id(Some(number))
        .header(ContentType::TEXT_PLAIN)
        .header(header::MIME_VERSION_1_0)
        .header(AutoSubmitted)
        .body(letter.text.clone())
        .map_err(|error| never("the letter", &error))
}

/// Nobody adds a header by the name of a project.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn refused(error: &lettre::transport::smtp::Error) -> Refused {
    let code = error.status().map(u16::from);
    let login = code.is_some_and(|code| LOGIN_REFUSED.contains(&code));
    Refused {
        reason: chain(error),
        forever: error.is_permanent() && !login,
    }
}

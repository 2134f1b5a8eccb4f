//! The client's side of the handshake: TLS if wanted, then the upgrade request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::buffered::Buffered;
use super::io::{split_tcp, split_tls};
use super::upgrade::accept_for;
use super::{Role, SUBPROTOCOL, over};
use crate::connection::{Connection, Info, Kind};
use crate::dial::{DialOptions, resolve};
use crate::endpoint::{Authority, Endpoint};
use crate::error::DialError;
use crate::tls::server_name;

/// The longest head of an answer, in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;
/// The most headers in it.
const HEADERS_MAX: usize = 64;
/// How much of an unexpected answer's body is quoted, in bytes.
const QUOTE_LEN_MAX: usize = 512;

/// Connects to `host:port` and upgrades at `path`.
pub(crate) async fn dial(
    endpoint: &Endpoint,
    path: &str,
    options: &DialOptions,
) -> Result<Connection, DialError> {
    let (host, port) = endpoint.host_port().unwrap_or_default();
    let stream = connect(endpoint, host, port).await?;
    let request = Request {
        host,
        port,
        path,
        options,
    };
    let (info, (receiver, sender)) = if endpoint.is_encrypted() {
        let name = server_name(options.server_name.as_deref().unwrap_or(host))?;
        let config = options.tls.tcp_config()?;
        let stream = TlsConnector::from(config)
            .connect(name, Buffered::new(stream))
            .await
            .map_err(DialError::TlsHandshake)?;
        let (stream, early) = request.upgrade(stream, endpoint).await?;
        let stream = TlsStream::from(stream);
        (
            Info::of_tls(Kind::WebSocket, &stream),
            over(split_tls(stream), early, Role::Client),
        )
    } else {
        let (stream, early) = request.upgrade(stream, endpoint).await?;
        (
            Info::of_tcp(Kind::WebSocket, &stream),
            over(split_tcp(stream), early, Role::Client),
        )
    };
    Ok(Connection::websocket(info, receiver, sender))
}

async fn connect(endpoint: &Endpoint, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let mut last = None;
    for addr in resolve(host, port).await? {
        match TcpStream::connect(addr).await {
            Ok(stream) => {
                stream
                    .set_nodelay(true)
                    .map_err(|source| unreachable(endpoint, source))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(unreachable(
        endpoint,
        last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()),
    ))
}

fn unreachable(endpoint: &Endpoint, source: std::io::Error) -> DialError {
    DialError::Connect {
        endpoint: endpoint.clone(),
        source,
    }
}

struct Request<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
    options: &'a DialOptions,
}

impl Request<'_> {
    /// Sends the request and reads the answer; returns the stream and what was read beyond the answer.
    async fn upgrade<S>(&self, mut stream: S, endpoint: &Endpoint) -> Result<(S, Bytes), DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |source| unreachable(endpoint, source);
        let key = BASE64.encode(rand::random::<[u8; 16]>());
        stream.write_all(&self.head(&key)).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        let mut read = BytesMut::with_capacity(1024);
        loop {
            if stream.read_buf(&mut read).await.map_err(failed)? == 0 {
                return Err(DialError::BadUpgrade("it hung up before answering"));
            }
            if let Some(answer) = Answer::parse(&read)? {
                let rest = &read[answer.len..];
                if answer.status != 101 {
                    let text = quote(&mut stream, rest, answer.body_len).await;
                    return Err(DialError::Refused {
                        status: answer.status,
                        text,
                    });
                }
                answer.verify(&key)?;
                let early = if rest.is_empty() {
                    Bytes::new()
                } else {
                    Bytes::copy_from_slice(rest)
                };
                return Ok((stream, early));
            }
            if read.len() > HEAD_LEN_MAX {
                return Err(DialError::BadUpgrade("the head of its answer is too long"));
            }
        }
    }

    fn head(&self, key: &str) -> Vec<u8> {
        let authority = Authority(self.host, self.port);
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n",
            self.path
        )
        .into_bytes();
        for (name, value) in &self.options.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// What counts in an answer.
struct Answer {
    status: u16,
    /// Bytes of the head.
    len: usize,
    body_len: usize,
    upgrade: bool,
    accept: Vec<u8>,
    protocol: Vec<u8>,
}

impl Answer {
    /// Parses an answer's head; `None` if it is not complete.
    fn parse(read: &[u8]) -> Result<Option<Self>, DialError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(read) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(DialError::BadUpgrade("its answer is not HTTP")),
        };
        let status = response.code.unwrap_or_default();
        let value = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value).unwrap_or_default()
        };
        let body_len = str::from_utf8(value("content-length"))
            .ok()
            .and_then(|len| len.parse().ok());
        Ok(Some(Self {
            status,
            len,
            body_len: body_len.unwrap_or(QUOTE_LEN_MAX),
            upgrade: value("upgrade").eq_ignore_ascii_case(b"websocket")
                && value("connection").eq_ignore_ascii_case(b"upgrade"),
            accept: value("sec-websocket-accept").to_vec(),
            protocol: value("sec-websocket-protocol").to_vec(),
        }))
    }

    fn verify(&self, key: &str) -> Result<(), DialError> {
        if !self.upgrade {
            return Err(DialError::BadUpgrade("it switched to another protocol"));
        }
        if self.accept != accept_for(key.as_bytes()).as_bytes() {
            return Err(DialError::BadUpgrade(
                "its Sec-WebSocket-Accept does not fit the key",
            ));
        }
        if self.protocol != SUBPROTOCOL.as_bytes() {
            return Err(DialError::BadUpgrade(
                "it did not choose the subprotocol dialtone.1",
            ));
        }
        Ok(())
    }
}

/// The beginning of a body as text; what cannot be read is left out, since the status says enough.
async fn quote(stream: &mut (impl AsyncRead + Unpin), rest: &[u8], body_len: usize) -> String {
    let len = body_len.min(QUOTE_LEN_MAX);
    let mut body = rest.get(..len).unwrap_or(rest).to_vec();
    let missing = (len - body.len()) as u64;
    if stream.take(missing).read_to_end(&mut body).await.is_err() {
        body.truncate(rest.len());
    }
    String::from_utf8_lossy(&body).trim().to_owned()
}

//! The server's side of the handshake: TLS if wanted, then one HTTP request read by hyper.

use std::convert::Infallible;
use std::future;

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::buffered::Buffered;
use super::io::{split_tcp, split_tls};
use super::upgrade::check;
use super::{Role, over};
use crate::connection::{Addresses, Connection, Info, Kind};
use crate::error::HandshakeError;
use crate::listen::ListenOptions;

/// Makes a connection of an accepted socket.
pub(crate) async fn establish(
    stream: TcpStream,
    addresses: Addresses,
    tls: Option<TlsAcceptor>,
    path: &str,
    options: &ListenOptions,
) -> Result<Connection, HandshakeError> {
    let (info, headers, (receiver, sender)) = if let Some(tls) = tls {
        let stream = tls
            .accept(Buffered::new(stream))
            .await
            .map_err(HandshakeError::Tls)?;
        let (stream, early, headers) = exchange(stream, path, options).await?;
        let stream = TlsStream::from(stream);
        (
            Info::of_tls(Kind::WebSocket, &stream),
            headers,
            over(split_tls(stream), early, Role::Server),
        )
    } else {
        let (stream, early, headers) = exchange(stream, path, options).await?;
        (
            Info::new(Kind::WebSocket),
            headers,
            over(split_tcp(stream), early, Role::Server),
        )
    };
    Ok(Connection::websocket(
        Info {
            headers,
            remote: Some(addresses.remote),
            local: addresses.local,
            ..info
        },
        receiver,
        sender,
    ))
}

/// Serves one request; returns the socket and what was read beyond the request.
async fn exchange<S>(
    stream: S,
    path: &str,
    options: &ListenOptions,
) -> Result<(S, Bytes, HeaderMap), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outcome = Mutex::new(None);
    let service = service_fn(|request| {
        let checked = check(&request, path, &options.allowed_origins);
        let response = match checked {
            Ok(accepted) => {
                *outcome.lock() = Some(Ok(accepted.headers));
                accepted.response
            }
            Err(error) => {
                *outcome.lock() = Some(Err(error));
                last(error.response())
            }
        };
        future::ready(Ok::<_, Infallible>(response))
    });
    let mut http = http1::Builder::new();
    // `Incoming::establish` bounds the whole handshake in time, so hyper needs no timer for the headers.
    http.max_headers(options.headers_max)
        .max_buf_size(options.header_bytes_max.max(8 << 10));
    let parts = http
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown()
        .await?;
    let (io, early) = (parts.io, parts.read_buf);
    match outcome.into_inner() {
        Some(Ok(headers)) => {
            // A slice of hyper's buffer would keep all of it alive.
            let early = if early.is_empty() {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(&early)
            };
            Ok((io.into_inner(), early, headers))
        }
        Some(Err(error)) => {
            finish(io.into_inner()).await?;
            Err(HandshakeError::Upgrade(error))
        }
        None => Err(HandshakeError::Left),
    }
}

/// Makes a refusal the end of the connection. hyper's own switch for that would also rewrite the header that makes the
/// connection a WebSocket.
fn last(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let upgrade = response.headers().contains_key(UPGRADE);
    let value = if upgrade { "upgrade, close" } else { "close" };
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static(value));
    response
}

/// Ends the stream after an answer that refuses.
async fn finish(mut stream: impl AsyncWrite + Unpin) -> Result<(), HandshakeError> {
    stream.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::websocket::UpgradeError;

    #[tokio::test]
    async fn plain_http_is_told_what_this_is() {
        let (mut client, server) = tokio::io::duplex(4096);
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let result = exchange(server, "/", &ListenOptions::default()).await;
        assert!(matches!(
            result,
            Err(HandshakeError::Upgrade(UpgradeError::NotAnUpgrade))
        ));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
            "{answer}"
        );
        assert!(answer.contains("Dialtone broker"), "{answer}");
    }

    #[tokio::test]
    async fn headers_are_limited() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let head = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n",
            "x".repeat(100_000)
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let result = exchange(server, "/", &ListenOptions::default()).await;
        assert!(matches!(result, Err(HandshakeError::Http(_))));
    }
}

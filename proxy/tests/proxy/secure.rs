//! Clients that come encrypted, and those that should.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dialtone_proxy::Listen;
use dialtone_transport::tls::ServerTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::world::World;

/// Where a development certificate is kept.
const CERTIFICATE: &str = "development-cert.pem";

/// A proxy that speaks https, and http at a second address that leads there.
async fn world(folder: &Path) -> (World, std::net::SocketAddr, ServerTls) {
    let tls = ServerTls::development(Some(folder)).unwrap();
    // Bound before, so that its port is known: a world knows only its first address.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = free.local_addr().unwrap();
    drop(free);
    let own = tls.clone();
    let world = World::with(|config| {
        config.listen = vec![
            Listen {
                addr: ([127, 0, 0, 1], 0).into(),
                tls: Some(own),
                https_port: None,
            },
            Listen {
                addr: http,
                tls: None,
                https_port: Some(0),
            },
        ];
        config.hsts = Some(Duration::from_hours(1));
    })
    .await;
    (world, http, tls)
}

/// Connects as a client that trusts this certificate and offers these protocols; gives the one that was chosen.
async fn connect(
    world: &World,
    folder: &Path,
    offered: &[&str],
) -> std::io::Result<(TlsStream<TcpStream>, Option<String>)> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE)).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let stream = TcpStream::connect(world.addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let chosen = stream.get_ref().1.alpn_protocol();
    let chosen = chosen.map(|name| String::from_utf8(name.to_vec()).unwrap());
    Ok((stream, chosen))
}

async fn until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        got.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn both_versions_of_http_are_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (world, _, _) = world(folder.path()).await;
    let certificate = folder.path().join(CERTIFICATE);
    let url = format!(
        "https://localhost:{}{}",
        world.addr.port(),
        world.path("echo")
    );
    let trust = ["--cacert", certificate.to_str().unwrap(), "-4"];
    for (version, line) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")] {
        let args = [&trust[..], &[version, "-d", "body"]].concat();
        let curl = world.curl_url(&args, &url).await;
        assert!(curl.text.starts_with(line), "{curl:?}");
        assert!(curl.has("x-forwarded-proto: https\n"), "{curl:?}");
        assert!(
            curl.has("strict-transport-security: max-age=3600"),
            "{curl:?}"
        );
        assert!(curl.text.ends_with("\nbody"), "{curl:?}");
    }
    let (_, none) = connect(&world, folder.path(), &[]).await.unwrap();
    assert_eq!(none, None, "who names nothing speaks HTTP/1.1");
    let (_, both) = connect(&world, folder.path(), &["http/1.1", "h2"])
        .await
        .unwrap();
    assert_eq!(both.as_deref(), Some("h2"));
}

#[tokio::test]
async fn websockets_pass_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let (world, _, _) = world(folder.path()).await;
    let (mut stream, _) = connect(&world, folder.path(), &["http/1.1"]).await.unwrap();
    let origin = format!("https://{}", world.addr);
    let lines = format!("Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n");
    let head = world.head("GET", "ws", &lines);
    stream
        .write_all(format!("{head}early").as_bytes())
        .await
        .unwrap();
    let head = until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(until(&mut stream, "early").await, "early");
    let long = "x".repeat(1 << 20);
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = long.clone();
    let writing = crate::world::spawn(async move {
        write.write_all(sent.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = String::new();
    read.read_to_string(&mut got).await.unwrap();
    writing.await.unwrap();
    assert!(got == long, "{} bytes", got.len());
}

#[tokio::test]
async fn who_comes_without_encryption_is_led_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (world, http, _) = world(folder.path()).await;
    let path = world.path("echo?a=1");
    let curl = world.curl_url(&[], &format!("http://{http}{path}")).await;
    assert_eq!(curl.status(), 308, "{curl:?}");
    assert!(
        curl.has(&format!("location: https://{}{path}", world.addr)),
        "{curl:?}"
    );
    assert!(
        !curl.has("strict-transport-security"),
        "only what is encrypted may say so: {curl:?}"
    );
    assert_eq!(
        world
            .upstream
            .requests
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[tokio::test]
async fn a_certificate_is_replaced_while_connections_live() {
    let folder = tempfile::tempdir().unwrap();
    let (world, _, tls) = world(folder.path()).await;
    let (mut stream, _) = connect(&world, folder.path(), &[]).await.unwrap();
    let before = tls.fingerprint();
    let other = tempfile::tempdir().unwrap();
    ServerTls::development(Some(other.path())).unwrap();
    for file in std::fs::read_dir(other.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    tls.reload().unwrap();
    assert_ne!(tls.fingerprint(), before);
    connect(&world, folder.path(), &[]).await.unwrap();
    let head = world.head("GET", "x", "");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = until(&mut stream, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

//! The raw file server, as the proxy asks it.

use std::net::SocketAddr;

use dialtone_project::{TOKEN_HEADER, token_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::{ID, Site};

const SECRET: &str = "a secret";

/// Status, headers and body of an answer.
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &str) -> Got {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).await.unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec())
        .unwrap()
        .to_lowercase();
    Got {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: all[end + 4..].to_vec(),
    }
}

async fn site() -> Site {
    Site::with(&|config| {
        config.secret = Some(SECRET.to_owned());
        "/base".clone_into(&mut config.base_path);
    })
    .await
}

fn token() -> String {
    format!("{TOKEN_HEADER}: {}\r\n", token_of(SECRET))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_answered() {
    let site = site().await;
    std::fs::create_dir(site.path("sub")).unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(site.path("sub/ü b.bin"), &content).unwrap();
    std::fs::write(site.path("page.html"), "<script>").unwrap();
    let (addr, token) = (site.announcement.raw, token());
    let at = |path: &str| format!("/base/{}/raw/{path}", ID.to_uppercase());
    let got = ask(addr, "GET", &at("sub/%C3%BC%20b.bin"), &token).await;
    assert!(got.status == 200 && got.body == content, "{}", got.head);
    for header in [
        "content-length: 1000000",
        "accept-ranges: bytes",
        "x-content-type-options: nosniff",
        "etag: ",
    ] {
        assert!(got.head.contains(header), "{header} in {}", got.head);
    }
    let part = ask(
        addr,
        "GET",
        &at("sub/%C3%BC%20b.bin"),
        &format!("{token}range: bytes=10-19\r\n"),
    )
    .await;
    assert_eq!((part.status, part.body.as_slice()), (206, &content[10..20]));
    let head = ask(addr, "HEAD", &at("sub/%C3%BC%20b.bin"), &token).await;
    assert!(
        head.status == 200 && head.body.is_empty() && head.head.contains("content-length: 1000000")
    );
    let page = ask(addr, "GET", &at("page.html"), &token).await;
    assert!(
        page.head.contains("attachment") && page.head.contains("sandbox"),
        "{}",
        page.head
    );
    let list = ask(addr, "GET", &at(""), &token).await;
    let list = String::from_utf8(list.body).unwrap();
    assert!(list.contains("./sub/") && !list.contains(".smc"), "{list}");
    let moved = ask(addr, "GET", &at("sub"), &token).await;
    assert_eq!(moved.status, 308);
    assert!(moved.head.contains("raw/sub/"));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_is_not_for_them() {
    let site = site().await;
    std::fs::write(site.path("a"), "abc").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", site.path("out")).unwrap();
    let (addr, good) = (site.announcement.raw, token());
    let path = format!("/base/{ID}/raw/a");
    for wrong in [
        String::new(),
        format!("{TOKEN_HEADER}: {SECRET}\r\n"),
        format!("authorization: Bearer {}\r\n", token_of("another")),
        "authorization: Basic !\r\n".to_owned(),
    ] {
        assert_eq!(ask(addr, "GET", &path, &wrong).await.status, 401, "{wrong}");
    }
    let bearer = format!("authorization: Bearer {}\r\n", token_of(SECRET));
    assert_eq!(ask(addr, "GET", &path, &bearer).await.body, b"abc");
    for (method, path, status) in [
        ("GET", format!("/base/{ID}/raw/out"), 404),
        ("GET", format!("/base/{ID}/raw/none"), 404),
        ("GET", format!("/base/{ID}/raw/%2e%2e/x"), 400),
        ("GET", format!("/base/{ID}/raw/..%2fx"), 400),
        ("GET", format!("/{ID}/raw/a"), 404),
        (
            "GET",
            "/base/00000000-0b5a-4c39-9d5e-1a2b3c4d5e6f/raw/a".to_owned(),
            404,
        ),
        ("POST", format!("/base/{ID}/raw/a"), 405),
    ] {
        assert_eq!(
            ask(addr, method, &path, &good).await.status,
            status,
            "{method} {path}"
        );
    }
    site.end().await;
}

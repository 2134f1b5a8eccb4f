//! Files of any size over sockets.

use std::io::Write as _;

use dialtone_project::remote::RemoteError;
use sha2::{Digest as _, Sha256};

use crate::site::Site;

/// Bytes that repeat only after a long time.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

async fn read(site: &Site, path: &str, offset: u64, version: Option<&str>) -> Vec<u8> {
    let mut download = site.project.read_file(path, offset, version).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = download.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    all
}

fn code(result: Result<impl std::fmt::Debug, RemoteError>) -> String {
    match result {
        Err(RemoteError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_as_they_are() {
    let site = Site::new().await;
    let content = bytes(9_000_001);
    let upload = site
        .project
        .write_file("deep/a.bin", Some(content.len() as u64), None)
        .await
        .unwrap();
    assert_eq!(upload.offset(), 0);
    for piece in content.chunks(700_000) {
        upload.send(piece.to_vec()).await.unwrap();
    }
    let written = upload.finish(Some(&digest(&content))).await.unwrap();
    assert_eq!(
        (written.bytes, &written.sha256),
        (content.len() as u64, &digest(&content))
    );
    assert_eq!(std::fs::read(site.path("deep/a.bin")).unwrap(), content);
    assert_eq!(read(&site, "deep/a.bin", 0, None).await, content);
    assert_eq!(
        read(&site, "deep/a.bin", 8_999_999, None).await,
        &content[8_999_999..]
    );
    std::fs::write(site.path("empty"), "").unwrap();
    assert_eq!(read(&site, "empty", 0, None).await, b"");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named() {
    let site = Site::new().await;
    std::fs::write(site.path("a"), "abc").unwrap();
    let version = site
        .project
        .read_file("a", 0, None)
        .await
        .unwrap()
        .about()
        .version
        .clone();
    assert_eq!(read(&site, "a", 1, Some(&version)).await, b"bc");
    std::fs::OpenOptions::new()
        .append(true)
        .open(site.path("a"))
        .unwrap()
        .write_all(b"d")
        .unwrap();
    assert_eq!(
        code(site.project.read_file("a", 1, Some(&version)).await),
        "conflict"
    );
    assert_eq!(
        code(site.project.read_file("a", 9, None).await),
        "invalid-argument"
    );
    assert_eq!(
        code(site.project.read_file("none", 0, None).await),
        "not-found"
    );
    assert_eq!(code(site.project.read_file("", 0, None).await), "is-folder");
    assert_eq!(
        code(site.project.read_file("/dev/zero", 0, None).await),
        "invalid-argument"
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_sent_replaces_nothing() {
    let site = Site::new().await;
    std::fs::write(site.path("a"), "old").unwrap();
    let upload = site.project.write_file("a", None, None).await.unwrap();
    upload.send("new").await.unwrap();
    assert_eq!(
        code(upload.finish(Some(&digest(b"other"))).await),
        "conflict"
    );
    let upload = site.project.write_file("a", Some(9), None).await.unwrap();
    upload.send("new").await.unwrap();
    assert_eq!(code(upload.finish(None).await), "conflict");
    assert_eq!(
        code(site.project.write_file("a", None, Some("../x")).await),
        "invalid-argument"
    );
    assert_eq!(
        code(site.project.write_file("", None, None).await),
        "is-folder"
    );
    assert_eq!(std::fs::read(site.path("a")).unwrap(), b"old");
    let names = std::fs::read_dir(site.path("")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        names.len(),
        2,
        "the file and the project's own folder: {names:?}"
    );
    site.end().await;
}

/// A connection is lost in the middle, and the next upload goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_gone_on_with() {
    let site = Site::new().await;
    let content = bytes(3_000_000);
    let (size, half) = (Some(content.len() as u64), 1_500_000);
    let upload = site
        .project
        .write_file("big", size, Some("u1"))
        .await
        .unwrap();
    upload.send(content[..half].to_vec()).await.unwrap();
    drop(upload);
    assert!(!site.path("big").exists());
    let upload = site
        .project
        .write_file("big", size, Some("u1"))
        .await
        .unwrap();
    let offset = usize::try_from(upload.offset()).unwrap();
    assert!(offset <= half, "{offset}");
    upload.send(content[offset..].to_vec()).await.unwrap();
    let written = upload.finish(Some(&digest(&content))).await.unwrap();
    assert_eq!(written.sha256, digest(&content), "of the whole file");
    assert_eq!(std::fs::read(site.path("big")).unwrap(), content);
    site.end().await;
}

/// Who does not take a file holds back nothing but that file.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_disturbs_nobody() {
    let site = Site::new().await;
    std::fs::write(site.path("big"), bytes(20_000_000)).unwrap();
    let mut slow = site.project.read_file("big", 0, None).await.unwrap();
    slow.next().await.unwrap().unwrap();
    let ping = site.call("system.ping", serde_json::json!([])).await;
    assert!(ping["now"].is_u64());
    assert_eq!(read(&site, "big", 19_000_000, None).await.len(), 1_000_000);
    let mut rest = 0;
    while let Some(piece) = slow.next().await.unwrap() {
        rest += piece.len();
    }
    assert!(rest > 19_000_000);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_transferred_than_may() {
    let site = Site::with(&|config| config.limits.transfers_max = 1).await;
    let first = site.project.write_file("a", None, None).await.unwrap();
    assert_eq!(
        code(site.project.write_file("b", None, None).await),
        "too-many"
    );
    first.finish(None).await.unwrap();
    let again = site.project.write_file("b", None, None).await;
    // The place may be free a moment after the answer.
    assert!(again.is_ok() || code(again) == "too-many");
    site.end().await;
}

//! Downloads of files.

use std::sync::Arc;

use dialtone_proxy::Whose;
use dialtone_proxy::files::Folder;

use crate::world::{ID, World, table};

async fn with_files() -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a b.txt"), "0123456789").unwrap();
    std::fs::write(folder.path().join("page.html"), "<script>").unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    std::fs::write(folder.path().join("big"), vec![b'z'; 8 << 20]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let world = World::new().await;
    let mut table = table(&world.upstream, None);
    let files = Arc::new(Folder::open(folder.path()).unwrap());
    table
        .projects
        .values_mut()
        .for_each(|project| project.files = Some(Arc::clone(&files)));
    world.fixed.replace(table);
    world.handle.access_changed(Whose::All).await;
    (world, folder)
}

fn url(world: &World, path: &str) -> String {
    format!("http://{}/{ID}/files/{path}", world.addr)
}

#[tokio::test]
async fn files_come_with_all_that_a_browser_needs_to_know() {
    let (world, _folder) = with_files().await;
    let curl = world
        .curl_url(
            &["-H", "Cookie: remember_me=ann"],
            &url(&world, "a%20b.txt"),
        )
        .await;
    assert_eq!(curl.status(), 200, "{curl:?}");
    for part in [
        "content-length: 10\r\n",
        "content-type: text/plain; charset=utf-8\r\n",
        "content-disposition: inline; filename*=UTF-8''a%20b.txt\r\n",
        "x-content-type-options: nosniff\r\n",
        "accept-ranges: bytes\r\n",
        "etag: \"",
        "last-modified: ",
        "\r\n\r\n0123456789",
    ] {
        assert!(curl.has(part), "{part} is missing: {}", curl.text);
    }
    let download = world
        .curl_url(&[], &url(&world, "a%20b.txt?download"))
        .await;
    assert!(
        download.has("content-disposition: attachment;"),
        "{download:?}"
    );
    let page = world.curl_url(&[], &url(&world, "page.html")).await;
    assert!(
        page.has("content-disposition: attachment;")
            && page.has("content-security-policy: sandbox"),
        "{page:?}"
    );
    let head = world.curl_url(&["-I"], &url(&world, "big")).await;
    assert!(
        head.has(&format!("content-length: {}\r\n", 8 << 20)),
        "{head:?}"
    );
}

#[tokio::test]
async fn parts_and_conditions() {
    let (world, _folder) = with_files().await;
    let url = url(&world, "a%20b.txt");
    let part = world.curl_url(&["-r", "2-4"], &url).await;
    assert_eq!(part.status(), 206);
    assert!(
        part.has("content-range: bytes 2-4/10\r\n") && part.text.ends_with("\r\n\r\n234"),
        "{part:?}"
    );
    let beyond = world.curl_url(&["-r", "20-"], &url).await;
    assert_eq!(beyond.status(), 416);
    assert!(beyond.has("content-range: bytes */10\r\n"));
    let tag = part
        .text
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap()
        .to_owned();
    let same = world
        .curl_url(&["-H", &format!("If-None-Match: {tag}")], &url)
        .await;
    assert_eq!(same.status(), 304);
    let other = world
        .curl_url(&["-r", "2-4", "-H", "If-Range: \"other\""], &url)
        .await;
    assert_eq!(other.status(), 200);
    let failed = world.curl_url(&["-H", "If-Match: \"other\""], &url).await;
    assert_eq!(failed.status(), 412);
}

#[tokio::test]
async fn nothing_else_can_be_had() {
    let (world, _folder) = with_files().await;
    for (path, status, code) in [
        ("none", 404, "no_file"),
        ("", 404, "folder"),
        ("link", 404, "no_file"),
        ("%2fetc/passwd", 404, "no_file"),
        ("../x", 400, "bad_path"),
        ("%2e%2e/x", 400, "bad_path"),
    ] {
        let curl = world.curl_url(&["--path-as-is"], &url(&world, path)).await;
        assert_eq!(curl.status(), status, "{path}");
        assert!(
            curl.has(&format!("dialtone-proxy-error: {code}\r\n")),
            "{path}: {curl:?}"
        );
    }
    assert_eq!(
        world
            .curl_url(&["-X", "POST"], &url(&world, "empty"))
            .await
            .status(),
        405
    );
    assert_eq!(
        world
            .curl_url(&["-H", "Cookie: remember_me=eve"], &url(&world, "empty"))
            .await
            .status(),
        403
    );
    let empty = world.curl_url(&[], &url(&world, "empty")).await;
    assert!(
        empty.status() == 200 && empty.has("content-length: 0\r\n"),
        "{empty:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_arrives_whole() {
    let (world, _folder) = with_files().await;
    let curl = world.curl_url(&[], &url(&world, "big")).await;
    let body = curl.bytes.split(|byte| *byte == b'\n').next_back().unwrap();
    assert!(
        body.len() == 8 << 20 && body.iter().all(|byte| *byte == b'z'),
        "{}",
        body.len()
    );
}

//! Uploads that are not over when their answer is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::world::{PATIENCE, Raw, Upstream, World, spawn};

/// More than all buffers on the way hold.
const LEN: usize = 32 << 20;

/// What a server does with an upload whose head it has read.
#[derive(Clone, Copy)]
enum Takes {
    /// It answers at once, and then reads everything.
    All,
    /// It answers and closes its connection.
    Nothing,
    /// It answers with very much, while it reads everything.
    WhileAnswering,
}

/// A server, and what it tells: the bytes of each upload that it took.
async fn server(takes: Takes) -> (Upstream, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream {
        addr: listener.local_addr().unwrap(),
        connections: Arc::default(),
        requests: Arc::default(),
    };
    let connections = Arc::clone(&upstream.connections);
    let (told, taken) = mpsc::channel(8);
    spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::Relaxed);
            spawn(serve(stream, takes, told.clone()));
        }
    });
    (upstream, taken)
}

async fn serve(mut stream: TcpStream, takes: Takes, told: mpsc::Sender<usize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let (mut read, mut write) = stream.into_split();
    match takes {
        Takes::All => {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
            write.write_all(answer).await.unwrap();
            told.send(take(&mut read, LEN).await).await.unwrap();
        }
        Takes::Nothing => {
            let answer =
                b"HTTP/1.1 413 Too Much\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly";
            write.write_all(answer).await.unwrap();
        }
        Takes::WhileAnswering => {
            let reading = spawn(async move { take(&mut read, LEN).await });
            let answering = spawn(async move {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
                let answer = [head.as_bytes(), &vec![b'a'; LEN]].concat();
                // What becomes of it is the client's to see.
                drop(write.write_all(&answer).await);
                // Closing it would tell that nothing more is read either.
                write
            });
            told.send(reading.await.unwrap()).await.unwrap();
            drop(answering.await.unwrap());
        }
    }
}

/// Reads until so much has come, or nothing more does; gives how much that was.
async fn take(read: &mut (impl tokio::io::AsyncRead + Unpin), most: usize) -> usize {
    let (mut sum, mut buf) = (0, vec![0; 64 << 10]);
    while sum < most {
        match read.read(&mut buf).await {
            Ok(0) | Err(_) => break,
            Ok(len) => sum += len,
        }
    }
    sum
}

fn head(world: &World, more: &str) -> String {
    world.head("POST", "x", &format!("Content-Length: {LEN}\r\n{more}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_after_its_answer() {
    let (upstream, mut taken) = server(Takes::All).await;
    let world = World::before(upstream, |_| {});
    let mut raw = world.connect().await;
    raw.send(head(&world, "").as_bytes()).await;
    let answer = raw.until("early").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    raw.send(&vec![b'b'; LEN]).await;
    let len = timeout(PATIENCE, taken.recv()).await.unwrap();
    assert_eq!(len, Some(LEN), "the server gets all of it");
    raw.send(head(&world, "").as_bytes()).await;
    raw.until("early").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_not_lost_with_an_upload_that_nobody_takes() {
    let (upstream, _taken) = server(Takes::Nothing).await;
    let world = World::before(upstream, |_| {});
    let mut raw = world.connect().await;
    raw.send(head(&world, "").as_bytes()).await;
    // Nothing of the answer is read before everything is sent: this fails where the connection is reset.
    raw.send(&vec![b'b'; LEN]).await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.ends_with("early"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_not_lost_with_an_upload_that_nobody_takes() {
    let world = World::new().await;
    let mut raw = world.connect().await;
    let head = head(&world, "").replace("remember_me=bob", "remember_me=nobody");
    raw.send(head.as_bytes()).await;
    raw.send(&vec![b'b'; LEN]).await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("\r\ndialtone-proxy-error: sign_in\r\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_while_its_answer_is_not_read() {
    let (upstream, mut taken) = server(Takes::WhileAnswering).await;
    let world = World::before(upstream, |_| {});
    let mut raw = world.connect().await;
    raw.send(head(&world, "").as_bytes()).await;
    raw.send(&vec![b'b'; LEN]).await;
    let len = timeout(PATIENCE, taken.recv()).await.unwrap();
    assert_eq!(len, Some(LEN), "and nothing of the answer was read so far");
    let answer = raw.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let got = take(&mut raw.0, LEN).await;
    assert_eq!(got, LEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_ends_when_nobody_wants_its_answer_any_more() {
    let (upstream, mut taken) = server(Takes::WhileAnswering).await;
    let world = World::before(upstream, |_| {});
    let mut raw = world.connect().await;
    raw.send(head(&world, "").as_bytes()).await;
    raw.until("\r\n\r\n").await;
    let Raw(stream) = raw;
    drop(stream);
    let len = timeout(PATIENCE, taken.recv()).await.unwrap();
    assert!(len.is_some_and(|len| len < LEN), "{len:?}");
    while world.handle.metrics().requests() > 0 {
        tokio::task::yield_now().await;
    }
}

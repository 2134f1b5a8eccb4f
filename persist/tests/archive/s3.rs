//! The archive in a store that speaks S3: moto's server, which `./test` installs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use dialtone_persist::archive::{Archive, Location};

use super::site::{Site, archiver};

/// The server ends with the test, whatever ends that: it watches its input.
const SERVER: &str = r"
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0)
server.start()
print('port', server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
";

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let child = Command::new("python3")
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("this test needs python3");
        // It says other things as well.
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = output
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse().ok());
        let port =
            port.expect("this test needs moto's S3 server: pip install 'moto[server]==5.2.1'");
        Self { child, port }
    }

    /// Makes a bucket, as the operator does.
    fn bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_log_goes_to_s3_and_comes_back() {
    let server = Server::start();
    server.bucket("archive");
    let location = Location::S3 {
        bucket: "archive".to_owned(),
        prefix: "site/n1".to_owned(),
        endpoint: Some(format!("http://127.0.0.1:{}", server.port)),
        region: Some("us-east-1".to_owned()),
        keys: Some(("test".to_owned(), "test".to_owned())),
    };
    let archive = Archive::open(&location).unwrap();
    let mut site = Site::new();
    let mut uploader = archiver(&archive, &site.log);
    for round in 0..3 {
        for number in 0..30 {
            site.append(
                "s",
                Some(&format!("k{}", number % 20)),
                vec![round * 30 + number; 700],
            )
            .await;
        }
        site.compact().await;
        uploader.pass().await.unwrap();
    }
    assert_eq!(archive.generations().await.unwrap(), [1, 2, 3]);
    let (restored, _) = Site::restored(&archive, None).await.unwrap();
    assert_eq!(restored.contents().await, site.contents().await);
    // Whoever comes later with the same number is refused by the store itself.
    let mut late = archiver(&archive, &site.log);
    late.pass().await.unwrap();
    site.append("s", None, vec![1]).await;
    uploader.pass().await.unwrap();
    site.append("s", None, vec![2]).await;
    late.pass().await.unwrap_err();
}

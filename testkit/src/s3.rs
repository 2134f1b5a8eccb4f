//! A server that speaks S3: moto's, which `./test` installs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

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

/// The region that the server is in.
pub const REGION: &str = "us-east-1";

/// A running server, which forgets everything when it ends. Any key has access.
#[derive(Debug)]
pub struct S3 {
    child: Child,
    port: u16,
}

impl S3 {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is no python3 with moto.
    pub fn start() -> Self {
        let child = Command::new("python3")
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("this test needs python3");
        // It says other things as well.
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let port = output
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse().ok());
        let port =
            port.expect("this test needs moto's S3 server: pip install 'moto[server]==5.2.1'");
        Self { child, port }
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket, as the operator does.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .expect("the server reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

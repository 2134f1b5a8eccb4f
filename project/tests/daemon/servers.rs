//! Named servers, with programs that stand for the real ones.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use dialtone_project::token_of;
use dialtone_proxy::targets::TOKEN_HEADER;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::{ID, Site, is_alive};

/// The project's, from which its token follows.
const SECRET: &str = "the project's secret";

/// Listens where it is told, answers with the path that it sees, and notes each start.
const SERVER: &str = r#"#!/usr/bin/env python3
import http.server, os, socket, socketserver, sys
args = dict(arg[2:].split("=", 1) for arg in sys.argv[1:] if "=" in arg)
open("starts", "a").write("%d %s\n" % (os.getpid(), args["ServerApp.base_url"]))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade") == "echo":
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "echo")
            self.end_headers()
            while got := self.connection.recv(4096):
                self.connection.sendall(got.upper())
            return
        said = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def address_string(self):
        return "socket"
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_UNIX
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 80
Server(args["ServerApp.sock"], Handler).serve_forever()
"#;

fn install(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// A site with a folder for programs before all others.
async fn site(programs: &Path) -> Site {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    Site::with(&move |config| {
        "/base".clone_into(&mut config.base_path);
        config.secret = Some(SECRET.to_owned());
        config.environment.insert("PATH".to_owned(), path.clone());
    })
    .await
}

fn starts(site: &Site) -> Vec<(i64, String)> {
    let text = std::fs::read_to_string(site.path("starts")).unwrap();
    let start = |line: &str| {
        let (pid, url) = line.split_once(' ').unwrap();
        (pid.parse().unwrap(), url.to_owned())
    };
    text.lines().map(start).collect()
}

async fn get(port: u16, path: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let token = token_of(SECRET);
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{TOKEN_HEADER}: {token}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

async fn port(site: &Site, name: &str) -> u16 {
    let port = site.call("system.namedServerPort", json!([name])).await;
    u16::try_from(port.as_u64().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_started_once_and_answers_at_once() {
    let programs = tempfile::tempdir().unwrap();
    install(programs.path(), "jupyter-lab", SERVER);
    let site = site(programs.path()).await;
    let asked = (0..8).map(|_| port(&site, "jupyterlab"));
    let ports = futures_util::future::join_all(asked).await;
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    let path = format!("/base/{ID}/port/jupyterlab/");
    assert!(get(ports[0], &path).await.ends_with(&path));
    let begun = starts(&site);
    assert_eq!(begun.len(), 1);
    assert_eq!(begun[0].1, path);
    let folder = site.path(".smc/named_servers/jupyterlab");
    assert_eq!(
        std::fs::read_to_string(folder.join("port")).unwrap(),
        ports[0].to_string()
    );
    let listed = site.call("system.namedServers", json!([])).await;
    let lab = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|server| server["name"] == "jupyterlab")
        .unwrap();
    assert_eq!(
        (&lab["installed"], &lab["port"]),
        (&json!(true), &json!(ports[0]))
    );
    // Killed, it is started anew; ended with the project, it is gone.
    let kill = json!([{"pid": begun[0].0, "signal": 9}]);
    site.call("system.signal", kill).await;
    let second = loop {
        let port = port(&site, "jupyterlab").await;
        if starts(&site).len() == 2 {
            break port;
        }
    };
    assert!(get(second, "/x").await.ends_with("/x"));
    let last = starts(&site)[1].0;
    assert!(is_alive(last));
    site.end().await;
    assert!(!is_alive(last) && !folder.join("pid").exists());
}

/// What another user of the machine does to get into a server: its port without and with a wrong token, its socket, and
/// the folder of that. Prints what came of it.
const INTRUDER: &str = r#"
import os, socket, sys
port, path = int(sys.argv[1]), sys.argv[2]
def over(sock, address, header):
    try:
        sock.connect(address)
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + header + b"\r\n")
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer.split(b"\r\n")[0].decode()
    except OSError as error:
        return type(error).__name__
tcp = lambda header: over(socket.socket(), ("127.0.0.1", port), header)
print(tcp(b""))
print(tcp(b"x-dialtone-project-token: 00\r\n"))
print(over(socket.socket(socket.AF_UNIX), path, b""))
try:
    print(os.listdir(os.path.dirname(path)))
except OSError as error:
    print(type(error).__name__)
"#;

/// A user that is neither root nor of the project.
const STRANGER: u32 = 65_533;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "what was not tested is to be seen")]
async fn another_user_of_the_machine_does_not_get_in() {
    let programs = tempfile::tempdir().unwrap();
    install(programs.path(), "jupyter-lab", SERVER);
    let site = site(programs.path()).await;
    let port = port(&site, "jupyterlab").await;
    let socket = site.path(".smc/named_servers/jupyterlab/socket");
    assert!(socket.exists(), "the server listens at its socket");
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", INTRUDER, &port.to_string()])
        .arg(&socket);
    command.current_dir("/");
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        // The home lets everybody through, as homes do on some machines: the folder of the server does not.
        for open in ["", ".smc", ".smc/named_servers"] {
            std::fs::set_permissions(site.path(open), Permissions::from_mode(0o755)).unwrap();
        }
        command.uid(STRANGER).gid(STRANGER);
    } else {
        eprintln!("NOT TESTED: only root can try the socket as another user");
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said[..2], ["HTTP/1.1 401 Unauthorized"; 2], "{said:?}");
    if is_root {
        assert_eq!(said[2..], ["PermissionError"; 2]);
    }
    assert!(get(port, "/x").await.ends_with("/x"), "the proxy gets in");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_connection_needs_the_token() {
    let programs = tempfile::tempdir().unwrap();
    install(programs.path(), "jupyter-lab", SERVER);
    let site = site(programs.path()).await;
    let port = port(&site, "jupyterlab").await;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let token = token_of(SECRET);
    let requests = format!(
        "GET /a HTTP/1.1\r\nHost: x\r\n{TOKEN_HEADER}: {token}\r\n\r\n\
         GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(requests.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.contains("HTTP/1.1 401 "), "{text}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_upgraded_passes_as_bytes() {
    let programs = tempfile::tempdir().unwrap();
    install(programs.path(), "jupyter-lab", SERVER);
    let site = site(programs.path()).await;
    let port = port(&site, "jupyterlab").await;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let token = token_of(SECRET);
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: x\r\n{TOKEN_HEADER}: {token}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
    for words in ["one", "two"] {
        socket.write_all(words.as_bytes()).await.unwrap();
        let mut echo = [0; 3];
        socket.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, words.to_uppercase().as_bytes());
    }
    // What belongs to the server ends with it.
    site.end().await;
    let mut rest = Vec::new();
    // Closed, or reset.
    drop(socket.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ended_by_its_name() {
    let programs = tempfile::tempdir().unwrap();
    install(programs.path(), "jupyter-notebook", SERVER);
    let site = site(programs.path()).await;
    port(&site, "jupyter").await;
    let pid = starts(&site)[0].0;
    site.call("system.terminate", json!([{"service": "jupyter"}]))
        .await;
    assert!(!is_alive(pid));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_server_is_not_there_is_told() {
    let programs = tempfile::tempdir().unwrap();
    install(
        programs.path(),
        "jupyter-lab",
        "#!/bin/sh\necho no module named lab >&2\nexit 3\n",
    );
    let silent = "#!/bin/sh\necho $$ > pid; exec sleep 1000\n";
    install(programs.path(), "jupyter-notebook", silent);
    let path = programs.path().to_str().unwrap().to_owned();
    let site = Site::with(&move |config| {
        config.timing.server_start = std::time::Duration::from_secs(1);
        let rest = std::env::var("PATH").unwrap();
        config
            .environment
            .insert("PATH".to_owned(), format!("{path}:{rest}"));
    })
    .await;
    let refusal = async |name: &str| site.refusal("system.namedServerPort", json!([name])).await;
    let (code, text) = refusal("jupyterlab").await;
    assert!(
        code == "failed" && text.contains("no module named lab"),
        "{code}: {text}"
    );
    let (code, text) = refusal("jupyter").await;
    assert!(
        code == "timeout" && text.contains("did not listen"),
        "{code}: {text}"
    );
    let pid: i64 = std::fs::read_to_string(site.path("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(!is_alive(pid), "what does not listen is ended");
    let (code, _) = refusal("rserver").await;
    assert_eq!(code, "not-configured");
    site.end().await;
}

/// The real one, where it is installed: `DIALTONE_JUPYTER` names the folder of its programs.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "what was not tested is to be seen")]
async fn the_real_jupyterlab_answers_below_its_path() {
    let Ok(folder) = std::env::var("DIALTONE_JUPYTER") else {
        eprintln!(
            "NOT TESTED: JupyterLab is not installed; `./test jupyter` installs it and sets DIALTONE_JUPYTER"
        );
        return;
    };
    let site = site(Path::new(&folder)).await;
    let asked = json!(["jupyterlab"]);
    let limit = std::time::Duration::from_mins(3);
    let port = site
        .project
        .call_within("system.namedServerPort", asked, limit)
        .await
        .unwrap();
    let port = u16::try_from(port.as_u64().unwrap()).unwrap();
    let path = format!("/base/{ID}/port/jupyterlab");
    let status = get(port, &format!("{path}/api")).await;
    let body = status.split_once("\r\n\r\n").unwrap().1;
    let about: Json = serde_json::from_str(body).unwrap();
    assert!(about["version"].is_string(), "{about}");
    assert!(get(port, &format!("{path}/lab")).await.contains("200 OK"));
    let contents = get(port, &format!("{path}/api/contents")).await;
    assert!(
        contents.contains("200 OK"),
        "nobody is asked for a token: {contents}"
    );
    let kernels = site.call("editor.jupyterKernels", json!([])).await;
    assert!(
        kernels
            .as_array()
            .is_some_and(|kernels| kernels[0]["language"] == "python"),
        "{kernels}"
    );
    site.end().await;
}

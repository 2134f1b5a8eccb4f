//! Servers that start Jupyter kernels: a kernel gateway, and a Jupyter server as projects run one. `./test` installs both.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// The server says where it listens, and ends with the test, whatever ends that: it watches its input.
const SERVER: &str = r"
import sys, threading, socket, os
gateway, token, base = sys.argv[1] == 'gateway', sys.argv[2], sys.argv[3]
try:
    import ipykernel
    if gateway:
        from kernel_gateway.gatewayapp import KernelGatewayApp as App
    else:
        from jupyter_server.serverapp import ServerApp as App
except ImportError:
    print('missing', flush=True)
    sys.exit(0)
with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
def watch():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
app = App.instance()
if gateway:
    args = ['--port_retries=0', '--KernelGatewayApp.auth_token=' + token, '--JupyterWebsocketPersonality.list_kernels=True']
else:
    args = ['--ServerApp.port_retries=0', '--no-browser', '--allow-root', '--IdentityProvider.token=' + token,
            '--ServerApp.password=', '--ServerApp.base_url=' + base]
app.initialize(['--ip=127.0.0.1', '--port=%d' % port] + args)
from tornado.ioloop import IOLoop
IOLoop.current().add_callback(lambda: print('port', port, flush=True))
app.start()
";

/// A running server.
#[derive(Debug)]
pub struct KernelServer {
    child: Child,
    url: String,
}

impl KernelServer {
    /// A kernel gateway that asks for this token. `None` where it is not installed, which is said.
    ///
    /// # Panics
    /// When there is no python3, or the server does not start.
    pub fn gateway(token: &str) -> Option<Self> {
        Self::start("gateway", token, "")
    }

    /// A Jupyter server below this path, which has slashes at both ends, without a token: as projects run one.
    ///
    /// # Panics
    /// As [`gateway`](Self::gateway).
    pub fn of_project(base: &str) -> Option<Self> {
        Self::start("server", "", base)
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn start(kind: &str, token: &str, base: &str) -> Option<Self> {
        let (mut server, said) = Self::spawn(kind, token, base);
        let Some(port) = said.strip_prefix("port ") else {
            say_skipped();
            return None;
        };
        server.url = format!("http://127.0.0.1:{port}{}", base.trim_end_matches('/'));
        Some(server)
    }

    /// The process with the first that it says.
    fn spawn(kind: &str, token: &str, base: &str) -> (Self, String) {
        let python = std::env::var("JUPYTER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(python)
            .args(["-c", SERVER, kind, token, base])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs python3");
        let output = child.stdout.take().expect("its output is piped");
        let said = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("port ") || line == "missing");
        let server = Self {
            child,
            url: String::new(),
        };
        (server, said.expect("the server of kernels does not start"))
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
fn say_skipped() {
    eprintln!("SKIPPED: pip install 'jupyter-kernel-gateway==3.0.1' ipykernel");
}

impl Drop for KernelServer {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "the server of kernels does not end: {ended:?}"
        );
    }
}

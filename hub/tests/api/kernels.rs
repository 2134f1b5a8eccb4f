//! Running code in kernels of a real Jupyter kernel gateway, which `./test` installs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::api::{Api, Bounds, Code, Error, Handlers, Jupyter};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::AccountId;
use dialtone_hub::kernels::{Gateway, Limits, SiteGateways, Unreachable};
use dialtone_hub::store::Store;
use serde_json::{Value as Json, json};

use crate::stored::Site;

/// The server says where it listens, and ends with the test: it watches its input.
const SERVER: &str = r"
import sys, threading, socket, os
try:
    import ipykernel
    from kernel_gateway.gatewayapp import KernelGatewayApp
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
app = KernelGatewayApp.instance()
app.initialize(['--ip=127.0.0.1', '--port=%d' % port, '--port_retries=0', '--KernelGatewayApp.auth_token=' + sys.argv[1],
    '--JupyterWebsocketPersonality.list_kernels=True'])
from tornado.ioloop import IOLoop
IOLoop.current().add_callback(lambda: print('port', port, flush=True))
app.start()
";

const TOKEN: &str = "swordfish-of-the-gateway";

struct Server {
    child: Child,
    /// Where it listens; nowhere if what it needs is not installed.
    url: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        assert!(ended.is_ok(), "{ended:?}");
    }
}

/// Starts one; without what it needs the test says so and does nothing.
fn server() -> Server {
    let python = std::env::var("JUPYTER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let child = Command::new(python)
        .args(["-c", SERVER, TOKEN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs python3");
    let mut server = Server { child, url: None };
    let output = BufReader::new(server.child.stdout.take().unwrap()).lines();
    let said = output
        .map_while(Result::ok)
        .find(|line| line.starts_with("port ") || line == "missing")
        .expect("the kernel gateway does not start");
    server.url = said
        .strip_prefix("port ")
        .map(|port| format!("http://127.0.0.1:{port}"));
    if server.url.is_none() {
        #[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
        {
            eprintln!("SKIPPED: pip install 'jupyter-kernel-gateway==3.0.1' ipykernel");
        }
    }
    server
}

/// The functions on a site whose gateway is this one.
async fn site(url: &str) -> (Site, Jupyter, Api<Store>) {
    let site = Site::sqlite().await;
    site.set("jupyter_gateway_url", url).await;
    site.set("jupyter_gateway_token", TOKEN).await;
    site.set("jupyter_api_enabled", "yes").await;
    let gateways = Arc::new(SiteGateways::new(site.entry.settings.clone()));
    let jupyter = Jupyter::new(site.store.clone(), gateways);
    let handlers = jupyter.install(Handlers::new());
    let api = Api::new(Arc::clone(&site.authority), handlers, Bounds::default());
    (site, jupyter, api)
}

async fn call(api: &Api<Store>, by: AccountId, name: &str, options: Json) -> Result<Json, Error> {
    let request = json!({"name": name, "args": [options]});
    let request = serde_json::from_value(request).unwrap();
    api.call(Caller::Account(by), request).await
}

async fn running(url: &str) -> usize {
    let client = reqwest::Client::new();
    let answer = client
        .get(format!("{url}/api/kernels"))
        .header("Authorization", format!("token {TOKEN}"))
        .send()
        .await
        .unwrap();
    let kernels: Vec<Json> = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    kernels.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_runs_after_other_code_and_leaves_nothing_behind() {
    let server = server();
    let Some(url) = &server.url else {
        return;
    };
    let (site, jupyter, api) = site(url).await;
    let ada = site.account("ada", &[]).await;
    let kernels = call(&api, ada, "jupyter.kernels", json!({})).await.unwrap();
    let python = kernels
        .as_array()
        .unwrap()
        .iter()
        .find(|kernel| kernel["name"] == "python3");
    assert_eq!(python.unwrap()["language"], "python");

    let run = json!({"kernel": "python3", "history": ["x = 6"], "input": "print('hi'); x * 7"});
    let done = call(&api, ada, "jupyter.execute", run.clone())
        .await
        .unwrap();
    let output = done["output"].as_array().unwrap();
    assert_eq!(output.len(), 2, "{output:?}");
    assert_eq!(output[0], json!({"name": "stdout", "text": "hi\n"}));
    assert_eq!(output[1]["data"]["text/plain"], "42");
    // The same again is not run again, and is found by its hash.
    let again = call(&api, ada, "jupyter.execute", run).await.unwrap();
    assert_eq!(again, done);
    let by_hash = json!({"hash": done["hash"]});
    assert_eq!(
        call(&api, ada, "jupyter.execute", by_hash).await.unwrap(),
        done
    );
    let unknown = call(&api, ada, "jupyter.execute", json!({"hash": "x"})).await;
    assert_eq!(unknown.unwrap(), Json::Null);
    let fresh = json!({"kernel": "python3", "input": "'x' in globals()"});
    let fresh = call(&api, ada, "jupyter.execute", fresh).await.unwrap();
    assert_eq!(fresh["output"][0]["data"]["text/plain"], "False");
    let failed = json!({"kernel": "python3", "input": "1/0"});
    let failed = call(&api, ada, "jupyter.execute", failed).await.unwrap();
    assert_eq!(failed["output"][0]["ename"], "ZeroDivisionError");
    let none = json!({"kernel": "fortran77", "input": "x"});
    let none = call(&api, ada, "jupyter.execute", none).await.unwrap_err();
    assert_eq!(none.code, Code::NotFound);
    jupyter.end().await;
    assert_eq!(running(url).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_or_says_too_much_is_ended() {
    let server = server();
    let Some(url) = &server.url else {
        return;
    };
    let gateway = Gateway::new(url, Some(TOKEN.to_owned())).unwrap();
    let limits = Limits {
        total: Duration::from_mins(1),
        cell: Duration::from_secs(3),
        output: 10_000,
    };
    let run = |code: &str| {
        let (gateway, cells) = (gateway.clone(), [code.to_owned()]);
        async move {
            gateway
                .run("python3", &cells, limits, std::future::pending())
                .await
        }
    };
    let slow = run("while True: pass").await.unwrap_err();
    assert!(matches!(slow, Unreachable::Time(_)), "{slow}");
    let loud = run("print('x' * 20_000)").await.unwrap_err();
    assert!(matches!(loud, Unreachable::Output(_)), "{loud}");
    // Nobody waits any more.
    let cells = ["while True: pass".to_owned()];
    let dropped = gateway
        .run("python3", &cells, limits, std::future::ready(()))
        .await;
    assert!(dropped.is_err());
    assert_eq!(running(url).await, 0);
    let stranger = Gateway::new(url, Some("wrong".to_owned())).unwrap();
    let refused = stranger.kernels().await.unwrap_err();
    assert!(
        matches!(
            refused,
            Unreachable::Refused {
                status: 401 | 403,
                ..
            }
        ),
        "{refused}"
    );
    assert!(Gateway::new("ftp://x", None).is_err());
}

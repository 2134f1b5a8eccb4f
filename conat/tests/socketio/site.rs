//! A broker in this process with a listener for Socket.IO, and scripts that talk to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::auth::Authenticate;
use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Config, Handle, Listen};
use dialtone_client::{Client, Options};
use dialtone_conat::cluster::Addresses;
use dialtone_conat::registry::Registry;
use dialtone_conat::sys::Sys;
use dialtone_conat::{Gateway, Listener, Node};
use dialtone_transport::tls::{ClientTls, Roots, ServerTls};
use dialtone_transport::{Connection, Endpoint, ListenOptions};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest time that a script may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(10);

/// See the module.
pub(crate) struct Site {
    pub(crate) address: String,
    endpoints: Vec<Endpoint>,
    tls: ClientTls,
    stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) sys: Sys,
    serves: Arc<Serves>,
}

#[derive(Debug)]
struct Serves(Handle);

impl dialtone_conat::Broker for Serves {
    fn serve(&self, connection: Connection) {
        self.0.serve(connection);
    }
}

impl Site {
    /// Everybody may do everything.
    pub(crate) async fn open() -> Self {
        let auth: Arc<dyn Authenticate> = Arc::new(Open::new());
        Self::new(|_| auth).await
    }

    /// With a provider that gets to know the broker later.
    pub(crate) async fn new(
        auth: impl FnOnce(Arc<std::sync::OnceLock<Handle>>) -> Arc<dyn Authenticate>,
    ) -> Self {
        let tls = ServerTls::development(None).unwrap();
        let options = ListenOptions {
            tls: Some(tls.clone()),
            ..ListenOptions::default()
        };
        let listen = |url: &str| Listen {
            endpoint: url.parse().unwrap(),
            options: options.clone(),
        };
        let config = Config {
            listen: vec![listen("ws://127.0.0.1:0"), listen("quic://127.0.0.1:0")],
            drain_grace: Duration::from_secs(5),
            ..Config::default()
        };
        let later = Arc::new(std::sync::OnceLock::new());
        let broker = Broker::bind(config, auth(Arc::clone(&later)))
            .await
            .unwrap();
        let handle = broker.handle();
        later.set(handle.clone()).unwrap();
        let addresses = Addresses::default();
        let node = Node {
            id: handle.node().to_owned(),
            cluster: None,
            addresses: addresses.clone(),
        };
        let url = "socketio+http://127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(&url, None).await.unwrap();
        let address = listener.url().address();
        addresses.set_own(vec![address.clone()]);
        let serves = Arc::new(Serves(handle.clone()));
        let own = Arc::clone(&serves);
        let registry = Arc::new(Registry::default());
        let sys = Sys {
            node: node.clone(),
            registry: Arc::clone(&registry),
            broker: Arc::<Serves>::clone(&serves),
            answers: true,
        };
        let gateway = Gateway::new(dialtone_conat::Config::default(), node, registry, serves);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let endpoints = broker.endpoints();
        tasks.spawn(broker.run(stop.clone()));
        tasks.spawn(listener.run(gateway, Vec::new(), stop.clone()));
        Self {
            address,
            endpoints,
            tls: ClientTls::new(Roots::Fingerprint(tls.fingerprint())),
            stop,
            tasks,
            sys,
            serves: own,
        }
    }

    /// Waits until somebody listens.
    pub(crate) async fn broker_hears(&self, subject: &str) {
        let client = self.client("ws").await;
        assert!(client.wait_for_interest(subject, PATIENCE).await.unwrap());
    }

    /// A client of the broker's own protocol, over the first transport whose scheme is this.
    pub(crate) async fn client(&self, scheme: &str) -> Client {
        let endpoint = self
            .endpoints
            .iter()
            .find(|endpoint| endpoint.scheme() == scheme)
            .unwrap();
        let options = Options::new(endpoint.to_string()).tls(self.tls.clone());
        options.connect().await.unwrap()
    }

    /// Another gateway to the same broker.
    pub(crate) fn gateway(&self, config: dialtone_conat::Config) -> Gateway {
        let serves: Arc<dyn dialtone_conat::Broker> = Arc::<Serves>::clone(&self.serves);
        Gateway::new(config, self.sys.node.clone(), Arc::default(), serves)
    }

    /// Runs a script to its end, which must be a good one.
    pub(crate) async fn run(&self, script: &str) {
        self.run_parts(script, &[]).await;
    }

    /// Runs some parts of a script.
    pub(crate) async fn run_parts(&self, script: &str, parts: &[&str]) {
        let output = tokio::time::timeout(PATIENCE, self.node(script).args(parts).output());
        let output = output.await.expect("the script does not end").unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}:\n{said}\n{failed}");
    }

    /// Node with a script.
    pub(crate) fn node(&self, script: &str) -> Command {
        let scripts = scripts();
        let mut command = Command::new("node");
        command
            .arg(scripts.join(script))
            .arg(&self.address)
            .current_dir(&scripts)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Ends the broker and what is in front of it.
    #[expect(
        dead_code,
        reason = "tests end with their process; some want to see the end"
    )]
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Where the scripts are, with what they need.
fn scripts() -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    assert!(
        scripts.join("node_modules/socket.io-client").is_dir(),
        "socket.io-client is not installed: run `npm ci` in {} (`./test tests` does)",
        scripts.display()
    );
    scripts
}

//! Named servers: found on this machine, started when somebody asks, there when they accept connections.
//!
//! Each listens at a socket that belongs to the project alone, and is reached through a [gate] with a port and a token.

mod kind;
pub(crate) use kind::{KINDS, Kind};

mod gate;

mod log;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::io::AsyncRead;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gate::{Behind, Gate};
use self::kind::Launch;
use self::log::Log;
use crate::capabilities::find_program;
use crate::config::{Config, Limits, Timing};
use crate::error::{Code, Error};
use crate::home::Home;
use crate::processes::{Processes, Tracked};
use crate::raw;

/// How often it is tried to connect to a server that is being started.
const KNOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of a server's log that an error shows.
const TAIL_LEN: usize = 2048;

/// Longest path of a socket, in bytes: what the system's address has room for, less the end of the text.
const SOCKET_PATH_LEN_MAX: usize = 107;

/// Its owner alone.
const CLOSED: u32 = 0o700;

/// See the module.
#[derive(Debug)]
pub(crate) struct Servers {
    home: Home,
    environment: BTreeMap<String, String>,
    /// The path of the project below that of the site.
    project_path: String,
    host: IpAddr,
    /// What those show who come through the proxy; `None` lets everybody in.
    token: Option<String>,
    folder: PathBuf,
    timing: Timing,
    limits: Limits,
    processes: Processes,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// One place for each kind: who starts a server keeps it, and others wait for what becomes of that.
    places: BTreeMap<&'static str, tokio::sync::Mutex<Option<Running>>>,
    /// Ports of those that run, for those who do not want to wait.
    ports: Mutex<BTreeMap<&'static str, u16>>,
}

/// A server that runs, or did.
#[derive(Debug)]
struct Running {
    port: u16,
    pid: i32,
    ended: CancellationToken,
}

impl Servers {
    pub(crate) fn new(
        config: &Config,
        secret: &str,
        home: Home,
        processes: Processes,
        (tasks, stop): (TaskTracker, CancellationToken),
    ) -> Self {
        Self {
            home,
            environment: config.environment.clone(),
            project_path: format!("{}/{}", config.base_path, config.place.project_id()),
            host: config.host,
            token: (!config.raw_is_open).then(|| raw::token_of(secret)),
            folder: config.state.join("named_servers"),
            timing: config.timing.clone(),
            limits: config.limits.clone(),
            processes,
            tasks,
            stop,
            places: KINDS
                .iter()
                .map(|kind| (kind.name, tokio::sync::Mutex::default()))
                .collect(),
            ports: Mutex::default(),
        }
    }

    /// The port of a server, which is started if it does not run.
    pub(crate) async fn port(self: &Arc<Self>, name: &str) -> Result<u16, Error> {
        let kind = named(name)?;
        let this = Arc::clone(self);
        // Not the asker's task: who gives up must not end a server for which others wait.
        let started = self.tasks.spawn(async move { this.ensure(kind).await });
        started
            .await
            .unwrap_or_else(|error| Err(Error::new(Code::Internal, error.to_string())))
    }

    /// Ends a server, if it runs.
    pub(crate) async fn end(&self, name: &str) -> Result<(), Error> {
        let kind = named(name)?;
        let Some(place) = self.places.get(kind.name) else {
            return Ok(());
        };
        let mut place = place.lock().await;
        if let Some(running) = place.take() {
            // Once it has ended, its number may be another's.
            if !running.ended.is_cancelled() {
                self.processes.end(running.pid).await;
                running.ended.cancelled().await;
            }
        }
        Ok(())
    }

    /// What there could be, and what runs.
    pub(crate) fn list(&self) -> Vec<Json> {
        let ports = self.ports.lock().clone();
        let about = |kind: &Kind| {
            json!({
                "name": kind.name,
                "installed": find_program(&self.environment, kind.program).is_some(),
                "port": ports.get(kind.name),
                "url": kind.path(&self.project_path),
            })
        };
        KINDS.iter().map(about).collect()
    }

    async fn ensure(self: &Arc<Self>, kind: &'static Kind) -> Result<u16, Error> {
        let Some(place) = self.places.get(kind.name) else {
            return Err(Error::new(Code::Internal, "the server has no place"));
        };
        let mut place = place.lock().await;
        if let Some(running) = place
            .as_ref()
            .filter(|running| !running.ended.is_cancelled())
        {
            return Ok(running.port);
        }
        *place = None;
        let running = self.start(kind).await?;
        let port = running.port;
        *place = Some(running);
        Ok(port)
    }

    async fn start(self: &Arc<Self>, kind: &'static Kind) -> Result<Running, Error> {
        let program = find_program(&self.environment, kind.program).ok_or_else(|| {
            let text = format!(
                "{} is not installed here: there is no {}",
                kind.name, kind.program
            );
            Error::new(Code::NotConfigured, text)
        })?;
        let folder = self.folder.join(kind.name);
        let failed = |error: std::io::Error| Error::io("start a server in", &folder, &error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let (gate, port) = self.gate(kind, &folder).await?;
        let launch = kind.launch(&Launch {
            behind: &gate.behind,
            path: kind.path(&self.project_path),
            home: self.home.root(),
            folder: &folder,
        });
        for (name, text) in &launch.files {
            std::fs::write(folder.join(name), text).map_err(failed)?;
        }
        let mut command = Command::new(&program);
        command
            .args(&launch.args)
            .current_dir(self.home.root())
            .env_clear()
            .envs(&self.environment)
            .envs(launch.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let log = Log::open(&folder.join("log"), self.limits.server_log_len_max).map_err(failed)?;
        let log = Arc::new(Mutex::new(log));
        let child = self.processes.spawn(&mut command).map_err(failed)?;
        let running = Running {
            port,
            pid: child.pid(),
            ended: CancellationToken::new(),
        };
        tracing::info!(
            server = kind.name,
            port,
            pid = running.pid,
            "a server is started"
        );
        note(kind, &folder, &running);
        self.attend(kind, child, &log, &running, folder);
        self.wait_for(kind, &running, &log, &gate.behind).await?;
        self.open(gate, running.ended.clone());
        self.ports.lock().insert(kind.name, port);
        // It may have ended just before that.
        if running.ended.is_cancelled() {
            self.ports.lock().remove(kind.name);
        }
        Ok(running)
    }

    /// Lets people in as long as the server runs.
    fn open(&self, gate: Gate, ended: CancellationToken) {
        let opened = gate.run(self.tasks.clone(), ended);
        let stop = self.stop.clone();
        drop(self.tasks.spawn(async move {
            tokio::select! {
                () = opened => {}
                () = stop.cancelled() => {}
            }
        }));
    }

    /// The door of a server, still closed, and its port.
    async fn gate(&self, kind: &Kind, folder: &Path) -> Result<(Gate, u16), Error> {
        let (listener, port) = self.listener(kind).await?;
        let behind = match kind.cookie {
            Some(cookie) => loopback(cookie).await?,
            None => {
                let path = socket_path(folder).map_err(|error| {
                    Error::io("make a place for the socket of a server in", folder, &error)
                })?;
                Behind::Socket(path)
            }
        };
        let gate = Gate {
            listener,
            behind,
            token: self.token.clone(),
            connections_max: self.limits.raw_connections_max,
            stall_max: self.timing.transfer_idle,
        };
        Ok((gate, port))
    }

    /// At the port that the environment prefers, or any that is free.
    async fn listener(&self, kind: &Kind) -> Result<(TcpListener, u16), Error> {
        let variable = format!("COCALC_{}_PORT", kind.name.to_uppercase());
        let preferred = self
            .environment
            .get(&variable)
            .and_then(|port| port.parse().ok());
        for port in preferred.into_iter().chain([0]) {
            match TcpListener::bind((self.host, port)).await {
                Ok(listener) => {
                    let addr = listener.local_addr();
                    let addr = addr.map_err(|error| no_port(&error))?;
                    return Ok((listener, addr.port()));
                }
                Err(error) => tracing::debug!(port, %error, "a port is not free"),
            }
        }
        Err(Error::new(
            Code::Internal,
            format!("no port of {} can be had", self.host),
        ))
    }

    /// Takes what the server prints, and notices its end.
    fn attend(
        self: &Arc<Self>,
        kind: &'static Kind,
        mut child: Tracked,
        log: &Arc<Mutex<Log>>,
        running: &Running,
        folder: PathBuf,
    ) {
        let pipes = [
            child.child().stdout.take().map(|pipe| boxed(pipe)),
            child.child().stderr.take().map(|pipe| boxed(pipe)),
        ];
        for pipe in pipes.into_iter().flatten() {
            let (log, stop) = (Arc::clone(log), self.stop.clone());
            drop(self.tasks.spawn(async move {
                tokio::select! {
                    () = log::keep(pipe, &log) => {}
                    () = stop.cancelled() => {}
                }
            }));
        }
        let (this, ended, pid) = (Arc::clone(self), running.ended.clone(), running.pid);
        drop(self.tasks.spawn(async move {
            let status = child.wait().await;
            // What it has started does not outlive it.
            this.processes.end(pid).await;
            this.ports.lock().remove(kind.name);
            for name in ["pid", "port"] {
                // They are missing if they could not be written.
                drop(std::fs::remove_file(folder.join(name)));
            }
            match status {
                Ok(status) => tracing::info!(server = kind.name, %status, "a server has ended"),
                Err(error) => tracing::warn!(server = kind.name, %error, "a server was lost"),
            }
            ended.cancel();
        }));
    }

    /// Waits until the server accepts connections, or ends what does not get there.
    async fn wait_for(
        &self,
        kind: &Kind,
        running: &Running,
        log: &Mutex<Log>,
        behind: &Behind,
    ) -> Result<(), Error> {
        let knock = async {
            while !behind.answers().await {
                tokio::time::sleep(KNOCK_INTERVAL).await;
            }
        };
        let limit = self.timing.server_start;
        let (code, why) = tokio::select! {
            biased;
            () = running.ended.cancelled() => (Code::Failed, "ended by itself".to_owned()),
            () = self.stop.cancelled() => (Code::Failed, "is stopped with the project".to_owned()),
            () = knock => return Ok(()),
            () = tokio::time::sleep(limit) => {
                (Code::Timeout, format!("did not listen within {} s", limit.as_secs()))
            }
        };
        if !running.ended.is_cancelled() {
            self.processes.end(running.pid).await;
        }
        let tail = log.lock().tail(TAIL_LEN);
        Err(Error::new(
            code,
            format!("{} {why}; its log ends: {tail}", kind.name),
        ))
    }
}

fn boxed(pipe: impl AsyncRead + Send + Unpin + 'static) -> Box<dyn AsyncRead + Send + Unpin> {
    Box::new(pipe)
}

fn named(name: &str) -> Result<&'static Kind, Error> {
    kind::find(name).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let text = format!(
            "there is no server {name:?}; there are {}",
            names.join(", ")
        );
        Error::new(Code::NotFound, text)
    })
}

/// Files that tell what runs, as tools of the original read them.
fn note(kind: &Kind, folder: &Path, running: &Running) {
    for (name, number) in [
        ("pid", i64::from(running.pid)),
        ("port", i64::from(running.port)),
    ] {
        if let Err(error) = std::fs::write(folder.join(name), number.to_string()) {
            tracing::warn!(server = kind.name, %error, "where a server runs cannot be noted");
        }
    }
}

/// For a server that cannot listen at a socket: a port that is free, and a secret without which nobody gets in.
async fn loopback(cookie: &'static str) -> Result<Behind, Error> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let addr = free.and_then(|listener| listener.local_addr());
    Ok(Behind::Port {
        addr: addr.map_err(|error| no_port(&error))?,
        cookie,
        secret: format!("{:032x}", rand::random::<u128>()),
    })
}

fn no_port(error: &std::io::Error) -> Error {
    Error::new(Code::Internal, format!("no port can be had: {error}"))
}

/// Where the socket of a server goes: into its folder, which is closed to others, or where the system keeps what is
/// temporary if the path of that is too long for a socket.
fn socket_path(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(CLOSED))?;
    let path = folder.join("socket");
    if path.as_os_str().len() > SOCKET_PATH_LEN_MAX {
        let name = format!("dialtone-{:032x}", rand::random::<u128>());
        let short = std::env::temp_dir().join(name);
        // Nobody may have made it before, with other rights.
        std::fs::DirBuilder::new().mode(CLOSED).create(&short)?;
        return Ok(short.join("socket"));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(path),
    }
}

//! Servers as child processes, each on a port of its own, ended and reaped with their owner.
//! `cluster` has several that act as one.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::conn::{Conn, SCRATCH_LEN};
use crate::error::LoadError;
use crate::target::{Scheme, Target};
use crate::wire::Format;

pub mod cluster;
pub use cluster::{Cluster, Links};

/// How long a server may take until it accepts a connection.
const READY_MAX: Duration = Duration::from_secs(15);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(20);
/// How much of what a failed server printed is shown, in bytes.
const LOG_LEN_MAX: usize = 2_000;

/// How the servers are started.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The NATS server, from the search path when it has no slash.
    pub nats_server: PathBuf,
    /// The Dialtone broker: a program and its first arguments; `--listen URL` is appended, and
    /// `--tls-dev DIR` for encrypted schemes.
    pub broker: Vec<OsString>,
    /// The same with persist in it; `--monitor off` and `--data DIR` are appended as well.
    pub node: Vec<OsString>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    target: Target,
    log: PathBuf,
    program: String,
    /// Holds the log and certificates.
    _dir: TempDir,
}

impl Server {
    /// Starts the server that speaks `scheme`, one that keeps `streams` in a folder of its own if that is wanted, and
    /// returns once it has accepted a connection.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready; then nothing is left behind.
    pub fn start(programs: &Programs, scheme: Scheme, streams: bool) -> Result<Self, LoadError> {
        let dir = tempfile::tempdir().map_err(LoadError::io("make a temporary directory"))?;
        let port = free_port(scheme).map_err(LoadError::io("find a free port"))?;
        let url = format!("{}://127.0.0.1:{port}", scheme.name());
        let program = if streams {
            &programs.node
        } else {
            &programs.broker
        };
        let (mut command, hint) = match scheme {
            Scheme::Nats | Scheme::NatsTls => {
                (nats(programs, scheme, port, dir.path())?, NATS_HINT)
            }
            Scheme::Ws | Scheme::Wss | Scheme::Quic | Scheme::SocketIo => {
                (broker(program, scheme, &url, dir.path())?, "")
            }
        };
        if streams {
            match scheme.format() {
                Format::Nats => command.args(["-js", "-sd"]),
                Format::Dialtone | Format::SocketIo => command.args(["--monitor", "off", "--data"]),
            };
            command.arg(dir.path().join("streams"));
        }
        let mut server = Self::spawn(command, hint, &url, dir)?;
        server.until_ready()?;
        Ok(server)
    }

    /// Starts a process that will listen at `url`.
    fn spawn(mut command: Command, hint: &str, url: &str, dir: TempDir) -> Result<Self, LoadError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log = dir.path().join("log");
        let out = File::create(&log).map_err(LoadError::io("make a log file"))?;
        let error_out = out.try_clone().map_err(LoadError::io("make a log file"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(error_out)
            .spawn()
            .map_err(|source| LoadError::Start {
                program: program.clone(),
                hint: hint.to_owned(),
                source,
            })?;
        // In the end the child has an owner that ends it.
        match Target::new(url, Some(child.id()), None) {
            Ok(target) => Ok(Self {
                child,
                target,
                log,
                program,
                _dir: dir,
            }),
            Err(error) => Err(abandon(child, error)),
        }
    }

    /// Where it listens.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    fn until_ready(&mut self) -> Result<(), LoadError> {
        self.wait().map_err(|why| self.not_ready(why))
    }

    fn not_ready(&self, why: String) -> LoadError {
        LoadError::NotReady {
            program: self.program.clone(),
            url: self.target.to_string(),
            why: why + &tail(&self.log),
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        let mut scratch = vec![0; SCRATCH_LEN];
        let end = Instant::now() + READY_MAX;
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("it ended with {status}"));
            }
            match Conn::open(&self.target, &mut scratch) {
                Ok(conn) => {
                    conn.close();
                    return Ok(());
                }
                Err(error) if Instant::now() > end => return Err(describe(&error)),
                Err(_) => thread::sleep(RETRY),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

const NATS_HINT: &str =
    "; install it, for example with `apt-get install nats-server`, or name it with --nats-server";

fn nats(programs: &Programs, scheme: Scheme, port: u16, dir: &Path) -> Result<Command, LoadError> {
    let mut command = Command::new(&programs.nats_server);
    command
        .args(["-a", "127.0.0.1", "-p"])
        .arg(port.to_string());
    if scheme == Scheme::NatsTls {
        let (certificate, key) = certificate(dir)?;
        command
            .arg("--tls")
            .arg("--tlscert")
            .arg(certificate)
            .arg("--tlskey")
            .arg(key);
    }
    Ok(command)
}

fn broker(
    program: &[OsString],
    scheme: Scheme,
    url: &str,
    dir: &Path,
) -> Result<Command, LoadError> {
    let Some((program, arguments)) = program.split_first() else {
        return Err(LoadError::Unsupported(
            "no command line for the broker was given".to_owned(),
        ));
    };
    let mut command = Command::new(program);
    command.args(arguments).arg("--listen").arg(url);
    if matches!(scheme, Scheme::Wss | Scheme::Quic) {
        command.arg("--tls-dev").arg(dir.join("tls"));
    }
    Ok(command)
}

/// A certificate for this machine, and its key, as files.
fn certificate(dir: &Path) -> Result<(PathBuf, PathBuf), LoadError> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made =
        rcgen::generate_simple_self_signed(names).map_err(|error| LoadError::Certificates {
            path: dir.to_owned(),
            why: error.to_string(),
        })?;
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).map_err(LoadError::io("write a certificate"))?;
    std::fs::write(&key, made.signing_key.serialize_pem()).map_err(LoadError::io("write a key"))?;
    Ok((certificate, key))
}

/// A port that was free a moment ago.
fn free_port(scheme: Scheme) -> std::io::Result<u16> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let address = match scheme {
        Scheme::Quic => UdpSocket::bind(any)?.local_addr()?,
        Scheme::Nats | Scheme::NatsTls | Scheme::Ws | Scheme::Wss | Scheme::SocketIo => {
            TcpListener::bind(any)?.local_addr()?
        }
    };
    Ok(address.port())
}

/// An error with its causes on one line.
pub(crate) fn describe(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The end of what a server printed, behind a line break.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(LOG_LEN_MAX);
    let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

fn abandon(mut child: Child, error: LoadError) -> LoadError {
    end(&mut child);
    error
}

/// Ends a server. It may have ended by itself, which is as good.
fn end(child: &mut Child) {
    let _ended = child.kill();
    let _reaped = child.wait();
}

/// Lets this process and the servers it starts open as many sockets as the system permits.
///
/// # Errors
/// When the system refuses its own limit.
pub fn raise_file_limit() -> Result<(), LoadError> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|errno| LoadError::Io {
        what: "raise the limit of open files",
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_explained() {
        let programs = Programs {
            nats_server: "/nonexistent/nats-server".into(),
            broker: Vec::new(),
            node: Vec::new(),
        };
        let error = Server::start(&programs, Scheme::Nats, false).unwrap_err();
        assert!(
            describe(&error).contains("apt-get install nats-server"),
            "{error}"
        );
        assert!(Server::start(&programs, Scheme::Ws, false).is_err());
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_words() {
        let broker = ["sh", "-c", "echo no such option; exit 2"]
            .map(OsString::from)
            .to_vec();
        let programs = Programs {
            nats_server: PathBuf::new(),
            broker,
            node: Vec::new(),
        };
        let text = Server::start(&programs, Scheme::Ws, false)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("no such option") && text.contains("exit status: 2"),
            "{text}"
        );
    }
}

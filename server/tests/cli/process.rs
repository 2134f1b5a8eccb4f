//! Running `dialtone` and waiting for what it says.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// How long a line may take; far more than is ever needed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A folder that stands for a user's home.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The binary, in an environment of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.prepare(Command::new(env!("CARGO_BIN_EXE_dialtone")), args)
    }

    /// The same in a network namespace.
    pub(crate) fn command_in(&self, namespace: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        let program = env!("CARGO_BIN_EXE_dialtone");
        command.args(["netns", "exec", namespace, program]);
        self.prepare(command, args)
    }

    fn prepare(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path())
            .current_dir(self.path());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).spawn().unwrap())
    }

    /// Runs it to its end with something on standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Done {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let done = Done::of(child);
        feeder.join().unwrap();
        done
    }

    /// Starts it in the background.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::new(self.command(args).spawn().unwrap())
    }

    /// Starts a broker that listens on `ws` at any free port, with further flags.
    pub(crate) fn broker(&self, more: &[&str]) -> Broker {
        let args = [&["broker", "--json", "--listen", "ws://127.0.0.1:0"], more].concat();
        Broker::new(self.start(&args))
    }

    /// Starts `up` without a hub on free ports of every transport, with further flags.
    pub(crate) fn up(&self, more: &[&str]) -> Broker {
        self.up_with(&[&["--no-hub"], more].concat())
    }

    /// Starts `up` with a hub.
    pub(crate) fn up_with_hub(&self, more: &[&str]) -> Broker {
        self.up_with(&[&["--hub-listen", "127.0.0.1:0"], more].concat())
    }

    fn up_with(&self, more: &[&str]) -> Broker {
        let listen = ["ws", "wss", "quic"].map(|scheme| format!("{scheme}://127.0.0.1:0"));
        let [ws, wss, quic] = listen.each_ref().map(String::as_str);
        let fixed = [
            "up",
            "--json",
            "--listen",
            ws,
            "--listen",
            wss,
            "--listen",
            quic,
            "--monitor",
            "127.0.0.1:0",
        ];
        Broker::new(self.start(&[&fixed, more].concat()))
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(
            self.stderr.contains(part),
            "{part:?} is missing: {}",
            self.stderr
        );
        self
    }
}

/// A process that runs; it is ended when the test ends.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub(crate) fn new(mut child: Child) -> Self {
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// The next line of standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.stdout
            .recv_timeout(PATIENCE)
            .expect("a line on standard output")
    }

    /// The next line of standard output, which is JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Waits for a line of standard error with this in it.
    #[track_caller]
    pub(crate) fn until(&self, part: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {part:?} ({error}): {seen:?}"),
            }
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        let status = self.child.wait().unwrap();
        let stdout: String = self.stdout.iter().map(|line| line + "\n").collect();
        let stderr = self.stderr.iter().map(|line| line + "\n").collect();
        Done {
            code: status.code(),
            stdout: stdout.into_bytes(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A broker that is ready.
pub(crate) struct Broker {
    pub(crate) running: Running,
    pub(crate) ready: Value,
}

impl Broker {
    pub(crate) fn new(running: Running) -> Self {
        let ready = running.json();
        Self { running, ready }
    }

    /// Its URL with this scheme.
    pub(crate) fn url(&self, scheme: &str) -> String {
        let urls = self.ready["urls"].as_array().unwrap();
        let found = urls
            .iter()
            .filter_map(Value::as_str)
            .find(|url| url.starts_with(&format!("{scheme}://")));
        found.unwrap().to_owned()
    }

    /// Its plain WebSocket URL.
    pub(crate) fn ws(&self) -> String {
        self.url("ws")
    }

    pub(crate) fn fingerprint(&self) -> &str {
        self.ready["fingerprint"].as_str().unwrap()
    }

    pub(crate) fn monitor(&self) -> &str {
        self.ready["monitor"].as_str().unwrap()
    }
}

//! A script of node that runs beside the processes of a test.

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use crate::process::Running;

/// It runs.
pub(super) struct Script {
    running: Running,
    stdin: ChildStdin,
}

impl Script {
    /// Starts parts of a script, or all where none is named, for a client of this address.
    pub(super) fn at(address: &str, name: &str, parts: &[&str]) -> Self {
        Self::with(&[], address, name, parts)
    }

    /// The same with variables.
    pub(super) fn with(
        variables: &[(&str, &str)],
        address: &str,
        name: &str,
        parts: &[&str],
    ) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conat/tests/js");
        assert!(
            scripts.join("node_modules/socket.io-client").is_dir(),
            "socket.io-client is not installed: run `npm ci` in {} (`./test tests` does)",
            scripts.display()
        );
        let mut child = Command::new("node")
            .arg(scripts.join(name))
            .arg(address)
            .args(parts)
            .envs(variables.iter().copied())
            .current_dir(&scripts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        Self {
            running: Running::new(child),
            stdin,
        }
    }

    /// Waits until the script wants something of the world.
    #[track_caller]
    pub(super) fn wants(&self, what: &str) {
        loop {
            let line = self.running.line();
            if line == what {
                return;
            }
            assert!(line.starts_with("ok "), "{line} instead of {what}");
        }
    }

    /// Tells the script that it was done.
    pub(super) fn done(&mut self) {
        writeln!(self.stdin, "done").unwrap();
    }

    #[track_caller]
    pub(super) fn succeeds(self) {
        let done = self.running.end();
        assert_eq!(done.code, Some(0), "{}\n{}", done.text(), done.stderr);
    }
}

//! A real PostgreSQL for tests: a server per process, a database per test, ended with the process whatever ends it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Whom the server runs as when the tests run as root, which PostgreSQL refuses: `nobody`, who owns nothing.
const NOBODY: u32 = 65_534;

/// How long a server may take to start, also after a crash, on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// How often it is asked whether it has started.
const START_POLL: Duration = Duration::from_millis(10);

/// What would make tests slower and protects against the end of the machine alone. A killed server loses nothing of
/// what it has written, because the system keeps it.
const SETTINGS: &[&str] = &["fsync=off", "full_page_writes=off", "max_connections=200"];

/// Keeps the server, and ends it when its input ends, which is when the tests have ended in whatever way. What it kills
/// is its own child, so that no number can have been given to another process.
const KEEPER: &str = r#"
folder=$1; shift
pid=
while read -r word; do
    case $word in
        start) "$@" >>"$folder/log" 2>&1 & pid=$! ;;
        kill) kill -KILL "$pid"; wait "$pid"; pid=; echo done ;;
    esac
done
if [ -n "$pid" ]; then kill -QUIT "$pid"; wait "$pid"; fi
rm -rf "$folder"
"#;

static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

/// Makes the folders of this process differ.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// A running server, reached through a socket in its own folder.
///
/// A test that wants PostgreSQL fails without it: whatever goes wrong panics, with the reason.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    databases: AtomicU64,
    keeper: Mutex<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    /// Closing it ends the server; `None` while that happens.
    orders: Option<ChildStdin>,
}

impl Postgres {
    /// The server of this process, for tests that do not harm it.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// Starts a server that the caller may [`kill`](Self::kill).
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn start() -> Self {
        let bin = binaries();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("dialtone-pg-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        own_folder(&folder);
        let copied = as_server(Command::new("cp"))
            .arg("-r")
            .arg(template(&bin))
            .arg(folder.join("data"))
            .status();
        assert!(
            copied
                .unwrap_or_else(|error| panic!("cp: {error}"))
                .success()
        );
        let keeper = Mutex::new(keep(&bin, &folder));
        let server = Self {
            folder,
            bin,
            databases: AtomicU64::new(0),
            keeper,
        };
        server.start_again();
        server
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.run(&format!("CREATE DATABASE {name}"));
        let folder = self.folder.display();
        format!("postgres://postgres@localhost/{name}?host={folder}")
    }

    /// Runs a statement in the database `postgres`, beside what is tested, and returns its output.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn run(&self, statement: &str) -> String {
        self.run_in("postgres", statement)
    }

    /// Runs a statement in a database of [`database`](Self::database), beside what is tested, and returns its output:
    /// a row per line, without headings.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn run_at(&self, url: &str, statement: &str) -> String {
        let name = url
            .split_once("localhost/")
            .and_then(|(_, rest)| rest.split_once('?'))
            .map(|(name, _)| name);
        let name = name.unwrap_or_else(|| panic!("{url} is not of this server"));
        self.run_in(name, statement)
    }

    fn run_in(&self, database: &str, statement: &str) -> String {
        let output = as_server(Command::new(self.bin.join("psql")))
            .args([
                "-X",
                "-q",
                "-t",
                "-A",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
            ])
            .arg("-h")
            .arg(&self.folder)
            .args(["-d", database, "-c", statement])
            .output()
            .unwrap_or_else(|error| panic!("psql: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{statement}: {errors}{}",
            self.log()
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Ends the server at once, as a crash would; its connections are cut.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn kill(&self) {
        let mut keeper = self.keeper.lock();
        order(&mut keeper, "kill");
        let mut done = [0; 5];
        let output = keeper.child.stdout.as_mut().expect("it is piped");
        io::Read::read_exact(output, &mut done)
            .unwrap_or_else(|error| panic!("the keeper of PostgreSQL: {error}"));
        drop(keeper);
    }

    /// Starts the server after [`kill`](Self::kill) and waits until it takes connections.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn start_again(&self) {
        let status = self.folder.join("data/postmaster.pid");
        let begin = Instant::now();
        // The processes of a killed server end by themselves; until then the next one finds them and gives up.
        loop {
            drop(fs::remove_file(&status));
            let logged = self.log().len();
            order(&mut self.keeper.lock(), "start");
            if self.wait_until_ready(&status, begin, logged) {
                return;
            }
        }
    }

    /// Whether it takes connections; otherwise it has ended again. What it says about itself stands behind the first
    /// `logged` bytes of its log.
    fn wait_until_ready(&self, status: &Path, begin: Instant, logged: usize) -> bool {
        let mut seen = false;
        loop {
            assert!(
                begin.elapsed() < START_MAX,
                "PostgreSQL does not start:\n{}",
                self.log()
            );
            match fs::read_to_string(status) {
                Ok(text)
                    if text
                        .lines()
                        .nth(7)
                        .is_some_and(|line| line.trim() == "ready") =>
                {
                    return true;
                }
                Ok(_) => seen = true,
                Err(_) if seen => return false,
                Err(_) if self.has_given_up(logged) => return false,
                Err(_) => {}
            }
            std::thread::sleep(START_POLL);
        }
    }

    fn has_given_up(&self, logged: usize) -> bool {
        let log = self.log();
        log.get(logged..)
            .is_some_and(|since| since.contains("still in use"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut();
        keeper.orders = None;
        // Its folder is gone when it ends; nobody is left to tell if that fails.
        drop(keeper.child.wait());
    }
}

fn order(keeper: &mut Keeper, word: &str) {
    let orders = keeper.orders.as_mut().expect("it is open until the end");
    writeln!(orders, "{word}").unwrap_or_else(|error| panic!("the keeper of PostgreSQL: {error}"));
}

fn keep(bin: &Path, folder: &Path) -> Keeper {
    let mut command = as_server(Command::new("sh"));
    command
        .args(["-c", KEEPER, "keeper"])
        .arg(folder)
        .arg(bin.join("postgres"));
    command
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-h", ""]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    // A group of its own, so that a signal to the tests leaves it the time to tidy up.
    let child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("sh: {error}"));
    let orders = child.stdin.take();
    Keeper { child, orders }
}

/// The folder with the programs of PostgreSQL: that of `PG_BIN`, else of the newest Debian package, else in `PATH`.
fn binaries() -> PathBuf {
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "psql"]
            .iter()
            .all(|name| folder.join(name).exists())
    };
    let given = std::env::var_os("PG_BIN").map(PathBuf::from);
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut packaged: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    packaged.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let packaged = packaged.into_iter().rev().map(|(_, folder)| folder);
    given.into_iter().chain(packaged).chain(in_path).find(has_all).unwrap_or_else(|| {
        panic!("this test needs PostgreSQL (initdb, postgres and psql in PG_BIN, /usr/lib/postgresql or PATH): apt-get install postgresql")
    })
}

/// A folder as `initdb` makes it, which takes a second or two and is done once per machine and version.
fn template(bin: &Path) -> PathBuf {
    let version = Command::new(bin.join("postgres")).arg("--version").output();
    let version = version.unwrap_or_else(|error| panic!("postgres --version: {error}"));
    let version: String = String::from_utf8_lossy(&version.stdout)
        .chars()
        .filter(|char| char.is_ascii_digit() || *char == '.')
        .collect();
    let owner = if is_root() { NOBODY } else { uid() };
    let folder = std::env::temp_dir().join(format!("dialtone-pg-template-{version}-{owner}"));
    let data = folder.join("data");
    if data.exists() {
        return data;
    }
    let made = std::env::temp_dir().join(format!("dialtone-pg-template-{}", std::process::id()));
    own_folder(&made);
    let log = File::create(made.join("log"))
        .unwrap_or_else(|error| panic!("{}: {error}", made.display()));
    let status = as_server(Command::new(bin.join("initdb")))
        .arg("-D")
        .arg(made.join("data"))
        .args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .stdout(Stdio::null())
        .stderr(log)
        .status();
    let text = || fs::read_to_string(made.join("log")).unwrap_or_default();
    assert!(
        status
            .unwrap_or_else(|error| panic!("initdb: {error}"))
            .success(),
        "initdb: {}",
        text()
    );
    // Whoever is second finds the folder of the first and uses that.
    if fs::rename(&made, &folder).is_err() {
        assert!(data.exists(), "{} is in the way", folder.display());
        drop(fs::remove_dir_all(&made));
    }
    data
}

/// A new empty folder that is the server's alone.
fn own_folder(folder: &Path) {
    let make = || -> io::Result<()> {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        if is_root() {
            chown(folder, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(())
    };
    make().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

/// A command that runs as the server does, in a folder that it may enter.
fn as_server(mut command: Command) -> Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn uid() -> u32 {
    fs::metadata("/proc/self").map_or(NOBODY, |data| data.uid())
}

fn is_root() -> bool {
    uid() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_survives_being_killed_and_ends_with_its_fixture() {
        let server = Postgres::start();
        let url = server.database();
        server.run_at(&url, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
        server.kill();
        server.start_again();
        assert_eq!(server.run_at(&url, "SELECT n FROM t"), "7");
        assert_ne!(server.database(), url);
        let folder = server.folder.clone();
        drop(server);
        assert!(!folder.exists());
    }
}

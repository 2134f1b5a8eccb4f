//! What happens to a database happens to nothing by halves: servers that are killed, connections that break at the worst
//! moment, processes that are killed, disks that are full.
//!
//! Each transaction makes two settings. Whoever was told that it was done finds both, and a change of each in the log;
//! whoever was told that it was not finds neither; and whoever was told that nobody knows finds both or neither.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::auth::token::random_text;
use dialtone_hub::entry::sign_in::Request as SignIn;
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::{Entry, Origin, Refused};
use dialtone_hub::letters::Letters;
use dialtone_hub::settings::Live;
use dialtone_hub::store::outbox::{self, Batch};
use dialtone_hub::store::{Config, Error, Location, Store, settings};
use dialtone_testkit::Postgres;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::Site;

/// What somebody was told of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    Nothing,
    Unknown,
}

async fn write(store: &Store, name: &str, value: &str) -> Result<(), Error> {
    let mut on = store.write().await?;
    settings::set(&mut on, &format!("a {name}"), value).await?;
    settings::set(&mut on, &format!("b {name}"), value).await?;
    on.commit().await
}

async fn told(store: &Store, name: &str, value: &str) -> Told {
    match write(store, name, value).await {
        Ok(()) => Told::Done,
        Err(Error::Uncertain(_)) => Told::Unknown,
        Err(error) if error.is_temporary() => Told::Nothing,
        Err(error) => panic!("{error}"),
    }
}

/// Compares what is there with what was told.
async fn check(store: &Store, told: &BTreeMap<String, Told>) {
    let mut on = store.read().await.unwrap();
    let there = settings::all(&mut on).await.unwrap();
    let mut there: BTreeMap<String, usize> = there.into_iter().map(|one| (one.name, 0)).collect();
    let mut after = 0;
    loop {
        let Batch::Changes { entries, next } = outbox::read(&mut on, after, outbox::BATCH_MAX)
            .await
            .unwrap()
        else {
            panic!("a gap");
        };
        for entry in &entries {
            after += 1;
            assert_eq!(entry.seq, after);
            let name = entry.change.key["name"].as_str().unwrap();
            *there
                .get_mut(name)
                .unwrap_or_else(|| panic!("{name} was told of and is not there")) += 1;
        }
        assert_eq!(next, after);
        if entries.is_empty() {
            break;
        }
    }
    assert_eq!(after, outbox::head(&mut on).await.unwrap());
    assert!(there.values().all(|times| *times == 1), "{there:?}");
    for (name, told) in told {
        let [a, b] = ["a", "b"].map(|half| there.contains_key(&format!("{half} {name}")));
        assert_eq!(a, b, "{name} is half-done");
        assert!(
            *told == Told::Unknown || a == (*told == Told::Done),
            "{name}: {told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_again_and_again() {
    const WRITERS: usize = 4;
    const KILLS: usize = 3;
    let server = Arc::new(Postgres::start());
    let site = Site::postgres_at(&server);
    let config = Config {
        connect_max: Duration::from_secs(1),
        ..site.config()
    };
    let (done, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Each of them another hub.
        let store = Store::open(config.clone()).await.unwrap();
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        writers.push(tokio::task::spawn(async move {
            let mut all = BTreeMap::new();
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{writer}-{turn}");
                let told = told(&store, &name, "x").await;
                done.fetch_add(usize::from(told == Told::Done), Ordering::Relaxed);
                all.insert(name, told);
                tokio::task::yield_now().await;
            }
            all
        }));
    }
    let until = |count: usize| {
        let done = Arc::clone(&done);
        async move {
            let begin = done.load(Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < begin + count {
                tokio::task::yield_now().await;
            }
        }
    };
    for _ in 0..KILLS {
        until(40).await;
        let server = Arc::clone(&server);
        let restarted = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
        });
        restarted.await.unwrap();
    }
    until(40).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = BTreeMap::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    check(&site.open().await, &all).await;
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Never,
    /// Before the server hears of the commit.
    Before,
    /// After it has answered, of which the hub hears nothing.
    After,
}

/// A way to a server on which connections break.
struct Relay {
    folder: tempfile::TempDir,
    cut: Arc<Mutex<Cut>>,
    running: tokio::task::JoinHandle<()>,
}

const SOCKET: &str = ".s.PGSQL.5432";

impl Relay {
    fn to(folder: PathBuf) -> Self {
        let own = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(own.path().join(SOCKET)).unwrap();
        let cut = Arc::new(Mutex::new(Cut::Never));
        let shared = Arc::clone(&cut);
        let running = tokio::task::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(folder.join(SOCKET)).await.unwrap();
                tokio::task::spawn(relay(client, server, Arc::clone(&shared)));
            }
        });
        Self {
            folder: own,
            cut,
            running,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Passes on what both say, until it is time to cut it.
async fn relay(mut client: UnixStream, mut server: UnixStream, cut: Arc<Mutex<Cut>>) {
    let (mut said, mut answered) = ([0; 16 << 10], [0; 16 << 10]);
    let mut swallow = false;
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(len @ 1..) = read else { return };
                let said = &said[..len];
                if said.windows(7).any(|bytes| bytes == b"COMMIT\0") {
                    let now = std::mem::replace(&mut *cut.lock(), Cut::Never);
                    match now {
                        Cut::Never => {}
                        Cut::Before => return,
                        Cut::After => swallow = true,
                    }
                }
                if server.write_all(said).await.is_err() { return }
            }
            read = server.read(&mut answered) => {
                let Ok(len @ 1..) = read else { return };
                if swallow || client.write_all(&answered[..len]).await.is_err() { return }
            }
        }
    }
}

/// A database behind a relay, and straight.
async fn behind() -> (Relay, Store, Store) {
    let straight: Location = Postgres::shared().database().parse().unwrap();
    let Location::Postgres { url, .. } = &straight else {
        unreachable!("it is PostgreSQL");
    };
    let (_, folder) = url.split_once("host=").unwrap();
    let relay = Relay::to(folder.into());
    let broken = url.replace(folder, relay.folder.path().to_str().unwrap());
    let store = Store::open(Config::new(broken.parse().unwrap()))
        .await
        .unwrap();
    let straight = Store::open(Config::new(straight)).await.unwrap();
    (relay, store, straight)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_breaks_while_a_change_is_committed() {
    let (relay, store, straight) = behind().await;
    let mut all = BTreeMap::new();
    for (name, cut, happens) in [
        ("1", Cut::Before, false),
        ("2", Cut::After, true),
        ("3", Cut::Before, false),
    ] {
        *relay.cut.lock() = cut;
        assert_eq!(told(&store, name, "x").await, Told::Unknown);
        let there = settings::all(&mut straight.read().await.unwrap())
            .await
            .unwrap();
        let found = there.iter().any(|one| one.name == format!("a {name}"));
        assert_eq!(found, happens, "{cut:?}");
        all.insert(
            name.to_owned(),
            if happens { Told::Done } else { Told::Nothing },
        );
        // The next one has another connection.
        assert_eq!(
            told(&store, &format!("{name} again"), "x").await,
            Told::Done
        );
        all.insert(format!("{name} again"), Told::Done);
    }
    check(&straight, &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_told_whether_there_is_an_account_may_ask_again() {
    let (relay, store, straight) = behind().await;
    let (settings, _follower) = Live::open(&store).await.unwrap();
    let entry = Entry {
        letters: Letters::new(settings.clone(), None),
        settings,
        hasher: Hasher::new(password::Config::default()).unwrap(),
        site: "https://example.org".to_owned(),
        store,
    };
    let sign_up = |address| SignUp {
        email_address: address,
        password: "analytical-engine-7",
        first_name: "Ada",
        last_name: "Lovelace",
        token: None,
        tags: Vec::new(),
        intent: None,
        origin: Origin::default(),
    };
    let sign_in = |address| SignIn {
        email_address: address,
        password: "analytical-engine-7",
        origin: Origin::default(),
    };
    for (address, cut) in [
        ("there@example.org", Cut::After),
        ("not@example.org", Cut::Before),
    ] {
        *relay.cut.lock() = cut;
        let error = entry.sign_up(&sign_up(address)).await.unwrap_err();
        assert!(
            matches!(error, Refused::Store(Error::Uncertain(_))),
            "{error}"
        );
        let again = entry.sign_up(&sign_up(address)).await;
        if cut == Cut::After {
            assert!(matches!(again, Err(Refused::EmailAddressTaken)));
        } else {
            again.unwrap();
        }
        entry.sign_in(&sign_in(address)).await.unwrap();
    }
    let Location::Postgres { url, .. } = straight.location() else {
        unreachable!("it is PostgreSQL");
    };
    // Each account with what belongs to it: the session of its beginning and that of signing in.
    let sessions = "SELECT count(*) FROM dialtone_hub.remember_me GROUP BY account_id";
    assert_eq!(Postgres::shared().run_at(url, sessions), "2\n2");
}

/// A process that writes until it is killed, and says what was done. Run by the test below.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "its parent reads that")]
async fn a_process_that_writes() {
    let Some(path) = std::env::var_os("DIALTONE_TEST_DATABASE") else {
        return;
    };
    let store = Store::open(Config::new(Location::Sqlite { path: path.into() }))
        .await
        .unwrap();
    let run = std::process::id();
    for turn in 0.. {
        let name = format!("{run}-{turn}");
        println!("begins {name}");
        write(&store, &name, &random_text(5000)).await.unwrap();
        println!("done {name}");
    }
}

#[tokio::test]
async fn a_process_is_killed_again_and_again() {
    const KILLS: usize = 4;
    let site = Site::sqlite();
    let Location::Sqlite { path } = &site.location else {
        unreachable!("it is SQLite");
    };
    let mut all = BTreeMap::new();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "failures::a_process_that_writes", "--nocapture"])
            .env("DIALTONE_TEST_DATABASE", path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut done = 0;
        for line in output.lines() {
            let line = line.unwrap();
            // It may share a line with what the harness says.
            if let Some((_, name)) = line.split_once("begins ") {
                all.insert(name.to_owned(), Told::Unknown);
            } else if let Some((_, name)) = line.split_once("done ") {
                all.insert(name.to_owned(), Told::Done);
                done += 1;
                if done == 10 + 7 * kill {
                    child.kill().unwrap();
                }
            }
        }
        assert!(done >= 10);
        child.wait().unwrap();
        check(&site.open().await, &all).await;
    }
}

/// A small file system, which is unmounted when this is dropped.
struct SmallDisk(tempfile::TempDir);

fn mount(options: &str, at: &Path) -> bool {
    let command = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at)
        .stderr(Stdio::null())
        .status();
    command.is_ok_and(|status| status.success())
}

impl SmallDisk {
    #[expect(
        clippy::print_stderr,
        reason = "what was not tested is for who reads along"
    )]
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !mount(options, folder.path()) {
            eprintln!("NOT TESTED: a full disk, which needs the right to mount a file system");
            return None;
        }
        Some(Self(folder))
    }

    fn grow(&self, size: &str) {
        assert!(
            mount(&format!("remount,size={size}"), self.0.path()),
            "it cannot grow"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "still mounted");
    }
}

/// Most transactions that are tried; many more than there is room for.
const TRANSACTIONS_MAX: usize = 1000;

/// Writes until the disk is full, then makes room, and writes on.
async fn fill(store: &Store, make_room: impl FnOnce()) {
    let mut all = BTreeMap::new();
    let mut full = 0;
    for turn in 0..TRANSACTIONS_MAX {
        let name = turn.to_string();
        let value = random_text(60_000);
        match write(store, &name, &value).await {
            Ok(()) => {
                all.insert(name, Told::Done);
                assert_eq!(full, 0, "what was full has room");
            }
            Err(error) => {
                assert!(matches!(error, Error::Full(_)), "{error}");
                assert!(error.is_temporary());
                all.insert(name, Told::Nothing);
                full += 1;
            }
        }
        if full == 5 {
            break;
        }
    }
    assert_eq!(full, 5, "it is never full");
    // Reading works, and what was done is there.
    check(store, &all).await;
    make_room();
    for turn in 0..10 {
        let name = format!("later {turn}");
        write(store, &name, &random_text(60_000)).await.unwrap();
        all.insert(name, Told::Done);
    }
    check(store, &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_sqlite_takes_nothing_by_halves() {
    let Some(disk) = SmallDisk::new("size=4m") else {
        return;
    };
    let path = disk.0.path().join("hub.db");
    let store = Store::open(Config::new(Location::Sqlite { path }))
        .await
        .unwrap();
    fill(&store, || disk.grow("64m")).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_postgres_takes_nothing_by_halves() {
    // Whom the server runs as when the tests run as root.
    let Some(disk) = SmallDisk::new("size=24m,uid=65534,mode=700") else {
        return;
    };
    let server = Postgres::start();
    let place = disk.0.path().display();
    server.run(&format!("CREATE TABLESPACE small LOCATION '{place}'"));
    server.run("CREATE DATABASE full_disk TABLESPACE small");
    let url = server.database().replace("/test_0?", "/full_disk?");
    let store = Store::open(Config::new(url.parse().unwrap()))
        .await
        .unwrap();
    fill(&store, || disk.grow("96m")).await;
    store.close().await;
}

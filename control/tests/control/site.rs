//! A site under test: a database, homes, hubs as processes, and the processes of its projects.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dialtone_control::executor;
use dialtone_control::processes::{Config as ProcessesConfig, Processes};
use dialtone_control::runner::Runner;
use dialtone_control::service::{Config, Projects, Service};
use dialtone_control::transition::Limits;
use dialtone_control::upkeep;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::settings::Live;
use dialtone_hub::store::{Config as StoreConfig, Location, Store, projects};
use dialtone_testkit::Postgres;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// What a project runs in these tests. It complains when two of it run at once, leaves a process that is in no way its
/// child, and does what its home tells it.
const PROGRAM: &str = r#"
exec 9>"$HOME/lock"
flock -n 9 || echo "started twice" >> "$HOME/complaints"
echo "$DIALTONE_RUN_ID" >> "$HOME/starts"
[ -e "$HOME/fail" ] && { echo "cannot find its glasses" >&2; exit 3; }
( setsid sh -c 'while :; do sleep 1000; done' & )
[ -e "$HOME/greedy" ] && exec tail /dev/zero
[ -e "$HOME/mute" ] && sleep 1000
env > "$HOME/environment"
echo 4321 > .smc/browser-server.port
echo $$ > .smc/project.pid
[ -e "$HOME/deaf" ] && trap '' TERM
while :; do sleep 1000; done
"#;

/// Everything that a process of a hub must be told, by the names of variables.
const VARIABLES: [&str; 5] = [
    "CONTROL_TEST_LOCATION",
    "CONTROL_TEST_HOMES",
    "CONTROL_TEST_CGROUPS",
    "CONTROL_TEST_UIDS",
    "CONTROL_TEST_TTL",
];

/// A site, whose hubs and projects end with it.
pub(crate) struct Site {
    location: Location,
    folder: TempDir,
    /// Where the groups of its projects are, if it has some.
    pub(crate) cgroups: Option<PathBuf>,
    pub(crate) uids: Option<u32>,
    /// How long a claim lasts, in milliseconds.
    pub(crate) ttl: u64,
}

impl Site {
    fn new(location: Option<Location>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = location.unwrap_or_else(|| Location::Sqlite {
            path: folder.path().join("hub.db"),
        });
        Self {
            location,
            folder,
            cgroups: None,
            uids: None,
            ttl: 3000,
        }
    }

    pub(crate) fn sqlite() -> Self {
        Self::new(None)
    }

    pub(crate) fn postgres() -> Self {
        Self::new(Some(Postgres::shared().database().parse().unwrap()))
    }

    /// With control groups, where this machine has them.
    pub(crate) fn with_cgroups(mut self) -> Self {
        let mounted = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let root = mounted.iter().find(|root| {
            Path::new(root).join("cgroup.kill").exists()
                || Path::new(root).join("cgroup.procs").exists()
                    && Path::new(root).join("cgroup.subtree_control").exists()
        });
        let group =
            root.map(|root| Path::new(root).join(format!("dialtone-test-{}", std::process::id())));
        self.cgroups = group.filter(|group| fs::create_dir(group).is_ok());
        if self.cgroups.is_none() {
            report("there are no control groups here: the test runs without");
        }
        self
    }

    pub(crate) fn location(&self) -> Location {
        self.location.clone()
    }

    pub(crate) fn homes(&self) -> PathBuf {
        self.folder.path().join("projects")
    }

    pub(crate) fn home(&self, id: ProjectId) -> PathBuf {
        self.homes().join(id.to_string())
    }

    /// Puts something into a home before the project is started.
    pub(crate) fn tell(&self, id: ProjectId, word: &str) {
        fs::create_dir_all(self.home(id)).unwrap();
        fs::write(self.home(id).join(word), "").unwrap();
    }

    pub(crate) fn untell(&self, id: ProjectId, word: &str) {
        fs::remove_file(self.home(id).join(word)).unwrap();
    }

    pub(crate) fn read(&self, id: ProjectId, name: &str) -> String {
        fs::read_to_string(self.home(id).join(name)).unwrap_or_default()
    }

    /// How often a project was started.
    pub(crate) fn starts(&self, id: ProjectId) -> usize {
        self.read(id, "starts").lines().count()
    }

    pub(crate) async fn store(&self) -> Store {
        open(&self.location).await
    }

    /// A hub without a runner, in this process.
    pub(crate) async fn asks(&self) -> Asks {
        let store = self.store().await;
        let (settings, follower) = Live::open(&store).await.unwrap();
        let stop = CancellationToken::new();
        let following = settings.clone();
        tokio::spawn({
            let stop = stop.clone();
            async move { following.follow(follower, stop).await }
        });
        tokio::spawn({
            let (store, stop) = (store.clone(), stop.clone());
            async move { store.listen(stop).await }
        });
        let mut config = Config::new("nowhere", uuid::Uuid::new_v4().to_string());
        config.look = Duration::from_millis(300);
        config.upkeep.idle_every = None;
        config.upkeep.always_every = Duration::from_hours(1);
        config.upkeep.pool_every = Duration::from_hours(1);
        let service = Service::open(store.clone(), settings.clone(), config, None)
            .await
            .unwrap();
        let projects = service.control();
        tokio::spawn(service.run(stop.clone()));
        Asks {
            store,
            projects,
            settings,
            stop,
        }
    }

    /// The process of a hub that runs projects, once it does.
    pub(crate) fn hub(&self) -> HubProcess {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let location = match &self.location {
            Location::Sqlite { path } => format!("sqlite:{}", path.display()),
            Location::Postgres { url, .. } => url.clone(),
        };
        let values = [
            location,
            self.homes().display().to_string(),
            text(&self.cgroups).unwrap_or_default(),
            self.uids.map(|uid| uid.to_string()).unwrap_or_default(),
            self.ttl.to_string(),
        ];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_hub", "--exact", "--ignored", "--nocapture"])
            .envs(VARIABLES.into_iter().zip(values))
            .env("CONTROL_TEST_SECRET", "hunter2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find(|line| line.as_ref().unwrap().contains("hub ready"));
        assert!(ready.is_some(), "the hub does not start");
        // What it says further is of no interest, but must be read.
        std::thread::spawn(move || lines.for_each(drop));
        HubProcess { child }
    }

    /// The processes of a project, by the run to which they belong.
    #[expect(clippy::unused_self, reason = "it is a question about the site")]
    pub(crate) fn processes(&self, id: ProjectId) -> BTreeMap<String, usize> {
        let mark = format!("COCALC_PROJECT_ID={id}");
        let mut runs = BTreeMap::new();
        for environment in environments() {
            if environment.contains(&mark) {
                let run = environment
                    .iter()
                    .find_map(|one| one.strip_prefix("DIALTONE_RUN_ID="));
                *runs.entry(run.unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        runs
    }

    /// Kills the first process of a project.
    pub(crate) fn kill_first(&self, id: ProjectId) {
        let pid: i32 = self.read(id, ".smc/project.pid").trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

impl Drop for Site {
    /// A test that fails leaves nothing behind either.
    fn drop(&mut self) {
        let home = format!("HOME={}", self.homes().display());
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = environment
                .split(|byte| *byte == 0)
                .any(|one| one.starts_with(home.as_bytes()));
            if let (true, Some(pid)) = (ours, rustix::process::Pid::from_raw(pid)) {
                // It may have ended meanwhile.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                    .unwrap_or_default();
            }
        }
        if let Some(group) = &self.cgroups {
            for below in fs::read_dir(group).unwrap().flatten() {
                if below.path().is_dir() {
                    fs::write(below.path().join("cgroup.kill"), "1").unwrap_or_default();
                    while fs::remove_dir(below.path()).is_err() {
                        std::thread::yield_now();
                    }
                }
            }
            fs::remove_dir(group).unwrap();
        }
    }
}

fn environments() -> impl Iterator<Item = Vec<String>> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let text = |one: &[u8]| String::from_utf8_lossy(one).into_owned();
            Some(environment.split(|byte| *byte == 0).map(text).collect())
        })
}

pub(crate) async fn open(location: &Location) -> Store {
    let config = StoreConfig {
        connections_max: 8,
        // Hubs that share a file do not hear of each other otherwise.
        poll: Duration::from_millis(200),
        ..StoreConfig::new(location.clone())
    };
    // One file that several processes write is sometimes locked for long; a hub waits for its database.
    let opened = Store::open_when_ready(config, &CancellationToken::new()).await;
    opened.unwrap().unwrap()
}

/// A hub that asks and runs nothing.
pub(crate) struct Asks {
    pub(crate) store: Store,
    pub(crate) projects: Arc<Projects>,
    pub(crate) settings: Live,
    stop: CancellationToken,
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Asks {
    pub(crate) async fn make_project(&self) -> ProjectId {
        let new = projects::New {
            id: ProjectId::random(),
            title: "Notes".to_owned(),
            description: String::new(),
            compute_image: None,
            owner: None::<AccountId>,
        };
        let mut on = self.store.write().await.unwrap();
        projects::insert(&mut on, &new).await.unwrap();
        on.commit().await.unwrap();
        new.id
    }
}

/// A hub that runs projects.
pub(crate) struct HubProcess {
    child: Child,
}

impl HubProcess {
    /// As the system kills, without a word.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends in good order.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program of projects under test, run by a shell.
pub(crate) fn command() -> Vec<String> {
    ["sh", "-c", PROGRAM, "project"]
        .map(ToOwned::to_owned)
        .to_vec()
}

/// How projects are run in tests.
pub(crate) fn runner(homes: &str, cgroups: &str, uids: &str) -> Arc<dyn Runner> {
    let mut config = ProcessesConfig::new("here", format!("{homes}/[project_id]"), command());
    config.cgroups = (!cgroups.is_empty()).then(|| cgroups.into());
    config.uids = uids.parse::<u32>().ok().map(|first| first..=first + 9999);
    config.grace = Duration::from_millis(500);
    Arc::new(Processes::new(config).unwrap())
}

/// The limits of tests: short where something is waited for that does not come.
pub(crate) fn limits(ttl: u64) -> executor::Config {
    executor::Config {
        orders_max: 32,
        poll: Duration::from_millis(300),
        limits: Limits {
            ttl: Duration::from_millis(ttl),
            start: Duration::from_secs(30),
            ..Limits::default()
        },
        ..executor::Config::default()
    }
}

/// The process of a hub: runs projects until its input ends.
pub(crate) async fn run_hub() {
    let [location, homes, cgroups, uids, ttl] =
        VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
    if location.is_empty() {
        return;
    }
    let store = open(&location.parse().unwrap()).await;
    let (settings, follower) = Live::open(&store).await.unwrap();
    let stop = CancellationToken::new();
    let following = settings.clone();
    tokio::spawn({
        let stop = stop.clone();
        async move { following.follow(follower, stop).await }
    });
    tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { store.listen(stop).await }
    });
    let mut config = Config::new("here", uuid::Uuid::new_v4().to_string());
    config.executor = limits(ttl.parse().unwrap());
    config.upkeep = upkeep::Config {
        idle_every: None,
        always_every: Duration::from_hours(1),
        pool_every: Duration::from_hours(1),
        ..upkeep::Config::default()
    };
    let runner = runner(&homes, &cgroups, &uids);
    let service = Service::open(store, settings, config, Some(runner))
        .await
        .unwrap();
    let running = tokio::spawn(service.run(stop.clone()));
    report("hub ready");
    let input = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    input.await.unwrap();
    stop.cancel();
    running.await.unwrap();
}

/// Says something that must not be overlooked.
pub(crate) fn report(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").unwrap();
}

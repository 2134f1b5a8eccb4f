//! A broker, a project on it, and somebody who asks it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dialtone_client::Client;
use dialtone_project::remote::{Remote, RemoteError};
use dialtone_project::subjects::Place;
use dialtone_project::{Announcement, Config, Project};
use dialtone_testkit::World;
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

/// See the module.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) project: Remote,
    pub(crate) place: Place,
    pub(crate) announcement: Announcement,
    home: TempDir,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What a test changes of the defaults.
type Change<'a> = &'a (dyn Fn(&mut Config) + Sync);

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(&|_config| {}).await
    }

    pub(crate) async fn with(change: Change<'_>) -> Self {
        let world = World::new(1).await;
        let home = tempfile::tempdir().unwrap();
        let place = Place::new(ID, 0).unwrap();
        let mut config = Config::new(place.clone(), home.path());
        config.environment = BTreeMap::from([
            ("PATH".to_owned(), std::env::var("PATH").unwrap()),
            ("HOME".to_owned(), home.path().to_str().unwrap().to_owned()),
            ("SHELL".to_owned(), "/bin/sh".to_owned()),
        ]);
        change(&mut config);
        let (project, mut handle) = Project::bind(config).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(project.run(world.options(), stop.clone()));
        let announcement = handle.ready().await.unwrap();
        let client = world.client().await.unwrap();
        Self {
            project: Remote::new(client.clone(), place.clone()),
            world,
            client,
            place,
            announcement,
            home,
            stop,
            running,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) async fn call(&self, name: &str, args: Json) -> Json {
        match self.project.call(name, args).await {
            Ok(answer) => answer,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// The code and the text of a refusal.
    pub(crate) async fn refusal(&self, name: &str, args: Json) -> (String, String) {
        match self.project.call(name, args).await {
            Err(RemoteError::Refused { text, code }) => (code, text),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Ends the project; when this returns, it has ended.
    pub(crate) async fn end(self) -> TempDir {
        self.stop.cancel();
        self.running.await.unwrap();
        self.home
    }

    /// Waits until the project has ended by itself.
    pub(crate) async fn ended(self) {
        self.running.await.unwrap();
    }
}

/// Whether a process of this number runs.
pub(crate) fn is_alive(pid: i64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").unwrap().1;
    !state.starts_with(['Z', 'X'])
}

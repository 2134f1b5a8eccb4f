//! Stars move from the database into the key-value stores of accounts, of a real persist service on a disk.

use std::time::Duration;

use dialtone_client::Client;
use dialtone_client::persist::kv::Bucket;
use dialtone_client::persist::{Owner, Persist};
use dialtone_hub::background::{self, Migration};
use dialtone_hub::bookmarks::Bookmarks;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::leases::{self, Acquired, Lease};
use dialtone_hub::store::{Location, Store, background as progress};
use dialtone_persist::node::{Keep, KeepLog};
use dialtone_persist::{Config, Node, Store as Place};
use dialtone_testkit::world::World;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{NEVER, Site, on_both};

on_both! {
    stars_move_and_what_is_newer_stays,
    what_cannot_be_moved_stays_until_it_can,
    moving_again_changes_nothing,
}

/// A node of persist whose data outlives it.
struct Streams {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Streams {
    async fn start(client: Client, folder: &std::path::Path) -> Self {
        let keep = Keep::Log(Box::new(KeepLog::new(folder.to_owned())));
        let config = Config::new("p1".to_owned(), Place::Memory);
        let node = Node::bind(config, keep, client).await.unwrap();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let running = tokio::task::spawn(async move {
            node.run(stopping.cancelled()).await.unwrap();
        });
        Self { stop, running }
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// A site with a broker and the hub's client.
struct Scene {
    site: Site,
    store: Store,
    world: World,
    client: Client,
    folder: tempfile::TempDir,
    lease: Lease,
}

impl Scene {
    async fn new(site: Site) -> Self {
        let store = site.open().await;
        let world = World::new(1).await;
        let client = world.client().await.unwrap();
        let mut on = store.write().await.unwrap();
        let acquired = leases::acquire(&mut on, "migrations", "us", NEVER)
            .await
            .unwrap();
        on.commit().await.unwrap();
        let Acquired::Lease(lease) = acquired else {
            panic!("somebody has it");
        };
        Self {
            site,
            store,
            world,
            client,
            folder: tempfile::tempdir().unwrap(),
            lease,
        }
    }

    async fn streams(&self) -> Streams {
        Streams::start(self.world.client().await.unwrap(), self.folder.path()).await
    }

    async fn star(&self, account: AccountId, project: ProjectId, stars: &str, edited: i64) {
        let time = match self.site.location {
            Location::Postgres { .. } => format!("to_timestamp({edited})"),
            Location::Sqlite { .. } => edited.to_string(),
        };
        let insert = format!(
            "INSERT INTO bookmarks (type, project_id, account_id, stars, last_edited)
             VALUES ('starred-files', '{project}', '{account}', '{stars}', {time}) RETURNING type"
        );
        self.site.beside(Box::leak(insert.into_boxed_str())).await;
    }

    async fn migrate(&self) {
        let config = background::Config {
            batch: 2,
            delay: Duration::ZERO,
            error_delay: Duration::ZERO,
            retry: Duration::from_millis(1),
        };
        let migration = Bookmarks::new(self.store.clone(), self.client.clone());
        let migrations: Vec<Box<dyn Migration>> = vec![Box::new(migration)];
        let stop = CancellationToken::new();
        background::run(&self.store, &self.lease, &migrations, &config, &stop).await;
    }

    async fn bucket(&self, account: AccountId) -> Bucket {
        let owner = Owner::Account(account.to_string().as_str().into());
        let name = format!("accounts/{account}/bookmark-starred-files");
        let persist = Persist::of(&self.client, owner);
        Bucket::open(
            &persist,
            name,
            dialtone_client::persist::wire::Config::default(),
        )
        .await
        .unwrap()
    }

    async fn stars(&self, account: AccountId, project: ProjectId) -> Option<Vec<String>> {
        let entry = self
            .bucket(account)
            .await
            .get(&project.to_string())
            .await
            .unwrap();
        entry.map(|entry| entry.decode().unwrap())
    }

    async fn rows(&self) -> usize {
        self.site
            .beside("SELECT type FROM bookmarks")
            .await
            .iter()
            .filter(|row| !row.is_empty())
            .count()
    }
}

async fn stars_move_and_what_is_newer_stays(site: Site) {
    let scene = Scene::new(site).await;
    let (ada, bob) = (AccountId::random(), AccountId::random());
    let projects: Vec<ProjectId> = (0..5).map(|_| ProjectId::random()).collect();
    for (number, project) in projects.iter().enumerate() {
        scene
            .star(ada, *project, &format!("[\"{number}.md\", \"ä b\"]"), 1)
            .await;
    }
    // Of two rows about the same the newer one counts, in whatever order they were made.
    scene.star(bob, projects[0], "[\"new\"]", 9).await;
    scene.star(bob, projects[0], "[\"old\"]", 3).await;
    scene.star(bob, projects[1], "[\"kept\"]", 3).await;
    scene.star(bob, projects[2], "[\"taken away\"]", 3).await;
    let streams = scene.streams().await;
    // What people have done since they use the new store.
    let bucket = scene.bucket(bob).await;
    let newer = dialtone_client::persist::wire::Record::msgpack(&["newer"]).unwrap();
    bucket.put(projects[1].to_string(), newer).await.unwrap();
    bucket.delete(&projects[2].to_string()).await.unwrap();
    scene.migrate().await;
    assert_eq!(scene.rows().await, 0);
    // What was acknowledged is on the disk.
    streams.end().await;
    let streams = scene.streams().await;
    for (number, project) in projects.iter().enumerate() {
        let expected = vec![format!("{number}.md"), "ä b".to_owned()];
        assert_eq!(scene.stars(ada, *project).await, Some(expected));
    }
    let stars = |project: usize| scene.stars(bob, projects[project]);
    assert_eq!(stars(0).await, Some(vec!["new".to_owned()]));
    assert_eq!(stars(1).await, Some(vec!["newer".to_owned()]));
    assert_eq!(stars(2).await, None);
    streams.end().await;
}

async fn what_cannot_be_moved_stays_until_it_can(site: Site) {
    let scene = Scene::new(site).await;
    let ada = AccountId::random();
    let (good, bad) = (ProjectId::random(), ProjectId::random());
    scene.star(ada, good, "[\"a\"]", 1).await;
    scene.star(ada, bad, "{\"not\": \"a list\"}", 1).await;
    let streams = scene.streams().await;
    let moving = scene.migrate();
    let mending = async {
        loop {
            let mut on = scene.store.read().await.unwrap();
            let failures = progress::failures(&mut on, "bookmarks-to-streams", 10)
                .await
                .unwrap();
            if let [one] = failures.as_slice()
                && one.attempts > 1
            {
                assert_eq!(one.error, "its stars are not a list of texts");
                break;
            }
        }
        assert_eq!(scene.rows().await, 1);
        scene
            .site
            .beside("UPDATE bookmarks SET stars = '[\"b\"]' RETURNING type")
            .await;
    };
    tokio::join!(moving, mending);
    assert_eq!(scene.stars(ada, good).await, Some(vec!["a".to_owned()]));
    assert_eq!(scene.stars(ada, bad).await, Some(vec!["b".to_owned()]));
    assert_eq!(scene.rows().await, 0);
    streams.end().await;
}

async fn moving_again_changes_nothing(site: Site) {
    let scene = Scene::new(site).await;
    let (ada, project) = (AccountId::random(), ProjectId::random());
    scene.star(ada, project, "[\"a\"]", 1).await;
    let streams = scene.streams().await;
    let migration = Bookmarks::new(scene.store.clone(), scene.client.clone());
    let first = {
        let mut on = scene.store.read().await.unwrap();
        migration.next(&mut on, None, 10).await.unwrap()
    };
    // As a hub that ends before it has noted what it has moved.
    migration.carry(&first[0].key).await.unwrap();
    let seq = |bucket: Bucket| async move {
        bucket
            .get(&project.to_string())
            .await
            .unwrap()
            .unwrap()
            .seq()
    };
    let before = seq(scene.bucket(ada).await).await;
    scene.migrate().await;
    assert_eq!(seq(scene.bucket(ada).await).await, before);
    assert_eq!(scene.rows().await, 0);
    migration.carry(&first[0].key).await.unwrap();
    streams.end().await;
}

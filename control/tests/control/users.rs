//! Each project with a user of its own, tried by projects that do what they should not. Needs root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use dialtone_hub::control::Control as _;
use dialtone_hub::id::ProjectId;
use dialtone_hub::store::users;

use crate::on_both;
use crate::site::{Site, report};

on_both! {
    projects_are_kept_from_each_other_and_from_the_hub,
    numbers_of_users_are_given_once,
}

/// The first number that these tests give.
const FIRST: u32 = 410_000;

/// What a project tries, as a shell would; what works is written down.
const TRIES: &str = r#"
try() { if sh -c "$2" >/dev/null 2>&1; then echo "$1" >> "$HOME/worked"; fi; }
try "own file" 'echo x > "$HOME/own"'
try "list homes" 'ls "$HOME/.."'
try "read other" 'cat "$HOME/../OTHER/secret"'
try "read other token" 'cat "$HOME/../OTHER/.smc/secret-token"'
try "write other" 'echo x > "$HOME/../OTHER/x"'
try "kill other" 'kill -9 $(cat "$HOME/pid-of-other")'
try "see environment of other" 'cat /proc/$(cat "$HOME/pid-of-other")/environ'
try "read database" 'cat "DATABASE"'
try "write to the hub" 'echo x > "$HOME/../x"'
try "become root" 'cat /etc/shadow'
try "mount" 'mount -t tmpfs none /mnt'
id -u > "$HOME/uid"; id -G > "$HOME/groups"
"#;

async fn projects_are_kept_from_each_other_and_from_the_hub(mut site: Site) {
    if !rustix::process::geteuid().is_root() {
        report("SKIPPED: users for each project can be tested by root alone");
        return;
    }
    // Tests that run beside each other must not end each other's users.
    let first = FIRST + std::process::id() % 1000 * 10_000;
    site.uids = Some(first);
    // The folder of the test is closed to others; users of projects must come through.
    let parent = site.homes().parent().unwrap().to_owned();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o711)).unwrap();
    let asks = site.asks().await;
    let database = parent.join("hub.db");
    if !database.exists() {
        // The real one is elsewhere: a file in its place.
        fs::write(&database, "secret").unwrap();
    }
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
    let _hub = site.hub();
    let (bad, other) = (asks.make_project().await, asks.make_project().await);
    asks.projects.start(other).await.unwrap();
    asks.projects.start(bad).await.unwrap();
    fs::write(site.home(other).join("secret"), "s").unwrap();
    fs::set_permissions(
        site.home(other).join("secret"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    for id in [bad, other] {
        let data = fs::metadata(site.home(id)).unwrap();
        assert_eq!(data.permissions().mode() & 0o7777, 0o700);
        assert!((first..first + 10_000).contains(&data.uid()));
        assert_eq!(
            fs::metadata(site.home(id).join(".smc/secret-token"))
                .unwrap()
                .uid(),
            data.uid()
        );
    }

    let uid = fs::metadata(site.home(bad)).unwrap().uid();
    try_everything(&site, bad, other, &database, uid);
    assert_eq!(site.read(bad, "worked"), "own file\n");
    is_run_as(&site, bad, uid);

    asks.projects.stop(bad).await.unwrap();
    assert!(site.processes(bad).is_empty());
    assert_eq!(site.processes(other).len(), 1, "the other one still runs");
    asks.projects.stop(other).await.unwrap();
}

/// Does, as the user of a project and in its home, what it should not be able to do.
fn try_everything(site: &Site, bad: ProjectId, other: ProjectId, database: &Path, uid: u32) {
    let script = TRIES
        .replace("OTHER", &other.to_string())
        .replace("DATABASE", &database.display().to_string());
    fs::write(
        site.home(bad).join("pid-of-other"),
        site.read(other, ".smc/project.pid"),
    )
    .unwrap();
    fs::set_permissions(
        site.home(bad).join("pid-of-other"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let done = std::process::Command::new("setpriv")
        .args([
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            "--clear-groups".to_owned(),
        ])
        .args(["sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", site.home(bad))
        .current_dir(site.home(bad))
        .status()
        .unwrap();
    assert!(done.success());
}

/// The project runs as that user, with no group but its own, whatever the hub has.
fn is_run_as(site: &Site, id: ProjectId, uid: u32) {
    let pid = site.read(id, ".smc/project.pid");
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let line = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.split_whitespace()
            .map(|one| one.parse::<u32>().unwrap())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(line("Uid:"), BTreeSet::from([uid]));
    assert_eq!(line("Gid:"), BTreeSet::from([uid]));
    assert!(
        line("Groups:").is_subset(&BTreeSet::from([uid])),
        "{:?}",
        line("Groups:")
    );
    let limits = fs::read_to_string(format!("/proc/{}/limits", pid.trim())).unwrap();
    let limit = |name: &str| {
        limits
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        limit("Max processes").contains("2000"),
        "{}",
        limit("Max processes")
    );
    assert!(
        limit("Max data size").contains("1000000000"),
        "{}",
        limit("Max data size")
    );
}

async fn numbers_of_users_are_given_once(site: Site) {
    let asks = site.asks().await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(asks.make_project().await);
    }
    let range = FIRST..=FIRST + 6;
    let mut given = BTreeSet::new();
    for id in &ids {
        let mut on = asks.store.write().await.unwrap();
        let uid = users::ensure(&mut on, "here", *id, range.clone())
            .await
            .unwrap();
        let again = users::ensure(&mut on, "here", *id, range.clone())
            .await
            .unwrap();
        on.commit().await.unwrap();
        assert_eq!(uid, again);
        given.extend(uid);
    }
    // Seven numbers for eight projects: the last one gets none, and nobody gets another's.
    assert_eq!(given, (FIRST..=FIRST + 6).collect());
    let mut on = asks.store.write().await.unwrap();
    let elsewhere = users::ensure(&mut on, "there", ids[7], range)
        .await
        .unwrap();
    assert_eq!(elsewhere, Some(FIRST), "machines have numbers of their own");
}

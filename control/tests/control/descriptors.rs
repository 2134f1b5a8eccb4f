//! A hub that has no free descriptors sees nothing, and takes nothing for gone.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

use dialtone_control::machine::Observed;
use dialtone_control::quota::Quota;
use dialtone_control::runner::Spec;
use dialtone_hub::id::ProjectId;
use rustix::process::{Pid, Resource, getrlimit, setrlimit, test_kill_process};

use crate::site::{report, runner};

/// The folder for homes of the process that has no descriptors.
const HOMES: &str = "CONTROL_TEST_DESCRIPTORS";

/// In a process of its own, whose limit harms no other test.
#[test]
fn what_cannot_be_seen_is_not_gone() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["descriptors::without_descriptors", "--exact", "--ignored"])
        .env(HOMES, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The process: starts a project, gives up its descriptors, looks and ends, and gets them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it lowers the limit of its process, which another test starts"]
async fn without_descriptors() {
    let Ok(homes) = std::env::var(HOMES) else {
        report("NOT RUN: another test runs this one, in a process of its own");
        return;
    };
    let processes = runner(&homes, "", "");
    let spec = Spec {
        project_id: ProjectId::random(),
        order: 1,
        run_id: uuid::Uuid::new_v4(),
        quota: Quota::default(),
        env: std::collections::BTreeMap::new(),
        image: None,
        uid: None,
    };
    let id = spec.project_id;
    let gate = processes.prepare(&spec).await.unwrap();
    let run = gate.run().clone();
    let pid = i32::try_from(run.place["pid"].as_i64().unwrap()).unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    gate.open("secret".to_owned()).await.unwrap();
    processes.reached(id, &run).await.unwrap();

    let before = getrlimit(Resource::Nofile);
    let mut none = before;
    // The lowest number that is free; all below it are taken.
    let free = File::open("/dev/null").unwrap().as_raw_fd();
    none.current = Some(u64::try_from(free).unwrap());
    setrlimit(Resource::Nofile, none).unwrap();
    assert!(
        File::open("/dev/null").is_err(),
        "there is no descriptor left"
    );

    let observed = processes.observe(id, None, Some(&run)).await;
    let exited = tokio::time::timeout(Duration::from_secs(5), processes.exited(id, &run)).await;
    let ended = processes.end(id, None, Some(&run)).await;
    let lives = test_kill_process(pid).is_ok();
    setrlimit(Resource::Nofile, before).unwrap();

    let said = observed.unwrap_err();
    assert!(said.contains("cannot be seen"), "{said}");
    assert!(!matches!(exited, Ok(Ok(_))), "it has not ended: {exited:?}");
    let said = ended.unwrap_err();
    assert!(said.contains("cannot be seen"), "{said}");
    assert!(lives, "what was not ended lives");

    let observed = processes.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(observed, Observed::Ready);
    processes.end(id, None, Some(&run)).await.unwrap();
    let observed = processes.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(observed, Observed::Absent);
}

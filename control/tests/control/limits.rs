//! What control groups hold: only where the kernel lets this process give `memory` and `pids` to groups of version 2.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dialtone_control::quota::Quota;
use dialtone_control::runner::Spec;
use dialtone_hub::id::ProjectId;

use crate::site::{Site, report, runner};

/// Where groups of version 2 may be, alone or beside those of version 1.
const MOUNTED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// What a project may take here, in MB.
const MEMORY: u64 = 64;

/// A group of our own that can bound memory and processes, or why there is none.
fn group() -> Result<PathBuf, String> {
    let is_v2 = |root: &&str| Path::new(root).join("cgroup.subtree_control").exists();
    let root = MOUNTED.into_iter().find(is_v2);
    let root = Path::new(root.ok_or("no control groups of version 2 are mounted")?);
    let found = fs::read_to_string(root.join("cgroup.controllers")).map_err(|e| e.to_string())?;
    let missing: Vec<&str> = ["memory", "pids"]
        .into_iter()
        .filter(|name| !found.split_ascii_whitespace().any(|one| one == *name))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} has no controller for {}: there are {found:?}",
            root.display(),
            missing.join(" and ")
        ));
    }
    for name in ["memory", "pids"] {
        let given = fs::write(root.join("cgroup.subtree_control"), format!("+{name}"));
        given.map_err(|error| format!("{name} cannot be given to groups: {error}"))?;
    }
    let group = root.join(format!("dialtone-limits-{}", std::process::id()));
    fs::create_dir(&group).map_err(|error| error.to_string())?;
    Ok(group)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_holds_memory_and_processes() {
    let group = match group() {
        Ok(group) => group,
        Err(why) => {
            report(&format!(
                "NOT TESTED: limits of memory and processes by control groups, because {why}"
            ));
            return;
        }
    };
    let mut site = Site::sqlite();
    site.cgroups = Some(group.clone());
    let processes = runner(site.homes().to_str().unwrap(), group.to_str().unwrap(), "");
    let spec = Spec {
        project_id: ProjectId::random(),
        order: 1,
        run_id: uuid::Uuid::new_v4(),
        quota: Quota {
            memory_limit: MEMORY,
            memory_request: 1,
            ..Quota::default()
        },
        env: BTreeMap::new(),
        image: None,
        uid: None,
    };
    let id = spec.project_id;
    site.tell(id, "greedy");
    let gate = processes.prepare(&spec).await.unwrap();
    let run = gate.run().clone();
    let own = group.join(spec.run_id.to_string());
    let read = |name: &str| fs::read_to_string(own.join(name)).unwrap();
    assert_eq!(read("pids.max").trim(), "2000");
    gate.open("secret".to_owned()).await.unwrap();
    let how = processes.exited(id, &run).await.unwrap();
    assert!(how.starts_with("it ran out of memory"), "{how}");
    processes.end(id, None, Some(&run)).await.unwrap();
    assert!(!own.exists(), "the group goes with the project");
}

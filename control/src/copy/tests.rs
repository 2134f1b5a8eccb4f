//! Copies between homes, and what must not happen to them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::SystemTime;

use dialtone_hub::id::ProjectId;
use tempfile::TempDir;

use super::*;

struct Homes {
    _folder: TempDir,
    source: PathBuf,
    target: PathBuf,
}

impl Homes {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&target).unwrap();
        Self {
            _folder: folder,
            source,
            target,
        }
    }

    fn copy(&self, from: &str, to: &str, change: impl FnOnce(&mut CopyPath)) -> Result<(), String> {
        let mut copy = CopyPath {
            project_id: ProjectId::random(),
            path: from.to_owned(),
            target_project_id: ProjectId::random(),
            target_path: to.to_owned(),
            overwrite_newer: false,
            delete_missing: false,
            backup: false,
            timeout: None,
            bwlimit: None,
            exclude: Vec::new(),
            wait: true,
            scheduled: None,
        };
        change(&mut copy);
        let work = Copy::new(&copy, None, Arc::default()).map_err(|error| error.to_string())?;
        work.run(&self.source, &self.target, &copy)
            .map_err(|error| error.to_string())
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.source.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn got(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.target.join(path)).ok()
    }
}

fn set_age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

#[test]
fn a_folder_is_copied_with_what_is_in_it() {
    let homes = Homes::new();
    homes.put("work/a.txt", "a");
    homes.put("work/deep/b.txt", "b");
    homes.put("work/deep/cache/c", "c");
    let run = homes.source.join("work/run.sh");
    fs::write(&run, "#!/bin/sh").unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("a.txt", homes.source.join("work/link")).unwrap();
    homes
        .copy("work", "new/place", |copy| {
            copy.exclude.push("cache/".to_owned());
        })
        .unwrap();
    assert_eq!(homes.got("new/place/a.txt").unwrap(), "a");
    assert_eq!(homes.got("new/place/deep/b.txt").unwrap(), "b");
    assert_eq!(homes.got("new/place/deep/cache/c"), None);
    let link = fs::read_link(homes.target.join("new/place/link")).unwrap();
    assert_eq!(link, Path::new("a.txt"));
    let mode = fs::metadata(homes.target.join("new/place/run.sh")).unwrap();
    assert_eq!(
        mode.permissions().mode() & 0o7777,
        0o755,
        "no rights of its owner"
    );
    let left: Vec<_> = fs::read_dir(homes.target.join("new/place"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 4, "nothing partial is left");
}

#[test]
fn a_file_is_copied_to_a_name_or_into_a_folder() {
    let homes = Homes::new();
    homes.put("a.txt", "a");
    fs::create_dir(homes.target.join("there")).unwrap();
    homes.copy("a.txt", "there", |_| ()).unwrap();
    homes.copy("./x/../a.txt", "fresh/b.txt", |_| ()).unwrap();
    assert_eq!(homes.got("there/a.txt").unwrap(), "a");
    assert_eq!(homes.got("fresh/b.txt").unwrap(), "a");
}

#[test]
fn nothing_outside_of_a_home_is_read_or_written() {
    let homes = Homes::new();
    homes.put("a.txt", "a");
    fs::write(homes.source.parent().unwrap().join("secret"), "s").unwrap();
    symlink("..", homes.source.join("up")).unwrap();
    symlink("/etc", homes.source.join("etc")).unwrap();
    symlink("..", homes.target.join("out")).unwrap();
    symlink("../secret", homes.target.join("a.txt")).unwrap();
    for (from, to) in [
        ("../secret", "x"),
        ("/etc/passwd", "x"),
        ("up/secret", "x"),
        ("etc/passwd", "x"),
        ("a.txt", "../x"),
        ("a.txt", "/tmp/x"),
        ("a.txt", "out/x"),
        ("a.txt", "out/new/x"),
        ("a/../../secret", "x"),
        ("a.txt\0", "x"),
    ] {
        let refused = homes.copy(from, to, |_| ()).unwrap_err();
        assert!(!refused.is_empty(), "{from} {to}");
    }
    // A link at the target is replaced, never written through.
    homes
        .copy("a.txt", "a.txt", |copy| copy.overwrite_newer = true)
        .unwrap();
    assert_eq!(homes.got("a.txt").unwrap(), "a");
    let secret = homes.source.parent().unwrap().join("secret");
    assert_eq!(fs::read_to_string(secret).unwrap(), "s");
    assert!(!homes.source.parent().unwrap().join("x").exists());
    // Links in what is copied stay links.
    homes.copy("", "all", |_| ()).unwrap();
    assert!(
        fs::symlink_metadata(homes.target.join("all/etc"))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn newer_files_stay_unless_they_are_to_be_overwritten() {
    let homes = Homes::new();
    homes.put("w/a", "old");
    set_age(&homes.source.join("w/a"), 100);
    fs::create_dir(homes.target.join("w")).unwrap();
    fs::write(homes.target.join("w/a"), "newer").unwrap();
    homes.copy("w", "w", |_| ()).unwrap();
    assert_eq!(homes.got("w/a").unwrap(), "newer");
    homes
        .copy("w", "w", |copy| {
            copy.overwrite_newer = true;
            copy.backup = true;
        })
        .unwrap();
    assert_eq!(homes.got("w/a").unwrap(), "old");
    assert_eq!(homes.got("w/a~").unwrap(), "newer");
}

#[test]
fn what_is_missing_is_deleted_if_that_is_wanted() {
    let homes = Homes::new();
    homes.put("w/a", "a");
    fs::create_dir_all(homes.target.join("w/gone/deep")).unwrap();
    fs::write(homes.target.join("w/gone/deep/x"), "x").unwrap();
    fs::write(homes.target.join("w/keep.log"), "k").unwrap();
    homes.copy("w", "w", |_| ()).unwrap();
    assert!(homes.target.join("w/gone/deep/x").exists());
    homes
        .copy("w", "w", |copy| {
            copy.delete_missing = true;
            copy.exclude.push("*.log".to_owned());
        })
        .unwrap();
    assert!(!homes.target.join("w/gone").exists());
    assert_eq!(homes.got("w/keep.log").unwrap(), "k");
    assert_eq!(homes.got("w/a").unwrap(), "a");
}

#[test]
fn what_is_not_there_is_named() {
    let homes = Homes::new();
    let error = homes.copy("none", "x", |_| ()).unwrap_err();
    assert_eq!(error, "there is nothing at \"none\"");
}

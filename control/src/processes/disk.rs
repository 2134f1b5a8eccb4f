//! Holding projects to their room on the disk.
//!
//! Where each project has a user of its own and the file system of homes has quotas of users, that is what holds them.
//! Where not, the daemon of a project is told its quota: it measures, and refuses what is written through it.

use std::fmt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::{Config, PLACEHOLDER, find_tool};

/// In which variable the daemon of a project finds its quota in MB, if nothing else holds it.
const VARIABLE: &str = "DIALTONE_DISK_QUOTA";

/// How long setting a quota may take.
const SET_MAX: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disk {
    /// The file system that is mounted here holds quotas of users.
    Users {
        /// The program that sets them.
        setquota: String,
        /// Where the file system of homes is mounted.
        mounted: String,
    },
    /// Nothing but the daemons of projects does, because of this.
    Daemons(String),
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users { mounted, .. } => write!(f, "held by the file system at {mounted}"),
            Self::Daemons(why) => write!(
                f,
                "not held by the file system ({why}); uploads above them are refused, programs are not stopped"
            ),
        }
    }
}

impl Disk {
    /// Looks what there is, by what the system says of the file system of homes.
    pub(super) fn find(config: &Config) -> Self {
        if config.uids.is_none() {
            return Self::Daemons("projects have no users of their own".to_owned());
        }
        let Some(setquota) = find_tool("setquota") else {
            return Self::Daemons("setquota is not installed, of the package quota".to_owned());
        };
        let above = config.homes.split(PLACEHOLDER).next().unwrap_or("/");
        let mounts = match std::fs::read_to_string("/proc/self/mounts") {
            Ok(mounts) => mounts,
            Err(error) => return Self::Daemons(format!("/proc/self/mounts: {error}")),
        };
        match mount_of(&mounts, Path::new(above)) {
            Some(mount) if mount.quotas => Self::Users {
                setquota: setquota.display().to_string(),
                mounted: mount.at,
            },
            Some(mount) => Self::Daemons(format!("{} is mounted without usrquota", mount.at)),
            None => Self::Daemons(format!("it is not known where {above} is mounted")),
        }
    }

    /// What a project finds in its environment.
    pub(super) fn variable(&self, megabytes: u64) -> Option<(&'static str, String)> {
        match self {
            Self::Users { .. } => None,
            Self::Daemons(_) => Some((VARIABLE, megabytes.to_string())),
        }
    }

    /// Holds the user of a project to its quota from here on.
    pub(super) async fn bound(&self, uid: Option<u32>, megabytes: u64) -> Result<(), String> {
        let (Self::Users { setquota, mounted }, Some(uid)) = (self, uid) else {
            return Ok(());
        };
        // In blocks of 1024 bytes: as much without and with patience; any number of files.
        let blocks = (megabytes.saturating_mul(1_000_000) / 1024)
            .max(1)
            .to_string();
        let mut command = Command::new(setquota);
        command
            .args(["-u", &uid.to_string(), &blocks, &blocks, "0", "0", mounted])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let said = |text: &dyn fmt::Display| format!("its quota of the disk: {text}");
        let output = tokio::time::timeout(SET_MAX, command.output()).await;
        let output = output.map_err(|_elapsed| said(&"setquota takes too long"))?;
        let Output { status, stderr, .. } = output.map_err(|error| said(&error))?;
        if status.success() {
            return Ok(());
        }
        Err(said(&String::from_utf8_lossy(&stderr).trim()))
    }
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    at: String,
    /// Whether it counts what users have.
    quotas: bool,
}

/// Options under which file systems count what users have.
const OPTIONS: &[&str] = &["usrquota", "uquota", "quota", "usrjquota"];

/// The file system that a path is on, by the list of what is mounted: the longest place above it, the last one mounted
/// there.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    let mount = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let at = unescaped(fields.next()?);
        let options = fields.nth(1)?;
        let is_quota = |option: &str| {
            let name = option.split('=').next().unwrap_or_default();
            OPTIONS.contains(&name)
        };
        path.starts_with(&at).then(|| Mount {
            at,
            quotas: options.split(',').any(is_quota),
        })
    };
    let above = mounts.lines().filter_map(mount);
    above.max_by_key(|mount| Path::new(&mount.at).components().count())
}

/// Blanks in names stand as numbers in the list.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
/dev/a / ext4 rw,relatime 0 0
/dev/b /data xfs rw,usrquota 0 0
/dev/c /data/no\\040quota ext4 rw,noquota 0 0
/dev/d /database ext4 rw,usrjquota=aquota.user,jqfmt=vfsv1 0 0
";

    #[test]
    fn the_file_system_of_a_path_is_the_nearest_one() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap();
        let mount = |at: &str, quotas| Mount {
            at: at.to_owned(),
            quotas,
        };
        assert_eq!(of("/home"), mount("/", false));
        assert_eq!(of("/data/projects/"), mount("/data", true));
        assert_eq!(of("/data/no quota/x"), mount("/data/no quota", false));
        assert_eq!(of("/database/x"), mount("/database", true));
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn what_holds_a_project_is_said() {
        let config = Config::new("here", "/projects/[project_id]", vec!["sh".to_owned()]);
        let disk = Disk::find(&config);
        assert!(disk.to_string().contains("no users of their own"), "{disk}");
        let told = disk.variable(3000);
        assert_eq!(told, Some(("DIALTONE_DISK_QUOTA", "3000".to_owned())));
        let held = Disk::Users {
            setquota: "/usr/sbin/setquota".to_owned(),
            mounted: "/data".to_owned(),
        };
        assert_eq!(held.variable(3000), None);
        assert!(held.to_string().contains("/data"));
    }
}

//! What the project says about itself when it is ready: as data, and in the files that those who start projects read.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::capabilities::now;
use crate::config::Config;

/// Where a project is reached, and which run of it this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The project.
    pub project_id: String,
    /// The compute server; 0 is the project's home base.
    pub compute_server: u32,
    /// The number of the process.
    pub pid: u32,
    /// Where the raw file server listens.
    pub raw: SocketAddr,
    /// When it was started, in milliseconds since 1970.
    pub start_ts: u64,
    /// Another one for each run.
    pub session_id: String,
}

impl Announcement {
    pub(crate) fn new(config: &Config, raw: SocketAddr) -> Self {
        Self {
            project_id: config.place.project_id().to_owned(),
            compute_server: config.place.compute_server(),
            pid: std::process::id(),
            raw,
            start_ts: now(),
            session_id: format!("{:032x}", rand::random::<u128>()),
        }
    }

    /// As clients are told, and as it stands in a ready file.
    pub fn to_json(&self) -> Json {
        json!({
            "project_id": self.project_id,
            "compute_server_id": self.compute_server,
            "pid": self.pid,
            "raw": format!("http://{}", self.raw),
            "host": self.raw.ip(),
            "browser-server.port": self.raw.port(),
            "start_ts": self.start_ts,
            "session_id": self.session_id,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// The files that are there as long as the project runs. The one with the number of the process comes last, because
/// whoever finds it reads the others.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    contents: Vec<(&'static str, String)>,
}

impl Files {
    pub(crate) fn new(folder: &Path, announcement: &Announcement) -> Self {
        let contents = vec![
            ("browser-server.port", announcement.raw.port().to_string()),
            ("start-timestamp.txt", announcement.start_ts.to_string()),
            ("session-id.txt", announcement.session_id.clone()),
            ("project.pid", announcement.pid.to_string()),
        ];
        Self {
            folder: folder.to_owned(),
            contents,
        }
    }

    /// Writes those that are missing; others may have been removed by whoever tidies up.
    pub(crate) fn write(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        for (name, content) in &self.contents {
            let path = self.folder.join(name);
            if std::fs::read_to_string(&path).is_ok_and(|there| there == *content) {
                continue;
            }
            let partial = self.folder.join(format!(".{name}.new"));
            std::fs::write(&partial, content)?;
            std::fs::rename(&partial, &path)?;
        }
        Ok(())
    }

    /// Removes them, unless a later run has written its own.
    pub(crate) fn remove(&self) {
        for (name, content) in self.contents.iter().rev() {
            let path = self.folder.join(name);
            if std::fs::read_to_string(&path).is_ok_and(|there| there == *content)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "a file is left behind");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subjects::Place;

    #[test]
    fn files_are_written_again_and_only_ones_own_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f", 0).unwrap();
        let config = Config::new(place, folder.path());
        let announcement = Announcement::new(&config, "127.0.0.1:4321".parse().unwrap());
        let files = Files::new(&config.state, &announcement);
        files.write().unwrap();
        let read = |name: &str| std::fs::read_to_string(config.state.join(name)).unwrap();
        assert_eq!(read("browser-server.port"), "4321");
        assert_eq!(read("project.pid"), std::process::id().to_string());
        std::fs::remove_file(config.state.join("project.pid")).unwrap();
        files.write().unwrap();
        assert_eq!(read("project.pid"), std::process::id().to_string());
        std::fs::write(config.state.join("session-id.txt"), "of a later run").unwrap();
        files.remove();
        let left: Vec<_> = std::fs::read_dir(&config.state).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(read("session-id.txt"), "of a later run");
    }
}

//! Paths as clients name them: relative ones begin in the project's home.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::room::Room;

/// Longest path that is taken, in bytes: what Linux takes.
const PATH_LEN_MAX: usize = 4096;

/// The folder of the project's files.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// Without symbolic links.
    root: PathBuf,
    /// How much room is left in it.
    room: Arc<Room>,
}

impl Home {
    /// The folder must be there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        if root.is_dir() {
            let room = Arc::new(Room::new(None));
            return Ok(Self { root, room });
        }
        Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"))
    }

    /// The same, for so many bytes of files.
    pub(crate) fn limited(self, limit: Option<u64>) -> Self {
        let room = Arc::new(Room::new(limit));
        Self { room, ..self }
    }

    /// How much room is left.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The file that a path means, by its words alone; `~` is the home. What the file system makes of it is for those
    /// who use it: a project may do there what its user may do.
    pub(crate) fn resolve(&self, path: &str) -> Result<PathBuf, Error> {
        if path.len() > PATH_LEN_MAX {
            let text = format!("is longer than {PATH_LEN_MAX} bytes ({})", path.len());
            return Err(Error::argument("path", text));
        }
        if path.contains('\0') {
            return Err(Error::argument("path", "contains a zero byte"));
        }
        let path = match path.strip_prefix('~') {
            Some("") => "",
            Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => path,
        };
        Ok(plain(&self.root.join(path)))
    }

    /// A path as clients see it: relative if it is in the home.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    }

    /// The path without symbolic links if it then is in the home, otherwise as it was.
    pub(crate) fn real(&self, path: &str) -> Result<String, Error> {
        let resolved = self.resolve(path)?;
        let real = resolved
            .canonicalize()
            .map_err(|error| Error::io("resolve", &resolved, &error))?;
        Ok(if real != resolved && real.starts_with(&self.root) {
            self.shown(&real)
        } else {
            path.to_owned()
        })
    }

    /// One name for each file: without symbolic links as far as it exists, relative if in the home.
    pub(crate) fn canonical(&self, path: &str) -> Result<String, Error> {
        let resolved = self.resolve(path)?;
        let mut missing: Vec<&OsStr> = Vec::new();
        let mut there = resolved.as_path();
        loop {
            if let Ok(real) = there.canonicalize() {
                let whole = missing
                    .iter()
                    .rev()
                    .fold(real, |path, name| path.join(name));
                return Ok(self.shown(&whole));
            }
            let (Some(name), Some(parent)) = (there.file_name(), there.parent()) else {
                return Ok(self.shown(&resolved));
            };
            missing.push(name);
            there = parent;
        }
    }
}

/// Without `.` and `..`, which climb no higher than the root.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_clients_mean() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let root = home.root().to_owned();
        for (path, resolved) in [
            ("a", root.join("a")),
            ("", root.clone()),
            ("~", root.clone()),
            ("~/a//b/.", root.join("a/b")),
            ("~a", root.join("~a")),
            ("a/../b", root.join("b")),
            ("/etc/../tmp", "/tmp".into()),
            ("/../..", "/".into()),
        ] {
            assert_eq!(home.resolve(path).unwrap(), resolved, "{path}");
        }
        assert!(home.resolve("a\0b").is_err());
        assert!(home.resolve(&"x".repeat(PATH_LEN_MAX + 1)).is_err());
    }

    #[test]
    fn canonical_paths_follow_links() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        std::fs::create_dir(home.root().join("real")).unwrap();
        std::os::unix::fs::symlink("real", home.root().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", home.root().join("out")).unwrap();
        for (path, canonical) in [
            ("link/new.txt", "real/new.txt"),
            ("link/a/b", "real/a/b"),
            ("real", "real"),
            ("", ""),
            ("out/passwd", "/etc/passwd"),
            ("nothing/here", "nothing/here"),
        ] {
            assert_eq!(home.canonical(path).unwrap(), canonical, "{path}");
        }
        assert_eq!(home.real("link").unwrap(), "real");
        assert_eq!(home.real("out").unwrap(), "out", "it leads out of the home");
        assert!(home.real("nothing").is_err());
    }
}

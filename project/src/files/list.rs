//! What is in a folder.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::error::{Code, Error};

/// One entry, in the fields that clients know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Entry {
    name: String,
    /// Seconds since 1970; of what a link leads to, if it leads anywhere.
    mtime: f64,
    /// Bytes of a file; entries of a folder, or -1 if they may not be counted.
    size: i64,
    #[serde(skip_serializing_if = "is_false")]
    isdir: bool,
    #[serde(skip_serializing_if = "is_false")]
    issymlink: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Lists a folder, in no particular order; entries that begin with a dot only if `hidden`.
pub(crate) fn list(folder: &Path, hidden: bool, entries_max: usize) -> Result<Vec<Entry>, Error> {
    let failed = |error| Error::io("list", folder, &error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !hidden && name.starts_with('.') {
            continue;
        }
        if entries.len() == entries_max {
            let text = format!("{} has more than {entries_max} entries", folder.display());
            return Err(Error::new(Code::TooMany, text));
        }
        entries.push(describe(name, &entry.path()));
    }
    Ok(entries)
}

fn describe(name: String, path: &Path) -> Entry {
    let mut entry = Entry {
        name,
        mtime: 0.0,
        size: 0,
        isdir: false,
        issymlink: false,
        link_target: None,
        error: None,
    };
    let own = match path.symlink_metadata() {
        Ok(own) => own,
        Err(error) => {
            entry.error = Some(error.to_string());
            return entry;
        }
    };
    if own.is_symlink() {
        entry.issymlink = true;
        let target = path.read_link();
        entry.link_target = target.ok().map(|path| path.to_string_lossy().into_owned());
    }
    // A link that leads nowhere is still an entry.
    let about = if own.is_symlink() {
        path.metadata().unwrap_or(own)
    } else {
        own
    };
    entry.mtime = seconds(&about);
    entry.isdir = about.is_dir();
    entry.size = if about.is_dir() {
        count(path).unwrap_or(-1)
    } else {
        i64::try_from(about.len()).unwrap_or(i64::MAX)
    };
    entry
}

fn count(folder: &Path) -> Option<i64> {
    i64::try_from(std::fs::read_dir(folder).ok()?.count()).ok()
}

/// When it was changed last; before 1970 counts as then.
fn seconds(about: &Metadata) -> f64 {
    let since = about
        .modified()
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_folder_is_listed_with_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("sub/a"), "").unwrap();
        std::fs::write(at("five"), "12345").unwrap();
        std::fs::write(at(".hidden"), "").unwrap();
        std::os::unix::fs::symlink("five", at("link")).unwrap();
        std::os::unix::fs::symlink("sub", at("folder")).unwrap();
        std::os::unix::fs::symlink("nothing", at("broken")).unwrap();
        let listed = list(folder.path(), false, 100).unwrap();
        let by_name: BTreeMap<&str, &Entry> = listed
            .iter()
            .map(|entry| (entry.name.as_str(), entry))
            .collect();
        let names: Vec<&str> = by_name.keys().copied().collect();
        assert_eq!(names, ["broken", "five", "folder", "link", "sub"]);
        assert_eq!((by_name["five"].size, by_name["link"].size), (5, 5));
        assert_eq!(
            by_name["sub"].size, 1,
            "of a folder, the entries are counted"
        );
        assert!(by_name["folder"].isdir && by_name["folder"].issymlink);
        assert_eq!(by_name["link"].link_target.as_deref(), Some("five"));
        assert!(by_name["broken"].issymlink && by_name["broken"].error.is_none());
        let json = serde_json::to_value(by_name["five"]).unwrap();
        assert!(json.get("isdir").is_none() && json.get("link_target").is_none());
        assert_eq!(list(folder.path(), true, 100).unwrap().len(), 6);
        assert_eq!(
            list(folder.path(), true, 5).unwrap_err().code,
            Code::TooMany
        );
        assert_eq!(list(&at("none"), true, 5).unwrap_err().code, Code::NotFound);
        assert_eq!(
            list(&at("five"), true, 5).unwrap_err().code,
            Code::InvalidArgument
        );
    }
}

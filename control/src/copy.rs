//! Copying files between the homes of projects.
//!
//! Paths are resolved by the kernel below the home that they belong to (`openat2` with `RESOLVE_BENEATH`), component by
//! component and links included, so that nothing in a home leads elsewhere, also while somebody changes it. Below the
//! folder that is copied, links are copied as links and never followed, and other file systems are left out.
//!
//! A file appears at its target whole or not at all. What is there with the same size and time is left alone.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dialtone_hub::control::CopyPath;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    chownat, fchmod, fchown, futimens, mkdirat, openat, openat2, readlinkat, renameat, statat,
    symlinkat, unlinkat,
};

use crate::runner::CopyUsers;

mod exclude;
use exclude::Exclude;

/// How deep folders may be nested: each holds two handles while it is copied.
const DEPTH_MAX: usize = 128;

/// How much is read at once.
const CHUNK_LEN: usize = 256 << 10;

/// What is put behind the name of a file that is kept.
const BACKUP: &str = "~";

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0:?} is no path below a home")]
    Outside(String),
    #[error("there is nothing at {0:?}")]
    Nothing(String),
    #[error("{0:?} is neither a file nor a folder")]
    Kind(String),
    #[error("{}: a folder is in the way", .0.display())]
    Way(PathBuf),
    #[error("folders are nested deeper than {DEPTH_MAX} at {0:?}")]
    Deep(PathBuf),
    #[error("a pattern of what is not copied is wrong: {0}")]
    Pattern(String),
    #[error("nobody waits for it any more")]
    Cancelled,
    #[error("{}: {source}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Copies, and stops soon after it is dropped.
pub(crate) async fn run(
    source: PathBuf,
    target: PathBuf,
    copy: CopyPath,
    users: CopyUsers,
) -> Result<(), String> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let guard = SetOnDrop(Arc::clone(&cancelled));
    let done = tokio::task::spawn_blocking(move || {
        let owner = users.target;
        Copy::new(&copy, owner, cancelled)?.run(&source, &target, &copy)
    });
    let done = done.await.map_err(|error| error.to_string())?;
    drop(guard);
    done.map_err(|error| error.to_string())
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A copy under way.
struct Copy {
    exclude: Exclude,
    overwrite_newer: bool,
    delete_missing: bool,
    backup: bool,
    owner: Option<u32>,
    pace: Option<Pace>,
    cancelled: Arc<AtomicBool>,
    /// The folder that is copied to, by its place: it may lie within what is copied.
    top: Option<(u64, u64)>,
}

/// Slows a copy down to so many bytes a second.
struct Pace {
    rate: u64,
    begun: Instant,
    copied: u64,
}

/// A folder of the source, its counterpart, and where that is below what is copied.
struct Pair {
    source: File,
    target: File,
    path: PathBuf,
}

type Done<T = ()> = Result<T, Error>;

fn at(path: &Path) -> impl FnOnce(rustix::io::Errno) -> Error {
    let path = path.to_owned();
    move |error| Error::Io {
        path,
        source: error.into(),
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// A path below a home, without detours.
fn below(text: &str) -> Done<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Error::Outside(text.to_owned()));
            }
        }
    }
    if text.contains('\0') {
        return Err(Error::Outside(text.to_owned()));
    }
    Ok(path)
}

fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

const FOLDER: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);
const WITHIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

fn folder_within(home: &File, path: &Path) -> Result<File, rustix::io::Errno> {
    openat2(home, or_dot(path), FOLDER, Mode::empty(), WITHIN).map(File::from)
}

fn folder_in(parent: &File, name: &OsStr) -> Result<File, rustix::io::Errno> {
    openat(parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map(File::from)
}

fn stat_in(parent: &File, name: &OsStr) -> Result<Option<Stat>, rustix::io::Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Copy {
    fn new(copy: &CopyPath, owner: Option<u32>, cancelled: Arc<AtomicBool>) -> Result<Self, Error> {
        Ok(Self {
            exclude: Exclude::new(&copy.exclude).map_err(Error::Pattern)?,
            overwrite_newer: copy.overwrite_newer,
            delete_missing: copy.delete_missing,
            backup: copy.backup,
            owner,
            pace: copy.bwlimit.filter(|limit| *limit > 0).map(|limit| Pace {
                rate: limit.saturating_mul(1024),
                begun: Instant::now(),
                copied: 0,
            }),
            cancelled,
            top: None,
        })
    }

    fn run(mut self, source: &Path, target: &Path, copy: &CopyPath) -> Done {
        let (from, to) = (below(&copy.path)?, below(&copy.target_path)?);
        if source == target && from == to {
            return Ok(());
        }
        let source = File::open(source).map_err(io_at(Path::new("the home of the source")))?;
        let target = File::open(target).map_err(io_at(Path::new("the home of the target")))?;
        let stat = openat2(
            &source,
            or_dot(&from),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            WITHIN,
        )
        .and_then(rustix::fs::fstat);
        let stat = match stat {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Err(Error::Nothing(copy.path.clone())),
            Err(rustix::io::Errno::XDEV) => return Err(Error::Outside(copy.path.clone())),
            Err(error) => return Err(at(&from)(error)),
        };
        match kind(&stat) {
            FileType::Directory => {
                let pair = Pair {
                    source: folder_within(&source, &from).map_err(at(&from))?,
                    target: self.make_folders(&target, &to)?,
                    path: PathBuf::new(),
                };
                let top = rustix::fs::fstat(&pair.target).map_err(at(&to))?;
                self.top = Some((top.st_dev, top.st_ino));
                if self.top == Some((stat.st_dev, stat.st_ino)) {
                    return Ok(());
                }
                self.folder(&pair, stat.st_dev, 0)
            }
            FileType::RegularFile => self.single(&source, &from, &target, &to),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(Error::Kind(copy.path.clone())),
        }
    }

    /// A file alone: into the target, if that is a folder.
    fn single(&mut self, source: &File, from: &Path, target: &File, to: &Path) -> Done {
        let name = from.file_name().unwrap_or_default();
        let (folder, to_name) = match folder_within(target, to) {
            Ok(folder) => (folder, name),
            Err(_) => {
                let folder = to.parent().unwrap_or_else(|| Path::new(""));
                (
                    self.make_folders(target, folder)?,
                    to.file_name().unwrap_or(name),
                )
            }
        };
        let parent = from.parent().unwrap_or_else(|| Path::new(""));
        let file = openat2(
            source,
            from,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
            WITHIN,
        );
        let file = File::from(file.map_err(at(from))?);
        let stat = rustix::fs::fstat(&file).map_err(at(from))?;
        let pair = Pair {
            source: folder_within(source, parent).map_err(at(parent))?,
            target: folder,
            path: PathBuf::new(),
        };
        self.file(&pair, to_name, file, &stat)
    }

    /// Makes folders one by one, so that none of them is made elsewhere.
    fn make_folders(&self, home: &File, path: &Path) -> Done<File> {
        let mut made = PathBuf::new();
        let mut folder = folder_within(home, Path::new("")).map_err(at(path))?;
        for name in path {
            made.push(name);
            folder = match folder_within(home, &made) {
                Ok(there) => there,
                Err(rustix::io::Errno::NOENT) => {
                    mkdirat(&folder, name, Mode::from_raw_mode(0o755)).map_err(at(&made))?;
                    let fresh = folder_in(&folder, name).map_err(at(&made))?;
                    self.own(&fresh).map_err(at(&made))?;
                    fresh
                }
                Err(rustix::io::Errno::XDEV) => {
                    return Err(Error::Outside(path.to_string_lossy().into_owned()));
                }
                Err(error) => return Err(at(&made)(error)),
            };
        }
        Ok(folder)
    }

    fn own(&self, file: &File) -> Result<(), rustix::io::Errno> {
        match self.owner {
            Some(uid) => fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))),
            None => Ok(()),
        }
    }

    fn check(&self) -> Done {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    fn folder(&mut self, pair: &Pair, device: u64, depth: usize) -> Done {
        if depth > DEPTH_MAX {
            return Err(Error::Deep(pair.path.clone()));
        }
        let mut names = BTreeSet::new();
        for name in entries(&pair.source).map_err(at(&pair.path))? {
            self.check()?;
            let path = pair.path.join(&name);
            let Some(stat) = stat_in(&pair.source, &name).map_err(at(&path))? else {
                // It was removed meanwhile.
                continue;
            };
            let is_folder = kind(&stat) == FileType::Directory;
            let is_target = is_folder && self.top == Some((stat.st_dev, stat.st_ino));
            if is_target || self.exclude.matches(&path, is_folder) {
                continue;
            }
            self.entry(pair, &name, &path, &stat, device, depth)?;
            names.insert(name);
        }
        if self.delete_missing {
            self.delete_others(pair, &names)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        pair: &Pair,
        name: &OsStr,
        path: &Path,
        stat: &Stat,
        device: u64,
        depth: usize,
    ) -> Done {
        match kind(stat) {
            FileType::Directory if stat.st_dev == device => {
                let below = Pair {
                    source: folder_in(&pair.source, name).map_err(at(path))?,
                    target: self.counterpart(pair, name, path, stat)?,
                    path: path.to_owned(),
                };
                self.folder(&below, device, depth + 1)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = openat(&pair.source, name, flags, Mode::empty()).map_err(at(path))?;
                let file = File::from(file);
                // What was opened counts, not what was there before.
                let stat = rustix::fs::fstat(&file).map_err(at(path))?;
                self.file(pair, name, file, &stat)
            }
            FileType::Symlink => self.link(pair, name, path),
            // Devices, sockets and pipes mean nothing elsewhere, and other file systems are not part of it.
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok(()),
        }
    }

    fn counterpart(&self, pair: &Pair, name: &OsStr, path: &Path, stat: &Stat) -> Done<File> {
        let there = stat_in(&pair.target, name).map_err(at(path))?;
        match there {
            Some(there) if kind(&there) == FileType::Directory => {
                return folder_in(&pair.target, name).map_err(at(path));
            }
            Some(_) => self.make_way(pair, name, path)?,
            None => {}
        }
        mkdirat(&pair.target, name, Mode::RWXU).map_err(at(path))?;
        let folder = folder_in(&pair.target, name).map_err(at(path))?;
        self.own(&folder).map_err(at(path))?;
        fchmod(&folder, permissions(stat)).map_err(at(path))?;
        Ok(folder)
    }

    fn file(&mut self, pair: &Pair, name: &OsStr, mut file: File, stat: &Stat) -> Done {
        let path = pair.path.join(name);
        if kind(stat) != FileType::RegularFile {
            return Ok(());
        }
        if let Some(there) = stat_in(&pair.target, name).map_err(at(&path))? {
            if kind(&there) == FileType::RegularFile {
                let same = there.st_size == stat.st_size && time(&there) == time(stat);
                if same || (!self.overwrite_newer && time(&there) > time(stat)) {
                    return Ok(());
                }
            }
            if self.backup || kind(&there) == FileType::Directory {
                self.make_way(pair, name, &path)?;
            }
        }
        let partial = partial_name();
        let done = self.write(pair, &partial, &mut file, stat, &path);
        let done = done
            .and_then(|()| renameat(&pair.target, &partial, &pair.target, name).map_err(at(&path)));
        if done.is_err()
            && let Err(error) = unlinkat(&pair.target, &partial, AtFlags::empty())
        {
            // The error of the copy is the one that is told.
            tracing::debug!(%error, "a part of a copy is left behind");
        }
        done
    }

    fn write(
        &mut self,
        pair: &Pair,
        partial: &OsStr,
        from: &mut File,
        stat: &Stat,
        path: &Path,
    ) -> Done {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut to = File::from(openat(&pair.target, partial, flags, mode).map_err(at(path))?);
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            self.check()?;
            let len = from.read(&mut chunk).map_err(io_at(path))?;
            let Some(read) = chunk.get(..len).filter(|read| !read.is_empty()) else {
                break;
            };
            to.write_all(read).map_err(io_at(path))?;
            if let Some(pace) = &mut self.pace {
                pace.copied(len);
            }
        }
        self.own(&to).map_err(at(path))?;
        fchmod(&to, permissions(stat)).map_err(at(path))?;
        futimens(&to, &times(stat)).map_err(at(path))
    }

    fn link(&self, pair: &Pair, name: &OsStr, path: &Path) -> Done {
        let leads = readlinkat(&pair.source, name, Vec::new()).map_err(at(path))?;
        if let Some(there) = stat_in(&pair.target, name).map_err(at(path))? {
            let same = kind(&there) == FileType::Symlink
                && readlinkat(&pair.target, name, Vec::new()).is_ok_and(|there| there == leads);
            if same {
                return Ok(());
            }
            if self.backup || kind(&there) == FileType::Directory {
                self.make_way(pair, name, path)?;
            }
        }
        let partial = partial_name();
        symlinkat(leads.as_c_str(), &pair.target, &partial).map_err(at(path))?;
        if let Some(uid) = self.owner {
            let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)));
            chownat(
                &pair.target,
                &partial,
                owner,
                group,
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(at(path))?;
        }
        renameat(&pair.target, &partial, &pair.target, name).map_err(at(path))
    }

    /// Puts away what is in the way at the target: under another name, if it is to be kept.
    fn make_way(&self, pair: &Pair, name: &OsStr, path: &Path) -> Done {
        if self.backup {
            let mut kept = name.to_owned();
            kept.push(BACKUP);
            if let Some(old) = stat_in(&pair.target, &kept).map_err(at(path))? {
                self.remove(&pair.target, &kept, &old, path, 0)?;
            }
            return renameat(&pair.target, name, &pair.target, &kept).map_err(at(path));
        }
        match stat_in(&pair.target, name).map_err(at(path))? {
            Some(there) if kind(&there) == FileType::Directory && !self.delete_missing => {
                Err(Error::Way(path.to_owned()))
            }
            Some(there) => self.remove(&pair.target, name, &there, path, 0),
            None => Ok(()),
        }
    }

    fn delete_others(&self, pair: &Pair, names: &BTreeSet<OsString>) -> Done {
        for name in entries(&pair.target).map_err(at(&pair.path))? {
            self.check()?;
            let path = pair.path.join(&name);
            let Some(there) = stat_in(&pair.target, &name).map_err(at(&path))? else {
                continue;
            };
            let is_folder = kind(&there) == FileType::Directory;
            let is_backup = self.backup && name.as_bytes().ends_with(BACKUP.as_bytes());
            if names.contains(&name) || is_backup || self.exclude.matches(&path, is_folder) {
                continue;
            }
            self.make_way(pair, &name, &path)?;
        }
        Ok(())
    }

    fn remove(&self, parent: &File, name: &OsStr, stat: &Stat, path: &Path, depth: usize) -> Done {
        self.check()?;
        if kind(stat) != FileType::Directory {
            return unlinkat(parent, name, AtFlags::empty()).map_err(at(path));
        }
        if depth > DEPTH_MAX {
            return Err(Error::Deep(path.to_owned()));
        }
        let folder = folder_in(parent, name).map_err(at(path))?;
        for below in entries(&folder).map_err(at(path))? {
            let path = path.join(&below);
            if let Some(stat) = stat_in(&folder, &below).map_err(at(&path))? {
                self.remove(&folder, &below, &stat, &path, depth + 1)?;
            }
        }
        unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(at(path))
    }
}

impl Pace {
    fn copied(&mut self, len: usize) {
        self.copied += u64::try_from(len).unwrap_or(u64::MAX);
        let due = Duration::from_millis(self.copied.saturating_mul(1000) / self.rate);
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
    }
}

fn entries(folder: &File) -> Result<Vec<OsString>, rustix::io::Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn partial_name() -> OsString {
    OsString::from(format!(".{}.partial", uuid::Uuid::new_v4().simple()))
}

/// Without what would give rights of its owner to others.
fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o777)
}

fn time(stat: &Stat) -> (i64, i64) {
    (
        stat.st_mtime,
        i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    )
}

fn times(stat: &Stat) -> Timestamps {
    let (tv_sec, tv_nsec) = time(stat);
    let time = Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests;

//! Files of projects, read over the broker from the project itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dialtone_project::Code;
use dialtone_project::remote::{Download, Remote, RemoteError};
use dialtone_proxy::ProjectId;
use dialtone_proxy::access::Answer;
use dialtone_proxy::files::{Content, FileError, Files, Opened};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::Asked;

/// How long a project may take for the next part of a file.
const PART_MAX: Duration = Duration::from_mins(2);

/// Asks the project.
#[derive(Debug)]
pub(super) struct SiteFiles(Asked);

impl SiteFiles {
    pub(super) fn new(asked: Asked) -> Self {
        Self(asked)
    }
}

impl Files for SiteFiles {
    fn open<'a>(
        &'a self,
        project: ProjectId,
        path: &'a str,
    ) -> Answer<'a, Result<Opened, FileError>> {
        let (asked, path) = (self.0.clone(), path.to_owned());
        let opening = self.0.runtime.spawn(async move {
            let id = super::hub_id(project).ok_or(FileError::NotFound)?;
            let running = asked.control.running_address(id).await;
            if !matches!(running, Ok(Some(_))) {
                return Err(FileError::NotRunning);
            }
            let remote = super::targets::remote(&asked, id).ok_or(FileError::NotRunning)?;
            open(remote, path, asked.runtime).await
        });
        Box::pin(async move { opening.await.unwrap_or(Err(FileError::NotRunning)) })
    }
}

async fn open(remote: Remote, path: String, runtime: Handle) -> Result<Opened, FileError> {
    let download = remote.read_file(&path, 0, None).await.map_err(refused)?;
    let about = download.about().clone();
    let since = Duration::try_from_secs_f64(about.mtime).ok();
    let modified = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    let part = Part {
        download,
        at: 0,
        left: Bytes::new(),
    };
    Ok(Opened {
        len: about.size,
        modified,
        version: Some(about.version.clone()),
        content: Arc::new(File {
            remote,
            path,
            version: about.version,
            runtime,
            part: Arc::new(Mutex::new(Some(part))),
        }),
    })
}

fn refused(error: RemoteError) -> FileError {
    let RemoteError::Refused { code, .. } = &error else {
        return FileError::Io(io::Error::other(error));
    };
    let is = |codes: &[Code]| codes.iter().any(|one| one.name() == code);
    if is(&[Code::Folder]) {
        FileError::Folder
    } else if is(&[
        Code::NotFound,
        Code::PermissionDenied,
        Code::InvalidArgument,
    ]) {
        // That a file is there which may not be read is nobody's business.
        FileError::NotFound
    } else {
        FileError::Io(io::Error::other(error))
    }
}

/// A file that is read from a place on.
#[derive(Debug)]
struct Part {
    download: Download,
    /// Where the next byte is.
    at: u64,
    /// What has come and was not asked for yet.
    left: Bytes,
}

/// A file in one version.
#[derive(Debug, Clone)]
struct File {
    remote: Remote,
    path: String,
    version: String,
    runtime: Handle,
    part: Arc<Mutex<Option<Part>>>,
}

impl Content for File {
    fn read(self: Arc<Self>, at: u64, len_max: usize) -> Answer<'static, io::Result<Bytes>> {
        let file = (*self).clone();
        let reading = self
            .runtime
            .spawn(async move { tokio::time::timeout(PART_MAX, file.next(at, len_max)).await });
        Box::pin(async move {
            match reading.await {
                Ok(Ok(read)) => read,
                Ok(Err(_elapsed)) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the project has sent nothing for {} s", PART_MAX.as_secs()),
                )),
                Err(ended) => Err(io::Error::other(ended)),
            }
        })
    }
}

impl File {
    async fn next(&self, at: u64, len_max: usize) -> io::Result<Bytes> {
        let mut held = self.part.lock().await;
        let mut part = match held.take().filter(|part| part.at == at) {
            Some(part) => part,
            None => {
                let version = Some(self.version.as_str());
                let download = self.remote.read_file(&self.path, at, version).await;
                Part {
                    download: download.map_err(io::Error::other)?,
                    at,
                    left: Bytes::new(),
                }
            }
        };
        while part.left.is_empty() {
            match part.download.next().await.map_err(io::Error::other)? {
                Some(bytes) => part.left = bytes,
                None => return Ok(Bytes::new()),
            }
        }
        let bytes = part.left.split_to(len_max.min(part.left.len()));
        part.at = part
            .at
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        *held = Some(part);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_project_refuses_is_told_apart() {
        let refusal = |code: &str| {
            refused(RemoteError::Refused {
                text: "x".to_owned(),
                code: code.to_owned(),
            })
        };
        assert!(matches!(refusal("is-folder"), FileError::Folder));
        for code in ["not-found", "permission-denied", "invalid-argument"] {
            assert!(matches!(refusal(code), FileError::NotFound), "{code}");
        }
        for code in ["internal", "too-many", "conflict"] {
            assert!(matches!(refusal(code), FileError::Io(_)), "{code}");
        }
    }
}

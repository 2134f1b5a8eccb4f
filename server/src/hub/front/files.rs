//! Files of projects, read over the broker from the project itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dialtone_project::remote::{Download, Remote, RemoteError};
use dialtone_proxy::ProjectId;
use dialtone_proxy::access::Answer;
use dialtone_proxy::files::{Content, FileError, Files, Opened};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::Asked;

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
    if code == "EISDIR" {
        FileError::Folder
    } else {
        FileError::NotFound
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
            .spawn(async move { file.next(at, len_max).await });
        Box::pin(async move {
            reading
                .await
                .unwrap_or_else(|ended| Err(io::Error::other(ended)))
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

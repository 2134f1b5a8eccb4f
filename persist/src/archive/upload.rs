//! The task that keeps the archive up to date.
//!
//! A pass takes the list of segments as it is at a moment, uploads what the archive does not have of them, and then
//! writes a manifest with exactly this list. What a crash at that moment would have left is what the manifest names:
//! compaction may remove segments later, but what replaced them was written before it did, and was not needed then.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};

use super::manifest::{FORMAT, Manifest, Segment};
use super::retention;
use super::source::{SegmentFile, Source};
use super::status::{Shared, Status};
use super::store::{Archive, ArchiveError};

/// How fast segments are compressed, and how small they become.
const ZSTD_LEVEL: i32 = 3;

/// How often a pass begins anew because compaction removed what it was to upload, before the next one waits its turn.
const PASS_ATTEMPTS: usize = 8;

/// Waits after a failure: the first, and the longest.
const FAILURE_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How a log is archived.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the node, for people.
    pub node: String,
    /// How long after a pass the next one begins, if anything was written; what was stored meanwhile is lost with the
    /// disk.
    pub interval: Duration,
    /// Most bytes of the log that are uploaded in a second; 0 is without a limit.
    pub bytes_per_second_max: u64,
    /// How long a manifest is kept, so that one can go back to it; the newest is kept in any case.
    pub keep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            interval: Duration::from_secs(10),
            bytes_per_second_max: 0,
            keep: Duration::from_hours(7 * 24),
        }
    }
}

/// Archives one log.
#[derive(Debug)]
pub struct Archiver<S> {
    archive: Archive,
    source: Arc<S>,
    config: Config,
    status: Shared,
    /// What the archive has; `None` before it was asked.
    manifest: Option<Manifest>,
    /// Segments that were uploaded since the last manifest.
    uploaded: Manifest,
    /// When as much may be uploaded again.
    due: Instant,
}

impl<S: Source> Archiver<S> {
    /// An archiver for a log.
    pub fn new(archive: Archive, source: Arc<S>, config: Config) -> Self {
        Self {
            archive,
            source,
            config,
            status: Shared::default(),
            manifest: None,
            uploaded: Manifest::default(),
            due: Instant::now(),
        }
    }

    /// How far it is, also while it runs.
    pub fn status(&self) -> impl Fn() -> Status + Send + Sync + 'static {
        let status = self.status.clone();
        move || status.get()
    }

    /// Archives until `stop` is ready, and then what was written until then. Failures are told by the status and the
    /// log, and tried again.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let (mut wait, longest) = FAILURE_WAIT;
        loop {
            let next = tokio::select! {
                passed = self.pass() => match passed {
                    Ok(()) => {
                        wait = FAILURE_WAIT.0;
                        self.config.interval
                    }
                    Err(error) => {
                        self.failed(&error);
                        wait = (wait * 2).min(longest);
                        wait / 2
                    }
                },
                () = &mut stop => break,
            };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = &mut stop => break,
            }
        }
        if let Err(error) = self.pass().await {
            self.failed(&error);
        }
    }

    fn failed(&self, error: &ArchiveError) {
        let text = with_causes(error);
        tracing::warn!(error = text, "the archive is behind");
        self.status.update(|status| {
            status.failures += 1;
            status.error = Some(text);
        });
    }

    /// Brings the archive up to date once.
    ///
    /// # Errors
    /// When the archive or the log fails; what was uploaded by then is not uploaded again.
    pub async fn pass(&mut self) -> Result<(), ArchiveError> {
        let known = self.known().await?;
        for _ in 0..PASS_ATTEMPTS {
            let files = self.list().await?;
            let is_known = known.segments.len() == files.len()
                && files.iter().all(|file| known.has(file).is_some());
            if is_known {
                break;
            }
            if self.upload_all(&known, &files).await? {
                self.finish(&known, &files).await?;
                break;
            }
        }
        self.status.update(|status| {
            status.failures = 0;
            status.error = None;
        });
        Ok(())
    }

    /// The newest manifest, which must be of this log.
    async fn known(&mut self) -> Result<Manifest, ArchiveError> {
        if let Some(manifest) = &self.manifest {
            return Ok(manifest.clone());
        }
        let ours = Manifest::log_name(self.source.log());
        let mut manifest = match self.archive.latest(None).await? {
            Some(manifest) if manifest.log != ours => {
                return Err(ArchiveError::OtherLog {
                    theirs: manifest.log,
                    node: manifest.node,
                    ours,
                });
            }
            Some(manifest) => manifest,
            None => Manifest {
                format: FORMAT,
                log: ours,
                ..Manifest::default()
            },
        };
        self.forget_other_futures(&mut manifest).await?;
        self.status.update(|status| {
            status.archived_at = manifest.time;
            status.generation = manifest.generation;
        });
        self.manifest = Some(manifest.clone());
        Ok(manifest)
    }

    /// A log that was restored to an earlier time goes on with segments of the same numbers and other contents. From
    /// the newest on, segments are compared until one is the same; all before it are as well.
    async fn forget_other_futures(&self, manifest: &mut Manifest) -> Result<(), ArchiveError> {
        for file in self.list().await?.iter().rev() {
            let Some(kept) = manifest.has(file) else {
                continue;
            };
            let packed = self
                .read(file, |bytes| Ok(hex(&Sha256::digest(&bytes))))
                .await?;
            if packed.is_some_and(|sha256| sha256 == kept.sha256) {
                break;
            }
            manifest.segments.remove(&file.number);
        }
        Ok(())
    }

    /// Does something with what a segment contains, if it is there, on a thread that may wait.
    async fn read<T: Send + 'static>(
        &self,
        file: &SegmentFile,
        work: impl FnOnce(Vec<u8>) -> std::io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, ArchiveError> {
        let (source, asked) = (Arc::clone(&self.source), file.clone());
        let done = blocking(move || source.read(&asked)?.map(work).transpose());
        done.await.map_err(|source| ArchiveError::Log {
            name: file.name.clone(),
            source,
        })
    }

    async fn list(&self) -> Result<Vec<SegmentFile>, ArchiveError> {
        let source = Arc::clone(&self.source);
        blocking(move || source.segments())
            .await
            .map_err(|source| ArchiveError::Log {
                name: "the list".to_owned(),
                source,
            })
    }

    /// Uploads what is missing; whether all of it was still there.
    async fn upload_all(
        &mut self,
        known: &Manifest,
        files: &[SegmentFile],
    ) -> Result<bool, ArchiveError> {
        let is_missing = |own: &Self, file: &&SegmentFile| {
            known.has(file).or_else(|| own.uploaded.has(file)).is_none()
        };
        let missing: Vec<&SegmentFile> =
            files.iter().filter(|file| is_missing(self, file)).collect();
        let mut waiting: u64 = missing.iter().map(|file| file.len).sum();
        for file in missing {
            self.status.update(|status| status.waiting_bytes = waiting);
            sleep_until(self.due).await;
            if !self.upload(file).await? {
                return Ok(false);
            }
            self.spend(file.len);
            waiting -= file.len;
        }
        self.status.update(|status| status.waiting_bytes = 0);
        Ok(true)
    }

    /// Whether the segment was still there.
    async fn upload(&mut self, file: &SegmentFile) -> Result<bool, ArchiveError> {
        let packed = self.read(file, |bytes| {
            let sha256 = hex(&Sha256::digest(&bytes));
            Ok((sha256, zstd::bulk::compress(&bytes, ZSTD_LEVEL)?))
        });
        let packed = packed.await?;
        let Some((sha256, packed)) = packed else {
            return Ok(false);
        };
        // The content is part of the name: what one manifest names, no other one changes.
        let short: String = sha256.chars().take(16).collect();
        let object = format!("{}-{}-{short}.zst", file.name, file.len);
        let stored_len = packed.len() as u64;
        self.archive.put_segment(&object, packed.into()).await?;
        let segment = Segment {
            name: file.name.clone(),
            object,
            len: file.len,
            stored_len,
            sha256,
        };
        self.uploaded.segments.insert(file.number, segment);
        self.status
            .update(|status| status.uploaded_bytes += stored_len);
        Ok(true)
    }

    fn spend(&mut self, bytes: u64) {
        let rate = self.config.bytes_per_second_max;
        if let Some(ms) = (bytes * 1_000).checked_div(rate) {
            self.due = Instant::now() + Duration::from_millis(ms);
        }
    }

    /// Writes the manifest of these segments, and removes what no manifest needs any more.
    async fn finish(
        &mut self,
        known: &Manifest,
        files: &[SegmentFile],
    ) -> Result<(), ArchiveError> {
        let segment = |file: &SegmentFile| {
            let kept = known.has(file).or_else(|| self.uploaded.has(file))?;
            Some((file.number, kept.clone()))
        };
        let manifest = Manifest {
            format: FORMAT,
            generation: known.generation + 1,
            time: now(),
            log: known.log.clone(),
            node: self.config.node.clone(),
            segments: files.iter().filter_map(segment).collect(),
        };
        // Whether it was written when the answer is lost is found out by asking again.
        self.manifest = None;
        self.archive.put_manifest(&manifest).await?;
        self.status.update(|status| {
            status.archived_at = manifest.time;
            status.generation = manifest.generation;
        });
        self.uploaded.segments.clear();
        let oldest = manifest
            .time
            .saturating_sub(u64::try_from(self.config.keep.as_millis()).unwrap_or(u64::MAX));
        retention::apply(&self.archive, &manifest, oldest).await?;
        self.manifest = Some(manifest);
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a text takes everything");
            text
        })
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

//! The task that keeps the archive up to date.
//!
//! A pass takes the list of segments as it is at a moment, uploads what the archive does not have of them, and then
//! writes a manifest with exactly this list. What a crash at that moment would have left is what the manifest names:
//! compaction may remove segments later, but what replaced them was written before it did, and was not needed then.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};

use super::manifest::{FORMAT, Manifest, Part, Segment};
use super::retention::Retention;
use super::source::{SegmentFile, Source};
use super::status::{Shared, Status};
use super::store::{Archive, ArchiveError};

/// How fast segments are compressed, and how small they become.
const ZSTD_LEVEL: i32 = 3;

/// How often a pass begins anew because compaction removed what it was to upload, before the next one waits its turn.
const PASS_ATTEMPTS: usize = 8;

/// Most parts of a segment; then it is uploaded once more as one, so that manifests stay short.
const PARTS_MAX: usize = 64;

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
    /// What the manifests name; `None` before they were read.
    retention: Option<Retention>,
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
            retention: None,
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
            // One that was begun is ended, also when it is to stop: what was handed to the store may be written after
            // all, and an older manifest would come in the place of the last one.
            let next = match self.pass().await {
                Ok(()) => {
                    wait = FAILURE_WAIT.0;
                    self.config.interval
                }
                Err(error) => {
                    self.failed(&error);
                    wait = (wait * 2).min(longest);
                    wait / 2
                }
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
            let is_known =
                known.segments.len() == files.len() && files.iter().all(|file| known.has(file));
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
        let mut manifest = match self.archive.latest().await? {
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

    /// A log that was restored to an earlier time, or lost its unsynced end, goes on with other contents at the same
    /// places. From the newest segment on, what the archive has is compared until a segment is the same; everything
    /// before it is as well.
    async fn forget_other_futures(&self, manifest: &mut Manifest) -> Result<(), ArchiveError> {
        for file in self.list().await?.iter().rev() {
            let Some(kept) = manifest.segments.get(&file.number).cloned() else {
                continue;
            };
            let is_whole = kept.len == file.len;
            let is_longer = kept.len > file.len;
            let same = self.read(file, 0, move |bytes| {
                Ok(!is_longer && begins_with(&bytes, &kept))
            });
            match same.await? {
                Some(true) if is_whole => break,
                Some(true) => {}
                Some(false) | None => drop(manifest.segments.remove(&file.number)),
            }
        }
        Ok(())
    }

    /// Does something with what a segment contains from `from` on, if it is there, on a thread that may wait.
    async fn read<T: Send + 'static>(
        &self,
        file: &SegmentFile,
        from: u64,
        work: impl FnOnce(Vec<u8>) -> std::io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, ArchiveError> {
        let (source, asked) = (Arc::clone(&self.source), file.clone());
        let done = blocking(move || source.read(&asked, from)?.map(work).transpose());
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

    /// What there is of a segment in the archive, whether or not a manifest says so yet.
    fn kept(&self, known: &Manifest, file: &SegmentFile) -> Segment {
        let number = &file.number;
        let kept = self
            .uploaded
            .segments
            .get(number)
            .or_else(|| known.segments.get(number));
        kept.cloned().unwrap_or_else(|| Segment {
            name: file.name.clone(),
            ..Segment::default()
        })
    }

    /// Uploads what is missing; whether all of it was still there.
    async fn upload_all(
        &mut self,
        known: &Manifest,
        files: &[SegmentFile],
    ) -> Result<bool, ArchiveError> {
        let missing: Vec<(&SegmentFile, Segment)> = files
            .iter()
            .map(|file| (file, self.kept(known, file)))
            .filter(|(file, kept)| kept.len < file.len)
            .collect();
        let mut waiting: u64 = missing.iter().map(|(file, kept)| file.len - kept.len).sum();
        for (file, kept) in missing {
            self.status.update(|status| status.waiting_bytes = waiting);
            sleep_until(self.due).await;
            let more = file.len - kept.len;
            if !self.upload(file, kept).await? {
                return Ok(false);
            }
            self.spend(more);
            waiting -= more;
        }
        self.status.update(|status| status.waiting_bytes = 0);
        Ok(true)
    }

    /// Uploads what a segment has more than is kept. Whether it was still there.
    async fn upload(
        &mut self,
        file: &SegmentFile,
        mut kept: Segment,
    ) -> Result<bool, ArchiveError> {
        if kept.parts.len() >= PARTS_MAX {
            kept.parts.clear();
            kept.len = 0;
        }
        let from = kept.len;
        let packed = self.read(file, from, |bytes| {
            let sha256 = hex(&Sha256::digest(&bytes));
            Ok((sha256, zstd::bulk::compress(&bytes, ZSTD_LEVEL)?))
        });
        let Some((sha256, packed)) = packed.await? else {
            return Ok(false);
        };
        // The content is part of the name: what one manifest names, no other one changes.
        let short: String = sha256.chars().take(16).collect();
        let object = format!("{}-{from}-{}-{short}.zst", file.name, file.len);
        let (len, stored_len) = (file.len - from, packed.len() as u64);
        self.archive.put_segment(&object, packed.into()).await?;
        kept.parts.push(Part {
            object,
            len,
            stored_len,
            sha256,
        });
        kept.len = file.len;
        self.uploaded.segments.insert(file.number, kept);
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
        let segment = |file: &SegmentFile| (file.number, self.kept(known, file));
        let manifest = Manifest {
            format: FORMAT,
            generation: known.generation + 1,
            time: now(),
            log: known.log.clone(),
            node: self.config.node.clone(),
            segments: files.iter().map(segment).collect(),
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
        let mut retention = match self.retention.take() {
            Some(retention) => retention,
            None => Retention::load(&self.archive).await?,
        };
        retention.add(&manifest);
        retention.apply(&self.archive, oldest).await?;
        self.retention = Some(retention);
        self.manifest = Some(manifest);
        Ok(())
    }
}

/// Whether a file begins with what is kept of it.
fn begins_with(bytes: &[u8], kept: &Segment) -> bool {
    let mut rest = bytes;
    kept.parts.iter().all(|part| {
        let len = usize::try_from(part.len).unwrap_or(usize::MAX);
        let Some((start, behind)) = rest.split_at_checked(len) else {
            return false;
        };
        rest = behind;
        hex(&Sha256::digest(start)) == part.sha256
    })
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

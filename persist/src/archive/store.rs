//! Where the archive is, and the objects in it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig};

use super::manifest::{FORMAT, Manifest};
use super::restore::Point;

/// How long a request to an object store may take.
const REQUEST_MAX: Duration = Duration::from_mins(5);

/// Manifests that are asked for at a time.
const READS_MAX: usize = 16;

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder, which is made when it is not there: `file:///var/archive`, or a path.
    Folder(PathBuf),
    /// A bucket of S3, or of a store that speaks like it: `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the names of all objects begin with; may be empty.
        prefix: String,
        /// The store's address, where it is not AWS: `http://127.0.0.1:9000`.
        endpoint: Option<String>,
        /// The region; from the environment where it is missing.
        region: Option<String>,
        /// The id of the access key and its secret; from the environment or the machine, as AWS's own tools find them,
        /// where they are missing.
        keys: Option<(String, String)>,
    },
}

impl std::str::FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err("an archive in S3 is s3://BUCKET or s3://BUCKET/PREFIX".to_owned());
            }
            let prefix = prefix.trim_matches('/').to_owned();
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix,
                endpoint: None,
                region: None,
                keys: None,
            });
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(format!(
                "{text:?} is no archive: s3://BUCKET/PREFIX, file:///FOLDER, or a folder"
            ));
        }
        Ok(Self::Folder(path.into()))
    }
}

/// Why an archive cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("failed to make the folder {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The settings do not fit together.
    #[error("the archive is not usable as configured")]
    Store(#[source] object_store::Error),
}

/// Why something in an archive could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store said no, or nothing.
    #[error("the archive failed")]
    Store(#[from] object_store::Error),
    /// There is a manifest of another log.
    #[error(
        "the archive holds the log {theirs} of node {node}, and this one is {ours}; a node has an archive for itself"
    )]
    OtherLog {
        /// The log in the archive.
        theirs: String,
        /// Who wrote it.
        node: String,
        /// The log of this node.
        ours: String,
    },
    /// Somebody else writes there.
    #[error(
        "another node has written manifest {generation} meanwhile; a node has an archive for itself"
    )]
    OtherWriter {
        /// Its number.
        generation: u64,
    },
    /// A manifest that this version does not understand.
    #[error("manifest {name} cannot be read: {problem}")]
    Manifest {
        /// The object.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The log cannot be read.
    #[error("failed to read {name} of the log")]
    Log {
        /// Which file.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// An archive. Cloning costs a reference count.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Archive {
    /// Opens an archive; nothing is asked of it yet.
    ///
    /// # Errors
    /// When it cannot be used as configured.
    pub fn open(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::Folder(path) => {
                let failed = |source| OpenError::Folder {
                    path: path.clone(),
                    source,
                };
                std::fs::create_dir_all(path).map_err(failed)?;
                let store = LocalFileSystem::new_with_prefix(path).map_err(OpenError::Store)?;
                Ok(Self::new(Arc::new(store.with_fsync(true)), Path::default()))
            }
            Location::S3 {
                bucket,
                prefix,
                endpoint,
                region,
                keys,
            } => {
                // The archiver tries again by itself, so that one layer does.
                let retry = RetryConfig {
                    max_retries: 0,
                    retry_timeout: REQUEST_MAX,
                    ..RetryConfig::default()
                };
                let mut store = AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry)
                    .with_conditional_put(S3ConditionalPut::ETagMatch);
                if let Some(endpoint) = endpoint {
                    store = store
                        .with_allow_http(endpoint.starts_with("http://"))
                        .with_endpoint(endpoint);
                }
                if let Some(region) = region {
                    store = store.with_region(region);
                }
                if let Some((id, secret)) = keys {
                    store = store.with_access_key_id(id).with_secret_access_key(secret);
                }
                let store = store.build().map_err(OpenError::Store)?;
                Ok(Self::new(Arc::new(store), Path::from(prefix.as_str())))
            }
        }
    }

    /// An archive in a store that is open already.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    /// The generations of all manifests, ascending.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn generations(&self) -> Result<Vec<u64>, ArchiveError> {
        let folder = self.prefix.clone().join("manifests");
        let objects = self.store.list(Some(&folder));
        let names = objects.map_ok(|object| object.location.filename().and_then(generation_of));
        let mut generations: Vec<u64> = names
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .flatten()
            .collect();
        generations.sort_unstable();
        Ok(generations)
    }

    /// A manifest.
    ///
    /// # Errors
    /// When there is none of this number, or it cannot be read.
    pub async fn manifest(&self, generation: u64) -> Result<Manifest, ArchiveError> {
        let path = self.manifest_path(generation);
        let bytes = self.store.get(&path).await?.bytes().await?;
        let unreadable = |problem: String| ArchiveError::Manifest {
            name: path.to_string(),
            problem,
        };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(unreadable(format!(
                "its format is {}, and this version knows {FORMAT}",
                manifest.format
            )));
        }
        Ok(manifest)
    }

    /// The newest manifest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn latest(&self) -> Result<Option<Manifest>, ArchiveError> {
        match self.generations().await?.last() {
            Some(generation) => Ok(Some(self.manifest(*generation).await?)),
            None => Ok(None),
        }
    }

    /// The manifest of a point; `None` where there is none, or none so old. Times grow with the generations, but where
    /// the clock of the node was set back: then one of those that the time may mean.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn at(&self, point: Point) -> Result<Option<Manifest>, ArchiveError> {
        let time = match point {
            Point::Newest => return self.latest().await,
            Point::Generation(generation) => {
                if !self.generations().await?.contains(&generation) {
                    return Ok(None);
                }
                return self.manifest(generation).await.map(Some);
            }
            Point::Time(time) => time,
        };
        let generations = self.generations().await?;
        let (mut low, mut high, mut found) = (0, generations.len(), None);
        // Ends because the distance halves with each round.
        while low < high {
            let middle = usize::midpoint(low, high);
            let manifest = self.manifest(generations[middle]).await?;
            if manifest.time <= time {
                found = Some(manifest);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    /// Up to so many of the newest manifests, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest(&self, count: usize) -> Result<Vec<Manifest>, ArchiveError> {
        let generations = self.generations().await?.into_iter().rev().take(count);
        let manifests = generations.map(|generation| self.manifest(generation));
        futures_util::stream::iter(manifests)
            .buffered(READS_MAX)
            .try_collect()
            .await
    }

    /// Writes a manifest that was not there.
    pub(super) async fn put_manifest(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let path = self.manifest_path(manifest.generation);
        let bytes =
            serde_json::to_vec_pretty(manifest).map_err(|error| ArchiveError::Manifest {
                name: path.to_string(),
                problem: error.to_string(),
            })?;
        let once = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&path, bytes.into(), once).await {
            Err(object_store::Error::AlreadyExists { .. }) => Err(ArchiveError::OtherWriter {
                generation: manifest.generation,
            }),
            put => put.map(drop).map_err(Into::into),
        }
    }

    pub(super) async fn remove_manifest(&self, generation: u64) -> Result<(), ArchiveError> {
        self.remove(&self.manifest_path(generation)).await
    }

    /// Writes an object of a segment; the same name always has the same content.
    pub(super) async fn put_segment(&self, object: &str, bytes: Bytes) -> Result<(), ArchiveError> {
        self.store
            .put(&self.segment_path(object), bytes.into())
            .await?;
        Ok(())
    }

    /// An object of a segment, as a manifest names it: the segment compressed with zstd.
    ///
    /// # Errors
    /// When there is none, or the store cannot be read.
    pub async fn object(&self, object: &str) -> Result<Bytes, ArchiveError> {
        Ok(self
            .store
            .get(&self.segment_path(object))
            .await?
            .bytes()
            .await?)
    }

    /// The names of the objects of all segments, named by a manifest or not.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn objects(&self) -> Result<Vec<String>, ArchiveError> {
        let folder = self.prefix.clone().join("segments");
        let objects = self.store.list(Some(&folder));
        let names = objects.map_ok(|object| object.location.filename().map(str::to_owned));
        Ok(names
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    pub(super) async fn remove_segment(&self, object: &str) -> Result<(), ArchiveError> {
        self.remove(&self.segment_path(object)).await
    }

    async fn remove(&self, path: &Path) -> Result<(), ArchiveError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn manifest_path(&self, generation: u64) -> Path {
        self.prefix
            .clone()
            .join("manifests")
            .join(format!("{generation:020}.json"))
    }

    fn segment_path(&self, object: &str) -> Path {
        self.prefix.clone().join("segments").join(object)
    }
}

fn generation_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

//! What is removed from the archive: manifests that are too old, and objects that none of the others names.

use std::collections::{BTreeMap, HashMap};

use super::manifest::Manifest;
use super::store::{Archive, ArchiveError};

/// After how many manifests objects without one are looked for: a pass that was not finished leaves some.
const SWEEP_EACH: u64 = 256;

/// What the manifests of an archive name. They are read once; there are many when they are kept for long.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// When each was written, in milliseconds since 1970, by generation.
    times: BTreeMap<u64, u64>,
    /// The last generation that names an object.
    named: HashMap<String, u64>,
}

impl Retention {
    /// Reads the manifests that there are.
    pub(super) async fn load(archive: &Archive) -> Result<Self, ArchiveError> {
        let mut retention = Self::default();
        for manifest in archive.newest(usize::MAX).await? {
            retention.add(&manifest);
        }
        Ok(retention)
    }

    /// Takes in a manifest that was written.
    pub(super) fn add(&mut self, manifest: &Manifest) {
        self.times.insert(manifest.generation, manifest.time);
        for object in manifest.objects() {
            let last = self.named.entry(object.to_owned()).or_default();
            *last = manifest.generation.max(*last);
        }
    }

    /// Removes manifests older than `oldest`, in milliseconds since 1970, but for the newest of these, which says what
    /// the log was at that time, and then what is not named any more.
    pub(super) async fn apply(
        &mut self,
        archive: &Archive,
        oldest: u64,
    ) -> Result<(), ArchiveError> {
        for generation in self.expired(oldest) {
            archive.remove_manifest(generation).await?;
            self.times.remove(&generation);
        }
        let first = self.times.keys().next().copied().unwrap_or(0);
        let unnamed = self.named.iter().filter(|(_, last)| **last < first);
        let unnamed: Vec<String> = unnamed.map(|(object, _)| object.clone()).collect();
        for object in unnamed {
            archive.remove_segment(&object).await?;
            self.named.remove(&object);
        }
        let newest = self.times.keys().next_back().copied().unwrap_or(0);
        if newest.is_multiple_of(SWEEP_EACH) {
            self.sweep(archive).await?;
        }
        Ok(())
    }

    /// The generations behind the newest one that is not younger than `oldest`.
    fn expired(&self, oldest: u64) -> Vec<u64> {
        // The first one of these says what the log was then.
        let older = self
            .times
            .iter()
            .rev()
            .skip_while(|(_, time)| **time > oldest);
        older.skip(1).map(|(generation, _)| *generation).collect()
    }

    async fn sweep(&self, archive: &Archive) -> Result<(), ArchiveError> {
        for object in archive.objects().await? {
            if !self.named.contains_key(&object) {
                archive.remove_segment(&object).await?;
            }
        }
        Ok(())
    }
}

//! What is removed from the archive: manifests that are too old, and objects that none of the others names.

use std::collections::HashSet;

use super::manifest::Manifest;
use super::store::{Archive, ArchiveError};

/// Removes manifests older than `oldest`, in milliseconds since 1970, but for the newest of these, which says what the
/// log was at that time, and then what is not named any more. The manifest of `newest` stays in any case.
pub(super) async fn apply(
    archive: &Archive,
    newest: &Manifest,
    oldest: u64,
) -> Result<(), ArchiveError> {
    let mut named: HashSet<String> = newest.objects().map(str::to_owned).collect();
    let mut is_covered = newest.time <= oldest;
    let generations = archive.generations().await?;
    let older = generations
        .into_iter()
        .rev()
        .filter(|generation| *generation != newest.generation);
    let mut kept_any_removed = false;
    for generation in older {
        if is_covered {
            archive.remove_manifest(generation).await?;
            kept_any_removed = true;
            continue;
        }
        let manifest = archive.manifest(generation).await?;
        is_covered = manifest.time <= oldest;
        named.extend(manifest.objects().map(str::to_owned));
    }
    // Objects lose their last manifest with it, or never had one because a pass was not finished.
    let is_due = kept_any_removed || newest.generation.is_multiple_of(SWEEP_EACH);
    if is_due {
        for object in archive.objects().await? {
            if !named.contains(&object) {
                archive.remove_segment(&object).await?;
            }
        }
    }
    Ok(())
}

/// After how many manifests objects without one are looked for in any case.
const SWEEP_EACH: u64 = 256;

//! What an archive refuses, and what it frees.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::wire::What;
use dialtone_persist::archive::{
    Archive, ArchiveError, Archiver, Config, Location, Point, RestoreError, restore, unfinished,
};
use dialtone_persist::backend::log::{Config as LogConfig, Log};
use dialtone_persist::disk::Folder;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::site::{Site, archiver, contents};

fn archive() -> Archive {
    Archive::new(Arc::new(InMemory::new()), Path::default())
}

async fn fill(site: &mut Site, from: u8, to: u8) {
    for number in from..to {
        site.append("s", None, vec![number; 700]).await;
    }
}

#[tokio::test]
async fn a_folder_is_an_archive_and_nothing_is_uploaded_twice() {
    let folder = tempfile::tempdir().unwrap();
    let location: Location = folder
        .path()
        .join("archive")
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let archive = Archive::open(&location).unwrap();
    let mut site = Site::new();
    fill(&mut site, 0, 40).await;
    let mut uploader = archiver(&archive, &site.log);
    let status = uploader.status();
    uploader.pass().await.unwrap();
    let first = status();
    assert!(
        first.generation == 1 && first.archived_at > 0 && first.waiting_bytes == 0,
        "{first:?}"
    );
    uploader.pass().await.unwrap();
    // Also one that has just been started.
    let mut again = archiver(&archive, &site.log);
    again.pass().await.unwrap();
    assert_eq!((status(), again.status()().uploaded_bytes), (first, 0));
    let (restored, report) = Site::restored(&archive, None).await.unwrap();
    assert_eq!(restored.contents().await, site.contents().await);
    assert_eq!(
        (report.generation, report.segments),
        (1, site.log.files().len())
    );
}

#[tokio::test]
async fn a_damaged_object_is_named_and_nothing_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::open(&Location::Folder(folder.path().to_owned())).unwrap();
    let mut site = Site::new();
    fill(&mut site, 0, 40).await;
    archiver(&archive, &site.log).pass().await.unwrap();
    let manifest = archive.latest().await.unwrap().unwrap();
    let object = &manifest.segments[&2].parts[0].object;
    let path = folder.path().join("segments").join(object);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let target = tempfile::tempdir().unwrap();
    let disk = Arc::new(Folder::open(target.path()).unwrap());
    let own = || Arc::<Folder>::clone(&disk);
    let refused = restore(&archive, own(), Point::Newest, |_, _| {})
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, RestoreError::Damaged { object: named, .. } if named == object),
        "{refused}"
    );
    // What is there of it is not taken for a log.
    assert_eq!(unfinished(&*disk).unwrap(), Some(1));
    let refused = Log::open(own(), LogConfig::default()).unwrap_err();
    assert!(refused.to_string().contains("interrupted"), "{refused}");
    // When the archive is whole again, restoring begins anew; what is there is no log before its end.
    bytes_back(&path, middle);
    let restored = restore(&archive, own(), Point::Generation(1), |_, _| {}).await;
    assert_eq!(restored.unwrap().segments, site.log.files().len());
    assert_eq!(unfinished(&*disk).unwrap(), None);
    let restored = Log::open(own(), LogConfig::default()).unwrap();
    assert_eq!(contents(&restored).await, site.contents().await);
    // A folder with a log is nothing to restore into.
    let refused = restore(&archive, own(), Point::Newest, |_, _| {})
        .await
        .unwrap_err();
    assert!(matches!(refused, RestoreError::NotEmpty(_)), "{refused}");
}

/// The compression knows nothing of it: another object was put in its place, or somebody changed what it holds.
#[tokio::test]
async fn an_object_that_holds_something_else_is_damaged_though_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::open(&Location::Folder(folder.path().to_owned())).unwrap();
    let mut site = Site::new();
    fill(&mut site, 0, 4).await;
    archiver(&archive, &site.log).pass().await.unwrap();
    let manifest = archive.latest().await.unwrap().unwrap();
    let part = &manifest.segments[&1].parts[0];
    let path = folder.path().join("segments").join(&part.object);
    let mut held = zstd::decode_all(&std::fs::read(&path).unwrap()[..]).unwrap();
    assert_eq!(held.len() as u64, part.len);
    // The last byte of the last payload, where nothing but a checksum of the record tells.
    *held.iter_mut().rev().find(|byte| **byte != 0).unwrap() ^= 1;
    std::fs::write(&path, zstd::encode_all(&held[..], 1).unwrap()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let disk = Arc::new(Folder::open(target.path()).unwrap());
    let refused = restore(&archive, disk, Point::Newest, |_, _| {}).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, RestoreError::Damaged { object, .. } if *object == part.object),
        "{refused}"
    );
}

fn bytes_back(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_time_means_the_newest_state_that_is_not_newer() {
    let archive = archive();
    let mut site = Site::new();
    let mut uploader = archiver(&archive, &site.log);
    for round in 0..9 {
        fill(&mut site, round, round + 1).await;
        uploader.pass().await.unwrap();
    }
    let all = archive.newest(usize::MAX).await.unwrap();
    let numbers: Vec<u64> = all.iter().map(|manifest| manifest.generation).collect();
    assert_eq!(numbers, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(archive.newest(2).await.unwrap(), all[..2]);
    for time in all
        .iter()
        .flat_map(|kept| [kept.time - 1, kept.time, kept.time + 1])
    {
        let expected = all.iter().find(|kept| kept.time <= time);
        let found = archive.at(Point::Time(time)).await.unwrap();
        assert_eq!(found.as_ref(), expected, "{time}");
    }
    assert_eq!(archive.at(Point::Generation(10)).await.unwrap(), None);
}

#[tokio::test]
async fn an_archive_is_of_one_log() {
    let archive = archive();
    let (mut site, mut other) = (Site::new(), Site::new());
    fill(&mut site, 0, 3).await;
    fill(&mut other, 0, 3).await;
    archiver(&archive, &site.log).pass().await.unwrap();
    let refused = archiver(&archive, &other.log).pass().await.unwrap_err();
    assert!(
        matches!(refused, ArchiveError::OtherLog { .. }),
        "{refused}"
    );
    // Two that have the same log, which only a copied folder does, do not overwrite each other's manifests.
    let (mut one, mut two) = (archiver(&archive, &site.log), archiver(&archive, &site.log));
    one.pass().await.unwrap();
    two.pass().await.unwrap();
    fill(&mut site, 3, 6).await;
    one.pass().await.unwrap();
    fill(&mut site, 6, 9).await;
    let refused = two.pass().await.unwrap_err();
    assert!(
        matches!(refused, ArchiveError::OtherWriter { .. }),
        "{refused}"
    );
    two.pass().await.unwrap();
}

#[tokio::test]
async fn what_no_manifest_needs_is_freed() {
    let archive = archive();
    let mut site = Site::new();
    let config = Config {
        keep: Duration::ZERO,
        ..Config::default()
    };
    let mut uploader = Archiver::new(archive.clone(), Arc::clone(&site.log), config);
    for round in 0..10 {
        fill(&mut site, round * 20, round * 20 + 20).await;
        let last = u64::from(round) * 20 + 10;
        site.remove("s", &What::UpTo(last)).await;
        for _ in 0..6 {
            site.compact().await;
        }
        uploader.pass().await.unwrap();
        assert!(archive.generations().await.unwrap().len() <= 2);
        let mut named = BTreeSet::new();
        for generation in archive.generations().await.unwrap() {
            let manifest = archive.manifest(generation).await.unwrap();
            named.extend(manifest.objects().map(str::to_owned));
        }
        let kept: BTreeSet<String> = archive.objects().await.unwrap().into_iter().collect();
        assert_eq!(kept, named);
        let (restored, _) = Site::restored(&archive, None).await.unwrap();
        assert_eq!(restored.contents().await, site.contents().await);
    }
}

#[tokio::test]
async fn a_segment_that_grows_is_uploaded_in_parts() {
    let archive = archive();
    let mut site = Site::large();
    let mut uploader = archiver(&archive, &site.log);
    let status = uploader.status();
    let mut most = 0;
    for round in 0..100 {
        let payload = (0..1_000).map(|_| rand::random()).collect();
        site.append("s", None, payload).await;
        let before = status().uploaded_bytes;
        uploader.pass().await.unwrap();
        let parts = archive.latest().await.unwrap().unwrap().segments[&1]
            .parts
            .len();
        most = most.max(parts);
        // Not all of it anew, but for once in a while.
        assert!(
            status().uploaded_bytes - before < 3_000 || parts == 1,
            "round {round}"
        );
    }
    assert_eq!(most, 64);
    let (restored, _) = Site::restored(&archive, None).await.unwrap();
    assert_eq!(restored.contents().await, site.contents().await);
}

#[tokio::test]
async fn times_choose_manifests() {
    let archive = archive();
    assert!(matches!(
        Site::restored(&archive, None).await,
        Err(RestoreError::Nothing)
    ));
    let mut site = Site::new();
    fill(&mut site, 0, 3).await;
    archiver(&archive, &site.log).pass().await.unwrap();
    let time = archive.latest().await.unwrap().unwrap().time;
    assert!(archive.at(Point::Time(time)).await.unwrap().is_some());
    assert!(archive.at(Point::Time(time - 1)).await.unwrap().is_none());
}

#[test]
fn places_of_archives() {
    let s3 = |prefix: &str| Location::S3 {
        bucket: "b".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: None,
        region: None,
        keys: None,
    };
    let cases = [
        ("s3://b", Ok(s3(""))),
        ("s3://b/a/c/", Ok(s3("a/c"))),
        ("file:///a/b", Ok(Location::Folder("/a/b".into()))),
        ("a/b", Ok(Location::Folder("a/b".into()))),
        ("s3:///a", Err(())),
        ("ftp://a", Err(())),
        ("", Err(())),
    ];
    for (text, expected) in cases {
        let parsed: Result<Location, ()> = text.parse().map_err(drop::<String>);
        assert_eq!(parsed, expected, "{text}");
    }
}

//! Random histories with compaction in between, over a store that fails: what is restored is what the log held when the
//! last pass began to succeed, never less and nothing else.

use std::sync::Arc;

use dialtone_client::persist::wire::What;
use dialtone_persist::archive::Archive;
use object_store::memory::InMemory;
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::faulty::Faulty;
use super::site::{Contents, Site, archiver};

async fn step(site: &mut Site, random: &mut StdRng) {
    let stream = format!("s{}", random.random_range(0..4));
    match random.random_range(0..20) {
        0 => site.delete(&stream).await,
        1..=3 => {
            let up_to = random.random_range(1..40);
            site.remove(&stream, &What::UpTo(up_to)).await;
        }
        4..=6 => site.compact().await,
        _ => {
            let key = random
                .random::<bool>()
                .then(|| format!("k{}", random.random_range(0..5)));
            let payload = (0..random.random_range(0..900))
                .map(|_| random.random())
                .collect();
            site.append(&stream, key.as_deref(), payload).await;
        }
    }
}

async fn scene(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let kept = Arc::new(InMemory::new());
    let clean = Archive::new(Arc::<InMemory>::clone(&kept), Path::from("n1"));
    let faulty = Faulty::new(&kept, seed, random.random_range(0..30));
    let faulty = Archive::new(Arc::new(faulty), Path::from("n1"));
    let mut site = Site::new();
    let mut archiver = archiver(&faulty, &site.log);
    let mut expected: Option<Contents> = None;
    for _ in 0..25 {
        for _ in 0..random.random_range(1..25) {
            step(&mut site, &mut random).await;
        }
        let now = site.contents().await;
        if archiver.pass().await.is_ok() {
            expected = Some(now);
        } else if let Some(before) = &expected {
            // A manifest that was written though nobody heard of it is good as well.
            let (restored, _) = Site::restored(&clean, None).await.unwrap();
            let restored = restored.contents().await;
            assert!(restored == *before || restored == now, "seed {seed}");
            expected = Some(restored);
        }
    }
    let Some(expected) = expected else {
        return;
    };
    let (restored, _) = Site::restored(&clean, None).await.unwrap();
    assert_eq!(restored.contents().await, expected, "seed {seed}");
}

#[tokio::test]
async fn what_is_restored_is_what_was_archived() {
    for seed in 0..6 {
        scene(seed).await;
    }
}

/// A log that was restored to an earlier time goes on in the same archive.
#[tokio::test]
async fn another_future_does_not_mix_with_the_first() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let archive = Archive::new(Arc::new(InMemory::new()), Path::default());
        let mut site = Site::new();
        let mut first = archiver(&archive, &site.log);
        let mut past = (Contents::new(), 0);
        for round in 0..6 {
            for _ in 0..20 {
                step(&mut site, &mut random).await;
            }
            first.pass().await.unwrap();
            if round == 2 {
                past = (site.contents().await, first.status()().generation);
            }
        }
        // Times of manifests may be the same in a quick test, so that the later ones are taken away instead.
        let manifest = archive.manifest(past.1).await.unwrap();
        let other = Archive::new(
            Arc::new(copy_up_to(&archive, past.1).await),
            Path::default(),
        );
        assert_eq!(other.latest().await.unwrap(), Some(manifest));
        let (mut site, _) = Site::restored(&other, None).await.unwrap();
        assert_eq!(site.contents().await, past.0, "seed {seed}");
        let mut second = archiver(&archive, &site.log);
        for _ in 0..4 {
            for _ in 0..random.random_range(1..20) {
                step(&mut site, &mut random).await;
            }
            second.pass().await.unwrap();
            let (restored, _) = Site::restored(&archive, None).await.unwrap();
            assert_eq!(
                restored.contents().await,
                site.contents().await,
                "seed {seed}"
            );
        }
    }
}

async fn copy_up_to(archive: &Archive, generation: u64) -> InMemory {
    use object_store::ObjectStoreExt as _;
    let copy = InMemory::new();
    for number in archive.generations().await.unwrap() {
        if number > generation {
            continue;
        }
        let manifest = archive.manifest(number).await.unwrap();
        for object in manifest.objects() {
            let path = Path::from(format!("segments/{object}"));
            let object = archive.object(object).await.unwrap();
            copy.put(&path, object.into()).await.unwrap();
        }
        let path = Path::from(format!("manifests/{number:020}.json"));
        copy.put(&path, serde_json::to_vec(&manifest).unwrap().into())
            .await
            .unwrap();
    }
    copy
}

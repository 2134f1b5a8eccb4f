//! Objects and presence: what was put comes back whole, replacing is one step, and interrupted uploads go on.

use std::pin::Pin;
use std::task::{Context, Poll};

use dialtone_client::persist::object::{ObjectError, ObjectStore, PutOptions};
use dialtone_client::persist::presence::{Presence, PresenceEvent};
use dialtone_client::persist::wire::{Config, What};
use dialtone_testkit::{Manner, World};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::io::{AsyncRead, ReadBuf};

use crate::persist::{persist, service};
use crate::{seconds, simulate};

fn options() -> PutOptions {
    PutOptions {
        chunk_len: 1_000,
        ..PutOptions::default()
    }
}

fn random(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A source that fails after some bytes.
struct Breaking<'a>(&'a [u8]);

impl AsyncRead for Breaking<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(std::io::Error::other("the disk is gone")));
        }
        let (now, later) = self.0.split_at(buf.remaining().min(self.0.len()));
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn objects_come_back_whole_and_in_part() {
    simulate(10, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (world, streams) = service(seed).await;
        world.network(Manner::rough(seed));
        let persist = persist(&world).await;
        let store = ObjectStore::open(&persist, "o", Config::default())
            .await
            .unwrap();
        let len = rng.random_range(0..30_000);
        let bytes = random(&mut rng, len);
        streams.lose_answers(2);
        let info = store.put("a/b", &bytes[..], options()).await.unwrap();
        assert_eq!(
            (info.size, info.chunks),
            (len as u64, len.div_ceil(1_000) as u64)
        );
        let mut copy = Vec::new();
        let same = store.get("a/b", &mut copy).await.unwrap();
        assert_eq!((&copy, &same), (&bytes, &info));
        let (from, to) = (rng.random_range(0..=len), rng.random_range(0..=len + 9));
        let mut part = Vec::new();
        let mut reader = store.reader("a/b", from as u64..to as u64).await.unwrap();
        while let Some(more) = reader.next().await.unwrap() {
            part.extend_from_slice(&more);
        }
        assert_eq!(part, bytes[from..to.clamp(from, len)]);
        assert_eq!(store.list("a").await.unwrap().len(), 1);
        assert!(store.remove("a/b").await.unwrap());
        assert!(!store.remove("a/b").await.unwrap());
        assert!(streams.payloads("o").is_empty(), "nothing remains");
    });
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_upload_goes_on_and_replaces_in_one_step() {
    let (world, streams) = service(1).await;
    let persist = persist(&world).await;
    let store = ObjectStore::open(&persist, "o", Config::default())
        .await
        .unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let (old, new) = (random(&mut rng, 2_500), random(&mut rng, 9_500));
    store.put("x", &old[..], options()).await.unwrap();
    let broken = store.put("x", Breaking(&new[..6_000]), options()).await;
    assert!(matches!(broken, Err(ObjectError::Io(_))), "{broken:?}");
    let mut copy = Vec::new();
    store.get("x", &mut copy).await.unwrap();
    assert_eq!(copy, old, "what was there is still there");
    let before = streams.payloads("o").len();
    let mut changed = new.clone();
    changed[1_500] ^= 1;
    store.put("x", &changed[..], options()).await.unwrap();
    let mut copy = Vec::new();
    store.get("x", &mut copy).await.unwrap();
    assert_eq!(copy, changed);
    // Ten chunks, their list, the info: neither the old chunks nor the one that changed.
    assert_eq!(streams.payloads("o").len(), 12);
    assert!(before > 5, "the first attempt left its chunks");
    assert!(store.remove("x").await.unwrap());
    assert!(streams.payloads("o").is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_two_uploads_at_once_one_succeeds() {
    let (world, _streams) = service(1).await;
    let store = ObjectStore::open(&persist(&world).await, "o", Config::default())
        .await
        .unwrap();
    let (one, two) = (vec![1; 5_000], vec![2; 7_000]);
    let results = tokio::join!(
        store.put("x", &one[..], options()),
        store.put("x", &two[..], options()),
    );
    let wins = [results.0.is_ok(), results.1.is_ok()];
    assert!(
        wins != [true, true] && wins != [false, false],
        "{results:?}"
    );
    let mut copy = Vec::new();
    store.get("x", &mut copy).await.unwrap();
    assert_eq!(copy, if wins[0] { one } else { two });
}

#[tokio::test(start_paused = true)]
async fn a_missing_chunk_is_damage_by_name() {
    let (world, _streams) = service(1).await;
    let store = ObjectStore::open(&persist(&world).await, "o", Config::default())
        .await
        .unwrap();
    store.put("x", &[7; 3_000][..], options()).await.unwrap();
    let chunk = store.stream().keys(Some("c/")).await.unwrap()[1].seq;
    store
        .stream()
        .remove(What::Seqs(vec![chunk]))
        .await
        .unwrap();
    let error = store.get("x", Vec::new()).await.unwrap_err().to_string();
    assert_eq!(error, "object x is damaged: chunk 1: it is missing");
    let nothing = store.get("y", Vec::new()).await.unwrap_err();
    assert_eq!(nothing.to_string(), "there is no object y");
    assert!(matches!(store.info("\n").await, Err(ObjectError::Name)));
}

#[tokio::test(start_paused = true)]
async fn those_who_are_here_are_known_until_they_go() {
    let world = World::new(1).await;
    let client = async || world.client().await.unwrap();
    let mut alice = Presence::join(&client().await, "doc", "alice", &1)
        .await
        .unwrap();
    let mut watcher: Presence<i32> = Presence::watch(&client().await, "doc").await.unwrap();
    let joined = |key: &str, state| {
        Some(PresenceEvent::Joined {
            key: key.to_owned(),
            state,
        })
    };
    assert_eq!(alice.next().await, joined("alice", 1));
    let (seen, ()) = tokio::join!(watcher.next(), async {
        // It answers who asks.
        drop(tokio::time::timeout(seconds(1), alice.next()).await);
    });
    assert_eq!(seen, joined("alice", 1));
    let bob = Presence::join(&client().await, "doc", "bob", &5)
        .await
        .unwrap();
    assert_eq!(watcher.next().await, joined("bob", 5));
    alice.update(&2).await.unwrap();
    let changed = PresenceEvent::Changed {
        key: "alice".to_owned(),
        state: 2,
    };
    assert_eq!(watcher.next().await, Some(changed));
    bob.leave().await.unwrap();
    let left = |key: &str| {
        Some(PresenceEvent::Left {
            key: key.to_owned(),
        })
    };
    assert_eq!(watcher.next().await, left("bob"));
    drop(alice);
    let began = tokio::time::Instant::now();
    assert_eq!(watcher.next().await, left("alice"));
    assert!(began.elapsed() >= seconds(30), "{:?}", began.elapsed());
    assert!(watcher.members().is_empty());
}

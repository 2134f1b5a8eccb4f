//! Interest: asking, waiting, deadlines, taps, cancelling.

use dialtone_protocol::frame::{Cancel, Wanted};
use dialtone_protocol::{Code, Frame, Limits, Pattern, Subject};
use dialtone_testkit::world::patient;
use dialtone_testkit::{Manner, Peer, World};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::{millis, seconds, simulate};

async fn pair(seed: u64) -> (World, Peer, Peer) {
    let world = World::new(seed).await;
    let (asker, other) = (world.peer().await, world.peer().await);
    (world, asker, other)
}

#[test]
fn a_question_is_answered_at_once() {
    simulate(1, async |seed| {
        let (_world, mut asker, mut other) = pair(seed).await;
        let ask = async |asker: &mut Peer, subject: &str| {
            let request = asker.ask_interest(subject, seconds(0)).await;
            asker.interested(request).await
        };
        assert_eq!(ask(&mut asker, "a.b").await, Ok(false));
        let tap = other
            .subscribe_to(Wanted {
                tap: true,
                ..Wanted::new("a.>")
            })
            .await
            .unwrap();
        assert_eq!(ask(&mut asker, "a.b").await, Ok(false));
        let star = other.subscribe("a.*").await.unwrap();
        assert_eq!(ask(&mut asker, "a.b").await, Ok(true));
        assert_eq!(ask(&mut asker, "a.b.c").await, Ok(false));
        other.unsubscribe(&[star, tap]).await;
        assert_eq!(ask(&mut asker, "a.b").await, Ok(false));
        let group = Wanted {
            group: Some("g".to_owned()),
            ..Wanted::new("a.b")
        };
        other.subscribe_to(group).await.unwrap();
        assert_eq!(ask(&mut asker, "a.b").await, Ok(true));
        assert_eq!(
            Peer::code(ask(&mut asker, "a.*").await),
            Code::InvalidSubject
        );
        assert_eq!(
            Peer::code(ask(&mut asker, "a..b").await),
            Code::InvalidSubject
        );
    });
}

#[test]
fn a_wait_ends_with_a_subscription_that_matches_and_no_other() {
    simulate(30, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed).await;
        world.network(Manner::rough(seed));
        let mut asker = world.peer().await;
        let mut other = world.peer().await;
        let subjects = ["a", "b", "a.b", "a.c", "b.a", "a.b.c"];
        let patterns = [
            "a", "b", "*", "a.*", "*.a", "a.b", ">", "a.>", "a.b.>", "b.*", "c.>", "*.*.c",
        ];
        for _ in 0..20 {
            let subject = *subjects.choose(&mut rng).unwrap();
            let request = asker.ask_interest(subject, seconds(3_000)).await;
            assert_eq!(asker.sync().await, []);
            loop {
                let pattern = *patterns.choose(&mut rng).unwrap();
                let tap = rng.random_ratio(1, 5);
                let id = other
                    .subscribe_to(Wanted {
                        tap,
                        ..Wanted::new(pattern)
                    })
                    .await
                    .unwrap();
                let matches = Pattern::new(pattern)
                    .unwrap()
                    .matches(&Subject::new(subject).unwrap());
                let ends = matches && !tap;
                if ends {
                    assert_eq!(
                        asker.interested(request).await,
                        Ok(true),
                        "{pattern} and {subject}"
                    );
                } else {
                    assert_eq!(
                        asker.sync().await,
                        [],
                        "{pattern} is no answer for {subject}"
                    );
                }
                other.unsubscribe(&[id]).await;
                if ends {
                    break;
                }
            }
        }
        assert_eq!(world.broker().status().interest_waiting, 0);
    });
}

#[test]
fn a_wait_ends_at_its_own_deadline() {
    simulate(1, async |seed| {
        let (world, mut asker, _other) = pair(seed).await;
        let began = Instant::now();
        let late = asker.ask_interest("late", millis(5_000)).await;
        let early = asker.ask_interest("early", millis(1_000)).await;
        let long = asker.ask_interest("long", seconds(1_000_000)).await;
        assert_eq!(asker.interested(early).await, Ok(false));
        assert_eq!(began.elapsed().as_millis() / 10, 100);
        assert_eq!(asker.interested(late).await, Ok(false));
        assert_eq!(began.elapsed().as_millis() / 10, 500);
        assert_eq!(asker.interested(long).await, Ok(false));
        assert_eq!(
            began.elapsed().as_millis() / 10,
            9_000,
            "longer waits count as 90 s"
        );
        assert_eq!(world.broker().status().interest_waiting, 0);
    });
}

#[test]
fn a_cancelled_wait_has_no_answer() {
    simulate(1, async |seed| {
        let (world, mut asker, mut other) = pair(seed).await;
        let request = asker.ask_interest("a", seconds(60)).await;
        asker.send(&Frame::Cancel(Cancel { request })).await;
        asker.sync().await;
        assert_eq!(world.broker().status().interest_waiting, 0);
        other.subscribe("a").await.unwrap();
        assert_eq!(asker.listen(seconds(100)).await, []);
    });
}

#[test]
fn waits_of_a_peer_that_left_are_forgotten() {
    simulate(1, async |seed| {
        let (world, mut asker, mut other) = pair(seed).await;
        asker.ask_interest("a", seconds(60)).await;
        asker.sync().await;
        assert_eq!(world.broker().status().interest_waiting, 1);
        drop(asker);
        other.listen(seconds(10)).await;
        assert_eq!(world.broker().status().interest_waiting, 0);
        other.subscribe("a").await.unwrap();
    });
}

#[test]
fn too_many_waits_are_refused() {
    simulate(1, async |seed| {
        let mut config = patient();
        config.limits = Limits {
            requests_max: 2,
            ..Limits::default()
        };
        config.interest_waiting_max = 3;
        let world = World::open(seed, config).await;
        let (mut one, mut other) = (world.peer().await, world.peer().await);
        for _ in 0..2 {
            one.ask_interest("a", seconds(60)).await;
        }
        let third = one.ask_interest("a", seconds(60)).await;
        assert_eq!(Peer::code(one.interested(third).await), Code::TooMany);
        let fits = other.ask_interest("a", seconds(60)).await;
        let beyond = other.ask_interest("a", seconds(60)).await;
        assert_eq!(Peer::code(other.interested(beyond).await), Code::TooMany);
        assert_eq!(other.interested(fits).await, Ok(false));
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_until_somebody_listens() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let (asker, other) = (world.client().await?, world.client().await?);
    assert!(!asker.interest("a.b").await?);
    let subscribing = async {
        tokio::time::sleep(seconds(5)).await;
        other.subscribe("a.*").await
    };
    let (interested, subscription) =
        tokio::join!(asker.wait_for_interest("a.b", seconds(60)), subscribing);
    assert!(interested?);
    drop(subscription);
    other.flush().await?;
    assert!(!asker.wait_for_interest("a.b", seconds(2)).await?);
    Ok(())
}

//! Permissions: rules and providers that take their time, changes that are pushed, and inboxes that nobody can guess.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use dialtone_broker::auth::{Permissions, Rule, Rules};
use dialtone_client::RequestError;
use dialtone_protocol::frame::{Action, Publish, Subscribe, Wanted};
use dialtone_protocol::{Code, Frame, Pattern, RequestId, SubscriptionId};
use dialtone_testkit::peer::{NotWelcome, publish};
use dialtone_testkit::providers::Scripted;
use dialtone_testkit::world::patient;
use dialtone_testkit::{Manner, Peer, Said, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::{millis, seconds, simulate};

fn rule(allow: &[&str], deny: &[&str]) -> Rule {
    let patterns = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Pattern::new(text).unwrap())
            .collect()
    };
    Rule {
        allow: patterns(allow),
        deny: patterns(deny),
    }
}

fn rules(publish: Rule, subscribe: Rule) -> Permissions {
    Permissions::Rules(Arc::new(Rules { publish, subscribe }))
}

/// A broker with a root user, who may do everything.
async fn world(seed: u64, provider: &Scripted) -> (World, Peer) {
    provider.user("root", Permissions::All);
    let world = World::with(seed, patient(), Arc::new(provider.clone())).await;
    let root = world.user("root").await.unwrap();
    (world, root)
}

fn deliveries(said: &[Said]) -> Vec<String> {
    let subject = |said: &Said| {
        if let Said::Deliver(delivered) = said {
            Some(delivered.subject.clone())
        } else {
            None
        }
    };
    said.iter().filter_map(subject).collect()
}

#[test]
fn rules_allow_and_deny() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, millis(100));
        provider.user(
            "ann",
            rules(
                rule(&["a.>"], &["a.secret"]),
                rule(&["a.*", "b.>"], &["b.secret.>"]),
            ),
        );
        let (world, mut root) = world(seed, &provider).await;
        root.subscribe(">").await.unwrap();
        let mut ann = world.user("ann").await.unwrap();
        assert_eq!(ann.welcome().identity, "ann");
        assert_eq!(ann.publish_acked("a.b", b"").await, Ok(1));
        assert_eq!(
            Peer::code(ann.publish_acked("a.secret", b"").await),
            Code::Denied
        );
        assert_eq!(
            Peer::code(ann.publish_acked("b.c", b"").await),
            Code::Denied
        );
        assert_eq!(
            Peer::code(ann.publish_acked("sys.status", b"").await),
            Code::Denied
        );
        for denied in [">", "a.>", "b.>", "b.*.x", "b.secret.>", "c", "*.a"] {
            assert_eq!(
                Peer::code(ann.subscribe(denied).await),
                Code::Denied,
                "{denied}"
            );
        }
        for allowed in ["a.b", "a.*", "b.a.>", "b.secret"] {
            assert!(ann.subscribe(allowed).await.is_ok(), "{allowed}");
        }
        let question = ann.ask_interest("b.c", seconds(0)).await;
        assert_eq!(Peer::code(ann.interested(question).await), Code::Denied);
        assert_eq!(deliveries(&root.sync().await), ["a.b"]);
        assert!(
            provider.asked().is_empty(),
            "the broker applies rules itself"
        );
    });
}

#[test]
fn a_refused_publish_without_acknowledgement_is_told_once() {
    simulate(3, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", rules(rule(&["a"], &[]), rule(&[], &[])));
        let (world, _root) = world(seed, &provider).await;
        // Each on a connection of its own: what a connection remembers of many subjects is bounded.
        for (subject, code) in [("b", Code::Denied), ("not valid", Code::InvalidSubject)] {
            let mut ann = world.user("ann").await.unwrap();
            for _ in 0..5 {
                ann.publish(subject, b"x").await;
            }
            let said = ann.sync().await;
            let [Said::Denied(denied)] = &said[..] else {
                panic!("{said:?}")
            };
            assert_eq!((denied.subject.as_str(), denied.code), (subject, code));
            assert!(!ann.is_over());
        }
    });
}

/// The provider's taste in this file.
fn likes(subject: &str) -> bool {
    subject.bytes().map(u32::from).sum::<u32>() % 3 != 0
}

#[test]
fn order_is_kept_whatever_authorization_costs_and_decisions_are_kept() {
    simulate(30, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let provider = Scripted::new(seed, millis(500));
        provider.user("ann", Permissions::Ask);
        provider.decide(|_, _, subject| likes(subject));
        let (world, mut root) = world(seed, &provider).await;
        root.subscribe("s.*").await.unwrap();
        world.network(Manner::rough(seed));
        let mut ann = world.user("ann").await.unwrap();
        let (mut bytes, mut expected, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..150 {
            let subject = format!("s.{}", rng.random_range(0..40));
            let request = RequestId(number);
            if rng.random_ratio(1, 10) {
                let wanted = vec![Wanted {
                    id: SubscriptionId(number),
                    ..Wanted::new("other")
                }];
                Frame::Subscribe(Subscribe { request, wanted }).encode(&mut bytes);
                answers.push((request, likes("other")));
                continue;
            }
            let frame = Publish {
                request: Some(request),
                ..publish(&subject, b"x")
            };
            Frame::Publish(frame).encode(&mut bytes);
            answers.push((request, likes(&subject)));
            if likes(&subject) {
                expected.push(subject);
            }
        }
        ann.send_bytes(&bytes).await;
        let said = ann.sync().await;
        let got: Vec<(RequestId, bool)> = said
            .iter()
            .filter_map(|said| match said {
                Said::Published(published) => Some((published.request, published.outcome.is_ok())),
                Said::Subscribed(subscribed) => {
                    Some((subscribed.request, subscribed.refused.is_empty()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(got, answers, "answers come in order");
        assert_eq!(deliveries(&root.sync().await), expected);
        let asked = provider.asked();
        let distinct: BTreeSet<String> = asked
            .iter()
            .map(|question| format!("{question:?}"))
            .collect();
        assert_eq!(distinct.len(), asked.len(), "asked twice");
        assert!(asked.iter().all(|(who, _, _)| who == "ann"));
    });
}

#[test]
fn a_slow_provider_holds_up_only_who_it_is_asked_about() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", Permissions::Ask);
        let (world, mut root) = world(seed, &provider).await;
        let mut ann = world.user("ann").await.unwrap();
        provider.delay(seconds(1_000));
        ann.publish("a", b"x").await;
        let began = Instant::now();
        root.subscribe("b").await.unwrap();
        assert_eq!(root.publish_acked("b", b"x").await, Ok(1));
        assert!(began.elapsed() < millis(10));
    });
}

#[test]
fn a_connection_can_be_ended_while_its_provider_thinks() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", Permissions::Ask);
        let (world, _root) = world(seed, &provider).await;
        let mut ann = world.user("ann").await.unwrap();
        provider.delay(seconds(1_000_000));
        ann.publish("a", b"x").await;
        tokio::time::sleep(millis(1)).await;
        assert!(world.broker().kick(ann.welcome().connection, "out"));
        let closed = tokio::time::timeout(seconds(60), ann.closed()).await;
        assert_eq!(
            closed.ok().flatten().map(|close| close.code),
            Some(Code::Kicked)
        );
    });
}

#[test]
fn deliveries_are_written_while_the_provider_thinks() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", Permissions::Ask);
        provider.decide(|_, _, _| true);
        let (world, mut root) = world(seed, &provider).await;
        world.network(Manner {
            capacity: 1_024,
            ..Manner::ideal()
        });
        let mut ann = world.user("ann").await.unwrap();
        ann.subscribe("news").await.unwrap();
        provider.delay(seconds(1_000_000));
        ann.publish("a", b"x").await;
        tokio::time::sleep(millis(1)).await;
        for _ in 0..20 {
            root.publish("news", &[0; 1_000]).await;
        }
        root.sync().await;
        assert_eq!(deliveries(&ann.listen(seconds(5)).await).len(), 20);
    });
}

#[test]
fn a_change_ends_what_is_no_longer_permitted() {
    simulate(10, async |seed| {
        let provider = Scripted::new(seed, millis(200));
        provider.user("ann", Permissions::Ask);
        provider.user("ben", Permissions::Ask);
        provider.decide(|_, _, _| true);
        let (world, mut root) = world(seed, &provider).await;
        let (mut ann, mut ben) = (
            world.user("ann").await.unwrap(),
            world.user("ben").await.unwrap(),
        );
        let mut ids = Vec::new();
        for pattern in ["a", "b", "c.*"] {
            ids.push(ann.subscribe(pattern).await.unwrap());
            ben.subscribe(pattern).await.unwrap();
        }
        assert_eq!(ann.publish_acked("d", b"x").await, Ok(0));
        provider.decide(|who, action, subject| {
            who != "ann" || (action == Action::Subscribe && subject == "b")
        });
        world.broker().permissions_changed(Some("ann"));
        let (mut ended, mut denied) = (Vec::new(), Vec::new());
        for said in ann.listen(seconds(5)).await {
            match said {
                Said::Ended(end) => ended.push((end.subscription, end.code)),
                Said::Denied(told) => denied.push((told.action, told.subject, told.code)),
                said => panic!("{said:?}"),
            }
        }
        assert_eq!(
            denied,
            [(Action::Publish, "d".to_owned(), Code::Denied)],
            "it hears of the subject that it has published to, without asking"
        );
        ended.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(ended, [(ids[0], Code::Denied), (ids[2], Code::Denied)]);
        assert_eq!(Peer::code(ann.publish_acked("d", b"x").await), Code::Denied);
        for (subject, count) in [("a", 1), ("b", 2), ("c.d", 1)] {
            assert_eq!(
                root.publish_acked(subject, b"x").await,
                Ok(count),
                "{subject}"
            );
        }
        assert_eq!(deliveries(&ann.sync().await), ["b"]);
        assert_eq!(deliveries(&ben.sync().await).len(), 3);

        provider.forget("ann");
        world.broker().permissions_changed(None);
        assert_eq!(
            ann.closed().await.map(|close| close.code),
            Some(Code::Kicked)
        );
        assert!(
            matches!(world.user("ann").await, Err(NotWelcome::Closed(close)) if close.code == Code::Unauthenticated)
        );
        assert_eq!(root.publish_acked("b", b"x").await, Ok(1));
    });
}

/// Rules are applied by the broker itself, which keeps no list of decisions.
#[test]
fn rules_that_change_are_told_to_who_has_published() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", rules(rule(&["a.>"], &[]), rule(&[], &[])));
        let (world, _root) = world(seed, &provider).await;
        let mut ann = world.user("ann").await.unwrap();
        for subject in ["a.c", "a.b", "a.d"] {
            assert_eq!(ann.publish_acked(subject, b"x").await, Ok(0));
        }
        provider.user("ann", rules(rule(&["a.d"], &[]), rule(&[], &[])));
        world.broker().permissions_changed(Some("ann"));
        let said = ann.listen(seconds(1)).await;
        let denied = said.iter().map(|said| match said {
            Said::Denied(denied) => denied.subject.as_str(),
            said => panic!("{said:?}"),
        });
        assert_eq!(denied.collect::<Vec<_>>(), ["a.b", "a.c"]);
        assert_eq!(ann.publish_acked("a.d", b"x").await, Ok(0));
    });
}

/// What would be answered afterwards is not for the one who asked.
#[test]
fn a_question_ends_with_the_permission_to_ask() {
    simulate(3, async |seed| {
        let provider = Scripted::new(seed, millis(100));
        provider.user("ann", Permissions::Ask);
        provider.decide(|_, _, _| true);
        let (world, mut root) = world(seed, &provider).await;
        for pattern in ["slow", "other"] {
            root.subscribe(pattern).await.unwrap();
        }
        let ann = world.options().token("ann").connect().await.unwrap();
        let (slow, other) = (ann.message("slow"), ann.message("other"));
        let mut slow = pin!(slow.timeout(seconds(1_000)).request());
        let mut other = pin!(other.timeout(seconds(1_000)).request());
        // Both are with the service, which takes its time.
        let asked = tokio::time::timeout(
            seconds(5),
            futures_util::future::join(&mut slow, &mut other),
        );
        assert!(asked.await.is_err());
        provider.decide(|_, _, subject| subject != "slow");
        world.broker().permissions_changed(Some("ann"));
        let began = Instant::now();
        let error = slow.await.unwrap_err();
        assert!(matches!(&error, RequestError::Withdrawn(_)), "{error:?}");
        assert_eq!(error.code(), Code::Denied);
        assert!(began.elapsed() < seconds(5), "{:?}", began.elapsed());
        let still = tokio::time::timeout(seconds(5), other).await;
        assert!(still.is_err(), "{still:?}");
    });
}

#[test]
fn subscriptions_that_end_together_are_told_in_order() {
    simulate(3, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", rules(rule(&[], &[]), rule(&[">"], &[])));
        let (world, _root) = world(seed, &provider).await;
        let mut ann = world.user("ann").await.unwrap();
        for index in 0..20 {
            ann.subscribe(&format!("s.{index}")).await.unwrap();
        }
        provider.user("ann", rules(rule(&[], &[]), rule(&[], &[])));
        world.broker().permissions_changed(Some("ann"));
        let said = ann.listen(seconds(1)).await;
        let ids = said.iter().map(|said| {
            if let Said::Ended(ended) = said {
                ended.subscription
            } else {
                panic!("{said:?}")
            }
        });
        let ids: Vec<SubscriptionId> = ids.collect();
        assert_eq!(ids.len(), 20);
        assert!(ids.is_sorted(), "the order depends on a hash: {ids:?}");
    });
}

#[test]
fn an_inbox_is_reached_with_its_secret_alone() {
    simulate(5, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", rules(rule(&[], &[]), rule(&[], &[])));
        provider.user("eve", rules(rule(&[">"], &[]), rule(&[">"], &[])));
        let (world, mut root) = world(seed, &provider).await;
        let (mut ann, mut eve) = (
            world.user("ann").await.unwrap(),
            world.user("eve").await.unwrap(),
        );
        let inbox = ann.welcome().inbox.clone();
        let (name, secret) = inbox.split_once('-').unwrap();
        assert!(secret.len() >= 22, "128 bits take more than {secret:?}");
        let mut wrong = secret.to_owned();
        wrong.replace_range(..1, if secret.starts_with('0') { "1" } else { "0" });
        for secret in [
            wrong.as_str(),
            "",
            secret.strip_suffix(|_: char| true).unwrap(),
            &format!("{secret}0"),
            "*",
        ] {
            let outcome = eve
                .publish_acked(&format!("{name}-{secret}.x"), b"evil")
                .await;
            assert!(
                outcome.as_ref().is_ok_and(|count| *count == 0) || outcome.is_err(),
                "{secret:?}: {outcome:?}"
            );
        }
        assert_eq!(ann.sync().await, []);
        // Knowing it is the permission, also for who may publish nothing else.
        let mut other = world.user("ann").await.unwrap();
        assert_eq!(
            other.publish_acked(&format!("{inbox}.1.2"), b"hi").await,
            Ok(1)
        );
        assert_eq!(deliveries(&ann.sync().await), [format!("{inbox}.1.2")]);
        // It goes there alone.
        root.subscribe(">").await.unwrap();
        assert_eq!(
            other.publish_acked(&format!("{inbox}.1"), b"hi").await,
            Ok(1)
        );
        assert_eq!(root.sync().await, []);
        drop(ann);
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(
            other.publish_acked(&format!("{inbox}.1"), b"hi").await,
            Ok(0)
        );
    });
}

#[test]
fn inboxes_are_not_subscribed_to_without_an_explicit_permission() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("eve", rules(rule(&[">"], &[]), rule(&[">"], &[])));
        let (world, _root) = world(seed, &provider).await;
        let mut eve = world.user("eve").await.unwrap();
        let outcome = eve.subscribe("_INBOX.>").await;
        assert!(
            outcome.is_err(),
            "§6.4: refused to ordinary principals, unless permitted explicitly"
        );
    });
}

//! Nodes that act as one: what a client sees does not depend on which node it is connected to.

use dialtone_broker::cluster::Gateway;
use dialtone_broker::cluster::status::MemberState;
use dialtone_protocol::Code;
use dialtone_protocol::frame::{Pick, Wanted};
use dialtone_testkit::fleet::member;
use dialtone_testkit::peer::{fragments, publish};
use dialtone_testkit::{Fleet, Peer, Said};

use crate::{seconds, simulate};

fn in_group(pattern: &str, group: &str, pick: Pick) -> Wanted {
    Wanted {
        group: Some(group.to_owned()),
        pick,
        ..Wanted::new(pattern)
    }
}

fn tap(pattern: &str) -> Wanted {
    Wanted {
        tap: true,
        ..Wanted::new(pattern)
    }
}

/// The payloads that a peer gets until nothing comes for a while.
async fn heard(peer: &mut Peer) -> Vec<Vec<u8>> {
    let said = peer.listen(seconds(2)).await;
    said.into_iter()
        .filter_map(|said| match said {
            Said::Deliver(delivered) => Some(delivered.payload.to_vec()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_message_reaches_subscribers_everywhere_once_for_each_and_is_counted() {
    simulate(5, async |_| {
        let fleet = Fleet::new(3).await;
        let mut publisher = fleet.peer("n1").await;
        let mut others = Vec::new();
        for node in ["n1", "n2", "n2", "n3"] {
            let mut peer = fleet.peer(node).await;
            peer.subscribe("a.b").await.unwrap();
            peer.subscribe("a.*").await.unwrap();
            others.push(peer);
        }
        fleet.rest().await;
        assert_eq!(publisher.publish_acked("a.b", b"one").await, Ok(8));
        publisher.publish("a.c", b"two").await;
        for peer in &mut others {
            assert_eq!(
                heard(peer).await,
                [b"one".to_vec(), b"one".to_vec(), b"two".to_vec()]
            );
        }
        // Once over each link, whatever is behind it.
        let status = fleet.node("n1").broker.cluster().unwrap().status();
        let sent: Vec<u64> = status.links.iter().map(|link| link.messages_out).collect();
        assert_eq!(sent, [2, 2]);
        assert_eq!(publisher.publish_acked("nobody", b"x").await, Ok(0));
    });
}

#[test]
fn order_holds_and_nothing_is_lost_in_a_stream_of_messages() {
    simulate(3, async |_| {
        let fleet = Fleet::new(2).await;
        let mut subscriber = fleet.peer("n2").await;
        subscriber.subscribe("a.>").await.unwrap();
        fleet.rest().await;
        let mut publisher = fleet.peer("n1").await;
        let mut expected = Vec::new();
        let mut bytes = Vec::new();
        for number in 0..5_000_u32 {
            let payload = number.to_le_bytes();
            let subject = ["a.x", "a.x", "a.y", "a.z.w"][number as usize % 4];
            dialtone_protocol::Frame::Publish(publish(subject, &payload)).encode(&mut bytes);
            expected.push(payload.to_vec());
        }
        publisher.send_bytes(&bytes).await;
        assert_eq!(publisher.sync().await, []);
        assert_eq!(heard(&mut subscriber).await, expected);
    });
}

#[test]
fn a_queue_group_prefers_members_here_and_is_served_once_elsewhere() {
    simulate(5, async |_| {
        let fleet = Fleet::new(3).await;
        let mut publisher = fleet.peer("n1").await;
        let mut far = Vec::new();
        for node in ["n2", "n3", "n3"] {
            let mut peer = fleet.peer(node).await;
            for group in ["g", "h"] {
                let wanted = in_group("work.*", group, Pick::Any);
                peer.subscribe_to(wanted).await.unwrap();
            }
            peer.subscribe("work.x").await.unwrap();
            far.push(peer);
        }
        fleet.rest().await;
        // Three plain subscriptions and two groups.
        for _ in 0..20 {
            assert_eq!(publisher.publish_acked("work.x", b"far").await, Ok(5));
        }
        let mut count = 0;
        for peer in &mut far {
            count += heard(peer).await.len();
        }
        assert_eq!(count, 100);
        let mut near = fleet.peer("n1").await;
        let id = near.subscribe_to(in_group("work.*", "g", Pick::Any)).await;
        assert_eq!(publisher.publish_acked("work.y", b"near").await, Ok(2));
        assert_eq!(heard(&mut near).await, [b"near".to_vec()]);
        near.unsubscribe(&[id.unwrap()]).await;
        assert_eq!(publisher.publish_acked("work.y", b"far").await, Ok(2));
        assert_eq!(heard(&mut near).await, [] as [Vec<u8>; 0]);
    });
}

#[test]
fn a_key_goes_to_the_same_member_from_every_node() {
    simulate(3, async |_| {
        let fleet = Fleet::new(3).await;
        let mut members = Vec::new();
        for node in ["n1", "n2", "n2", "n3"] {
            let mut peer = fleet.peer(node).await;
            let wanted = in_group("job.*", "g", Pick::Segment(1));
            peer.subscribe_to(wanted).await.unwrap();
            members.push(peer);
        }
        // Numbers of members are gathered before they are told.
        tokio::time::sleep(seconds(1)).await;
        fleet.rest().await;
        for key in 0..40_u8 {
            for node in ["n1", "n2", "n3"] {
                let mut publisher = fleet.peer(node).await;
                let subject = format!("job.{key}");
                assert_eq!(publisher.publish_acked(&subject, &[key]).await, Ok(1));
            }
        }
        let mut busy = 0;
        let mut total = 0;
        for peer in &mut members {
            let mut keys: Vec<u8> = heard(peer).await.iter().map(|payload| payload[0]).collect();
            total += keys.len();
            keys.sort_unstable();
            assert!(
                keys.chunks(3)
                    .all(|key| key[0] == key[key.len() - 1] && key.len() == 3)
            );
            busy += usize::from(!keys.is_empty());
        }
        assert_eq!((busy, total), (4, 120));
    });
}

#[test]
fn large_messages_cross_in_fragments_to_one_member() {
    simulate(3, async |_| {
        let fleet = Fleet::new(2).await;
        let mut members = Vec::new();
        for _ in 0..3 {
            let mut peer = fleet.peer("n2").await;
            peer.subscribe_to(in_group("big", "g", Pick::Any))
                .await
                .unwrap();
            peer.subscribe_to(in_group("*", "h", Pick::Any))
                .await
                .unwrap();
            members.push(peer);
        }
        fleet.rest().await;
        let mut publisher = fleet.peer("n1").await;
        let payload = vec![7; 20_000];
        let mut request = None;
        let mut frames = fragments(9, "big", &payload, 1_000);
        let last = frames.len() - 1;
        for (index, frame) in frames.iter_mut().enumerate() {
            if index == last {
                let number = dialtone_protocol::RequestId(publisher.number());
                frame.request = Some(number);
                request = Some(number);
            }
        }
        for frame in frames {
            publisher
                .send(&dialtone_protocol::Frame::Publish(frame))
                .await;
        }
        let outcome = publisher
            .find(|said| match said {
                Said::Published(published) if Some(published.request) == request => {
                    Some(published.outcome.clone())
                }
                _ => None,
            })
            .await;
        assert_eq!(outcome, Ok(2));
        let mut parts = 0;
        for peer in &mut members {
            let heard = heard(peer).await;
            assert!(heard.len().is_multiple_of(20), "{}", heard.len());
            parts += heard.len();
        }
        assert_eq!(parts, 40);
    });
}

#[test]
fn requests_are_answered_across_nodes_and_fail_at_once_where_nobody_serves() {
    simulate(3, async |_| {
        let fleet = Fleet::new(2).await;
        let mut service = fleet.peer("n2").await;
        service.subscribe("service").await.unwrap();
        fleet.rest().await;
        let mut asker = fleet.peer("n1").await;
        let reply = format!("{}.1", asker.welcome().inbox);
        assert!(reply.contains("n1@c"), "{reply}");
        assert_eq!(service.publish_acked(&reply, b"answer").await, Ok(1));
        assert_eq!(heard(&mut asker).await, [b"answer".to_vec()]);
        let gone = reply.replace("n1@c", "n9@c");
        assert_eq!(service.publish_acked(&gone, b"answer").await, Ok(0));
        let other = format!("{}0.1", asker.welcome().inbox);
        assert_eq!(service.publish_acked(&other, b"guess").await, Ok(0));
    });
}

#[test]
fn who_waits_for_interest_is_told_of_interest_elsewhere_and_taps_are_none() {
    simulate(3, async |_| {
        let fleet = Fleet::new(2).await;
        let mut asker = fleet.peer("n1").await;
        let request = asker.ask_interest("a.b", seconds(30)).await;
        let mut other = fleet.peer("n2").await;
        other.subscribe_to(tap("a.>")).await.unwrap();
        fleet.rest().await;
        assert_eq!(asker.publish_acked("a.b", b"tapped").await, Ok(0));
        assert_eq!(heard(&mut other).await, [b"tapped".to_vec()]);
        let now = asker.ask_interest("a.b", seconds(0)).await;
        assert_eq!(asker.interested(now).await, Ok(false));
        other.subscribe("a.*").await.unwrap();
        assert_eq!(asker.interested(request).await, Ok(true));
        let now = asker.ask_interest("a.b", seconds(0)).await;
        assert_eq!(asker.interested(now).await, Ok(true));
    });
}

#[test]
fn a_node_that_stops_is_gone_at_once_and_one_that_starts_again_is_back() {
    simulate(5, async |_| {
        let mut fleet = Fleet::new(3).await;
        let mut subscriber = fleet.peer("n3").await;
        subscriber.subscribe("a").await.unwrap();
        fleet.rest().await;
        let mut publisher = fleet.peer("n2").await;
        assert_eq!(publisher.publish_acked("a", b"x").await, Ok(1));
        drop(subscriber);
        fleet.stop("n3").await;
        assert_eq!(publisher.publish_acked("a", b"x").await, Ok(0));
        let status = fleet.node("n2").broker.cluster().unwrap().status();
        let state = |name: &str| {
            let member = status.members.iter().find(|member| member.node == name);
            member.map(|member| member.state)
        };
        assert_eq!(state("n3"), Some(MemberState::Left));
        assert_eq!(state("n1"), Some(MemberState::Linked));
        fleet.start("c", "n3", &["n2"]).await;
        fleet.rest().await;
        let mut subscriber = fleet.peer("n3").await;
        subscriber.subscribe("a").await.unwrap();
        fleet.rest().await;
        assert_eq!(publisher.publish_acked("a", b"x").await, Ok(1));
    });
}

#[test]
fn a_node_leaves_and_joins_again_while_its_clients_stay() {
    simulate(3, async |_| {
        let fleet = Fleet::new(3).await;
        let (mut here, mut there) = (fleet.peer("n1").await, fleet.peer("n2").await);
        there.subscribe("a").await.unwrap();
        fleet.rest().await;
        let cluster = fleet.node("n1").broker.cluster().unwrap();
        cluster.leave();
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(cluster.status().links, []);
        assert_eq!(here.publish_acked("a", b"x").await, Ok(0));
        assert_eq!(there.publish_acked("a", b"x").await, Ok(1));
        cluster.join("memory:n3".parse().unwrap());
        fleet.rest().await;
        assert_eq!(cluster.status().links.len(), 2);
        assert_eq!(here.publish_acked("a", b"x").await, Ok(1));
    });
}

#[test]
fn clients_are_told_where_the_other_nodes_are() {
    simulate(3, async |_| {
        let mut fleet = Fleet::new(2).await;
        let mut client = fleet.peer("n1").await;
        let sorted = |mut addresses: Vec<String>| {
            addresses.sort();
            addresses
        };
        let all = ["memory:clients-of-n1", "memory:clients-of-n2"];
        assert_eq!(sorted(client.welcome().addresses.clone()), all);
        fleet.start("c", "n3", &["n1"]).await;
        let next = async |client: &mut Peer| {
            client
                .find(|said| match said {
                    Said::Addresses(told) => Some(told.addresses.clone()),
                    _ => None,
                })
                .await
        };
        let told = next(&mut client).await;
        assert!(told.contains(&"memory:clients-of-n3".to_owned()));
        fleet.stop("n2").await;
        let mut told = next(&mut client).await;
        while told.contains(&"memory:clients-of-n2".to_owned()) {
            told = next(&mut client).await;
        }
        assert_eq!(
            sorted(told),
            ["memory:clients-of-n1", "memory:clients-of-n3"]
        );
    });
}

#[test]
fn a_draining_node_sends_its_clients_to_the_others_and_passes_messages_until_they_have_gone() {
    simulate(3, async |_| {
        let fleet = Fleet::new(3).await;
        let (mut here, mut there) = (fleet.peer("n1").await, fleet.peer("n2").await);
        there.subscribe("a").await.unwrap();
        here.subscribe("b").await.unwrap();
        fleet.rest().await;
        fleet.node("n1").broker.drain();
        let drain = here
            .find(|said| match said {
                Said::Drain(drain) => Some(drain.clone()),
                _ => None,
            })
            .await;
        let mut addresses = drain.addresses;
        addresses.sort();
        assert_eq!(addresses, ["memory:clients-of-n2", "memory:clients-of-n3"]);
        assert_eq!(here.publish_acked("a", b"x").await, Ok(1));
        assert_eq!(there.publish_acked("b", b"y").await, Ok(1));
        // Nobody is sent to it any more.
        let told = there
            .find(|said| match said {
                Said::Addresses(told) => Some(told.addresses.clone()),
                _ => None,
            })
            .await;
        assert!(
            !told.contains(&"memory:clients-of-n1".to_owned()),
            "{told:?}"
        );
    });
}

#[test]
fn nodes_of_another_name_or_cluster_are_refused_on_both_sides() {
    simulate(3, async |_| {
        let mut fleet = Fleet::new(1).await;
        fleet.start("other", "x1", &["n1"]).await;
        tokio::time::sleep(seconds(30)).await;
        for node in ["n1", "x1"] {
            let status = fleet.node(node).broker.cluster().unwrap().status();
            assert_eq!(status.links, []);
            let refusal = &status.refusals[0];
            assert_eq!(refusal.code, Code::Denied.number());
            assert!(refusal.text.contains("\"c\""), "{}", refusal.text);
        }
    });
}

/// Two clusters of two nodes each, joined by gateways on every node.
async fn two_clusters() -> Fleet {
    let mut fleet = Fleet::default();
    for (cluster, other, names, urls) in [
        ("east", "west", ["e1", "e2"], ["w1", "w2"]),
        ("west", "east", ["w1", "w2"], ["e2", "e1"]),
    ] {
        for name in names {
            let mut config = member(fleet.hub(), cluster, name, &names);
            let gateway = Gateway {
                name: other.to_owned(),
                urls: urls
                    .iter()
                    .map(|url| format!("memory:{url}").parse().unwrap())
                    .collect(),
                dial: None,
                secret: None,
            };
            config.cluster.as_mut().unwrap().gateways.push(gateway);
            fleet.start_with(config).await;
        }
    }
    settle(&fleet).await;
    fleet
}

/// Waits until members agree and what is told through gateways has arrived.
async fn settle(fleet: &Fleet) {
    fleet.rest().await;
    tokio::time::sleep(seconds(5)).await;
    fleet.rest().await;
}

#[test]
fn gateways_carry_messages_between_clusters_once_and_count_them() {
    simulate(3, async |_| {
        let fleet = two_clusters().await;
        let mut far = Vec::new();
        for node in ["w1", "w2"] {
            let mut peer = fleet.peer(node).await;
            peer.subscribe("a.*").await.unwrap();
            far.push(peer);
        }
        let mut near = fleet.peer("e2").await;
        near.subscribe("a.b").await.unwrap();
        settle(&fleet).await;
        for node in ["e1", "e2"] {
            let mut publisher = fleet.peer(node).await;
            assert_eq!(publisher.publish_acked("a.b", b"x").await, Ok(3), "{node}");
        }
        for peer in far.iter_mut().chain([&mut near]) {
            assert_eq!(heard(peer).await.len(), 2);
        }
        let mut back = fleet.peer("w1").await;
        assert_eq!(back.publish_acked("a.b", b"y").await, Ok(3));
        // Inboxes name the cluster.
        let mut asker = fleet.peer("e1").await;
        let reply = format!("{}.1", asker.welcome().inbox);
        for node in ["w1", "w2"] {
            let mut service = fleet.peer(node).await;
            assert_eq!(
                service.publish_acked(&reply, b"answer").await,
                Ok(1),
                "{node}"
            );
        }
        assert_eq!(heard(&mut asker).await.len(), 2);
    });
}

#[test]
fn queue_groups_prefer_their_own_cluster() {
    simulate(3, async |_| {
        let fleet = two_clusters().await;
        let mut far = fleet.peer("w2").await;
        far.subscribe_to(in_group("work", "g", Pick::Any))
            .await
            .unwrap();
        settle(&fleet).await;
        let mut publisher = fleet.peer("e1").await;
        assert_eq!(publisher.publish_acked("work", b"far").await, Ok(1));
        assert_eq!(heard(&mut far).await, [b"far".to_vec()]);
        let mut own = fleet.peer("e2").await;
        own.subscribe_to(in_group("work", "g", Pick::Any))
            .await
            .unwrap();
        settle(&fleet).await;
        for _ in 0..10 {
            assert_eq!(publisher.publish_acked("work", b"own").await, Ok(1));
        }
        assert_eq!(heard(&mut own).await.len(), 10);
        assert_eq!(heard(&mut far).await, [] as [Vec<u8>; 0]);
    });
}

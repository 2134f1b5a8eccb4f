//! The frames between nodes that the golden vectors are of.

use dialtone_protocol::SubscriptionId;
use dialtone_protocol::frame::link::{
    Check, Count, Counted, Destination, GroupInterest, InterestChanges, LinkProof, NodeInfo,
    PatternInterest, SnapshotPart,
};
use dialtone_protocol::frame::{Frame, Link, LinkHello, Pick, handshake};

use super::Expected::{Both, Read};
use super::{Sample, extended};

fn node(name: &str, left: bool) -> NodeInfo {
    NodeInfo {
        name: name.to_owned(),
        incarnation: 1_700_000_000_000,
        revision: 2,
        left,
        addresses: vec!["quic://10.0.0.1:4434".to_owned()],
        client_addresses: vec!["wss://a.example:4443/".to_owned()],
    }
}

fn interests() -> Vec<PatternInterest> {
    let plain = PatternInterest {
        plain: true,
        ..PatternInterest::none("a.*")
    };
    let group = GroupInterest {
        name: "workers".to_owned(),
        pick: Pick::Segment(1),
        number: SubscriptionId(7),
        members: 300,
    };
    let groups = PatternInterest {
        tap: true,
        groups: vec![group],
        ..PatternInterest::none("jobs.>")
    };
    vec![plain, groups, PatternInterest::none("gone")]
}

pub(super) fn samples() -> Vec<(&'static str, Vec<Sample>)> {
    let link = |link| Both(Frame::Link(link));
    let hello = LinkHello {
        magic: handshake::MAGIC,
        version_min: 1,
        version_max: 1,
        cluster: "east".to_owned(),
        to_cluster: "east".to_owned(),
        node: node("n1", false),
        server: "dialtone/0.1.0".to_owned(),
        nonce: [0xa5; 32],
    };
    let later = Frame::Link(Link::Hello(Box::new(hello.clone())));
    let count = |fragmented| {
        link(Link::Count(Count {
            token: 300,
            fragmented,
        }))
    };
    vec![(
        "link",
        vec![
            ("hello", link(Link::Hello(Box::new(hello)))),
            (
                "hello of a later version",
                Read(extended(&later, &[1, 2, 3]), later),
            ),
            (
                "proof of a secret",
                link(Link::Proof(LinkProof {
                    secret: Some([0x5a; 32]),
                })),
            ),
            (
                "proof by certificate",
                link(Link::Proof(LinkProof { secret: None })),
            ),
            (
                "members",
                link(Link::Members(vec![node("n1", false), node("n2", true)])),
            ),
            (
                "interest",
                link(Link::Interest(InterestChanges {
                    since: 299,
                    version: 302,
                    changes: interests(),
                })),
            ),
            (
                "the first part of a snapshot",
                link(Link::Snapshot(SnapshotPart {
                    index: 0,
                    version: 302,
                    last: false,
                    patterns: interests(),
                })),
            ),
            (
                "the last part of a snapshot, empty",
                link(Link::Snapshot(SnapshotPart {
                    index: 1,
                    version: 302,
                    last: true,
                    patterns: vec![],
                })),
            ),
            (
                "check",
                link(Link::Check(Check {
                    version: 302,
                    hash: u64::MAX,
                    patterns: 2,
                })),
            ),
            ("resync", link(Link::Resync)),
            (
                "destination",
                link(Link::Destination(Destination {
                    number: SubscriptionId(1 << 31),
                    groups: vec![SubscriptionId(7), SubscriptionId(300)],
                })),
            ),
            ("count of the last message", count(None)),
            ("count of a fragmented message", count(Some(9))),
            (
                "counted",
                link(Link::Counted(Counted {
                    token: 300,
                    count: 2,
                })),
            ),
            ("leave", link(Link::Leave)),
        ],
    )]
}

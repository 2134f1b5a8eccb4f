//! Any frames between nodes.

use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::link::{
    Check, Count, Counted, Destination, GroupInterest, InterestChanges, LinkProof, NodeInfo,
    PatternInterest, SnapshotPart,
};
use dialtone_protocol::frame::{Frame, Link, LinkHello, Pick};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{subscription, text};

fn node() -> impl Strategy<Value = NodeInfo> {
    let said = (any::<u64>(), any::<u32>(), any::<bool>());
    (text(), said, vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(name, (incarnation, revision, left), addresses, client_addresses)| NodeInfo {
            name,
            incarnation,
            revision,
            left,
            addresses,
            client_addresses,
        },
    )
}

fn interest() -> impl Strategy<Value = PatternInterest> {
    let group = (text(), subscription(), any::<u32>(), any::<u8>()).prop_map(
        |(name, number, members, segment)| GroupInterest {
            name,
            pick: Pick::Segment(segment),
            number,
            members,
        },
    );
    (text(), any::<bool>(), any::<bool>(), vec(group, 0..3)).prop_map(
        |(pattern, plain, tap, groups)| PatternInterest {
            pattern,
            plain,
            tap,
            groups,
        },
    )
}

pub(super) fn frames() -> impl Strategy<Value = Frame<'static>> {
    let hello = (text(), text(), node(), any::<[u8; 32]>()).prop_map(
        |(cluster, to_cluster, node, nonce)| {
            Link::Hello(Box::new(LinkHello {
                magic: MAGIC,
                version_min: 1,
                version_max: 2,
                cluster,
                to_cluster,
                node,
                server: "s".to_owned(),
                nonce,
            }))
        },
    );
    let link = prop_oneof![
        hello,
        any::<Option<[u8; 32]>>().prop_map(|secret| Link::Proof(LinkProof { secret })),
        vec(node(), 0..3).prop_map(Link::Members),
        (any::<u64>(), any::<u64>(), vec(interest(), 0..4)).prop_map(
            |(since, version, changes)| Link::Interest(InterestChanges {
                since,
                version,
                changes
            })
        ),
        (
            any::<u32>(),
            any::<u64>(),
            any::<bool>(),
            vec(interest(), 0..4)
        )
            .prop_map(
                |(index, version, last, patterns)| Link::Snapshot(SnapshotPart {
                    index,
                    version,
                    last,
                    patterns
                })
            ),
        any::<[u64; 3]>().prop_map(|[version, hash, patterns]| Link::Check(Check {
            version,
            hash,
            patterns
        })),
        Just(Link::Resync),
        (subscription(), vec(subscription(), 0..5))
            .prop_map(|(number, groups)| Link::Destination(Destination { number, groups })),
        (any::<u64>(), any::<Option<u64>>())
            .prop_map(|(token, fragmented)| Link::Count(Count { token, fragmented })),
        (any::<u64>(), any::<u32>())
            .prop_map(|(token, count)| Link::Counted(Counted { token, count })),
        Just(Link::Leave),
    ];
    link.prop_map(Frame::Link)
}

//! The golden vectors: what frames look like on the wire, for ever.
//!
//! `tests/vectors/<kind>.hex` holds the vectors of one kind of frame: a comment line `# what it is`,
//! then the whole frame in hex. Files are append-only: run the tests with
//! `DIALTONE_APPEND_VECTORS=1` to add what is missing at the end; nothing that is there is changed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::PathBuf;

use dialtone_protocol::Frame;
use dialtone_protocol::codec::split_frame;
use dialtone_protocol::session::{Timing, server};

#[path = "vectors/samples.rs"]
mod samples;

use samples::Expected::{Both, Read, Refused as Rejected};
use samples::{Expected, Sample, samples};

fn path(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(format!("{kind}.hex"))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// The vectors of a file: what each is, and its bytes.
fn parse(file: &str) -> Vec<(&str, Vec<u8>)> {
    let lines: Vec<&str> = file.lines().collect();
    let pairs = lines.chunks(2).map(|pair| match pair {
        [comment, hex] => (comment.strip_prefix("# ").unwrap(), from_hex(hex)),
        other => panic!("a comment without its vector: {other:?}"),
    });
    pairs.collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "adding vectors is asked for by the environment alone"
)]
fn may_append() -> bool {
    std::env::var("DIALTONE_APPEND_VECTORS").is_ok()
}

/// The file of a kind, with missing vectors appended where that was asked for.
fn read(kind: &str, samples: &[Sample]) -> String {
    let mut file = std::fs::read_to_string(path(kind)).unwrap_or_default();
    let known = parse(&file).len();
    if may_append() && known < samples.len() {
        for (comment, expected) in &samples[known..] {
            let bytes = match expected {
                Both(frame) => frame.to_vec(),
                Read(bytes, _) | Rejected(bytes, _) => bytes.clone(),
            };
            writeln!(file, "# {comment}\n{}", to_hex(&bytes)).unwrap();
        }
        std::fs::write(path(kind), &file).unwrap();
    }
    file
}

#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
fn check(kind: &str, bytes: &[u8], expected: &Expected) {
    let (body, len) = split_frame(bytes, u32::MAX).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    match expected {
        Both(frame) => {
            assert_eq!(frame.name(), kind);
            assert_eq!(
                to_hex(&frame.to_vec()),
                to_hex(bytes),
                "the encoding of {frame:?}"
            );
            assert_eq!(&Frame::decode(body).unwrap(), frame);
        }
        Read(_, frame) => assert_eq!(&Frame::decode(body).unwrap(), frame),
        Rejected(_, code) => {
            let now = std::time::Instant::now();
            let violation = server::Session::new(Timing::default(), now)
                .on_body(body, now)
                .unwrap_err();
            assert_eq!(violation.code, *code, "{violation}");
        }
    }
}

#[test]
fn frames_are_what_the_vectors_say() {
    for (kind, samples) in samples() {
        let file = read(kind, &samples);
        let vectors = parse(&file);
        assert_eq!(vectors.len(), samples.len(), "vectors in {kind}.hex");
        for ((comment, bytes), (expected_comment, expected)) in vectors.iter().zip(&samples) {
            assert_eq!(comment, expected_comment);
            check(kind, bytes, expected);
        }
    }
}

#[test]
fn every_kind_has_vectors() {
    let kinds = samples().len();
    let unknown = Frame::decode(&[u8::try_from(kinds).unwrap()]).unwrap_err();
    assert!(
        unknown.to_string().contains("unknown frame kind"),
        "there are more than {kinds} kinds"
    );
    let files = std::fs::read_dir(path("hello").parent().unwrap()).unwrap();
    let is_hex = |path: PathBuf| path.extension().is_some_and(|extension| extension == "hex");
    let files = files
        .filter(|file| is_hex(file.as_ref().unwrap().path()))
        .count();
    assert_eq!(files, kinds, "one file per kind");
}

/// The bytes of a listing: on each line the words of hex digits before the explanation, which two
/// or more spaces set apart.
fn listed_bytes(listing: &str) -> Vec<u8> {
    let columns = listing.lines().filter_map(|line| line.split("  ").next());
    from_hex(&columns.collect::<String>().replace(' ', ""))
}

#[test]
fn the_example_in_the_text_is_made_of_vectors() {
    let text = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = std::fs::read_to_string(text).unwrap();
    let listings = text
        .split("```hex\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let known: Vec<Vec<u8>> = samples()
        .iter()
        .flat_map(|(kind, samples)| {
            let file = read(kind, samples);
            parse(&file)
                .into_iter()
                .map(|(_, bytes)| bytes)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut count = 0;
    for listing in listings {
        let bytes = listed_bytes(listing);
        assert!(known.contains(&bytes), "no vector is {}", to_hex(&bytes));
        count += 1;
    }
    assert_eq!(count, 7);
}

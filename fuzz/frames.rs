//! Frames: reading anything, and reading back what was written.

use arbitrary::{Arbitrary as _, Unstructured};
use dialtone_protocol::Frame;
use dialtone_protocol::codec::{LEN_FIELD, missing, split_frame};
use dialtone_protocol::frame::handshake::offered_versions;
use dialtone_protocol::frame::message::{PublishView, decode_section};

/// Reads the bytes as a stream of frames, and as the body of one.
pub fn decode(data: &[u8]) {
    let mut stream = data;
    while let Ok(Some((body, len))) = split_frame(stream, 1 << 20) {
        assert_eq!(len, LEN_FIELD + body.len());
        assert_eq!(missing(stream), 0);
        decode_body(body);
        stream = stream.get(len..).expect("the frame was in the stream");
    }
    decode_body(data);
}

fn decode_body(body: &[u8]) {
    let frame = Frame::decode(body);
    if let Ok(Frame::Hello(hello)) = &frame {
        assert_eq!(
            offered_versions(body),
            Some((hello.version_min, hello.version_max))
        );
    }
    let view = PublishView::decode(body);
    if let (Ok(view), Ok(Frame::Publish(publish))) = (&view, &frame) {
        assert_eq!(decode_section(view.section), Ok(publish.message));
        assert_eq!(view.payload_len, publish.message.payload.len());
    }
    // The view alone leaves open whether the subject is text.
    let is_text = |view: &PublishView<'_>| std::str::from_utf8(view.subject).is_ok();
    let view_reads = view.as_ref().is_ok_and(is_text);
    assert_eq!(view_reads, matches!(frame, Ok(Frame::Publish(_))));
}

/// Writes the frame that the bytes are, and one that is made of them, and reads both again.
pub fn round_trip(data: &[u8]) {
    if let Ok(frame) = Frame::decode(data) {
        check(&frame);
    }
    if let Ok(frame) = Frame::arbitrary(&mut Unstructured::new(data)) {
        check(&frame);
    }
}

fn check(frame: &Frame<'_>) {
    let bytes = frame.to_vec();
    let (body, len) = split_frame(&bytes, u32::MAX)
        .expect("a frame is not empty")
        .expect("a frame is whole");
    assert_eq!(len, bytes.len());
    assert_eq!(Frame::decode(body).as_ref(), Ok(frame));
    for end in 0..bytes.len().min(100) {
        assert_eq!(
            split_frame(bytes.get(..end).expect("the end is inside"), u32::MAX),
            Ok(None)
        );
    }
}

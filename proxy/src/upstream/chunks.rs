//! A body in chunks (RFC 9112 §7.1), from bytes as they come. Pure.

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;

use super::head;

/// Longest line with the length of a chunk, in bytes, extensions included.
const LINE_LEN_MAX: usize = 1 << 10;

/// Longest trailers, in bytes.
const TRAILERS_LEN_MAX: usize = 16 << 10;

/// What comes next in a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Data(Bytes),
    /// Nothing until there are more bytes.
    More,
    End(Option<HeaderMap>),
}

/// Where in a body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// At the line with the length of the next chunk.
    Line,
    /// In a chunk, with so many bytes to come.
    Data(u64),
    /// Behind a chunk, before the end of its line.
    After,
    Trailers,
}

impl Chunks {
    /// Takes what comes next out of `read`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Result<Step, &'static str> {
        loop {
            *self = match *self {
                Self::Line => match line(read)? {
                    None => return Ok(Step::More),
                    Some(0) => Self::Trailers,
                    Some(len) => Self::Data(len),
                },
                Self::Data(0) => Self::After,
                Self::Data(len) => {
                    if read.is_empty() {
                        return Ok(Step::More);
                    }
                    let data = take(read, len);
                    let taken = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    *self = Self::Data(len.saturating_sub(taken));
                    return Ok(Step::Data(data));
                }
                Self::After => match read.get(..2) {
                    Some(b"\r\n") => {
                        read.advance(2);
                        Self::Line
                    }
                    Some(_) => return Err("a chunk is longer than its length"),
                    None => return Ok(Step::More),
                },
                Self::Trailers => return trailers(read),
            };
        }
    }
}

/// The first `len` bytes, or all of them.
pub(super) fn take(read: &mut BytesMut, len: u64) -> Bytes {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(read.len());
    read.split_to(len).freeze()
}

/// The length of the next chunk, whose line is taken; `None` while the line is not whole.
fn line(read: &mut BytesMut) -> Result<Option<u64>, &'static str> {
    let searched = read.get(..LINE_LEN_MAX.min(read.len())).unwrap_or_default();
    let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
        return if read.len() < LINE_LEN_MAX {
            Ok(None)
        } else {
            Err("the line of a chunk's length is too long")
        };
    };
    let bad = "the length of a chunk cannot be read";
    let line = searched.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").ok_or(bad)?;
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = line.split_at(digits);
    if !matches!(rest.trim_ascii_start().first(), None | Some(b';')) {
        return Err(bad);
    }
    let digits = std::str::from_utf8(digits).map_err(|_not| bad)?;
    let len = u64::from_str_radix(digits, 16).map_err(|_not| bad)?;
    read.advance(end + 1);
    Ok(Some(len))
}

fn trailers(read: &mut BytesMut) -> Result<Step, &'static str> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Step::End(None));
    }
    match head::trailers(read)? {
        Some((len, trailers)) => {
            read.advance(len);
            Ok(Step::End(Some(trailers)))
        }
        None if read.len() < TRAILERS_LEN_MAX => Ok(Step::More),
        None => Err("its trailers are too long"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything in `pieces`, read one after the other; the body and its trailers, or what is wrong.
    fn read<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, Option<HeaderMap>, BytesMut), &'static str> {
        let (mut chunks, mut buffer, mut body) = (Chunks::Line, BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match chunks.next(&mut buffer)? {
                    Step::Data(data) => body.extend_from_slice(&data),
                    Step::More => break,
                    Step::End(trailers) => return Ok((body, trailers, buffer)),
                }
            }
        }
        Err("not whole")
    }

    fn whole(text: &str) -> Result<Vec<u8>, &'static str> {
        read([text.as_bytes()]).map(|(body, ..)| body)
    }

    #[test]
    fn chunks_extensions_and_trailers() {
        assert_eq!(whole("0\r\n\r\n"), Ok(vec![]));
        assert_eq!(
            whole("3\r\nabc\r\n00A ; x=\"y\"\r\n0123456789\r\n0\r\n\r\n")
                .unwrap()
                .len(),
            13
        );
        let (body, trailers, rest) = read([&b"1\r\na\r\n0\r\nX-Sum: 7\r\n\r\nnext"[..]]).unwrap();
        assert_eq!((body, &rest[..]), (b"a".to_vec(), &b"next"[..]));
        assert_eq!(trailers.unwrap()["x-sum"], "7");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            "1 1\r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
        ] {
            let result = whole(text);
            assert!(
                result.is_err() && result != Err("not whole"),
                "{text:?}: {result:?}"
            );
        }
        assert!(whole(&"1".repeat(LINE_LEN_MAX)).is_err_and(|error| error != "not whole"));
        let endless = format!("0\r\nx: {}", "y".repeat(TRAILERS_LEN_MAX));
        assert!(whole(&endless).is_err_and(|error| error != "not whole"));
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_its_bytes_come(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cut in 1_usize..20,
        ) {
            let mut text = Vec::new();
            for part in &parts {
                text.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let (body, trailers, rest) = read(text.chunks(cut)).unwrap();
            prop_assert_eq!(body, parts.concat());
            prop_assert!(trailers.is_none() && rest.is_empty());
        }
    }
}

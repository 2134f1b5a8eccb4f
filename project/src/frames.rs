//! Pieces within a socket, which itself knows bytes only: a kind, a length, and what is said.
//!
//! A piece is one byte for its kind (0 bytes, 1 words as JSON), four for its length, the most significant first, and at
//! most [`FRAME_LEN_MAX`] bytes.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use dialtone_client::{Socket, SocketError};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use thiserror::Error;

/// Longest piece, in bytes.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// How long the other side may take to finish, and to take what was sent to it before.
const PARTING_MAX: Duration = Duration::from_mins(2);

/// A kind and a length.
const HEAD_LEN: usize = 5;

const DATA: u8 = 0;
const SAY: u8 = 1;

/// One piece.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// Bytes of a file, or of a terminal.
    Data(Bytes),
    /// Something about them, as JSON.
    Say(Json),
}

/// Why there is no further piece.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The socket has ended before its time.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The other side sends what cannot be read.
    #[error("the other side of the socket broke the rules: {0}")]
    Violation(String),
    /// The socket ended where more was to come.
    #[error("the other side of the socket ended too early")]
    Short,
}

/// A socket as pieces.
#[derive(Debug)]
pub(crate) struct Frames {
    socket: Socket,
    buffer: tokio::sync::Mutex<BytesMut>,
}

impl Frames {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            buffer: tokio::sync::Mutex::default(),
        }
    }

    /// The next piece; `None` when the other side has finished. Nothing is lost when the wait is given up.
    pub(crate) async fn next(&self) -> Result<Option<Frame>, FrameError> {
        let mut buffer = self.buffer.lock().await;
        loop {
            if let Some(frame) = split(&mut buffer)? {
                return Ok(Some(frame));
            }
            match self.socket.recv().await? {
                Some(bytes) => buffer.extend_from_slice(&bytes),
                None if buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Short),
            }
        }
    }

    /// What the other side says, which must be a `T`.
    pub(crate) async fn hear<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        match self.next().await? {
            Some(Frame::Say(value)) => serde_json::from_value(value)
                .map_err(|error| FrameError::Violation(error.to_string())),
            Some(Frame::Data(_)) => Err(FrameError::Violation("data where words belong".into())),
            None => Err(FrameError::Short),
        }
    }

    /// Sends bytes, in as many pieces as they need, as fast as the other side takes them.
    pub(crate) async fn data(&self, mut bytes: Bytes) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(FRAME_LEN_MAX));
            self.send(DATA, &piece).await?;
        }
        Ok(())
    }

    /// Says something.
    pub(crate) async fn say(&self, value: &Json) -> Result<(), FrameError> {
        self.send(SAY, value.to_string().as_bytes()).await
    }

    /// Says that nothing more will come.
    pub(crate) async fn finish(&self) -> Result<(), FrameError> {
        Ok(self.socket.finish().await?)
    }

    /// As [`finish`](Self::finish), and waits until the other side has finished as well: a socket that is dropped before
    /// takes what is still under way with it.
    pub(crate) async fn part(&self) -> Result<(), FrameError> {
        self.finish().await?;
        let heard = async {
            while self.next().await?.is_some() {}
            Ok(())
        };
        tokio::time::timeout(PARTING_MAX, heard)
            .await
            .unwrap_or(Ok(()))
    }

    async fn send(&self, kind: u8, piece: &[u8]) -> Result<(), FrameError> {
        let mut bytes = BytesMut::with_capacity(HEAD_LEN + piece.len());
        bytes.put_u8(kind);
        bytes.put_u32(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        bytes.put_slice(piece);
        Ok(self.socket.send(bytes.freeze()).await?)
    }
}

/// Takes a piece from the front, if it is there whole.
fn split(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some((head, _)) = buffer.split_first_chunk::<HEAD_LEN>() else {
        return Ok(None);
    };
    let [kind, len @ ..] = *head;
    let len = u32::from_be_bytes(len) as usize;
    if len > FRAME_LEN_MAX {
        let text = format!("a piece of {len} bytes, where at most {FRAME_LEN_MAX} are allowed");
        return Err(FrameError::Violation(text));
    }
    if buffer.len() < HEAD_LEN + len {
        return Ok(None);
    }
    buffer.advance(HEAD_LEN);
    let piece = buffer.split_to(len).freeze();
    match kind {
        DATA => Ok(Some(Frame::Data(piece))),
        SAY => serde_json::from_slice(&piece)
            .map(|value| Some(Frame::Say(value)))
            .map_err(|error| FrameError::Violation(error.to_string())),
        other => Err(FrameError::Violation(format!("a piece of kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = split(&mut buffer) {}
        }
    }

    #[test]
    fn pieces_are_read_when_they_are_whole() {
        let whole = b"\x00\x00\x00\x00\x02hi\x01\x00\x00\x00\x04true";
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for byte in whole {
            buffer.put_u8(*byte);
            found.extend(split(&mut buffer).unwrap());
        }
        let wanted = [
            Frame::Data(Bytes::from_static(b"hi")),
            Frame::Say(true.into()),
        ];
        assert_eq!(found, wanted);
        for wrong in [
            b"\x02\x00\x00\x00\x00".as_slice(),
            b"\x00\xff\xff\xff\xff",
            b"\x01\x00\x00\x00\x01{",
        ] {
            let mut buffer = BytesMut::from(wrong);
            assert!(
                matches!(split(&mut buffer), Err(FrameError::Violation(_))),
                "{wrong:?}"
            );
        }
    }
}

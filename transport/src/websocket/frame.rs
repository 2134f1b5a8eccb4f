//! The header of a WebSocket frame (RFC 6455 §5.2), and nothing else.
//!
//! ```text
//!  byte 0            byte 1            then
//!  FIN RSV RSV RSV   MASK              2 or 8 bytes of length (network order) if len7 is 126 or 127,
//!  opcode (4 bits)   len7              4 bytes of masking key if MASK
//! ```

use thiserror::Error;

/// The longest header: 2, 8 of length, 4 of mask.
pub(crate) const HEADER_LEN_MAX: usize = 14;
/// The longest payload of a control frame.
pub(crate) const CONTROL_LEN_MAX: usize = 125;

/// How a peer broke RFC 6455.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// RSV1–3; no extension was agreed on.
    #[error("reserved bits are set, but no extension was agreed on")]
    ReservedBits,
    /// Opcodes 3–7 and 11–15.
    #[error("opcode {0} is not defined")]
    Opcode(u8),
    /// A text message.
    #[error("text messages are not understood, send binary ones")]
    Text,
    /// A client must mask.
    #[error("frame from a client is not masked")]
    NotMasked,
    /// A server must not mask.
    #[error("frame from a server is masked")]
    Masked,
    /// A control frame with FIN clear.
    #[error("control frame is fragmented")]
    FragmentedControl,
    /// A control frame over 125 bytes.
    #[error("control frame is longer than 125 bytes")]
    LongControl,
    /// The highest bit of a 64-bit length.
    #[error("frame length has its highest bit set")]
    Length,
    /// A continuation with no message open.
    #[error("continuation without a message to continue")]
    Continuation,
    /// A new message before the last one ended.
    #[error("new message before the last one was finished")]
    Interleaved,
    /// A close frame of one byte, or with a code that must not be sent.
    #[error("close frame carries no valid code")]
    CloseCode,
    /// A close frame whose reason is not UTF-8.
    #[error("close reason is not UTF-8")]
    CloseReason,
}

impl Violation {
    /// The close code of RFC 6455 §7.4.1 that tells the peer.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::CloseReason => 1007,
            Self::ReservedBits
            | Self::Opcode(_)
            | Self::NotMasked
            | Self::Masked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::Length
            | Self::Continuation
            | Self::Interleaved
            | Self::CloseCode => 1002,
        }
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that has begun.
    Continuation,
    /// The beginning of a message of text.
    Text,
    /// The beginning of a message of bytes.
    Binary,
    /// The end of the connection.
    Close,
    /// A question whether the peer is there.
    Ping,
    /// Its answer.
    Pong,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(Violation::Opcode(other)),
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether it is about the connection, and may come between the frames of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The bytes before a payload, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The masking key, which the frames of clients have.
    pub mask: Option<[u8; 4]>,
    /// Length of the payload in bytes.
    pub len: u64,
}

impl Header {
    /// Decodes a header from the front of `bytes`; `None` if more bytes are needed, else the header and its size.
    ///
    /// # Errors
    /// When it breaks RFC 6455 by itself, whatever came before it.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f)?;
        let fin = first & 0x80 != 0;
        let short = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(Violation::FragmentedControl);
            }
            if usize::from(short) > CONTROL_LEN_MAX {
                return Err(Violation::LongControl);
            }
        }
        let (len, size, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), 4, rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), 10, rest),
                None => return Ok(None),
            },
            short => (u64::from(short), 2, rest),
        };
        if len >> 63 != 0 {
            return Err(Violation::Length);
        }
        if second & 0x80 == 0 {
            return Ok(Some((
                Self {
                    fin,
                    opcode,
                    mask: None,
                    len,
                },
                size,
            )));
        }
        let Some(mask) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(Some((
            Self {
                fin,
                opcode,
                mask: Some(*mask),
                len,
            },
            size + 4,
        )))
    }

    /// Encodes the header in its shortest form; returns the bytes and how many of them count.
    pub fn encode(&self) -> ([u8; HEADER_LEN_MAX], usize) {
        let mut out = [0; HEADER_LEN_MAX];
        out[0] = u8::from(self.fin) << 7 | self.opcode.bits();
        let mut size = match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(short @ 0..=125), _) => {
                out[1] = short;
                2
            }
            (_, Ok(medium)) => {
                out[1] = 126;
                out[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            _ => {
                out[1] = 127;
                out[2..10].copy_from_slice(&self.len.to_be_bytes());
                10
            }
        };
        if let Some(mask) = self.mask {
            out[1] |= 0x80;
            out[size..size + 4].copy_from_slice(&mask);
            size += 4;
        }
        (out, size)
    }
}

/// Applies the masking key to `bytes` in place; returns the key as it applies to what follows them.
pub fn mask_in_place(bytes: &mut [u8], mut key: [u8; 4]) -> [u8; 4] {
    let wide = wide_key(key);
    let (blocks, rest) = bytes.as_chunks_mut::<8>();
    for block in blocks {
        *block = (u64::from_ne_bytes(*block) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
    // Up to 7 bytes are left over; the key has 4.
    if let Some(tail) = rest.get_mut(4..) {
        for (byte, key) in tail.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    key.rotate_left(bytes.len() % 4);
    key
}

/// Copies `from` to `to`, which is as long, applying the key on the way; returns the key for what follows.
pub(crate) fn mask_copy(to: &mut [u8], from: &[u8], mut key: [u8; 4]) -> [u8; 4] {
    debug_assert_eq!(
        to.len(),
        from.len(),
        "source and destination differ in length"
    );
    let wide = wide_key(key);
    let (to_blocks, to_rest) = to.as_chunks_mut::<8>();
    let (from_blocks, from_rest) = from.as_chunks::<8>();
    for (to, from) in to_blocks.iter_mut().zip(from_blocks) {
        *to = (u64::from_ne_bytes(*from) ^ wide).to_ne_bytes();
    }
    for (index, (to, from)) in to_rest.iter_mut().zip(from_rest).enumerate() {
        *to = from ^ key[index % 4];
    }
    key.rotate_left(from.len() % 4);
    key
}

const fn wide_key(key: [u8; 4]) -> u64 {
    let [a, b, c, d] = key;
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples_of_the_rfc_decode() {
        // RFC 6455 §5.7; the text examples with their opcode.
        let masked = Header {
            fin: true,
            opcode: Opcode::Text,
            mask: Some([0x37, 0xfa, 0x21, 0x3d]),
            len: 5,
        };
        assert_eq!(
            Header::decode(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f]),
            Ok(Some((masked, 6)))
        );
        let first = Header {
            fin: false,
            opcode: Opcode::Text,
            mask: None,
            len: 3,
        };
        assert_eq!(
            Header::decode(&[0x01, 0x03, 0x48, 0x65, 0x6c]),
            Ok(Some((first, 2)))
        );
        let medium = Header {
            fin: true,
            opcode: Opcode::Binary,
            mask: None,
            len: 256,
        };
        assert_eq!(
            Header::decode(&[0x82, 0x7e, 0x01, 0x00]),
            Ok(Some((medium, 4)))
        );
        let long = Header {
            len: 65536,
            ..medium
        };
        assert_eq!(
            Header::decode(&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]),
            Ok(Some((long, 10)))
        );

        let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        mask_in_place(&mut hello, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&hello, b"Hello");
    }

    #[test]
    fn rules_are_kept() {
        let refused = |bytes: &[u8]| Header::decode(bytes).unwrap_err();
        assert_eq!(refused(&[0xc2, 0]), Violation::ReservedBits);
        assert_eq!(refused(&[0x83, 0]), Violation::Opcode(3));
        assert_eq!(refused(&[0x09, 0]), Violation::FragmentedControl);
        assert_eq!(refused(&[0x89, 126]), Violation::LongControl);
        assert_eq!(
            refused(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Violation::Length
        );
    }

    proptest! {
        #[test]
        fn headers_round_trip_and_need_every_byte(
            fin: bool, len in prop_oneof![0..300_u64, 65_000..66_000_u64, 0..=u64::MAX >> 1], mask: Option<[u8; 4]>,
        ) {
            let header = Header { fin, opcode: Opcode::Binary, mask, len };
            let (bytes, size) = header.encode();
            prop_assert_eq!(Header::decode(&bytes), Ok(Some((header, size))));
            for short in 0..size {
                prop_assert_eq!(Header::decode(&bytes[..short]), Ok(None));
            }
        }

        #[test]
        fn masking_in_pieces_is_masking_at_once(bytes: Vec<u8>, cut: prop::sample::Index, key: [u8; 4]) {
            let slow: Vec<u8> = bytes.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
            let at = cut.index(bytes.len() + 1);
            let mut pieces = bytes.clone();
            let next = mask_in_place(&mut pieces[..at], key);
            mask_in_place(&mut pieces[at..], next);
            prop_assert_eq!(&pieces, &slow);
            let next = mask_copy(&mut pieces[..at], &bytes[..at], key);
            mask_copy(&mut pieces[at..], &bytes[at..], next);
            prop_assert_eq!(&pieces, &slow);
        }
    }
}

//! The frame: the unit that is in the log wholly or not at all. `docs/persist-log.md` §2.
//!
//! ```text
//!  0  checksum  4   CRC-32C of all of the head behind this field
//!  4  magic     2   "DF"
//!  6  version   1   1
//!  7  kind      1   what the head says
//!  8  head_len  4   bytes of the head, with these fixed fields
//! 12  data_len  4   bytes of the data
//! 16  segment   4   the segment that it was written to
//! 20  synced    4   bytes of the segment that were on disk when it was written
//! 24  head          what the kind says; sums of the data are in it
//!     data          payloads; each part has its own checksum in the head
//!     zeros         up to a multiple of eight
//! ```
//!
//! A flipped bit in the data costs the record that it belongs to; one in the head costs the
//! frame. The next frame is found again by its magic, at a multiple of eight.

use super::position::SegmentId;

/// Bytes of the fixed fields.
pub(crate) const FIXED_LEN: usize = 24;

/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

/// Longest head and longest data, so that a length that was read is never believed blindly.
pub(crate) const HEAD_LEN_MAX: usize = 256 << 20;
/// See [`HEAD_LEN_MAX`].
pub(crate) const DATA_LEN_MAX: usize = 256 << 20;

/// Magic and version.
pub(crate) const MARK: [u8; 3] = *b"DF\x01";
/// Where in a frame the mark is.
pub(crate) const MARK_AT: usize = 4;
const KIND_AT: usize = 7;
const CHECKED_FROM: usize = 4;

/// What the head of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A stream is there.
    Create,
    /// What a stream decided.
    Commit,
    /// Records that were written before, at a new place.
    Moved,
    /// All that is known of a stream at some revision, without the payloads, or a part of it.
    Snapshot,
    /// A stream is gone.
    Delete,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Moved => 2,
            Self::Snapshot => 3,
            Self::Create => 4,
            Self::Delete => 5,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Commit),
            2 => Some(Self::Moved),
            3 => Some(Self::Snapshot),
            4 => Some(Self::Create),
            5 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// The fixed fields of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) kind: Kind,
    pub(crate) checksum: u32,
    pub(crate) head_len: usize,
    pub(crate) data_len: usize,
    pub(crate) segment: SegmentId,
    pub(crate) synced: u32,
}

/// The checksum of everything in the log: CRC-32C (Castagnoli).
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Bytes that a frame takes in its segment.
pub(crate) fn frame_len(head_len: usize, data_len: usize) -> usize {
    (head_len + data_len).next_multiple_of(ALIGNMENT)
}

/// Makes room for the fixed fields; what follows them is the head.
pub(crate) fn begin(buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[0; FIXED_LEN]);
}

/// Fills in the fixed fields of a head that is otherwise complete.
pub(crate) fn seal(head: &mut [u8], kind: Kind, data_len: usize, segment: SegmentId, synced: u32) {
    let number = |len: usize| u32::try_from(len).expect("bounded by HEAD_LEN_MAX, DATA_LEN_MAX");
    let head_len = number(head.len());
    let fixed: &mut [u8; FIXED_LEN] = head
        .first_chunk_mut()
        .expect("a head begins with room for these");
    fixed[MARK_AT..KIND_AT].copy_from_slice(&MARK);
    fixed[KIND_AT] = kind.number();
    fixed[8..12].copy_from_slice(&head_len.to_le_bytes());
    fixed[12..16].copy_from_slice(&number(data_len).to_le_bytes());
    fixed[16..20].copy_from_slice(&segment.to_le_bytes());
    fixed[20..24].copy_from_slice(&synced.to_le_bytes());
    let sum = checksum(&head[CHECKED_FROM..]);
    head[..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
}

impl Fixed {
    /// Reads the fixed fields where a frame may begin. `None`: none begins here.
    pub(crate) fn read(bytes: &[u8], segment: SegmentId) -> Option<Self> {
        let fixed: &[u8; FIXED_LEN] = bytes.first_chunk()?;
        let field = |from: usize| {
            let bytes: [u8; 4] = fixed[from..from + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let len = |from: usize| usize::try_from(field(from)).ok();
        let read = Self {
            kind: Kind::from_number(fixed[KIND_AT])?,
            checksum: field(0),
            head_len: len(8)?,
            data_len: len(12)?,
            segment: field(16),
            synced: field(20),
        };
        let sound = fixed[MARK_AT..KIND_AT] == MARK
            && read.segment == segment
            && (FIXED_LEN..=HEAD_LEN_MAX).contains(&read.head_len)
            && read.data_len <= DATA_LEN_MAX;
        sound.then_some(read)
    }

    /// Whether this is the head that was written.
    pub(crate) fn agrees_with(&self, head: &[u8]) -> bool {
        head.len() == self.head_len && checksum(&head[CHECKED_FROM..]) == self.checksum
    }

    /// Bytes that the frame takes in its segment.
    pub(crate) fn frame_len(&self) -> usize {
        frame_len(self.head_len, self.data_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut head = Vec::new();
        begin(&mut head);
        head.extend_from_slice(b"the head");
        seal(&mut head, Kind::Moved, 5, 7, 4096);
        head
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = sealed();
        let expected = [
            0x99, 0x2d, 0x34, 0xa3, 0x44, 0x46, 1, 2, 32, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0, 0, 16,
            0, 0, b't', b'h', b'e', b' ', b'h', b'e', b'a', b'd',
        ];
        assert_eq!(bytes, expected, "{bytes:#04x?}");
    }

    #[test]
    fn fixed_fields_are_read_as_they_were_written() {
        let bytes = sealed();
        let fixed = Fixed::read(&bytes, 7).unwrap();
        assert!(fixed.agrees_with(&bytes));
        assert_eq!(fixed.kind, Kind::Moved);
        assert_eq!((fixed.head_len, fixed.data_len), (32, 5));
        assert_eq!((fixed.segment, fixed.synced), (7, 4096));
        assert_eq!(fixed.frame_len(), 40);
        assert_eq!(Fixed::read(&bytes, 8), None, "of another segment");
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let bytes = sealed();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accepted = Fixed::read(&flipped, 7).is_some_and(|fixed| {
                flipped.len() == fixed.head_len && fixed.agrees_with(&flipped)
            });
            assert!(!accepted, "bit {bit}");
        }
    }
}

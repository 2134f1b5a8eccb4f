//! The files of the log: their names and how they begin. `docs/persist-log.md` §1.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::frame::checksum;
use super::position::SegmentId;
use crate::disk::{Disk, File, read_exact_at};

/// Bytes before the first frame of a segment.
pub(crate) const HEADER_LEN: u32 = 24;

const MAGIC: [u8; 8] = *b"DTSEGMT1";
const PREFIX: &str = "segment-";
const SUFFIX: &str = ".log";

/// Name of the file of a segment.
pub(crate) fn name(segment: SegmentId) -> String {
    format!("{PREFIX}{segment:010}{SUFFIX}")
}

/// The segment that a file of this name is.
pub(crate) fn parse_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let segment = digits.parse().ok()?;
    (self::name(segment) == name && segment > 0).then_some(segment)
}

/// How a segment begins: magic, the number of the log, the number of the segment, a checksum.
pub(crate) fn header(log: u64, segment: SegmentId) -> [u8; HEADER_LEN as usize] {
    let mut bytes = [0; HEADER_LEN as usize];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&log.to_le_bytes());
    bytes[16..20].copy_from_slice(&segment.to_le_bytes());
    let sum = checksum(&bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The number of the log that a segment belongs to. `None`: the beginning is not what was
/// written.
pub(crate) fn read_header(file: &dyn File, segment: SegmentId) -> io::Result<Option<u64>> {
    let mut bytes = [0; HEADER_LEN as usize];
    match read_exact_at(file, &mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let log = u64::from_le_bytes(bytes[8..16].try_into().map_err(io::Error::other)?);
    Ok((bytes == header(log, segment)).then_some(log))
}

/// Makes the file of a new segment. When this returns, the file survives a loss of power.
pub(crate) fn create(
    disk: &dyn Disk,
    log: u64,
    segment: SegmentId,
    reserve: Option<u64>,
) -> io::Result<Arc<dyn File>> {
    let file = disk.create(&name(segment))?;
    if let Some(len) = reserve {
        file.reserve(len)?;
    }
    file.write_at(&mut [IoSlice::new(&header(log, segment))], 0)?;
    file.sync()?;
    disk.sync_names()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Simulated;

    #[test]
    fn names_are_numbers_and_nothing_else() {
        assert_eq!(name(12), "segment-0000000012.log");
        assert_eq!(parse_name("segment-0000000012.log"), Some(12));
        assert_eq!(parse_name(&name(SegmentId::MAX)), Some(SegmentId::MAX));
        for wrong in [
            "segment-12.log",
            "segment-0000000000.log",
            "segment-0000000012.log~",
            "lock",
        ] {
            assert_eq!(parse_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_header_is_these_bytes_and_is_checked() {
        let disk = Simulated::new();
        create(&disk, 0x0102_0304_0506_0708, 9, None).unwrap();
        let bytes = disk.contents(&name(9)).unwrap();
        let expected = b"DTSEGMT1\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0";
        assert_eq!(bytes[..20], expected[..20]);
        let file = disk.open(&name(9)).unwrap();
        assert_eq!(read_header(&*file, 9).unwrap(), Some(0x0102_0304_0506_0708));
        assert_eq!(read_header(&*file, 8).unwrap(), None);
        disk.flip(&name(9), 10, 3).unwrap();
        assert_eq!(read_header(&*file, 9).unwrap(), None);
    }
}

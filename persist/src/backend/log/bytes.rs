//! Numbers and texts as bytes: little-endian base-128 numbers, and bytes behind their length.

/// Longest encoded number.
pub(crate) const NUMBER_LEN_MAX: usize = 10;

/// Appends a number in groups of seven bits, the lowest first; all but the last have bit 7 set.
pub(crate) fn put_number(buffer: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    // Ends because `rest` loses seven bits a round.
    while rest >= 0x80 {
        buffer.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    buffer.push(low_bits(rest));
}

fn low_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7f).expect("seven bits remain")
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_number(buffer, len_number(bytes.len()));
    buffer.extend_from_slice(bytes);
}

/// A length as it is written.
pub(crate) fn len_number(len: usize) -> u64 {
    u64::try_from(len).expect("lengths fit into 64 bits")
}

/// A difference as a number that is small when the difference is.
pub(crate) fn zigzag(from: u64, to: u64) -> u64 {
    let difference = to.wrapping_sub(from).cast_signed();
    (difference.cast_unsigned() << 1) ^ (difference >> 63).cast_unsigned()
}

/// What `zigzag` made the number of.
pub(crate) fn unzigzag(from: u64, number: u64) -> u64 {
    let difference = (number >> 1) ^ (number & 1).wrapping_neg();
    from.wrapping_add(difference)
}

/// Reads what the functions above wrote. `None` is an end too early, or what they never write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for index in 0..NUMBER_LEN_MAX {
            let byte = *self.0.get(index)?;
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index;
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(number);
            }
        }
        None
    }

    /// A number that counts bytes.
    pub(crate) fn len(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn fixed_u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in prop::collection::vec(prop_oneof![any::<u64>(), 0..300_u64], 0..20),
            text in ".{0,20}",
        ) {
            let mut buffer = Vec::new();
            for number in &numbers {
                put_number(&mut buffer, *number);
            }
            prop_assert!(buffer.len() <= numbers.len() * NUMBER_LEN_MAX);
            put_bytes(&mut buffer, text.as_bytes());
            let mut cursor = Cursor::new(&buffer);
            for number in &numbers {
                prop_assert_eq!(cursor.number(), Some(*number));
            }
            prop_assert_eq!(cursor.text(), Some(text.as_str()));
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn differences_come_back(from: u64, to: u64, near in 0..64_u64) {
            prop_assert_eq!(unzigzag(from, zigzag(from, to)), to);
            prop_assert!(zigzag(from, from.wrapping_add(near)) <= 2 * near);
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.number().is_some() {}
            assert!(cursor.text().is_none_or(|text| text.len() < bytes.len()));
        }
    }
}

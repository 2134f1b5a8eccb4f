//! A hash that is the same on every node, whatever its processor and version: nodes compare such
//! hashes, and choose by them.

/// The hash of the parts of something, of which none is confused with another of other lengths.
///
/// FNV-1a (Fowler, Noll, Vo), with the finalizer of `MurmurHash3` (Appleby) so that every bit of the
/// input concerns every bit of the hash. Not for tables that strangers fill.
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: u8| {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    };
    for part in parts {
        (part.len() as u64)
            .to_le_bytes()
            .into_iter()
            .for_each(&mut add);
        part.iter().copied().for_each(&mut add);
    }
    mix(hash)
}

/// Spreads the bits of a number over all of them.
pub fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_all_versions_agree() {
        // These are on the wire (docs/protocol.md §12.3) and never change.
        assert_eq!(stable_hash(&[]), 0xefd0_1f60_ba99_2926);
        assert_eq!(stable_hash(&[b"a.b", b"c"]), 0xf573_6f33_0f38_1266);
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
        assert_ne!(stable_hash(&[b""]), stable_hash(&[]));
    }
}

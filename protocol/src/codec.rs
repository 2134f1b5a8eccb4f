//! Cutting frames out of a stream of bytes (§3.1).

use crate::error::DecodeError;

/// Bytes of the length field in front of every frame.
pub const LEN_FIELD: usize = 4;

/// The next frame of `bytes`: its body (after the length field) and the length of the whole frame.
/// `Ok(None)` when more bytes are needed.
///
/// The length is judged as soon as it is there, so that a frame that is too large is refused before
/// it is received.
///
/// # Errors
/// When the frame is empty or longer than `frame_len_max` bytes.
#[inline]
pub fn split_frame(
    bytes: &[u8],
    frame_len_max: u32,
) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let Some((field, rest)) = bytes.split_first_chunk::<LEN_FIELD>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*field);
    if len > frame_len_max {
        return Err(DecodeError::TooLong {
            len,
            max: frame_len_max,
        });
    }
    if len == 0 {
        return Err(DecodeError::Empty);
    }
    let len = len as usize;
    Ok(rest.get(..len).map(|body| (body, LEN_FIELD + len)))
}

/// How many bytes of the frame that begins `bytes` are missing, as far as can be told; 0 when it is
/// complete.
pub fn missing(bytes: &[u8]) -> usize {
    match bytes.split_first_chunk::<LEN_FIELD>() {
        None => LEN_FIELD - bytes.len(),
        Some((field, rest)) => (u32::from_le_bytes(*field) as usize).saturating_sub(rest.len()),
    }
}

//! The output of a command: as much as is wanted, and how much there was. Pure.

/// One stream of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    kept: Vec<u8>,
    max: usize,
    /// Bytes that were written, kept or not.
    written: u64,
}

impl Output {
    pub(super) fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            max,
            written: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.max - self.kept.len().min(self.max);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.kept.extend_from_slice(taken);
        self.written += bytes.len() as u64;
    }

    /// Some of it was not kept.
    pub(crate) fn is_truncated(&self) -> bool {
        self.written > self.kept.len() as u64
    }

    /// As clients have texts: what is no UTF-8 is replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    /// The last bytes of it, for an error message.
    pub(super) fn tail(&self, len_max: usize) -> String {
        let start = self.kept.len().saturating_sub(len_max);
        let tail = self.kept.get(start..).unwrap_or_default();
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    /// What was kept from this place on, at most so many bytes, and where it ends. Characters are not cut while the
    /// rest of one may still come.
    pub(super) fn since(&self, from: usize, len_max: usize, is_over: bool) -> (String, usize) {
        let end = self.kept.len().min(from + len_max);
        let bytes = self.kept.get(from..end).unwrap_or_default();
        let is_last = end == self.kept.len() && (is_over || self.kept.len() == self.max);
        let whole = if is_last { bytes.len() } else { whole(bytes) };
        let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default());
        (text.into_owned(), from + whole)
    }
}

/// How many of these bytes are there without the beginning of a character at their end.
fn whole(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        // In the middle it is no text anyhow; at the end the rest may come.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_wrong) => {
            bytes
                .utf8_chunks()
                .last()
                .map_or(bytes.len(), |chunk| match chunk.invalid() {
                    // At most three bytes begin a character.
                    rest if std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none()) => {
                        bytes.len() - rest.len()
                    }
                    _ => bytes.len(),
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_dropped() {
        let mut output = Output::new(4);
        output.push(b"abc");
        assert!(!output.is_truncated());
        output.push(b"def");
        assert_eq!(output.text(), "abcd");
        assert!(output.is_truncated());
        assert_eq!(output.tail(2), "cd");
    }

    proptest! {
        /// Pieces, however they are cut, together are the text.
        #[test]
        fn pieces_are_the_whole(text in "\\PC{0,40}", cuts in proptest::collection::vec(1_usize..9, 1..80)) {
            let mut output = Output::new(1 << 20);
            let (mut seen, mut at, mut written) = (String::new(), 0, 0);
            for cut in cuts {
                let end = text.len().min(written + cut);
                output.push(&text.as_bytes()[written..end]);
                written = end;
                let (piece, next) = output.since(at, 16, false);
                seen.push_str(&piece);
                at = next;
            }
            output.push(&text.as_bytes()[written..]);
            loop {
                let (piece, next) = output.since(at, 16, true);
                if next == at { break; }
                seen.push_str(&piece);
                at = next;
            }
            prop_assert_eq!(seen, text);
        }

        #[test]
        fn bytes_that_are_no_text_pass_too(bytes: Vec<u8>) {
            let mut output = Output::new(1 << 20);
            output.push(&bytes);
            let mut at = 0;
            loop {
                let (_, next) = output.since(at, 8, true);
                if next == at { break; }
                at = next;
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}

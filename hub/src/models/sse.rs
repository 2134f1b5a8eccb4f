//! Events of a server as they come in pieces (the part of the WHATWG's server-sent events that models use): pure.

/// Longest line that is waited for, in bytes.
const LINE_MAX: usize = 1 << 20;

/// A line is longer than any that a model sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of the answer is longer than {LINE_MAX} bytes")]
pub(super) struct LineTooLong;

/// Reads events from pieces of whatever length.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: Vec<u8>,
}

impl Events {
    /// The data of the lines that this piece completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<String>, LineTooLong> {
        self.waiting.extend_from_slice(piece);
        let mut found = Vec::new();
        let mut begin = 0;
        while let Some(len) = self.waiting[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &self.waiting[begin..begin + len];
            if let Some(data) = line.strip_prefix(b"data:") {
                found.push(String::from_utf8_lossy(data).trim().to_owned());
            }
            begin += len + 1;
        }
        self.waiting.drain(..begin);
        if self.waiting.len() > LINE_MAX {
            return Err(LineTooLong);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_is_read_and_the_rest_is_not() {
        let mut events = Events::default();
        let text = b": ping\r\nevent: x\r\ndata: {\"a\":1}\r\n\r\ndata:[DONE]\n";
        assert_eq!(events.push(text).unwrap(), ["{\"a\":1}", "[DONE]"]);
        assert_eq!(events.push(&vec![b'x'; LINE_MAX + 1]), Err(LineTooLong));
    }

    proptest! {
        /// Wherever the pieces are cut, letters of several bytes included.
        #[test]
        fn pieces_may_be_cut_anywhere(
            lines in proptest::collection::vec("[a-zäß€ ]{0,12}", 1..8),
            cuts in proptest::collection::vec(1_usize..7, 0..60),
        ) {
            let text: Vec<String> = lines.iter().map(|line| format!("data: {line}\n")).collect();
            let text = text.concat();
            let mut events = Events::default();
            let (mut found, mut rest, mut cuts) = (Vec::new(), text.as_bytes(), cuts.into_iter());
            while !rest.is_empty() {
                let len = cuts.next().unwrap_or(rest.len()).min(rest.len());
                let (piece, after) = rest.split_at(len);
                found.extend(events.push(piece).unwrap());
                rest = after;
            }
            let expected: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

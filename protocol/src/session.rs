//! What the two ends of a connection do with frames and time.
//!
//! Both are plain state: a method takes a frame or the time and returns what should be done, and
//! nothing happens by itself. The order of calls is: frames as they arrive, `on_timeout` when
//! `next_deadline` has come.

pub mod keepalive;
pub use keepalive::{Due, Keepalive, Timing};

pub mod client;
pub mod server;

use crate::error::{Code, Violation};

/// The version that two peers speak: the newest that both know (§2.2).
///
/// # Errors
/// When there is none; the text names both ranges.
pub fn negotiate(ours: (u16, u16), theirs: (u16, u16)) -> Result<u16, Violation> {
    let newest = ours.1.min(theirs.1);
    if newest >= ours.0 && newest >= theirs.0 {
        return Ok(newest);
    }
    let text = format!(
        "this end speaks versions {} to {} of the protocol, the peer {} to {}",
        ours.0, ours.1, theirs.0, theirs.1
    );
    Err(Violation::new(Code::UnsupportedVersion, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_peers_meet_in_the_middle() {
        assert_eq!(negotiate((1, 3), (1, 1)), Ok(1));
        assert_eq!(negotiate((1, 3), (2, 9)), Ok(3));
        assert_eq!(negotiate((1, 1), (1, 9)), Ok(1));
        assert_eq!(
            negotiate((2, 3), (1, 1)).unwrap_err().code,
            Code::UnsupportedVersion
        );
        assert_eq!(
            negotiate((1, 1), (2, 3)).unwrap_err().code,
            Code::UnsupportedVersion
        );
        assert_eq!(
            negotiate((1, 3), (3, 2)).unwrap_err().code,
            Code::UnsupportedVersion
        );
    }
}

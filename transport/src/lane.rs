//! The two ways that lead to a peer: one for what is short and urgent, one for what is long.

/// Which stream of a connection bytes travel on.
///
/// On a transport with one byte stream (WebSocket, memory) both lanes share it when writing, and everything is read
/// from [`Lane::Interactive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Control and small messages. Every connection has it.
    Interactive,
    /// Fragments of large messages, which must not delay the interactive lane.
    Bulk,
}

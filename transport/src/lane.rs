//! The ways that lead to a peer: for what is short, for what is long, and for what must never wait.

/// Which stream of a connection bytes travel on.
///
/// On a transport with one byte stream (WebSocket, memory) all lanes share it when writing, and everything is read
/// from [`Lane::Interactive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Control and small messages. Every connection has it.
    Interactive,
    /// Fragments of large messages, which must not delay the interactive lane.
    Bulk,
    /// What nodes of a cluster say about themselves, which must not wait behind messages. QUIC connections have it where
    /// [`quic::Settings::control_lane`](crate::quic::Settings::control_lane) is set at both ends.
    Control,
}

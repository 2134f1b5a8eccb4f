//! TLS for the handshakes of a listener, with what is in use when each begins: quinn takes one
//! configuration for the whole life of an endpoint, and certificates change during it.

use std::sync::Arc;

use quinn::crypto::{Keys, ServerConfig, Session, UnsupportedVersion};
use quinn_proto::ConnectionId;
use quinn_proto::transport_parameters::TransportParameters;

use crate::tls::ServerTls;

/// Asks for the configuration anew for each connection.
pub(super) struct Crypto(pub(super) ServerTls);

impl ServerConfig for Crypto {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.0.quic_config().initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0
            .quic_config()
            .retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        self.0.quic_config().start_session(version, params)
    }
}

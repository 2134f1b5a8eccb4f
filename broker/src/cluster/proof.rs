//! How nodes know each other: by certificates, or by a secret that both prove to know.

use aws_lc_rs::hmac;
use dialtone_protocol::frame::link::LinkHello;
use dialtone_protocol::frame::{Link, Refused};
use dialtone_protocol::{Code, Frame};
use dialtone_transport::Info;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::config::{Secret, Trust};

/// Which end of a link proves something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Listener,
}

/// What a proof is about: both hellos, and the TLS session that they travelled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transcript<'a> {
    pub(crate) dialler: &'a LinkHello,
    pub(crate) listener: &'a LinkHello,
    pub(crate) channel_binding: Option<[u8; 32]>,
}

/// The HMAC-SHA256 by which an end proves that it knows the secret (docs/protocol.md §12.1).
pub(crate) fn prove(secret: &Secret, side: Side, transcript: &Transcript<'_>) -> [u8; 32] {
    let tag = hmac::sign(&key(secret), &message(side, transcript));
    let mut proof = [0; 32];
    proof.copy_from_slice(tag.as_ref());
    proof
}

/// Whether the other end has proved that it knows the secret, in constant time.
pub(crate) fn verify(
    secret: &Secret,
    side: Side,
    transcript: &Transcript<'_>,
    proof: &[u8; 32],
) -> bool {
    hmac::verify(&key(secret), &message(side, transcript), proof).is_ok()
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.bytes())
}

/// Hellos have lengths before them, so that no two transcripts are the same bytes.
fn message(side: Side, transcript: &Transcript<'_>) -> Vec<u8> {
    let mut message = b"dialtone link proof 1\0".to_vec();
    message.push(match side {
        Side::Dialler => 0,
        Side::Listener => 1,
    });
    message.extend(transcript.channel_binding.unwrap_or_default());
    for hello in [transcript.dialler, transcript.listener] {
        Frame::Link(Link::Hello(Box::new(hello.clone()))).encode(&mut message);
    }
    message
}

/// Whether the other end's certificate, which TLS has verified, is of the node that it says it is.
///
/// # Errors
/// When there is none, or it is of another node or cluster.
pub(crate) fn check_certificate(
    trust: &Trust,
    info: &Info,
    hello: &LinkHello,
) -> Result<(), Refused> {
    if !matches!(trust, Trust::Certificates) {
        return Ok(());
    }
    let refused = |text: String| Refused::new(Code::Unauthenticated, text);
    let Some(leaf) = info.client_certificates.first() else {
        return Err(refused("no certificate of the cluster was shown".into()));
    };
    let parsed = X509Certificate::from_der(leaf);
    let Ok((_, certificate)) = parsed else {
        return Err(refused("the certificate cannot be read".into()));
    };
    let subject = certificate.subject();
    let node = subject.iter_common_name().next();
    let cluster = subject.iter_organization().next();
    let node = node.and_then(|name| name.as_str().ok()).unwrap_or_default();
    let cluster = cluster
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    if node != hello.node.name || cluster != hello.cluster {
        let text = format!(
            "the certificate is of node {node:?} in cluster {cluster:?}, not of {:?} in {:?}",
            hello.node.name, hello.cluster
        );
        return Err(refused(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::frame::handshake::MAGIC;
    use dialtone_protocol::frame::link::NodeInfo;

    use super::*;

    fn hello(name: &str, nonce: u8) -> LinkHello {
        LinkHello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            cluster: "c".to_owned(),
            to_cluster: "c".to_owned(),
            node: NodeInfo {
                name: name.to_owned(),
                incarnation: 1,
                revision: 0,
                left: false,
                addresses: Vec::new(),
                client_addresses: Vec::new(),
            },
            server: "s".to_owned(),
            nonce: [nonce; 32],
        }
    }

    #[test]
    fn a_proof_holds_for_one_side_of_one_link_and_one_secret() {
        let secret = Secret::new(b"a secret of many bytes").unwrap();
        let (dialler, listener) = (hello("n1", 1), hello("n2", 2));
        let transcript = Transcript {
            dialler: &dialler,
            listener: &listener,
            channel_binding: Some([7; 32]),
        };
        let proof = prove(&secret, Side::Dialler, &transcript);
        assert!(verify(&secret, Side::Dialler, &transcript, &proof));
        assert!(!verify(&secret, Side::Listener, &transcript, &proof));
        let other = Secret::new(b"another one of many bytes").unwrap();
        assert!(!verify(&other, Side::Dialler, &transcript, &proof));
        let replayed = hello("n2", 3);
        let mut changed = Transcript {
            listener: &replayed,
            ..transcript
        };
        assert!(!verify(&secret, Side::Dialler, &changed, &proof));
        changed = Transcript {
            channel_binding: Some([8; 32]),
            ..transcript
        };
        assert!(!verify(&secret, Side::Dialler, &changed, &proof), "relayed");
        assert!(Secret::new(b"short").is_err());
    }
}

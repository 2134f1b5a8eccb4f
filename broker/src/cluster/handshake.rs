//! From a transport's connection to a link: hellos, proofs, and a reason on both sides where one of
//! them does not want it.
//!
//! ```text
//!   dialler                                   listener
//!      │ ── hello: cluster, node, nonce ─────────▶ │ is it of our cluster, or of one we know?
//!      │ ◀───────── hello: cluster, node, nonce ── │
//!      │ ── proof ───────────────────────────────▶ │ does it know the secret? may it be a member?
//!      │ ◀───────────────────────────────── proof ─ │ from here on it is a link
//! ```

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::link::{
    LINK_VERSION, LINK_VERSION_MIN, LinkHello, LinkProof, NODE_ADDRESSES_MAX, NodeInfo,
};
use dialtone_protocol::frame::{Close, Link, Refused};
use dialtone_protocol::limits::{HELLO_LEN_MAX, TEXT_LEN_MAX};
use dialtone_protocol::session::negotiate;
use dialtone_protocol::{Code, Frame, codec};
use dialtone_transport::{Batch, Connection, Endpoint, Error, Info, Lane, Reader, Writer};

use super::Cluster;
use super::claims::Claim;
use super::config::{Config, Secret, Trust};
use super::end::Role;
use super::proof::{self, Side, Transcript};
use crate::connection::server_name;

/// How long a refused node is given to take the reason.
const REFUSAL_MAX: Duration = Duration::from_secs(2);

/// Room that is read into at once, in bytes.
const READ_LEN: usize = 2_048;

/// Why a link did not come about.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The other end went away, or the transport failed.
    Gone(String),
    /// This node refuses, and has said why.
    Refused(Option<String>, Refused),
    /// The other node refuses.
    RefusedUs(Option<String>, Refused),
    /// The other node is this one.
    Itself,
    /// This node has a link with the other one, or is about to have one.
    Linked(String),
}

/// A node at the other end, which is what it says.
#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) info: Info,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) node: NodeInfo,
    pub(crate) server: String,
    pub(crate) role: Role,
    /// What came after the last frame.
    pub(crate) rest: Vec<u8>,
    /// The proof that makes it a link, for the listener to send when it is in place.
    pub(crate) accept: Option<LinkProof>,
    /// Held by the dialler until the link is in place.
    pub(crate) claim: Option<Claim>,
}

/// The dialling end. `to` is the cluster that is meant.
pub(crate) async fn dial(
    cluster: &Cluster,
    connection: Connection,
    to: &str,
    endpoint: &Endpoint,
) -> Result<Introduced, Failure> {
    let mut wire = Wire::new(connection);
    let own = hello(cluster, to);
    let result = introduce_dialler(cluster, &mut wire, own, to).await;
    let (theirs, role, claim) = match result {
        Ok(introduced) => introduced,
        Err(failure) => return Err(wire.fail(failure).await),
    };
    let host = endpoint.host_port().map(|(host, _)| host.to_owned());
    Ok(Introduced {
        claim,
        ..wire.introduced(theirs, role, host.as_deref(), None)
    })
}

/// The listening end.
pub(crate) async fn accept(
    cluster: &Cluster,
    connection: Connection,
) -> Result<Introduced, Failure> {
    let mut wire = Wire::new(connection);
    match introduce_listener(cluster, &mut wire).await {
        Ok((theirs, role, accept)) => {
            let host = wire.info.remote.map(|remote| remote.ip().to_string());
            Ok(wire.introduced(theirs, role, host.as_deref(), Some(accept)))
        }
        Err(failure) => Err(wire.fail(failure).await),
    }
}

async fn introduce_dialler(
    cluster: &Cluster,
    wire: &mut Wire,
    own: LinkHello,
    to: &str,
) -> Result<(LinkHello, Role, Option<Claim>), Failure> {
    let config = &cluster.config;
    wire.send(Link::Hello(Box::new(own.clone()))).await?;
    let theirs = wire.read_hello().await?;
    check_hello(cluster, &theirs)?;
    let named = || Some(theirs.node.name.clone());
    let refuse = |refused| Failure::Refused(named(), refused);
    if theirs.cluster != to {
        return Err(refuse(other_cluster(&theirs.cluster, to)));
    }
    proof::check_certificate(&config.trust, &wire.info, &theirs).map_err(refuse)?;
    let is_member = to == config.name;
    let claim = is_member.then(|| cluster.claim(&theirs.node));
    let claim = claim.map(|claim| claim.ok_or_else(|| Failure::Linked(theirs.node.name.clone())));
    let claim = claim.transpose()?;
    let secret = secret_for(config, to);
    let transcript = Transcript {
        dialler: &own,
        listener: &theirs,
        channel_binding: wire.info.channel_binding,
    };
    let proof = LinkProof {
        secret: secret.map(|secret| proof::prove(secret, Side::Dialler, &transcript)),
    };
    wire.send(Link::Proof(proof)).await?;
    let theirs_proof = wire.read_proof(named()).await?;
    check_proof(secret, Side::Listener, &transcript, &theirs_proof).map_err(refuse)?;
    let role = if is_member {
        Role::Member
    } else {
        Role::GatewayTo(to.into())
    };
    Ok((theirs, role, claim))
}

async fn introduce_listener(
    cluster: &Cluster,
    wire: &mut Wire,
) -> Result<(LinkHello, Role, LinkProof), Failure> {
    let config = &cluster.config;
    let theirs = wire.read_hello().await?;
    // Answered before anything is judged, so that the other end can say whom it has reached.
    let own = hello(cluster, &theirs.cluster);
    wire.send(Link::Hello(Box::new(own.clone()))).await?;
    check_hello(cluster, &theirs)?;
    let named = || Some(theirs.node.name.clone());
    let refuse = |refused| Failure::Refused(named(), refused);
    if theirs.to_cluster != config.name {
        return Err(refuse(other_cluster(&config.name, &theirs.to_cluster)));
    }
    let is_known = theirs.cluster == config.name
        || config
            .gateways
            .iter()
            .any(|gateway| gateway.name == theirs.cluster);
    if !is_known {
        let text = format!(
            "cluster {:?} is not a gateway of cluster {:?}",
            theirs.cluster, config.name
        );
        return Err(refuse(Refused::new(Code::Denied, text)));
    }
    proof::check_certificate(&config.trust, &wire.info, &theirs).map_err(refuse)?;
    let secret = secret_for(config, &theirs.cluster);
    let transcript = Transcript {
        dialler: &theirs,
        listener: &own,
        channel_binding: wire.info.channel_binding,
    };
    let theirs_proof = wire.read_proof(named()).await?;
    check_proof(secret, Side::Dialler, &transcript, &theirs_proof).map_err(refuse)?;
    let accept = LinkProof {
        secret: secret.map(|secret| proof::prove(secret, Side::Listener, &transcript)),
    };
    let role = if theirs.cluster == config.name {
        Role::Member
    } else {
        Role::GatewayFrom(theirs.cluster.as_str().into())
    };
    Ok((theirs, role, accept))
}

fn hello(cluster: &Cluster, to: &str) -> LinkHello {
    LinkHello {
        magic: MAGIC,
        version_min: LINK_VERSION_MIN,
        version_max: LINK_VERSION,
        cluster: cluster.config.name.clone(),
        to_cluster: to.to_owned(),
        node: cluster.own_info(),
        server: server_name(),
        nonce: rand::random(),
    }
}

fn check_hello(cluster: &Cluster, theirs: &LinkHello) -> Result<(), Failure> {
    let refuse = |refused| Failure::Refused(Some(theirs.node.name.clone()), refused);
    negotiate(
        (LINK_VERSION_MIN, LINK_VERSION),
        (theirs.version_min, theirs.version_max),
    )
    .map_err(|violation| refuse(Refused::new(violation.code, violation.text)))?;
    let texts = [
        &theirs.cluster,
        &theirs.to_cluster,
        &theirs.server,
        &theirs.node.name,
    ];
    if texts.iter().any(|text| text.len() > TEXT_LEN_MAX) {
        return Err(refuse(Refused::new(Code::TooLarge, "a name is too long")));
    }
    let own = cluster.own_info();
    if theirs.cluster == cluster.config.name && theirs.node.name == own.name {
        if theirs.node.incarnation == own.incarnation {
            return Err(Failure::Itself);
        }
        let text = format!("two nodes are called {:?}", own.name);
        return Err(refuse(Refused::new(Code::Conflict, text)));
    }
    Ok(())
}

fn other_cluster(is: &str, meant: &str) -> Refused {
    let text = format!("this is cluster {is:?}, not {meant:?}");
    Refused::new(Code::Denied, text)
}

/// The secret that is shared with a cluster, the own one included.
fn secret_for<'c>(config: &'c Config, cluster: &str) -> Option<&'c Secret> {
    let own = match &config.trust {
        Trust::Secret(secret) => Some(secret),
        Trust::Certificates | Trust::Anyone => None,
    };
    let gateway = config
        .gateways
        .iter()
        .find(|gateway| gateway.name == cluster);
    match gateway {
        Some(gateway) if cluster != config.name => gateway.secret.as_ref().or(own),
        Some(_) | None => own,
    }
}

fn check_proof(
    secret: Option<&Secret>,
    side: Side,
    transcript: &Transcript<'_>,
    theirs: &LinkProof,
) -> Result<(), Refused> {
    let refused = |text: &str| Err(Refused::new(Code::Unauthenticated, text));
    match (secret, &theirs.secret) {
        (None, None) => Ok(()),
        (Some(secret), Some(proof)) if proof::verify(secret, side, transcript, proof) => Ok(()),
        (Some(_), Some(_)) => refused("the cluster's secret is another one"),
        (Some(_), None) => refused("the cluster's secret was not proved"),
        (None, Some(_)) => refused("this node knows no secret of the cluster"),
    }
}

/// A connection during the handshake.
struct Wire {
    info: Info,
    reader: Reader,
    writer: Writer,
    buffer: Vec<u8>,
}

impl Wire {
    fn new(connection: Connection) -> Self {
        let Connection {
            info,
            reader,
            writer,
        } = connection;
        Self {
            info,
            reader,
            writer,
            buffer: Vec::new(),
        }
    }

    fn introduced(
        self,
        theirs: LinkHello,
        role: Role,
        host: Option<&str>,
        accept: Option<LinkProof>,
    ) -> Introduced {
        let mut node = theirs.node;
        for addresses in [&mut node.addresses, &mut node.client_addresses] {
            addresses.truncate(NODE_ADDRESSES_MAX);
            seen_from_here(addresses, host);
        }
        Introduced {
            info: self.info,
            reader: self.reader,
            writer: self.writer,
            node,
            server: theirs.server,
            role,
            rest: self.buffer,
            accept,
            claim: None,
        }
    }

    async fn send(&mut self, link: Link) -> Result<(), Failure> {
        let mut batch = Batch::new();
        batch.push(Bytes::from(Frame::Link(link).to_vec()));
        poll_fn(|cx| self.writer.poll_send(cx, Lane::Interactive, &mut batch))
            .await
            .map_err(|error| Failure::Gone(error.to_string()))
    }

    async fn read_hello(&mut self) -> Result<LinkHello, Failure> {
        let said = self.read(None).await?;
        if let Link::Hello(hello) = &said
            && hello.magic == MAGIC
        {
            return Ok(LinkHello::clone(hello));
        }
        Err(out_of_place(None, &said))
    }

    async fn read_proof(&mut self, node: Option<String>) -> Result<LinkProof, Failure> {
        let said = self.read(node.clone()).await?;
        if let Link::Proof(proof) = said {
            return Ok(proof);
        }
        Err(out_of_place(node, &said))
    }

    /// The next frame of the other end.
    async fn read(&mut self, node: Option<String>) -> Result<Link, Failure> {
        loop {
            let refuse =
                |code, text: String| Err(Failure::Refused(node.clone(), Refused::new(code, text)));
            match codec::split_frame(&self.buffer, HELLO_LEN_MAX) {
                Err(error) => return refuse(Code::TooLarge, error.to_string()),
                Ok(Some((body, len))) => {
                    let said = match Frame::decode(body) {
                        Ok(Frame::Link(link)) => Ok(link),
                        Ok(Frame::Close(Close { code, text })) => {
                            Err(Failure::RefusedUs(node, Refused { code, text }))
                        }
                        Ok(Frame::Hello(_)) => {
                            let text = "nodes of a cluster listen here, clients connect elsewhere";
                            return refuse(Code::BadFrame, text.to_owned());
                        }
                        Ok(other) => {
                            let text = format!("a {} frame is out of place", other.name());
                            return refuse(Code::BadFrame, text);
                        }
                        Err(error) => return refuse(Code::BadFrame, error.to_string()),
                    };
                    self.buffer.drain(..len);
                    return said;
                }
                Ok(None) => {}
            }
            self.buffer.reserve(READ_LEN);
            let received = poll_fn(|cx| {
                self.reader
                    .poll_recv(cx, Lane::Interactive, &mut self.buffer)
            })
            .await;
            match received {
                Ok(0) => return Err(Failure::Gone("the other end hung up".to_owned())),
                Ok(_) => {}
                // The word that came with the end of the connection, where that was faster than the frame.
                Err(Error::Closed { code, reason }) => {
                    let refused = Refused::new(Code::from_number(code), reason);
                    return Err(Failure::RefusedUs(node, refused));
                }
                Err(error) => return Err(Failure::Gone(error.to_string())),
            }
        }
    }

    /// Tells the other end why there is no link.
    async fn fail(mut self, failure: Failure) -> Failure {
        match &failure {
            Failure::Refused(_, refused) => refuse(&mut self.writer, refused).await,
            Failure::Itself => {
                refuse(
                    &mut self.writer,
                    &Refused::new(Code::Conflict, "this node itself"),
                )
                .await;
            }
            Failure::Linked(_) => refuse(&mut self.writer, &not_needed()).await,
            Failure::Gone(_) | Failure::RefusedUs(..) => {}
        }
        failure
    }
}

/// Why a link is ended before it is one, without anything being wrong.
pub(crate) fn not_needed() -> Refused {
    Refused::new(
        Code::Normal,
        "there is a link already, or one is being made",
    )
}

/// Whether a link was ended because it is not needed.
pub(crate) fn is_not_needed(refused: &Refused) -> bool {
    refused.code == Code::Normal
}

fn out_of_place(node: Option<String>, link: &Link) -> Failure {
    let text = format!("a {} frame is out of place", link.name());
    Failure::Refused(node, Refused::new(Code::BadFrame, text))
}

/// Says why there is no link, and closes.
pub(crate) async fn refuse(writer: &mut Writer, refused: &Refused) {
    refuse_after(writer, Vec::new(), refused).await;
}

/// As [`refuse`], with something to be said before.
pub(crate) async fn refuse_after(writer: &mut Writer, first: Vec<Link>, refused: &Refused) {
    let close = Frame::Close(Close {
        code: refused.code,
        text: refused.text.clone(),
    });
    let mut batch = Batch::new();
    for frame in first.into_iter().map(Frame::Link).chain([close]) {
        batch.push(Bytes::from(frame.to_vec()));
    }
    let said = async {
        poll_fn(|cx| writer.poll_send(cx, Lane::Interactive, &mut batch)).await?;
        poll_fn(|cx| writer.poll_close(cx, refused.code.number(), &refused.text)).await
    };
    match tokio::time::timeout(REFUSAL_MAX, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the refusal could not be sent"),
        Err(_) => tracing::debug!("the refusal was not taken"),
    }
}

/// Replaces hosts of all zeros, which mean "wherever you see me", by what was seen.
pub(super) fn seen_from_here(addresses: &mut [String], host: Option<&str>) {
    let Some(host) = host else { return };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    for address in addresses {
        for anywhere in ["://0.0.0.0:", "://[::]:"] {
            *address = address.replacen(anywhere, &format!("://{host}:"), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_zeros_are_replaced_by_what_is_seen() {
        let seen = |address: &str, host: Option<&str>| {
            let mut addresses = [address.to_owned()];
            seen_from_here(&mut addresses, host);
            let [address] = addresses;
            address
        };
        assert_eq!(
            seen("quic://0.0.0.0:4434", Some("10.0.0.2")),
            "quic://10.0.0.2:4434"
        );
        assert_eq!(
            seen("ws://[::]:80/x", Some("fe80::1")),
            "ws://[fe80::1]:80/x"
        );
        assert_eq!(
            seen("quic://n1.example:1", Some("10.0.0.2")),
            "quic://n1.example:1"
        );
        assert_eq!(seen("quic://0.0.0.0:1", None), "quic://0.0.0.0:1");
    }
}

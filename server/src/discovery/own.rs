//! Which of the addresses that names have are our own.

use std::net::{IpAddr, UdpSocket};

use dialtone_transport::Endpoint;

/// Where this node can be reached by others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    listens: Vec<Endpoint>,
    advertised: Vec<Endpoint>,
}

impl Own {
    /// A node that listens here and tells others to come there.
    pub(crate) fn new(listens: Vec<Endpoint>, advertised: Vec<Endpoint>) -> Self {
        Self {
            listens,
            advertised,
        }
    }

    /// Whether whoever dials this reaches this node itself. A node notices it at the handshake as well; knowing it
    /// before saves a dial for each look at the names.
    pub(crate) fn is(&self, endpoint: &Endpoint) -> bool {
        self.advertised.contains(endpoint)
            || self.listens.iter().any(|listen| reaches(listen, endpoint))
    }
}

fn reaches(listen: &Endpoint, dialled: &Endpoint) -> bool {
    let (Some((at, at_port)), Some((to, to_port))) = (listen.host_port(), dialled.host_port())
    else {
        return false;
    };
    if listen.scheme() != dialled.scheme() || at_port != to_port {
        return false;
    }
    match (at.parse::<IpAddr>(), to.parse::<IpAddr>()) {
        (Ok(at), Ok(to)) if at.is_unspecified() => is_local(to),
        (Ok(at), Ok(to)) => at == to,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        (Err(_), Err(_)) => at == to,
    }
}

/// Whether an address belongs to this machine: the operating system lets sockets have no others.
fn is_local(ip: IpAddr) -> bool {
    !ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn own_addresses_are_recognised() {
        let all = Own::new(
            endpoints(&["quic://0.0.0.0:4434"]),
            endpoints(&["quic://n1.example.org:4434"]),
        );
        let one = Own::new(endpoints(&["quic://127.0.0.1:4434"]), Vec::new());
        for (text, at_all, at_one) in [
            ("quic://127.0.0.1:4434", true, true),
            ("quic://127.0.0.2:4434", true, false),
            ("quic://127.0.0.1:4435", false, false),
            ("wss://127.0.0.1:4434/", false, false),
            // TEST-NET-1 (RFC 5737) belongs to nobody.
            ("quic://192.0.2.1:4434", false, false),
            ("quic://n1.example.org:4434", true, false),
        ] {
            let endpoint = text.parse().unwrap();
            assert_eq!(
                (all.is(&endpoint), one.is(&endpoint)),
                (at_all, at_one),
                "{text}"
            );
        }
    }
}

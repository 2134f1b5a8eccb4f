//! What to do about an address that cannot be had.

use dialtone_broker::error::BindError;
use dialtone_transport::Endpoint;

use crate::config::Settings;
use crate::exit::{Exit, Failure};

/// Says what to do about an address that cannot be had.
pub(super) fn explain(error: BindError, settings: &Settings) -> Failure {
    let hint = match &error {
        BindError::Listen {
            endpoint,
            source: dialtone_transport::BindError::Socket { source, .. },
        } => {
            let for_nodes = settings
                .cluster_listen
                .value
                .iter()
                .any(|link| link.0 == **endpoint);
            bind_hint(
                endpoint,
                source.kind(),
                for_nodes && settings.cluster_name.value.is_some(),
            )
        }
        BindError::Listen { .. } | BindError::NodeName { .. } | BindError::Config { .. } => None,
    };
    let failure = Failure::new(Exit::Failure, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn bind_hint(endpoint: &Endpoint, kind: std::io::ErrorKind, for_nodes: bool) -> Option<String> {
    let (_, port) = endpoint.host_port()?;
    let scheme = endpoint.scheme();
    let (flag, others) = if for_nodes {
        (
            "--cluster-listen",
            "given once, it replaces all default addresses",
        )
    } else {
        (
            "--listen",
            "given once, --listen replaces all default addresses",
        )
    };
    if kind == std::io::ErrorKind::AddrInUse {
        Some(format!(
            "port {port} is in use, perhaps by another broker; choose another with {flag} {scheme}://127.0.0.1:PORT \
             (port 0: any free port; {others})"
        ))
    } else if kind == std::io::ErrorKind::PermissionDenied {
        Some(format!(
            "port {port} needs privileges; choose one above 1023 with {flag} ({others})"
        ))
    } else if kind == std::io::ErrorKind::AddrNotAvailable {
        Some(
            "this machine does not have that address; 0.0.0.0 stands for all that it has"
                .to_owned(),
        )
    } else {
        None
    }
}

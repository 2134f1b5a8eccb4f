//! The certificates of a cluster: its own authority, and what that signs for each node.
//!
//! A node's certificate has the cluster as its organisation (O), the node as its common name (CN), and the cluster's
//! [`host_name`] as DNS name, so that whoever keeps an authority of their own (cert-manager, Vault) can ask it for such
//! certificates as well.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// Longest name of a node, in bytes; what the common name of a certificate holds (RFC 5280).
pub const NODE_NAME_LEN_MAX: usize = 64;
/// Longest name of a cluster, in bytes: it is a label of a host name (RFC 1035).
pub const CLUSTER_NAME_LEN_MAX: usize = 63;
/// How long an authority is valid: replacing it means replacing every node's certificate.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_hours(10 * 365 * 24);
/// How far the clock of a node may be behind.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// Why certificates of a cluster cannot be made or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A name that cannot stand in a certificate, a subject or a file name.
    #[error("{name:?} is no name of a {what}: 1 to {len_max} letters, digits, - or _{}", if *.what == "cluster" { ", without - at its ends" } else { "" })]
    BadName {
        /// `cluster` or `node`.
        what: &'static str,
        /// Its longest name.
        len_max: usize,
        /// What was given.
        name: String,
    },
    /// The library that makes certificates refuses.
    #[error("cannot make a certificate")]
    Generate(#[from] rcgen::Error),
    /// Not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// A certificate that may not sign others.
    #[error("the certificate is not that of a certificate authority")]
    NoAuthority,
    /// The key of another certificate.
    #[error("the key does not belong to the certificate of the authority")]
    OtherKey,
    /// Not one organisation and one common name, or not the host name of the cluster.
    #[error(
        "the certificate is not that of a node: it needs the cluster as organisation (O), the node as common name (CN), and the DNS name CLUSTER.cluster.dialtone"
    )]
    NoNode,
}

/// What signs the certificates of a cluster's nodes.
pub struct Authority {
    cluster: String,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// A certificate made for a node, with its key.
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// The same as PEM.
    pub certificate_pem: String,
    /// Its private key, as PKCS #8 in PEM.
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority, valid for [`AUTHORITY_VALIDITY`].
    ///
    /// # Errors
    /// If `cluster` is no name.
    pub fn generate(cluster: &str) -> Result<Self, AuthorityError> {
        check_cluster_name(cluster)?;
        let mut params = valid_for(AUTHORITY_VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster);
        params
            .distinguished_name
            .push(DnType::CommonName, "Dialtone cluster authority");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            cluster: cluster.to_owned(),
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// An authority that was made earlier, here or elsewhere, from its certificate and key as PEM; the first
    /// certificate counts. It will sign for the nodes of `cluster`.
    ///
    /// # Errors
    /// If the certificate is not that of an authority, or the key not that of the certificate.
    pub fn from_pem(cluster: &str, certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        check_cluster_name(cluster)?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_detail| AuthorityError::Unreadable)?;
        let key = KeyPair::from_pem(key)?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|_detail| AuthorityError::Unreadable)?;
        if !parsed.is_ca() {
            return Err(AuthorityError::NoAuthority);
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            certificate_pem: certificate.to_owned(),
            certificate: der,
            key,
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The authority's certificate, as PEM: what nodes trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key, as PEM: whoever has it can make nodes.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Whether a certificate is signed by this authority; its validity and names are not looked at.
    pub fn has_signed(&self, certificate: &CertificateDer<'_>) -> bool {
        let (Ok((_, own)), Ok((_, other))) = (
            X509Certificate::from_der(&self.certificate),
            X509Certificate::from_der(certificate),
        ) else {
            return false;
        };
        other.issuer() == own.subject()
            && signed_with(&other, own.public_key().subject_public_key.data.as_ref())
    }

    /// A certificate for the node of this name, which it may show to nodes that it dials and to those that dial it. It
    /// ends with the authority's at the latest.
    ///
    /// # Errors
    /// If `node` is no name.
    pub fn issue(&self, node: &str, validity: Duration) -> Result<Issued, AuthorityError> {
        check_node_name(node)?;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        let own_end = lifetime(&self.certificate)?.1;
        let mut params = valid_for(validity);
        params.not_after = params.not_after.min(own_end.into());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = vec![SanType::DnsName(host_name(&self.cluster).try_into()?)];
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, self.cluster.as_str());
        params.distinguished_name.push(DnType::CommonName, node);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Issued {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// Which node of which cluster a certificate names. That it may do so is for the verifier of its chain to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: String,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {}", self.node, self.cluster)
    }
}

impl NodeName {
    /// The node that a certificate names.
    ///
    /// # Errors
    /// If it names none.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, AuthorityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_detail| AuthorityError::Unreadable)?;
        let subject = parsed.subject();
        let cluster = only(subject.iter_organization())?;
        let node = only(subject.iter_common_name())?;
        if check_cluster_name(&cluster).is_err() || check_node_name(&node).is_err() {
            return Err(AuthorityError::NoNode);
        }
        let alternatives = parsed
            .subject_alternative_name()
            .map_err(|_detail| AuthorityError::Unreadable)?;
        let wanted = host_name(&cluster);
        let has = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .any(|name| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(&wanted)));
        if has {
            Ok(Self { cluster, node })
        } else {
            Err(AuthorityError::NoNode)
        }
    }
}

/// The text of an attribute that is there exactly once.
fn only<'a>(
    mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<String, AuthorityError> {
    match (attributes.next(), attributes.next()) {
        (Some(one), None) => one
            .as_str()
            .map(str::to_owned)
            .map_err(|_detail| AuthorityError::NoNode),
        _ => Err(AuthorityError::NoNode),
    }
}

/// The host name in every node's certificate of a cluster, whatever its address. Diallers ask for it, so that a
/// certificate of one cluster is none of another one, even under one authority.
pub fn host_name(cluster: &str) -> String {
    format!("{}.cluster.dialtone", cluster.to_ascii_lowercase())
}

/// When a certificate begins and ends to be valid.
///
/// # Errors
/// If it cannot be read.
pub fn lifetime(
    certificate: &CertificateDer<'_>,
) -> Result<(SystemTime, SystemTime), AuthorityError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_detail| AuthorityError::Unreadable)?;
    let at = |timestamp: i64| {
        let since = u64::try_from(timestamp).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(since)
    };
    let validity = parsed.validity();
    Ok((
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    ))
}

/// Whether this may be the name of a cluster: letters, digits, `-` and `_`, at most [`CLUSTER_NAME_LEN_MAX`] bytes, and
/// no `-` at its ends, as in host names.
///
/// # Errors
/// If not.
pub fn check_cluster_name(name: &str) -> Result<(), AuthorityError> {
    check_name("cluster", CLUSTER_NAME_LEN_MAX, name)?;
    if name.starts_with('-') || name.ends_with('-') {
        return Err(AuthorityError::BadName {
            what: "cluster",
            len_max: CLUSTER_NAME_LEN_MAX,
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Whether this may be the name of a node: letters, digits, `-` and `_`, at most [`NODE_NAME_LEN_MAX`] bytes.
///
/// # Errors
/// If not.
pub fn check_node_name(name: &str) -> Result<(), AuthorityError> {
    check_name("node", NODE_NAME_LEN_MAX, name)
}

fn check_name(what: &'static str, len_max: usize, name: &str) -> Result<(), AuthorityError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=len_max).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(AuthorityError::BadName {
            what,
            len_max,
            name: name.to_owned(),
        })
    }
}

/// Whether the key of this authority, which is always one of ECDSA P-256, has made a certificate's signature.
fn signed_with(certificate: &X509Certificate<'_>, key: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
    key.verify(
        certificate.tbs_certificate.as_ref(),
        certificate.signature_value.data.as_ref(),
    )
    .is_ok()
}

fn valid_for(validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + validity).into();
    params
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

    use super::*;
    use crate::tls::provider;

    const DAY: Duration = Duration::from_hours(24);

    fn roots(authority: &Authority) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        roots
    }

    #[test]
    fn certificates_of_nodes_are_trusted_on_both_sides() {
        let authority = Authority::generate("prod").unwrap();
        let issued = authority.issue("n1", DAY).unwrap();
        let other = Authority::generate("prod")
            .unwrap()
            .issue("n1", DAY)
            .unwrap();
        let algorithms = provider().signature_verification_algorithms;
        let roots = roots(&authority);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider())
                .build()
                .unwrap();
        for (certificate, trusted) in [(&issued.certificate, true), (&other.certificate, false)] {
            let parsed = ParsedCertificate::try_from(certificate).unwrap();
            let server = rustls::client::verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &roots,
                &[],
                UnixTime::now(),
                algorithms.all,
            );
            assert_eq!(server.is_ok(), trusted);
            let client = clients.verify_client_cert(certificate, &[], UnixTime::now());
            assert_eq!(client.is_ok(), trusted);
        }
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            provider(),
        )
        .build()
        .unwrap();
        for (cluster, trusted) in [
            ("prod", true),
            ("Prod", true),
            ("test", false),
            ("n1", false),
        ] {
            let name = ServerName::try_from(host_name(cluster)).unwrap();
            let verified =
                verifier.verify_server_cert(&issued.certificate, &[], &name, &[], UnixTime::now());
            assert_eq!(verified.is_ok(), trusted, "{cluster}");
        }
    }

    #[test]
    fn clusters_may_have_any_name_that_is_allowed() {
        let longest = "c".repeat(CLUSTER_NAME_LEN_MAX);
        for cluster in ["a", "Prod_1", "_", "1-2", &longest] {
            let authority = Authority::generate(cluster).unwrap();
            let issued = authority.issue("n1", DAY).unwrap();
            let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots(&authority)),
                provider(),
            )
            .build()
            .unwrap();
            let name = ServerName::try_from(host_name(cluster))
                .unwrap_or_else(|error| panic!("{cluster}: {error}"));
            verifier
                .verify_server_cert(&issued.certificate, &[], &name, &[], UnixTime::now())
                .unwrap_or_else(|error| panic!("{cluster}: {error}"));
        }
    }

    #[test]
    fn a_certificate_names_its_node() {
        let authority = Authority::generate("prod_1").unwrap();
        let longest = "n".repeat(NODE_NAME_LEN_MAX);
        for node in ["n1", "Node_7-b", &longest] {
            let issued = authority.issue(node, DAY).unwrap();
            let name = NodeName::of(&issued.certificate).unwrap();
            assert_eq!(name.to_string(), format!("node {node} of cluster prod_1"));
        }
        let error = NodeName::of(&authority.certificate).unwrap_err();
        assert!(matches!(error, AuthorityError::NoNode), "{error}");
        for bad in ["", "a b", "a/b", "ä", &"n".repeat(NODE_NAME_LEN_MAX + 1)] {
            authority.issue(bad, DAY).unwrap_err();
            Authority::generate(bad).unwrap_err();
        }
        for bad in ["-a", "a-", &"n".repeat(CLUSTER_NAME_LEN_MAX + 1)] {
            Authority::generate(bad).unwrap_err();
        }
    }

    #[test]
    fn a_certificate_that_is_none_of_a_node_names_none() {
        let certificate = |cluster: &[&str], node: &[&str], host: &str| {
            let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.distinguished_name = DistinguishedName::new();
            for cluster in cluster {
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, *cluster);
            }
            for node in node {
                params.distinguished_name.push(DnType::CommonName, *node);
            }
            let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            NodeName::of(signed.der())
        };
        certificate(&["a"], &["n1"], "a.cluster.dialtone").unwrap();
        certificate(&["a"], &["n1"], "b.cluster.dialtone").unwrap_err();
        certificate(&[], &["n1"], "a.cluster.dialtone").unwrap_err();
        certificate(&["a"], &[], "a.cluster.dialtone").unwrap_err();
        certificate(&["a"], &["n 1"], "a.cluster.dialtone").unwrap_err();
        NodeName::of(&CertificateDer::from(vec![1, 2, 3])).unwrap_err();
    }

    #[test]
    fn an_authority_is_read_again() {
        let first = Authority::generate("prod").unwrap();
        let again = Authority::from_pem("prod", first.certificate_pem(), &first.key_pem()).unwrap();
        let issued = again.issue("n2", DAY).unwrap();
        let parsed = ParsedCertificate::try_from(&issued.certificate).unwrap();
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots(&first),
            &[],
            UnixTime::now(),
            provider().signature_verification_algorithms.all,
        )
        .unwrap();

        let other = Authority::generate("prod").unwrap();
        let error =
            Authority::from_pem("prod", first.certificate_pem(), &other.key_pem()).unwrap_err();
        assert!(matches!(error, AuthorityError::OtherKey), "{error}");
        let error =
            Authority::from_pem("prod", &issued.certificate_pem, &issued.key_pem).unwrap_err();
        assert!(matches!(error, AuthorityError::NoAuthority), "{error}");
        Authority::from_pem("prod", "nonsense", &first.key_pem()).unwrap_err();
    }

    #[test]
    fn an_authority_knows_what_it_has_signed() {
        let [own, other] = ["prod", "prod"].map(|name| Authority::generate(name).unwrap());
        let issued = own.issue("n1", DAY).unwrap().certificate;
        assert!(own.has_signed(&issued));
        assert!(own.has_signed(&own.certificate));
        assert!(!other.has_signed(&issued));
        assert!(!own.has_signed(&CertificateDer::from(vec![1, 2, 3])));
    }

    #[test]
    fn a_certificate_ends_with_its_authority() {
        let authority = Authority::generate("prod").unwrap();
        let issued = authority.issue("n1", AUTHORITY_VALIDITY * 2).unwrap();
        let (begin, end) = lifetime(&issued.certificate).unwrap();
        assert_eq!(end, lifetime(&authority.certificate).unwrap().1);
        assert!(begin < SystemTime::now());
        let short = authority.issue("n1", DAY).unwrap();
        assert!(lifetime(&short.certificate).unwrap().1 <= SystemTime::now() + DAY);
    }
}

//! Certificates: pinned, reloaded, and those of clients.

use std::fs;
use std::path::{Path, PathBuf};

use dialtone_transport::tls::{ClientCertificate, ClientTls, Fingerprint, Roots, ServerTls};
use dialtone_transport::{DialError, ListenOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{Link, Over};

/// A CA with certificates for `localhost` and for a client, as files.
struct Files {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        Self { dir, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a fresh certificate with its key; returns its fingerprint.
    fn issue(&self, name: &str) -> Fingerprint {
        let key = KeyPair::generate().unwrap();
        let params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        Fingerprint::of(certificate.der())
    }

    fn server(&self, client_ca: Option<&Path>) -> ServerTls {
        ServerTls::from_pem_files(
            &self.path("server.pem"),
            &self.path("server.key"),
            client_ca,
        )
        .unwrap()
    }
}

impl Files {
    /// For a client that shows its certificate.
    fn client(&self, roots: &Roots) -> ClientTls {
        let certificate =
            ClientCertificate::from_pem_files(&self.path("client.pem"), &self.path("client.key"))
                .unwrap();
        ClientTls::with_certificate(roots.clone(), Some(certificate))
    }
}

async fn link(over: Over, tls: &ServerTls) -> Link {
    Link::with(
        over,
        ListenOptions {
            tls: Some(tls.clone()),
            ..ListenOptions::default()
        },
    )
    .await
}

#[tokio::test]
async fn pinning_refuses_another_certificate() {
    for over in [Over::Wss, Over::Quic] {
        let mut link = Link::new(over).await;
        let other = ServerTls::development(None).unwrap().fingerprint();
        link.dialling.tls = ClientTls::new(Roots::Fingerprint(other));
        let (dialled, accepted) = tokio::join!(link.dial(), link.accept());
        assert!(
            matches!(
                dialled,
                Err(DialError::TlsHandshake(_) | DialError::Quic(_))
            ),
            "{dialled:?}"
        );
        assert!(accepted.is_err());
        link.dialling.tls = ClientTls::new(Roots::Insecure);
        link.pair().await;
        link.dialling.tls = ClientTls::default();
        let (dialled, _) = tokio::join!(link.dial(), link.accept());
        assert!(
            dialled.is_err(),
            "the platform trusts a development certificate"
        );
    }
}

#[tokio::test]
async fn reloaded_certificate_is_used_by_the_same_listener() {
    let files = Files::new();
    for over in [Over::Wss, Over::Quic] {
        let old = files.issue("server");
        let tls = files.server(None);
        assert_eq!(tls.fingerprint(), old);
        let mut link = link(over, &tls).await;
        let before = link.pair().await;
        let new = files.issue("server");
        tls.reload().unwrap();
        assert_eq!(tls.fingerprint(), new);
        let (refused, _) = tokio::join!(link.dial(), link.accept());
        assert!(refused.is_err());
        link.dialling.tls = ClientTls::new(Roots::Fingerprint(new));
        link.pair().await;
        drop(before);

        fs::write(files.path("server.pem"), "nonsense").unwrap();
        assert!(tls.reload().is_err());
        assert_eq!(tls.fingerprint(), new);
    }
}

#[tokio::test]
async fn client_certificates_are_verified_and_known() {
    let files = Files::new();
    files.issue("server");
    let own = files.issue("client");
    let stranger = Files::new();
    stranger.issue("client");
    let tls = files.server(Some(&files.path("ca.pem")));
    for over in [Over::Wss, Over::Quic] {
        let mut link = link(over, &tls).await;
        let roots = Roots::Pem(files.path("ca.pem"));
        link.dialling.tls = ClientTls::new(roots.clone());
        let (_client, server) = link.pair().await;
        assert!(server.info.client_certificates.is_empty());

        link.dialling.tls = files.client(&roots);
        let (_client, server) = link.pair().await;
        assert_eq!(Fingerprint::of(&server.info.client_certificates[0]), own);

        link.dialling.tls = stranger.client(&roots);
        let (_dialled, accepted) = tokio::join!(link.dial(), link.accept());
        assert!(accepted.is_err(), "a stranger's certificate was accepted");
    }
}

#[tokio::test]
async fn a_reloaded_client_ca_decides_about_new_connections() {
    let (files, later) = (Files::new(), Files::new());
    files.issue("server");
    let (own, new) = (files.issue("client"), later.issue("client"));
    let roots = Roots::Pem(files.path("ca.pem"));
    fs::copy(files.path("ca.pem"), files.path("clients.pem")).unwrap();
    for over in [Over::Wss, Over::Quic] {
        let tls = files.server(Some(&files.path("clients.pem")));
        let mut link = link(over, &tls).await;
        link.dialling.tls = files.client(&roots);
        let (_before, server) = link.pair().await;
        assert_eq!(Fingerprint::of(&server.info.client_certificates[0]), own);

        fs::write(files.path("clients.pem"), "nonsense").unwrap();
        let error = tls.reload().unwrap_err();
        assert!(error.to_string().contains("clients.pem"), "{error}");
        link.pair().await;

        fs::copy(later.path("ca.pem"), files.path("clients.pem")).unwrap();
        tls.reload().unwrap();
        let (_dialled, accepted) = tokio::join!(link.dial(), link.accept());
        assert!(accepted.is_err(), "the former CA is still trusted");
        link.dialling.tls = later.client(&roots);
        let (_after, server) = link.pair().await;
        assert_eq!(Fingerprint::of(&server.info.client_certificates[0]), new);
        fs::copy(files.path("ca.pem"), files.path("clients.pem")).unwrap();
    }
}

#[test]
fn errors_name_the_file() {
    let files = Files::new();
    files.issue("server");
    let missing =
        ServerTls::from_pem_files(&files.path("none.pem"), &files.path("server.key"), None)
            .unwrap_err();
    assert!(missing.to_string().ends_with("none.pem"), "{missing}");
    let swapped =
        ServerTls::from_pem_files(&files.path("server.key"), &files.path("server.pem"), None)
            .unwrap_err();
    assert!(
        swapped
            .to_string()
            .ends_with("server.key holds no certificate"),
        "{swapped}"
    );
    files.issue("other");
    let mixed =
        ServerTls::from_pem_files(&files.path("server.pem"), &files.path("other.key"), None)
            .unwrap_err();
    let text = mixed.to_string();
    assert!(
        text.contains("server.pem and ") && text.ends_with("other.key cannot be used together"),
        "{text}"
    );
    fs::write(files.path("ca.pem"), "").unwrap();
    let empty = ServerTls::from_pem_files(
        &files.path("server.pem"),
        &files.path("server.key"),
        Some(&files.path("ca.pem")),
    )
    .unwrap_err();
    assert!(
        empty.to_string().ends_with("ca.pem holds no certificate"),
        "{empty}"
    );
}

#[tokio::test]
async fn reloaded_certificate_is_shown_by_the_same_dialler() {
    let files = Files::new();
    files.issue("server");
    let tls = files.server(Some(&files.path("ca.pem")));
    for over in [Over::Wss, Over::Quic] {
        let mut link = link(over, &tls).await;
        files.issue("client");
        let certificate =
            ClientCertificate::from_pem_files(&files.path("client.pem"), &files.path("client.key"))
                .unwrap();
        let dialler =
            ClientTls::with_certificate(Roots::Pem(files.path("ca.pem")), Some(certificate));
        link.dialling.tls = dialler.clone();
        let before = link.pair().await;
        let new = files.issue("client");
        dialler.reload().unwrap();
        let (_client, server) = link.pair().await;
        assert_eq!(Fingerprint::of(&server.info.client_certificates[0]), new);
        drop(before);

        fs::write(files.path("client.pem"), "nonsense").unwrap();
        assert!(dialler.reload().is_err());
        let (_client, server) = link.pair().await;
        assert_eq!(Fingerprint::of(&server.info.client_certificates[0]), new);
    }
}

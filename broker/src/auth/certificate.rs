//! Who a client certificate names. The transport has verified the chain and the validity before
//! anything here looks at it.

use std::collections::HashMap;

use dialtone_protocol::Code;
use dialtone_protocol::frame::{Action, Credentials, Refused};
use dialtone_transport::Info;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{Answer, Authenticate, Offer, Permissions, Principal};

/// Longest name in a certificate that is looked at, in bytes. DNS names have at most 253.
pub const NAME_LEN_MAX: usize = 256;

/// Most names of a certificate that are looked at.
pub const NAMES_MAX: usize = 64;

/// Why a client certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not the DER form of an X.509 certificate.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// Neither a common name nor a DNS name.
    #[error("the client certificate has neither a common name nor a DNS name")]
    Nameless,
    /// More than [`NAMES_MAX`] names.
    #[error("the client certificate has more than {NAMES_MAX} names")]
    TooManyNames,
    /// Empty, longer than [`NAME_LEN_MAX`], or with characters that do not print.
    #[error("the client certificate has a name that is empty, too long or does not print")]
    BadName,
}

/// The names in a certificate (DER): the common name first, then the DNS names, without
/// duplicates. DNS names are in lower case.
///
/// # Errors
/// When it names nobody; see [`CertificateError`].
pub fn names(der: &[u8]) -> Result<Vec<String>, CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_detail| CertificateError::Unreadable)?;
    if !rest.is_empty() {
        return Err(CertificateError::Unreadable);
    }
    let mut names = Vec::new();
    for name in certificate.subject().iter_common_name() {
        let name = name.as_str().map_err(|_detail| CertificateError::BadName)?;
        add(&mut names, name.to_owned())?;
    }
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|_detail| CertificateError::Unreadable)?;
    for alternative in alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        if let GeneralName::DNSName(name) = alternative {
            add(&mut names, name.to_ascii_lowercase())?;
        }
    }
    if names.is_empty() {
        Err(CertificateError::Nameless)
    } else {
        Ok(names)
    }
}

fn add(names: &mut Vec<String>, name: String) -> Result<(), CertificateError> {
    if name.is_empty() || name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
        return Err(CertificateError::BadName);
    }
    if names.len() == NAMES_MAX {
        return Err(CertificateError::TooManyNames);
    }
    if !names.contains(&name) {
        names.push(name);
    }
    Ok(())
}

/// Which name of the certificate that a peer presented is known; in lower case, as `identity_of` is
/// asked.
///
/// # Errors
/// Refuses (401) when there is no certificate, when it names nobody, nobody who is known, or several
/// who are: which one is meant must not depend on the order of names.
pub(crate) fn find<'t>(
    info: &Info,
    identity_of: impl Fn(&str) -> Option<&'t str>,
) -> Result<String, Refused> {
    let presented = presented(info)?;
    let mut found: Option<(&str, String)> = None;
    for name in &presented {
        let name = name.to_ascii_lowercase();
        let Some(identity) = identity_of(&name) else {
            continue;
        };
        match &found {
            Some((other, _)) if *other != identity => {
                return Err(refusal("the client certificate names several users"));
            }
            Some(_) => {}
            None => found = Some((identity, name)),
        }
    }
    let first = presented.first().map_or("", String::as_str);
    found.map(|(_, name)| name).ok_or_else(|| {
        refusal(format!(
            "the client certificate of {first:?} belongs to no user"
        ))
    })
}

/// The names in the certificate that a peer presented; at least one.
fn presented(info: &Info) -> Result<Vec<String>, Refused> {
    let der = info
        .client_certificates
        .first()
        .ok_or_else(|| refusal("a client certificate is needed"))?;
    names(der).map_err(|error| refusal(error.to_string()))
}

/// Takes the word of client certificates, and of nothing else.
#[derive(Debug)]
pub struct Certificates {
    /// `None`: everybody who has a certificate.
    known: Option<HashMap<String, Principal>>,
}

impl Certificates {
    /// Everybody with a verified certificate may do everything, under its first name. Meant for a
    /// certificate authority that signs for nothing else.
    pub fn any() -> Self {
        Self { known: None }
    }

    /// Those who are listed by a common name or DNS name of their certificate, and nobody else.
    /// Names are compared without regard to case.
    pub fn listed(known: impl IntoIterator<Item = (String, Principal)>) -> Self {
        let known = known
            .into_iter()
            .map(|(name, principal)| (name.to_ascii_lowercase(), principal));
        Self {
            known: Some(known.collect()),
        }
    }

    fn judge(&self, offer: &Offer<'_>) -> Result<Principal, Refused> {
        if *offer.credentials != Credentials::None {
            return Err(refusal(
                "this broker takes client certificates only, no password and no token",
            ));
        }
        let Some(known) = &self.known else {
            let first = presented(offer.info)?.swap_remove(0);
            return Ok(Principal::new(first, Permissions::All));
        };
        let name = find(offer.info, |name| {
            known.get(name).map(|principal| &*principal.identity)
        })?;
        known
            .get(&name)
            .cloned()
            .ok_or_else(|| refusal("the client certificate belongs to no user"))
    }
}

impl Authenticate for Certificates {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(self.judge(&offer)))
    }

    /// Is not asked, unless a listed principal says [`Permissions::Ask`]; this provider has nothing
    /// to decide by and refuses.
    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        _action: Action,
        _subject: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(matches!(
            principal.permissions,
            Permissions::All
        )))
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(Ok(principal.clone())))
    }
}

fn refusal(text: impl Into<String>) -> Refused {
    Refused::new(Code::Unauthenticated, text)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(common: Option<&str>, dns: &[&str]) -> Vec<u8> {
        let mut params =
            CertificateParams::new(dns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
                .unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    fn info(certificates: &[Vec<u8>]) -> Info {
        let mut info = dialtone_transport::memory::pair(1).0.info;
        info.client_certificates = certificates.iter().map(|der| der.clone().into()).collect();
        info
    }

    fn judge(provider: &Certificates, certificates: &[Vec<u8>]) -> Result<String, String> {
        let offer = Offer {
            info: &info(certificates),
            credentials: &Credentials::None,
        };
        let judged = provider.judge(&offer);
        judged
            .map(|principal| principal.identity.to_string())
            .map_err(|refused| {
                assert_eq!(refused.code, Code::Unauthenticated);
                refused.text
            })
    }

    #[test]
    fn names_are_the_common_name_and_the_dns_names() {
        let der = certificate(Some("Alice"), &["A.example.org", "b.example.org"]);
        assert_eq!(
            names(&der).unwrap(),
            ["Alice", "a.example.org", "b.example.org"]
        );
        assert_eq!(names(&certificate(None, &["x.org"])).unwrap(), ["x.org"]);
        assert_eq!(
            names(&certificate(Some("x.org"), &["x.org"])).unwrap(),
            ["x.org"]
        );
    }

    #[test]
    fn what_names_nobody_is_an_error() {
        assert_eq!(
            names(&certificate(None, &[])),
            Err(CertificateError::Nameless)
        );
        assert_eq!(
            names(&certificate(Some("a\u{7}b"), &[])),
            Err(CertificateError::BadName)
        );
        assert_eq!(
            names(&certificate(Some(&"x".repeat(257)), &[])),
            Err(CertificateError::BadName)
        );
        assert_eq!(
            names(b"certainly not DER"),
            Err(CertificateError::Unreadable)
        );
        assert_eq!(names(b""), Err(CertificateError::Unreadable));
        let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("n{n}.org")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            names(&certificate(None, &many)),
            Err(CertificateError::TooManyNames)
        );
        let mut longer = certificate(Some("a"), &[]);
        longer.push(0);
        assert_eq!(names(&longer), Err(CertificateError::Unreadable));
    }

    #[test]
    fn any_certificate_speaks_for_its_first_name() {
        let provider = Certificates::any();
        assert_eq!(
            judge(&provider, &[certificate(Some("Alice"), &["a.org"])]).unwrap(),
            "Alice"
        );
        assert_eq!(
            judge(&provider, &[]).unwrap_err(),
            "a client certificate is needed"
        );
    }

    #[test]
    fn only_listed_names_are_known() {
        let principal = |name: &str| Principal::new(name, Permissions::All);
        let listed = [("Alice", "alice"), ("a.org", "alice"), ("b.org", "bob")];
        let provider = Certificates::listed(
            listed.map(|(name, identity)| (name.to_owned(), principal(identity))),
        );
        assert_eq!(
            judge(&provider, &[certificate(Some("alice"), &[])]).unwrap(),
            "alice"
        );
        assert_eq!(
            judge(&provider, &[certificate(Some("x"), &["B.org"])]).unwrap(),
            "bob"
        );
        assert_eq!(
            judge(&provider, &[certificate(Some("Alice"), &["a.org"])]).unwrap(),
            "alice"
        );
        let ambiguous = judge(&provider, &[certificate(Some("Alice"), &["b.org"])]);
        assert_eq!(
            ambiguous.unwrap_err(),
            "the client certificate names several users"
        );
        let unknown = judge(
            &provider,
            &[
                certificate(Some("eve"), &[]),
                certificate(Some("Alice"), &[]),
            ],
        );
        assert_eq!(
            unknown.unwrap_err(),
            "the client certificate of \"eve\" belongs to no user"
        );
    }

    #[test]
    fn a_password_beside_the_certificate_is_not_ignored() {
        let info = info(&[certificate(Some("alice"), &[])]);
        let credentials = Credentials::Token("t".to_owned());
        assert!(
            Certificates::any()
                .judge(&Offer {
                    info: &info,
                    credentials: &credentials
                })
                .is_err()
        );
    }
}

//! A way to sign in, from its configuration. Names of fields are those of CoCalc's `passport_settings`.
//!
//! `conf` says how the other site is reached:
//!
//! | field | |
//! |---|---|
//! | `type` | `oidc`, `oauth2`, or one that is known by name: see [`KNOWN`]; by default the strategy's name |
//! | `clientID`, `clientSecret` | by which the other site knows us |
//! | `issuer` | of `OpenID` Connect: the rest is found below it |
//! | `authorizationURL`, `tokenURL`, `userinfoURL`, `emailsURL` | of OAuth 2.0 |
//! | `scope` | a list, or texts with blanks between |
//! | `login_info` | where things are in the answer: `id`, `first_name`, `last_name`, `full_name`, `emails`, `email_verified` |
//! | `trust_email` | whether addresses count as theirs though the other site does not say that it has seen that |
//! | `tenant` | of Microsoft: the directory |
//!
//! `info` says how it is shown and for whom it is: `display`, `icon`, `description`, `public`, `do_not_hide`,
//! `exclusive_domains`, `update_on_login`, `cookie_ttl_s`, `disabled`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use url::{Host, Url};

use super::profile::Mapping;
use crate::email::EmailAddress;
use crate::store::passports::Stored;

/// Names that mean something else in the same place of an address.
pub(crate) const RESERVED: [&str; 11] = [
    "first-admin",
    "sign-in",
    "sign-up",
    "sign-out",
    "try",
    "verify",
    "password-reset",
    "password_reset",
    "impersonate",
    "strategies",
    "email",
];

/// Longest name, in bytes.
const NAME_LEN_MAX: usize = 64;

/// Types that need no addresses.
pub const KNOWN: [&str; 6] = [
    "google",
    "github",
    "gitlab",
    "facebook",
    "orcid",
    "microsoft",
];

/// A way to sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct Strategy {
    /// Its name, which is part of addresses.
    pub name: String,
    /// What it is called for people.
    pub display: String,
    /// The name or address of a picture.
    pub icon: Option<String>,
    /// A sentence about it.
    pub description: Option<String>,
    /// Whether it is for everybody, and not for the people of one place.
    pub public: bool,
    /// Whether it is shown also if it is not for everybody.
    pub do_not_hide: bool,
    /// Domains whose people sign in in this way only.
    pub exclusive_domains: Vec<String>,
    /// Whether names follow those at the other site.
    pub update_on_login: bool,
    /// How long a session lasts at most.
    pub session_max: Option<Duration>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// How the other site is asked.
    pub protocol: Protocol,
    /// By which the other site knows us.
    pub client_id: String,
    /// The secret that it knows us by, too.
    pub client_secret: Option<String>,
    /// What the other site is asked to tell.
    pub scopes: Vec<String>,
    /// Where things are in its answer.
    pub mapping: Mapping,
    /// Whether addresses count as theirs though the other site does not say that it has seen that.
    pub trust_email: bool,
}

/// Without the secret.
impl std::fmt::Debug for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strategy")
            .field("name", &self.name)
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// How another site is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// By `OpenID` Connect.
    Oidc {
        /// Who vouches; everything else is found below this address.
        issuer: String,
    },
    /// By OAuth 2.0 with a code, and a question about who that is.
    Code(Box<Endpoints>),
}

/// The addresses of a site that speaks OAuth 2.0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Where people are sent.
    pub authorize: String,
    /// Where codes are exchanged.
    pub token: String,
    /// Where it is asked who somebody is.
    pub userinfo: String,
    /// Where all addresses of somebody are, if that is another question.
    pub emails: Option<String>,
    /// Whether we show our secret in a header, and not in the body.
    pub basic: bool,
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The name cannot be one.
    #[error(
        "a way to sign in cannot be called {0:?}: use lower-case letters, digits, \"-\" and \"_\", and none of {RESERVED:?}"
    )]
    Name(String),
    /// A part cannot be read.
    #[error("{part}: {reason}")]
    Unreadable {
        /// Which one.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// A field is missing.
    #[error("conf.{0} is missing")]
    Missing(&'static str),
    /// It is of a type that is not known.
    #[error("conf.type {0:?} is not known; there are oidc, oauth2 and {KNOWN:?}")]
    Type(String),
    /// An address cannot be used.
    #[error("conf.{field} must be an https address, not {value:?}")]
    Url {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// Everybody's addresses would count as verified by a site that does not verify them.
    #[error("exclusive_domains {0:?}: a domain has a dot, or is *")]
    Domain(String),
}

#[derive(Deserialize)]
struct Conf {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clientID", alias = "client_id", alias = "clientId")]
    client_id: Option<String>,
    #[serde(rename = "clientSecret", alias = "client_secret")]
    client_secret: Option<String>,
    #[serde(alias = "issuerURL", alias = "issuer_url")]
    issuer: Option<String>,
    tenant: Option<String>,
    #[serde(rename = "authorizationURL", alias = "authorization_url")]
    authorization_url: Option<String>,
    #[serde(rename = "tokenURL", alias = "token_url")]
    token_url: Option<String>,
    #[serde(rename = "userinfoURL", alias = "userinfo_url")]
    userinfo_url: Option<String>,
    #[serde(rename = "emailsURL", alias = "emails_url")]
    emails_url: Option<String>,
    scope: Option<Scopes>,
    #[serde(default)]
    login_info: BTreeMap<String, String>,
    #[serde(default)]
    trust_email: bool,
    #[serde(default)]
    basic: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scopes {
    List(Vec<String>),
    Text(String),
}

#[derive(Deserialize)]
struct Info {
    display: Option<String>,
    icon: Option<String>,
    description: Option<String>,
    #[serde(default = "yes")]
    public: bool,
    #[serde(default)]
    do_not_hide: bool,
    #[serde(default)]
    exclusive_domains: Vec<String>,
    #[serde(default)]
    update_on_login: bool,
    cookie_ttl_s: Option<u64>,
    #[serde(default)]
    disabled: bool,
}

fn yes() -> bool {
    true
}

impl Strategy {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(stored: &Stored) -> Result<Self, Invalid> {
        let name = checked_name(&stored.strategy)?;
        let conf: Conf = part("conf", &stored.conf)?;
        let info: Info = part("info", &stored.info)?;
        for domain in &info.exclusive_domains {
            if domain != "*" && !domain.contains('.') {
                return Err(Invalid::Domain(domain.clone()));
            }
        }
        let kind = conf.kind.clone().unwrap_or_else(|| name.to_owned());
        let (protocol, scopes) = protocol(&kind, &conf)?;
        let client_id = conf.client_id.clone().filter(|id| !id.is_empty());
        Ok(Self {
            display: info.display.unwrap_or_else(|| name.to_owned()),
            icon: info.icon,
            description: info.description,
            public: info.public,
            do_not_hide: info.do_not_hide,
            exclusive_domains: info.exclusive_domains,
            update_on_login: info.update_on_login,
            session_max: info.cookie_ttl_s.map(Duration::from_secs),
            disabled: info.disabled,
            mapping: mapping(&kind, &conf.login_info),
            protocol,
            client_id: client_id.ok_or(Invalid::Missing("clientID"))?,
            client_secret: conf.client_secret.filter(|secret| !secret.is_empty()),
            scopes: conf.scope.map_or(scopes, Scopes::into_list),
            trust_email: conf.trust_email,
            name: name.to_owned(),
        })
    }

    /// Whether people with this address sign in in this way only, by which the other site answers for the address.
    pub fn is_exclusive_for(&self, address: &EmailAddress) -> bool {
        let mut domains = self.exclusive_domains.iter();
        domains.any(|domain| super::exclusive::covers(domain, address))
    }
}

impl Scopes {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Text(text) => text.split_whitespace().map(ToOwned::to_owned).collect(),
        }
    }
}

/// A name that stands for itself in an address and in the name of a cookie.
pub(super) fn checked_name(name: &str) -> Result<&str, Invalid> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let good = !name.is_empty() && name.len() <= NAME_LEN_MAX && name.bytes().all(fits);
    if !good || RESERVED.contains(&name) {
        return Err(Invalid::Name(name.chars().take(NAME_LEN_MAX).collect()));
    }
    Ok(name)
}

fn part<T: for<'de> Deserialize<'de>>(name: &'static str, value: &Json) -> Result<T, Invalid> {
    T::deserialize(value).map_err(|error| Invalid::Unreadable {
        part: name,
        reason: error.to_string(),
    })
}

/// How the other site is asked, and for what.
fn protocol(kind: &str, conf: &Conf) -> Result<(Protocol, Vec<String>), Invalid> {
    let oidc = |issuer: &str| {
        let issuer = conf.issuer.as_deref().unwrap_or(issuer);
        let issuer = checked_url("issuer", issuer)?;
        let scopes = ["email", "profile"].map(ToOwned::to_owned);
        Ok((Protocol::Oidc { issuer }, scopes.to_vec()))
    };
    match kind {
        "google" => oidc("https://accounts.google.com"),
        "gitlab" | "gitlab2" => oidc("https://gitlab.com"),
        "orcid" => oidc("https://orcid.org"),
        "microsoft" | "azuread" => {
            let tenant = conf.tenant.as_deref().unwrap_or_default();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
            if conf.issuer.is_none() && (tenant.is_empty() || !tenant.bytes().all(plain)) {
                return Err(Invalid::Missing("tenant"));
            }
            oidc(&format!("https://login.microsoftonline.com/{tenant}/v2.0"))
        }
        "oidc" => match &conf.issuer {
            Some(issuer) => oidc(issuer),
            None => Err(Invalid::Missing("issuer")),
        },
        "github" => endpoints(
            conf,
            [
                "https://github.com/login/oauth/authorize",
                "https://github.com/login/oauth/access_token",
                "https://api.github.com/user",
                "https://api.github.com/user/emails",
            ],
            "user:email",
        ),
        "facebook" => endpoints(
            conf,
            [
                "https://www.facebook.com/dialog/oauth",
                "https://graph.facebook.com/oauth/access_token",
                "https://graph.facebook.com/me?fields=id,email,first_name,last_name",
                "",
            ],
            "email",
        ),
        "oauth2" | "oauth2next" => endpoints(conf, [""; 4], ""),
        other => Err(Invalid::Type(other.to_owned())),
    }
}

/// The addresses of the configuration, or these.
fn endpoints(
    conf: &Conf,
    [authorize, token, userinfo, emails]: [&str; 4],
    scopes: &str,
) -> Result<(Protocol, Vec<String>), Invalid> {
    let get = |field: &'static str, set: &Option<String>, default: &str| {
        let value = set.as_deref().unwrap_or(default);
        if value.is_empty() {
            return Err(Invalid::Missing(field));
        }
        checked_url(field, value)
    };
    let emails = match (&conf.emails_url, emails) {
        (None, "") => None,
        (set, default) => Some(get("emailsURL", set, default)?),
    };
    let endpoints = Endpoints {
        authorize: get("authorizationURL", &conf.authorization_url, authorize)?,
        token: get("tokenURL", &conf.token_url, token)?,
        userinfo: get("userinfoURL", &conf.userinfo_url, userinfo)?,
        emails,
        basic: conf.basic,
    };
    let scopes = scopes.split_whitespace().map(ToOwned::to_owned).collect();
    Ok((Protocol::Code(Box::new(endpoints)), scopes))
}

fn checked_url(field: &'static str, value: &str) -> Result<String, Invalid> {
    let invalid = || Invalid::Url {
        field,
        value: value.chars().take(200).collect(),
    };
    let url = Url::parse(value).map_err(|_unreadable| invalid())?;
    if !is_safe(&url) {
        return Err(invalid());
    }
    Ok(value.to_owned())
}

/// Whether what is said there stays between the two: it is encrypted, or does not leave the machine.
pub(super) fn is_safe(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" && url.has_host() || url.scheme() == "http" && here
}

fn mapping(kind: &str, given: &BTreeMap<String, String>) -> Mapping {
    let standard = match kind {
        "github" | "facebook" | "oauth2" | "oauth2next" => Mapping {
            id: "id".to_owned(),
            first_name: "first_name".to_owned(),
            last_name: "last_name".to_owned(),
            ..Mapping::standard()
        },
        _ => Mapping::standard(),
    };
    let get = |name: &str, default: String| given.get(name).cloned().unwrap_or(default);
    Mapping {
        id: get("id", standard.id),
        first_name: get("first_name", standard.first_name),
        last_name: get("last_name", standard.last_name),
        full_name: get("full_name", standard.full_name),
        emails: get("emails", standard.emails),
        email_verified: get("email_verified", standard.email_verified),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(name: &str, conf: Json, info: Json) -> Result<Strategy, String> {
        let stored = Stored {
            strategy: name.to_owned(),
            conf,
            info,
        };
        Strategy::read(&stored).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(name: &str, conf: Json, expected: &str) {
        let shown = match read(name, conf, json!({})) {
            Ok(strategy) => match strategy.protocol {
                Protocol::Oidc { issuer } => format!("{issuer} {}", strategy.scopes.join(" ")),
                Protocol::Code(endpoints) => {
                    format!("{} {}", endpoints.token, strategy.scopes.join(" "))
                }
            },
            Err(error) => error,
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn sites_that_everybody_knows_need_a_client_and_no_more() {
        let client = json!({"clientID": "c", "clientSecret": "s"});
        check(
            "google",
            client.clone(),
            "https://accounts.google.com email profile",
        );
        check(
            "github",
            client.clone(),
            "https://github.com/login/oauth/access_token user:email",
        );
        check("gitlab", client.clone(), "https://gitlab.com email profile");
        check(
            "facebook",
            client.clone(),
            "https://graph.facebook.com/oauth/access_token email",
        );
        check("orcid", client.clone(), "https://orcid.org email profile");
        check("microsoft", client, "conf.tenant is missing");
        check(
            "microsoft",
            json!({"clientID": "c", "tenant": "example.org"}),
            "https://login.microsoftonline.com/example.org/v2.0 email profile",
        );
        check("google", json!({}), "conf.clientID is missing");
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(
            "uni",
            json!({"clientID": "c"}),
            "conf.type \"uni\" is not known; there are oidc, oauth2 and [\"google\", \"github\", \"gitlab\", \"facebook\", \"orcid\", \"microsoft\"]",
        );
        check(
            "uni",
            json!({"type": "oidc", "clientID": "c"}),
            "conf.issuer is missing",
        );
        check(
            "uni",
            json!({"type": "oidc", "clientID": "c", "issuer": "http://sso.example.org"}),
            "conf.issuer must be an https address, not \"http://sso.example.org\"",
        );
        check(
            "uni",
            json!({"type": "oidc", "clientID": "c", "issuer": "http://127.0.0.1:1", "scope": "a b"}),
            "http://127.0.0.1:1 a b",
        );
        check(
            "uni",
            json!({"type": "oauth2", "clientID": "c"}),
            "conf.authorizationURL is missing",
        );
        for name in ["sign-in", "Uni", "a/b", "", "a.b", "strategies"] {
            assert!(read(name, json!({"type": "google", "clientID": "c"}), json!({})).is_err());
        }
        let domain = json!({"exclusive_domains": ["org"]});
        let error = read("google", json!({"clientID": "c"}), domain).unwrap_err();
        assert_eq!(
            error,
            "exclusive_domains \"org\": a domain has a dot, or is *"
        );
    }
}

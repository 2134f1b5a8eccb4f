//! The cookies by which the hub knows somebody: what is offered, and what is given.
//!
//! | name, after the [prefix](Names) of the base path | | offered by |
//! |---|---|---|
//! | `hub_password` | the site's own secret | hubs, persist |
//! | `api_key` | a key of an account or project | programs |
//! | `project_secret` with `project_id` | the secret of a running project | a project's daemon |
//! | `remember_me` | a session | browsers |
//!
//! Where the browser came encrypted, a session's cookie has the prefix `__Host-`: no other host of the same domain, such
//! as one of a project, can set a cookie of that name. It goes before one without, which older sessions have.
//!
//! The first of these that is present decides, in this order. A bad one is refused and never passed over for another:
//! what is wrong is to be seen where it is wrong.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::id::ProjectId;

/// Longest `Cookie` header that is read, in bytes.
pub const HEADER_LEN_MAX: usize = 16 << 10;

/// Most cookies that are looked at; browsers keep some 180 for a site.
pub const COOKIES_MAX: usize = 256;

/// Longest value of one of our cookies, in bytes after decoding.
pub const VALUE_LEN_MAX: usize = 1_024;

const HUB_PASSWORD: &str = "hub_password";
const API_KEY: &str = "api_key";
const PROJECT_SECRET: &str = "project_secret";
const PROJECT_ID: &str = "project_id";
const REMEMBER_ME: &str = "remember_me";

/// What browsers take only from the host itself, encrypted, and for all of its paths (RFC 6265bis §4.1.3.2).
const HOST: &str = "__Host-";

/// Which `SameSite` the session's cookie has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// Never sent by other sites.
    #[default]
    Strict,
    /// Sent when somebody follows a link from another site.
    Lax,
    /// Sent by other sites as well, for pages that are shown inside them; browsers want HTTPS for it.
    None,
}

/// What our cookies are called on a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    base_path: String,
    prefix: String,
    remember_me: String,
}

/// A name that cannot be that of a cookie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cookie cannot be called {0:?}: use letters, digits, \"-\" and \"_\"")]
pub struct InvalidName(String);

/// A secret that somebody offers. Shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The site's own secret.
    HubPassword(String),
    /// A key of an account or project.
    ApiKey(String),
    /// The secret of a project.
    ProjectSecret {
        /// Of which project.
        project: ProjectId,
        /// The secret.
        secret: String,
    },
    /// A session.
    RememberMe(String),
}

/// Why cookies offer nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None of ours is there.
    #[error("no auth cookie set; set one of {}", .names.join(", "))]
    Missing {
        /// What they are called.
        names: Vec<String>,
    },
    /// `project_secret` without `project_id`, or with one that is none.
    #[error("must specify project_id in the cookie {name:?}: the id of a project")]
    ProjectId {
        /// What it is called.
        name: String,
    },
    /// One of ours is there twice with different values, as when another server of the same domain sets it too.
    #[error("the cookie {name:?} is set twice, with different values")]
    Ambiguous {
        /// Which.
        name: String,
    },
    /// One of ours is longer than [`VALUE_LEN_MAX`] or not text.
    #[error("the cookie {name:?} is not valid")]
    Malformed {
        /// Which.
        name: String,
    },
    /// The header is longer than [`HEADER_LEN_MAX`], or has more than [`COOKIES_MAX`] cookies.
    #[error("more cookies than {COOKIES_MAX}, or longer than {HEADER_LEN_MAX} bytes")]
    TooMany,
}

impl Names {
    /// Those of a site below this path, `/` being none.
    pub fn new(base_path: &str) -> Self {
        let base_path = base_path.trim_end_matches('/');
        let prefix = encode(base_path);
        Self {
            remember_me: format!("{prefix}{REMEMBER_ME}"),
            base_path: if base_path.is_empty() { "/" } else { base_path }.to_owned(),
            prefix,
        }
    }

    /// With another name for the session's cookie, which then has no prefix.
    ///
    /// # Errors
    /// When it cannot be the name of a cookie, or is that of another one.
    pub fn with_remember_me(self, name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_%".contains(&byte);
        let taken = [HUB_PASSWORD, API_KEY, PROJECT_SECRET, PROJECT_ID].contains(&name);
        if name.is_empty() || name.len() > 128 || taken || !name.bytes().all(allowed) {
            return Err(InvalidName(name.chars().take(128).collect()));
        }
        Ok(Self {
            remember_me: name.to_owned(),
            ..self
        })
    }

    /// The names of all of them.
    pub fn all(&self) -> Vec<String> {
        let known = [HUB_PASSWORD, API_KEY, PROJECT_SECRET, PROJECT_ID];
        let known = known.map(|name| self.name(name)).into_iter();
        known.chain([self.remember_me.clone()]).collect()
    }

    /// Whether the cookie is one of those by which somebody is known, so that it is neither passed on to a project nor
    /// taken from one. Told from the end of the name, so that it holds for every base path of the same host.
    pub fn is_ours(&self, name: &str) -> bool {
        let known = [HUB_PASSWORD, API_KEY, PROJECT_SECRET, REMEMBER_ME];
        name == self.remember_me || known.iter().any(|known| name.ends_with(known))
    }

    /// What is offered by the `Cookie` headers of a request.
    ///
    /// # Errors
    /// When none of ours is there, or the first that is there cannot be read.
    pub fn read<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Credential, Error> {
        let cookies = Cookies::parse(headers)?;
        if let Some(password) = cookies.get(&self.name(HUB_PASSWORD))? {
            return Ok(Credential::HubPassword(password));
        }
        if let Some(key) = cookies.get(&self.name(API_KEY))? {
            return Ok(Credential::ApiKey(key));
        }
        if let Some(secret) = cookies.get(&self.name(PROJECT_SECRET))? {
            let name = self.name(PROJECT_ID);
            let project = cookies.get(&name)?.and_then(|id| id.parse().ok());
            let project = project.ok_or(Error::ProjectId { name })?;
            return Ok(Credential::ProjectSecret { project, secret });
        }
        if let Some(session) = self.session_of(&cookies)? {
            return Ok(Credential::RememberMe(session));
        }
        Err(Error::Missing {
            names: self.wanted(),
        })
    }

    /// The `Set-Cookie` header that gives a session to a browser.
    pub fn remember(
        &self,
        session: &str,
        lifetime: Duration,
        same_site: SameSite,
        secure: bool,
    ) -> String {
        let value = encode(session);
        let secure = secure || same_site == SameSite::None;
        let name = self.remembering(secure);
        self.set_cookie(&name, &value, lifetime, same_site, secure)
    }

    /// The `Set-Cookie` header that takes it away.
    pub fn forget(&self, same_site: SameSite, secure: bool) -> String {
        let secure = secure || same_site == SameSite::None;
        let name = self.remembering(secure);
        self.set_cookie(&name, "", Duration::ZERO, same_site, secure)
    }

    /// The path that the site is below, `/` if it is below none.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// What of a path is below the site: with a slash in front. `None` for a path that is elsewhere.
    pub fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(self.base_path.trim_end_matches('/'))?;
        below.starts_with('/').then_some(below)
    }

    /// The value of another cookie of the site, which is no credential by itself. One that cannot be read is not there.
    pub fn other<'a>(
        &self,
        headers: impl IntoIterator<Item = &'a [u8]>,
        name: &str,
    ) -> Option<String> {
        let cookies = Cookies::parse(headers).ok()?;
        cookies.get(&self.name(name)).ok().flatten()
    }

    /// The session that is offered, whatever else is.
    pub fn session<'a>(&self, headers: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
        let cookies = Cookies::parse(headers).ok()?;
        self.session_of(&cookies).ok().flatten()
    }

    fn session_of(&self, cookies: &Cookies<'_>) -> Result<Option<String>, Error> {
        let secure = self.remembering(true);
        if secure != self.remember_me
            && let Some(session) = cookies.get(&secure)?
        {
            return Ok(Some(session));
        }
        cookies.get(&self.remember_me)
    }

    /// What the session's cookie is called. A name that somebody has chosen, or one below a path, stays as it is.
    fn remembering(&self, secure: bool) -> String {
        let protects = secure && self.remember_me == REMEMBER_ME && self.base_path == "/";
        let prefix = if protects { HOST } else { "" };
        format!("{prefix}{}", self.remember_me)
    }

    /// The `Set-Cookie` header for another cookie, below a path of the site. It comes back also when another site leads
    /// to us.
    pub fn set_other(
        &self,
        name: &str,
        value: &str,
        below: &str,
        lifetime: Duration,
        secure: bool,
    ) -> String {
        let below = format!("{}{below}", self.base_path.trim_end_matches('/'));
        let names = Self {
            base_path: below,
            ..self.clone()
        };
        names.set_cookie(
            &self.name(name),
            &encode(value),
            lifetime,
            SameSite::Lax,
            secure,
        )
    }

    fn set_cookie(
        &self,
        name: &str,
        value: &str,
        lifetime: Duration,
        same_site: SameSite,
        secure: bool,
    ) -> String {
        let path = &self.base_path;
        let seconds = lifetime.as_secs();
        // Browsers take `None` from secure cookies alone.
        let secure = secure || same_site == SameSite::None;
        let mut text = format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly");
        text.push_str(match same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        if secure {
            text.push_str("; Secure");
        }
        text
    }

    fn name(&self, short: &str) -> String {
        format!("{}{short}", self.prefix)
    }

    fn wanted(&self) -> Vec<String> {
        vec![
            self.remember_me.clone(),
            self.name(API_KEY),
            self.name(PROJECT_SECRET),
            self.name(HUB_PASSWORD),
        ]
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HubPassword(_) => f.write_str("HubPassword(…)"),
            Self::ApiKey(_) => f.write_str("ApiKey(…)"),
            Self::ProjectSecret { project, .. } => write!(f, "ProjectSecret({project}, …)"),
            Self::RememberMe(_) => f.write_str("RememberMe(…)"),
        }
    }
}

/// The cookies of a request, as they came.
struct Cookies<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Cookies<'a> {
    fn parse(headers: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut found = Vec::new();
        let mut len = 0;
        for header in headers {
            len += header.len();
            if len > HEADER_LEN_MAX {
                return Err(Error::TooMany);
            }
            for cookie in header.split(|&byte| byte == b';') {
                let Some(equals) = cookie.iter().position(|&byte| byte == b'=') else {
                    continue;
                };
                let (name, value) = cookie.split_at(equals);
                let value = value.get(1..).unwrap_or_default();
                found.push((name.trim_ascii(), unquoted(value.trim_ascii())));
                if found.len() > COOKIES_MAX {
                    return Err(Error::TooMany);
                }
            }
        }
        Ok(Self(found))
    }

    /// The value of a cookie. An empty one is as good as none, which is how cookies are taken away.
    fn get(&self, name: &str) -> Result<Option<String>, Error> {
        let mut values = self
            .0
            .iter()
            .filter(|(found, value)| *found == name.as_bytes() && !value.is_empty())
            .map(|(_, value)| *value);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let name = || name.to_owned();
        if values.any(|other| other != value) {
            return Err(Error::Ambiguous { name: name() });
        }
        let value = decode(value).filter(|value| value.len() <= VALUE_LEN_MAX);
        value
            .map(Some)
            .ok_or_else(|| Error::Malformed { name: name() })
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(value)
}

/// As `encodeURIComponent`, by which the original names and writes its cookies.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// Undoes [`encode`]. Text with a `%` that begins no code stands for itself, as in the original.
fn decode(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%');
        let code = code
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = after
            .get(if code.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROJECT: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";

    fn read(base_path: &str, header: &str) -> Result<Credential, Error> {
        Names::new(base_path).read([header.as_bytes()])
    }

    #[test]
    fn the_first_that_is_present_decides() {
        let cookies = [
            "hub_password=h".to_owned(),
            "api_key=a".to_owned(),
            "project_secret=s".to_owned(),
            format!("project_id={PROJECT}"),
            "remember_me=r".to_owned(),
        ];
        let project_secret = Credential::ProjectSecret {
            project: PROJECT.parse().unwrap(),
            secret: "s".to_owned(),
        };
        for (without, expected) in [
            (0, Credential::HubPassword("h".to_owned())),
            (1, Credential::ApiKey("a".to_owned())),
            (2, project_secret),
            (3, Credential::RememberMe("r".to_owned())),
        ] {
            let mut left = cookies[without..].to_vec();
            left.reverse();
            assert_eq!(read("/", &left.join("; ")), Ok(expected));
        }
    }

    #[test]
    fn a_bad_one_is_not_passed_over() {
        let refused = |header: &str| read("/", header).unwrap_err();
        assert!(matches!(
            refused("project_secret=s; remember_me=r"),
            Error::ProjectId { .. }
        ));
        assert!(matches!(
            refused("project_secret=s; project_id=7; remember_me=r"),
            Error::ProjectId { .. }
        ));
        assert!(matches!(
            refused("api_key=%FF; remember_me=r"),
            Error::Malformed { .. }
        ));
        let long = format!("api_key={}; remember_me=r", "x".repeat(VALUE_LEN_MAX + 1));
        assert!(matches!(refused(&long), Error::Malformed { .. }));
    }

    #[test]
    fn nothing_of_ours_is_told_with_what_there_could_be() {
        for header in [
            "",
            "other=1",
            "remember_me",
            "remember_me=",
            "Remember_me=x",
            "xremember_me=x",
        ] {
            let error = read("/", header).unwrap_err();
            assert_eq!(
                error.to_string(),
                "no auth cookie set; set one of remember_me, api_key, project_secret, hub_password"
            );
        }
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_refused_unless_it_says_the_same() {
        assert!(matches!(
            read("/", "remember_me=a; remember_me=b"),
            Err(Error::Ambiguous { .. })
        ));
        let same = read("/", "remember_me=a; x=y; remember_me=a").unwrap();
        assert_eq!(same, Credential::RememberMe("a".to_owned()));
        let two: [&[u8]; 2] = [b"api_key=a", b"api_key=b"];
        assert!(matches!(
            Names::new("").read(two),
            Err(Error::Ambiguous { .. })
        ));
    }

    #[test]
    fn paths_of_the_site_are_below_its_base_path() {
        for (base, path, below) in [
            ("/", "/auth/uni", Some("/auth/uni")),
            ("/a/b", "/a/b/auth/uni", Some("/auth/uni")),
            ("/a/b", "/a/b", None),
            ("/a/b", "/a/bc/d", None),
            ("/a/b", "/auth/uni", None),
        ] {
            assert_eq!(Names::new(base).below(path), below, "{base} {path}");
        }
    }

    #[test]
    fn names_carry_the_base_path() {
        let header = "%2Fmy%20siteremember_me=sha512%24salt%241000%24id; remember_me=other";
        assert_eq!(
            read("/my site/", header),
            Ok(Credential::RememberMe("sha512$salt$1000$id".to_owned()))
        );
        assert!(read("/else", header).is_err());
        let named = Names::new("/base").with_remember_me("session").unwrap();
        let found = named.read([b"session=x".as_slice()]).unwrap();
        assert_eq!(found, Credential::RememberMe("x".to_owned()));
        for wrong in ["", "a b", "a=b", "api_key", "a;b", "ä"] {
            assert!(Names::new("/").with_remember_me(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn there_are_bounds() {
        let many = "a=b;".repeat(COOKIES_MAX + 1);
        assert_eq!(read("/", &many), Err(Error::TooMany));
        let long = format!("a={}", "x".repeat(HEADER_LEN_MAX));
        assert_eq!(read("/", &long), Err(Error::TooMany));
    }

    #[test]
    fn a_session_is_given_and_taken_away() {
        let names = Names::new("/base");
        assert_eq!(
            names.remember("a$b", Duration::from_mins(1), SameSite::Strict, true),
            "%2Fbaseremember_me=a%24b; Path=/base; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            Names::new("/").forget(SameSite::Lax, false),
            "remember_me=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        );
        let inside = names.remember("x", Duration::from_secs(1), SameSite::None, false);
        assert!(inside.ends_with("SameSite=None; Secure"));
    }

    #[test]
    fn a_session_over_https_is_nobody_elses_to_set() {
        let names = Names::new("/");
        let set = names.remember("a", Duration::from_mins(1), SameSite::Lax, true);
        assert_eq!(
            set,
            "__Host-remember_me=a; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(
            names
                .forget(SameSite::Lax, true)
                .starts_with("__Host-remember_me=;")
        );
        assert!(names.is_ours("__Host-remember_me"));
        let own = Ok(Credential::RememberMe("a".to_owned()));
        for header in [
            "__Host-remember_me=a",
            "remember_me=x; __Host-remember_me=a; remember_me=y",
        ] {
            assert_eq!(read("/", header), own, "{header}");
            let session = names.session([header.as_bytes()]);
            assert_eq!(session.as_deref(), Some("a"), "{header}");
        }
        let chosen = Names::new("/").with_remember_me("session").unwrap();
        let set = chosen.remember("a", Duration::from_mins(1), SameSite::Lax, true);
        assert!(set.starts_with("session=a"), "{set}");
    }

    #[test]
    fn projects_neither_get_nor_set_what_is_ours() {
        let names = Names::new("/").with_remember_me("session").unwrap();
        for ours in [
            "session",
            "remember_me",
            "%2Fbaseremember_me",
            "api_key",
            "%2Fxapi_key",
            "project_secret",
            "hub_password",
        ] {
            assert!(names.is_ours(ours), "{ours}");
        }
        for other in [
            "_xsrf",
            "username-localhost",
            "project_id",
            "account_id",
            "session2",
        ] {
            assert!(!names.is_ours(other), "{other}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let header = format!("project_secret=hidden; project_id={PROJECT}");
        for header in [
            "remember_me=hidden",
            "api_key=hidden",
            "hub_password=hidden",
            &header,
        ] {
            let shown = format!("{:?}", read("/", header).unwrap());
            assert!(!shown.contains("hidden"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn what_was_given_is_read_again(value in "[ -~äß€]{1,100}", base in "(/[ -~]{0,20})?") {
            let names = Names::new(&base);
            let set = names.remember(&value, Duration::from_secs(1), SameSite::Lax, true);
            let pair = set.split(';').next().unwrap();
            prop_assert_eq!(names.read([pair.as_bytes()]), Ok(Credential::RememberMe(value)));
        }

        #[test]
        fn any_bytes_are_read_without_harm(header in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Names::new("/").read([header.as_slice()]));
        }
    }
}

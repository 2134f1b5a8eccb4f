//! Which host is whose. Pure.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::At;
use crate::project::ProjectId;

/// What stands for a project's id.
const PROJECT: &str = "{project}";

/// Longest name of a host, in bytes (RFC 1035 §2.3.4).
const LEN_MAX: usize = 253;

/// The host of all projects, or one for each: `projects.example.org` or `{project}.example.org`, with a port if it is
/// another one than the site's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Before the project's id; the whole name where all projects share it.
    before: String,
    /// After it.
    after: Option<String>,
    port: Option<u16>,
}

/// A text does not say where projects are.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HostsError {
    /// It is no name of a host.
    #[error(
        "{0:?} is not where projects can be: it must be a host as projects.example.org or {{project}}.example.org"
    )]
    Name(String),
    /// The site has the same host, so that nothing is separate; ports do not matter to cookies.
    #[error("projects must have another host than the site, which is at {0}")]
    Site(String),
}

impl FromStr for Hosts {
    type Err = HostsError;

    fn from_str(text: &str) -> Result<Self, HostsError> {
        let wrong = || HostsError::Name(text.chars().take(LEN_MAX).collect());
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_not| wrong())?)),
            None => (text, None),
        };
        let name = name.to_ascii_lowercase();
        let (before, after) = match name.split_once(PROJECT) {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (name.clone(), None),
        };
        let hosts = Self {
            before,
            after,
            port,
        };
        let example = hosts.name(ProjectId::NIL);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if example.len() > LEN_MAX || !example.split('.').all(is_label) {
            return Err(wrong());
        }
        Ok(hosts)
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        if let Some(after) = &self.after {
            write!(f, "{PROJECT}{after}")?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl Hosts {
    /// Whether a site at this address is at another host than its projects.
    ///
    /// # Errors
    /// [`HostsError::Site`].
    pub fn check_site(&self, site: &str) -> Result<(), HostsError> {
        let host = site.split_once("://").map_or(site, |(_, host)| host);
        match self.at(host) {
            At::Site => Ok(()),
            At::Projects(_) => Err(HostsError::Site(site.to_owned())),
        }
    }

    /// What this host is, with or without a port: ports do not separate cookies.
    pub(super) fn at(&self, host: &str) -> At {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let Some(after) = &self.after else {
            return if name == self.before {
                At::Projects(None)
            } else {
                At::Site
            };
        };
        let project = name
            .strip_prefix(self.before.as_str())
            .and_then(|rest| rest.strip_suffix(after.as_str()))
            .and_then(|project| project.parse().ok());
        project.map_or(At::Site, |project| At::Projects(Some(project)))
    }

    /// The origin of a project of this site.
    pub(super) fn origin(&self, site: &str, project: ProjectId) -> String {
        let (scheme, host) = site.split_once("://").unwrap_or(("http", site));
        let of_site = host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        let name = self.name(project);
        match self.port.or(of_site) {
            Some(port) => format!("{scheme}://{name}:{port}"),
            None => format!("{scheme}://{name}"),
        }
    }

    fn name(&self, project: ProjectId) -> String {
        match &self.after {
            Some(after) => format!("{}{project}{after}", self.before),
            None => self.before.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

    fn hosts(text: &str) -> Hosts {
        text.parse().unwrap()
    }

    #[test]
    fn each_project_has_its_host_or_all_have_one() {
        let project = ID.parse().unwrap();
        let each = hosts("P-{project}.Example.org");
        assert_eq!(
            each.at(&format!("p-{ID}.example.org:5000")),
            At::Projects(Some(project))
        );
        assert_eq!(
            each.at(&format!("P-{}.example.org.", ID.to_uppercase())),
            At::Projects(Some(project))
        );
        for site in [
            "example.org",
            ID,
            "p-x.example.org",
            &format!("{ID}.example.org"),
            &format!("p-{ID}.example.org.evil"),
            "[::1]:5000",
            "",
        ] {
            assert_eq!(each.at(site), At::Site, "{site}");
        }
        assert_eq!(
            each.origin("https://hub.example.org", project),
            format!("https://p-{ID}.example.org")
        );
        let one = hosts("projects.localhost");
        assert_eq!(one.at("Projects.localhost:1"), At::Projects(None));
        assert_eq!(one.at("localhost:1"), At::Site);
        assert_eq!(
            one.origin("http://localhost:5000", project),
            "http://projects.localhost:5000"
        );
        assert_eq!(
            hosts("projects.localhost:7").origin("http://localhost:5000", project),
            "http://projects.localhost:7"
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "a b",
            "https://a",
            "a/b",
            "{project}",
            "a..b",
            "-a.b",
            "a:x",
            "{project}.{project}.b",
            "*.example.org",
        ] {
            let parsed = text.parse::<Hosts>();
            if text == "{project}" {
                assert!(parsed.is_ok(), "a single label is a name");
            } else {
                assert!(parsed.is_err(), "{text:?}: {parsed:?}");
            }
        }
    }

    #[test]
    fn the_site_is_elsewhere() {
        assert_eq!(
            hosts("{project}.localhost").check_site("http://localhost:5000"),
            Ok(())
        );
        let same = hosts("localhost:6000").check_site("http://localhost:5000");
        assert!(matches!(same, Err(HostsError::Site(_))), "{same:?}");
    }
}

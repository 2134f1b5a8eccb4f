//! Under which names a project is reached.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Which project, on which compute server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    prefix: String,
    project_id: String,
    compute_server: u32,
}

/// A project's id is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a project's id is a UUID such as 7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f, not {0:?}")]
pub struct InvalidProjectId(pub String);

impl Place {
    /// The home base of a project has the compute server 0.
    ///
    /// # Errors
    /// When the id is no UUID.
    pub fn new(project_id: &str, compute_server: u32) -> Result<Self, InvalidProjectId> {
        let id: dialtone_proxy::ProjectId = project_id
            .parse()
            .map_err(|_error| InvalidProjectId(project_id.to_owned()))?;
        let project_id = id.to_string();
        Ok(Self {
            prefix: format!("project.{project_id}.{compute_server}"),
            project_id,
            compute_server,
        })
    }

    /// The id, in lower case.
    pub fn project_id(&self) -> &str {
        &self.project_id
    }

    /// The compute server.
    pub const fn compute_server(&self) -> u32 {
        self.compute_server
    }

    /// A service that has no path, as existing clients name it.
    pub fn service(&self, service: &str) -> String {
        format!("{}.{service}.-", self.prefix)
    }

    /// The functions, under their short name.
    pub fn api(&self) -> String {
        format!("{}.api", self.prefix)
    }

    /// Where a client offers a file that the project is to fetch.
    pub fn offered(&self, name: &str) -> String {
        self.service(&format!("files:read{name}"))
    }

    /// The terminal of this path.
    pub fn terminal(&self, path: &str) -> String {
        format!("{}.terminal.{}", self.prefix, encode(path))
    }

    /// All terminals.
    pub fn terminals(&self) -> String {
        format!("{}.terminal.*", self.prefix)
    }
}

/// A path as a segment of a subject.
fn encode(path: &str) -> String {
    if path.is_empty() {
        return "-".to_owned();
    }
    STANDARD.encode(path)
}

/// The path in the last segment of a subject; `None` when it is none.
pub fn path_of(subject: &str) -> Option<String> {
    let last = subject.rsplit('.').next()?;
    if last == "-" {
        return Some(String::new());
    }
    String::from_utf8(STANDARD.decode(last).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

    #[test]
    fn names_are_those_that_clients_use() {
        let place = Place::new(&ID.to_uppercase(), 0).unwrap();
        assert_eq!(place.api(), format!("project.{ID}.0.api"));
        assert_eq!(
            place.service("files:write"),
            format!("project.{ID}.0.files:write.-")
        );
        assert_eq!(
            place.offered("aB3"),
            format!("project.{ID}.0.files:readaB3.-")
        );
        assert!(Place::new("7f2c", 0).is_err() && Place::new("*", 0).is_err());
    }

    #[test]
    fn paths_pass_through_subjects() {
        let place = Place::new(ID, 3).unwrap();
        for path in ["", "a.term", "grüße/x y.term", "-"] {
            let subject = place.terminal(path);
            assert_eq!(subject.split('.').count(), 5, "{subject}");
            assert_eq!(path_of(&subject).as_deref(), Some(path));
        }
        assert_eq!(path_of("project.x.0.terminal.!"), None);
    }
}

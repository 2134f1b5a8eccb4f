//! What a request is for: the project and the server within it, read from the path. Pure.
//!
//! `{base}/{project_id}/{kind}/…`, where the kind is one of
//!
//! | kind | rest | what the server behind it sees |
//! |---|---|---|
//! | `port` | `{number or name}/…` | the whole path, as the client wrote it |
//! | `server` | `{number or name}/…` | what follows, beginning with a slash |
//! | `raw` | `…` | the whole path |
//! | `files` | `{path}` | nothing: the file itself is answered |
//!
//! and `{base}/conat/…`, which is for a broker.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use crate::path::{self, PathError};
use crate::project::ProjectId;

/// Longest name of a named server, in bytes.
const NAME_LEN_MAX: usize = 32;

/// The server within a project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Whatever listens on this port.
    Port(u16),
    /// A server that the project knows by a name, such as `jupyterlab`.
    Named(String),
    /// The project's own server of raw files.
    Raw,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Named(name) => f.write_str(name),
            Self::Raw => f.write_str("the raw file server"),
        }
    }
}

/// What is asked for within a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// To be passed on to a server.
    Server {
        /// Which one.
        service: Service,
        /// The part of the path that the server sees, in bytes of the path; empty stands for `/`.
        seen: Range<usize>,
        /// Whether the server takes its own root for that of the site (`server`), so that places that it names must be
        /// put below [`Target::scope`].
        stripped: bool,
    },
    /// A file, relative to the project's home and decoded.
    File(String),
}

/// A project and what is asked for within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which project.
    pub project: ProjectId,
    /// What within it.
    pub want: Want,
    /// The path of everything that belongs to the same server, with a slash at the end: where its cookies are valid.
    pub scope: String,
}

/// What a path is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Something within a project.
    Project(Box<Target>),
    /// A broker; the part of the path that it sees.
    Broker(Range<usize>),
    /// The same path with a slash at its end: without one, relative links would lead elsewhere.
    AddSlash,
    /// Nothing of the proxy's.
    Elsewhere,
}

/// Why a path that belongs to the proxy cannot be followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// It could mean different things to different readers.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Neither `port`, `server`, `raw` nor `files`.
    #[error("{0:?} is nothing that a project has; there are port, server, raw and files")]
    Kind(String),
    /// Neither a port nor a name.
    #[error("{0:?} is neither a port from 1 to 65535 nor the name of a server")]
    Service(String),
}

/// Reads a path, which is not decoded and has no query. `base` is empty or begins with a slash and does not end with one.
///
/// # Errors
/// When it is a path of the proxy, but leads nowhere.
pub fn route(base: &str, path: &str) -> Result<Route, TargetError> {
    let Some(rest) = path.strip_prefix(base).filter(|rest| rest.starts_with('/')) else {
        return Ok(Route::Elsewhere);
    };
    let (first, after) = segment(rest);
    if first == "conat" {
        path::check(path)?;
        return Ok(Route::Broker(base.len()..path.len()));
    }
    let Ok(project) = first.parse::<ProjectId>() else {
        return Ok(Route::Elsewhere);
    };
    path::check(path)?;
    let within = Within {
        path,
        base,
        project,
    };
    let (kind, after) = segment(after);
    match kind {
        "port" => within.server("port", after),
        "server" => within.server("server", after),
        "raw" if after.is_empty() => Ok(Route::AddSlash),
        "raw" => Ok(within.target(
            within.scope("raw"),
            Want::Server {
                service: Service::Raw,
                seen: 0..path.len(),
                stripped: false,
            },
        )),
        "files" => {
            let file = path::relative(after)?;
            Ok(within.target(within.scope("files"), Want::File(file)))
        }
        other => Err(TargetError::Kind(shortened(other))),
    }
}

/// A path that begins with a project.
struct Within<'a> {
    path: &'a str,
    base: &'a str,
    project: ProjectId,
}

impl Within<'_> {
    fn server(&self, kind: &str, after: &str) -> Result<Route, TargetError> {
        let (text, rest) = segment(after);
        let service = service(text).ok_or_else(|| TargetError::Service(shortened(text)))?;
        let stripped = kind == "server";
        if rest.is_empty() {
            return Ok(Route::AddSlash);
        }
        let len = self.path.len();
        let seen = if stripped {
            len - rest.len()..len
        } else {
            0..len
        };
        let scope = self.scope(&format!("{kind}/{text}"));
        Ok(self.target(
            scope,
            Want::Server {
                service,
                seen,
                stripped,
            },
        ))
    }

    /// With the id as the client wrote it: a browser compares the paths of cookies byte by byte.
    fn scope(&self, below: &str) -> String {
        let id = self
            .path
            .get(self.base.len() + 1..self.base.len() + 37)
            .unwrap_or_default();
        format!("{}/{id}/{below}/", self.base)
    }

    fn target(&self, scope: String, want: Want) -> Route {
        Route::Project(Box::new(Target {
            project: self.project,
            want,
            scope,
        }))
    }
}

/// The first segment of a path that begins with a slash, and what follows it, with its slash.
fn segment(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_at(path.find('/').unwrap_or(path.len()))
}

/// A port in plain decimal, or a name.
fn service(text: &str) -> Option<Service> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let port: u16 = text.parse().ok().filter(|port| *port != 0)?;
        return (port.to_string() == text).then_some(Service::Port(port));
    }
    let begins = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    let is_name = text.len() <= NAME_LEN_MAX
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    (begins && is_name).then(|| Service::Named(text.to_owned()))
}

/// A text as an error shows it.
fn shortened(text: &str) -> String {
    text.chars().take(NAME_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

    fn target(base: &str, path: &str) -> Target {
        match route(base, path) {
            Ok(Route::Project(target)) => *target,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[track_caller]
    fn server(base: &str, path: &str, wanted: &Service, sees: &str, scope: &str) {
        let target = target(base, path);
        assert_eq!(target.project.to_string(), ID);
        assert_eq!(target.scope, scope);
        match target.want {
            Want::Server { service, seen, .. } => {
                assert_eq!(service, *wanted);
                assert_eq!(path.get(seen), Some(sees));
            }
            Want::File(file) => panic!("a file: {file}"),
        }
    }

    #[test]
    fn ports_see_the_whole_path_and_servers_the_rest() {
        let lab = || Service::Named("jupyterlab".to_owned());
        let path = format!("/{ID}/port/8888/api?");
        let path = path.trim_end_matches('?');
        server(
            "",
            path,
            &Service::Port(8888),
            path,
            &format!("/{ID}/port/8888/"),
        );
        let path = format!("/app/{ID}/port/jupyterlab/lab/");
        server(
            "/app",
            &path,
            &lab(),
            &path,
            &format!("/app/{ID}/port/jupyterlab/"),
        );
        let path = format!("/{ID}/server/3000/a/b");
        server(
            "",
            &path,
            &Service::Port(3000),
            "/a/b",
            &format!("/{ID}/server/3000/"),
        );
        let path = format!("/{ID}/server/jupyterlab/");
        server("", &path, &lab(), "/", &format!("/{ID}/server/jupyterlab/"));
        let path = format!("/{ID}/raw/a/b.html");
        server("", &path, &Service::Raw, &path, &format!("/{ID}/raw/"));
    }

    #[test]
    fn the_scope_has_the_id_as_it_was_written() {
        let id = ID.to_uppercase();
        let target = target("", &format!("/{id}/port/80/"));
        assert_eq!(target.scope, format!("/{id}/port/80/"));
        assert_eq!(target.project.to_string(), ID);
    }

    #[test]
    fn files_are_decoded() {
        let target = target("", &format!("/{ID}/files/a%20b/c.txt"));
        assert_eq!(target.want, Want::File("a b/c.txt".to_owned()));
    }

    #[test]
    fn brokers_and_others() {
        assert_eq!(route("", "/conat/a"), Ok(Route::Broker(0..8)));
        assert_eq!(route("/app", "/app/conat"), Ok(Route::Broker(4..10)));
        for path in [
            "/",
            "/app",
            "/conatus",
            "/static/a.js",
            "*",
            "/7f2c6d1e/port/80/",
        ] {
            assert_eq!(route("", path), Ok(Route::Elsewhere), "{path}");
        }
        for path in ["/conat/", "/application/conat/", "/app"] {
            assert_eq!(route("/app", path), Ok(Route::Elsewhere), "{path}");
        }
    }

    #[test]
    fn a_server_without_a_slash_gets_one() {
        for kind in ["port/80", "server/80", "raw", "port/jupyter"] {
            assert_eq!(
                route("", &format!("/{ID}/{kind}")),
                Ok(Route::AddSlash),
                "{kind}"
            );
        }
    }

    #[test]
    fn ports_and_names_are_read_strictly() {
        for text in [
            "0", "65536", "080", "8080abc", "", "+80", "-1", "Jupyter", "a.b", "_x", "８０",
        ] {
            let path = format!("/{ID}/port/{text}/");
            let wrong = matches!(route("", &path), Err(TargetError::Service(_)));
            assert!(wrong, "{text}");
        }
        let long = "a".repeat(NAME_LEN_MAX + 1);
        assert!(route("", &format!("/{ID}/port/{long}/")).is_err());
    }

    #[test]
    fn other_kinds_and_doubtful_paths_are_refused() {
        assert_eq!(
            route("", &format!("/{ID}/proxy/80/")),
            Err(TargetError::Kind("proxy".to_owned()))
        );
        for rest in [
            "port/80/../x",
            "port/80/%2e%2e/x",
            "files/../x",
            "raw/a\\b",
            "../x",
        ] {
            let refused = matches!(
                route("", &format!("/{ID}/{rest}")),
                Err(TargetError::Path(_))
            );
            assert!(refused, "{rest}");
        }
    }
}

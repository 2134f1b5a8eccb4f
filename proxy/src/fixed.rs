//! Projects that stand in a configuration: who may use them and where their servers are, for a proxy without a hub.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use crate::access::{Access, AccessError, Answer, Credentials, Level, Verdict};
use crate::files::{FileError, Files, Folder, Opened};
use crate::project::ProjectId;
use crate::target::Service;
use crate::targets::{Place, Targets, TargetsError};

/// Most of our cookies that are looked at in one request.
const COOKIES_MAX: usize = 8;

/// Which ports of a project may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All of them.
    All,
    /// These.
    These(Vec<u16>),
}

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Where its servers listen.
    pub address: IpAddr,
    /// Which ports may be reached by their numbers.
    pub ports: Ports,
    /// The ports of its named servers.
    pub servers: BTreeMap<String, u16>,
    /// The port of its raw file server.
    pub raw: Option<u16>,
    /// The folder of its files.
    pub files: Option<Arc<Folder>>,
    /// What everybody may do, without signing in.
    pub public: Option<Level>,
    /// Who may read.
    pub readers: Vec<String>,
    /// Who may do everything.
    pub writers: Vec<String>,
}

/// The SHA-256 hash of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Of this token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// All projects, and all who may use them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The projects.
    pub projects: HashMap<ProjectId, Project>,
    /// Whose token it is: the value of a cookie, or a key.
    pub tokens: HashMap<TokenHash, Arc<str>>,
}

/// A table that can be replaced.
#[derive(Debug, Default)]
pub struct Fixed(RwLock<Arc<Table>>);

impl Fixed {
    /// With this table.
    pub fn new(table: Table) -> Self {
        Self(RwLock::new(Arc::new(table)))
    }

    /// Takes another table. The proxy's handle must be told afterwards, so that what it remembers is forgotten.
    pub fn replace(&self, table: Table) {
        *self.0.write() = Arc::new(table);
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read())
    }
}

impl Table {
    /// Who has sent these credentials. The hash of a token says nothing about others, so that it can be looked up.
    fn who(&self, credentials: &Credentials) -> Option<&Arc<str>> {
        let values = credentials.cookies.iter().take(COOKIES_MAX);
        let values = values.filter_map(|cookie| cookie.split_once('=').map(|(_, value)| value));
        let mut tokens = values.chain(credentials.key.as_deref());
        tokens.find_map(|token| self.tokens.get(&TokenHash::of(token)))
    }

    fn verdict(&self, project: ProjectId, credentials: &Credentials, level: Level) -> Verdict {
        let project = self.projects.get(&project);
        let who = self.who(credentials);
        if let (Some(project), Some(who)) = (project, who)
            && project.lets(who, level)
        {
            return Verdict::Allowed {
                identity: Arc::clone(who),
            };
        }
        let public = project.and_then(|project| project.public);
        if public == Some(Level::Write) || public == Some(level) {
            return Verdict::Allowed {
                identity: "".into(),
            };
        }
        if who.is_some() {
            Verdict::Denied
        } else {
            Verdict::SignIn
        }
    }
}

impl Project {
    fn lets(&self, who: &str, level: Level) -> bool {
        let is_among = |names: &[String]| names.iter().any(|name| name == who);
        is_among(&self.writers) || level == Level::Read && is_among(&self.readers)
    }

    fn place(&self, service: &Service) -> Place {
        let port = match service {
            Service::Port(port) => match &self.ports {
                Ports::All => Some(*port),
                Ports::These(ports) => ports.contains(port).then_some(*port),
            },
            Service::Named(name) => self.servers.get(name).copied(),
            Service::Raw => self.raw,
        };
        match port {
            Some(port) => Place::At(SocketAddr::new(self.address, port)),
            None => Place::NoService,
        }
    }
}

impl Access for Fixed {
    fn check<'a>(
        &'a self,
        project: ProjectId,
        credentials: &'a Credentials,
        level: Level,
    ) -> Answer<'a, Result<Verdict, AccessError>> {
        let verdict = self.table().verdict(project, credentials, level);
        Box::pin(std::future::ready(Ok(verdict)))
    }
}

impl Targets for Fixed {
    fn place<'a>(
        &'a self,
        project: ProjectId,
        service: &'a Service,
    ) -> Answer<'a, Result<Place, TargetsError>> {
        let table = self.table();
        let place = table
            .projects
            .get(&project)
            .map_or(Place::Unknown, |project| project.place(service));
        Box::pin(std::future::ready(Ok(place)))
    }
}

impl Files for Fixed {
    fn open<'a>(
        &'a self,
        project: ProjectId,
        path: &'a str,
    ) -> Answer<'a, Result<Opened, FileError>> {
        let folder = self
            .table()
            .projects
            .get(&project)
            .and_then(|project| project.files.clone());
        let path = path.to_owned();
        Box::pin(async move {
            let folder = folder.ok_or(FileError::NotFound)?;
            let opened = tokio::task::spawn_blocking(move || folder.file(&path)).await;
            opened.map_err(std::io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";

    fn table(public: Option<Level>) -> Table {
        let project = Project {
            address: [127, 0, 0, 1].into(),
            ports: Ports::These(vec![8080]),
            servers: [("jupyterlab".to_owned(), 8888)].into(),
            raw: None,
            files: None,
            public,
            readers: vec!["ann".to_owned()],
            writers: vec!["bob".to_owned()],
        };
        let token = |name: &str| (TokenHash::of(&format!("token of {name}")), Arc::from(name));
        Table {
            projects: [(ID.parse().unwrap(), project)].into(),
            tokens: ["ann", "bob", "eve"].map(token).into(),
        }
    }

    fn verdict(table: &Table, who: Option<&str>, level: Level) -> String {
        let cookies = who.map(|who| format!("remember_me=token of {who}"));
        let credentials = Credentials {
            cookies: cookies.into_iter().collect(),
            key: None,
        };
        match table.verdict(ID.parse().unwrap(), &credentials, level) {
            Verdict::Allowed { identity } => format!("allowed {identity}"),
            Verdict::Denied => "denied".to_owned(),
            Verdict::SignIn => "sign in".to_owned(),
        }
    }

    #[test]
    fn readers_read_and_writers_write() {
        let table = table(None);
        for (who, level, wanted) in [
            (Some("ann"), Level::Read, "allowed ann"),
            (Some("ann"), Level::Write, "denied"),
            (Some("bob"), Level::Read, "allowed bob"),
            (Some("bob"), Level::Write, "allowed bob"),
            (Some("eve"), Level::Read, "denied"),
            (Some("nobody"), Level::Read, "sign in"),
            (None, Level::Read, "sign in"),
        ] {
            assert_eq!(verdict(&table, who, level), wanted, "{who:?} {level:?}");
        }
    }

    #[test]
    fn public_projects_need_nobody() {
        assert_eq!(
            verdict(&table(Some(Level::Read)), None, Level::Read),
            "allowed "
        );
        assert_eq!(
            verdict(&table(Some(Level::Read)), None, Level::Write),
            "sign in"
        );
        assert_eq!(
            verdict(&table(Some(Level::Write)), Some("eve"), Level::Write),
            "allowed "
        );
    }

    #[test]
    fn places_are_those_of_the_table() {
        let table = table(None);
        let project = &table.projects[&ID.parse().unwrap()];
        let at = |port| Place::At(([127, 0, 0, 1], port).into());
        assert_eq!(project.place(&Service::Port(8080)), at(8080));
        assert_eq!(project.place(&Service::Port(22)), Place::NoService);
        assert_eq!(
            project.place(&Service::Named("jupyterlab".to_owned())),
            at(8888)
        );
        assert_eq!(project.place(&Service::Raw), Place::NoService);
    }
}

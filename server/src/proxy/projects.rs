//! `[[project]]` and `[[user]]` of a proxy's configuration file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use dialtone_proxy::ProjectId;
use dialtone_proxy::access::Level;
use dialtone_proxy::files::Folder;
use dialtone_proxy::fixed::{Ports, Project, Table, TokenHash};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::Places;
use crate::config::{Raw, Value};

/// Everything that a file says about projects and users.
#[derive(Debug, Default)]
pub(crate) struct Site {
    projects: BTreeMap<ProjectId, Entry>,
    tokens: Vec<(TokenHash, Arc<str>)>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    ports: Ports,
    servers: BTreeMap<String, u16>,
    raw: Option<u16>,
    files: Option<PathBuf>,
    public: Option<Level>,
    readers: Vec<String>,
    writers: Vec<String>,
}

impl Site {
    /// How many projects and how many tokens there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.projects.len(), self.tokens.len())
    }

    /// With the folders of files opened.
    pub(crate) fn table(&self) -> anyhow::Result<Table> {
        let mut table = Table {
            tokens: self.tokens.iter().cloned().collect(),
            ..Table::default()
        };
        for (id, entry) in &self.projects {
            let open = |path: &PathBuf| {
                let opened = Folder::open(path);
                opened.with_context(|| {
                    format!("cannot open the folder {} of project {id}", path.display())
                })
            };
            table.projects.insert(
                *id,
                Project {
                    address: entry.address,
                    ports: entry.ports.clone(),
                    servers: entry.servers.clone(),
                    raw: entry.raw,
                    files: entry.files.as_ref().map(open).transpose()?.map(Arc::new),
                    public: entry.public,
                    readers: entry.readers.clone(),
                    writers: entry.writers.clone(),
                },
            );
        }
        Ok(table)
    }
}

/// Reading the entries of one file.
pub(super) struct Reading<'f, 'a> {
    file: &'f mut Places<'a>,
    names: Vec<String>,
    site: Site,
}

impl<'f, 'a> Reading<'f, 'a> {
    pub(super) fn new(file: &'f mut Places<'a>) -> Self {
        Self {
            file,
            names: Vec::new(),
            site: Site::default(),
        }
    }

    pub(super) fn site(self) -> Site {
        self.site
    }

    /// One `[[project]]` or `[[user]]`.
    pub(super) fn entry(&mut self, kind: &str, entry: &Spanned<DeValue<'_>>) {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            return self.file.problem(at, kind, format!("write [[{kind}]]"));
        };
        let read = match kind {
            "user" => self.user(table),
            _ => self.project(table),
        };
        if let Err((at_key, key, text)) = read {
            self.file
                .problem(at_key.unwrap_or(at), &format!("{kind}.{key}"), text);
        }
    }

    fn user(&mut self, table: &DeTable<'_>) -> Result<(), Wrong> {
        known(table, &["name", "tokens"])?;
        let name: String = required(table, "name", self.file.folder())?;
        if name.is_empty() || self.names.contains(&name) {
            return Err(wrong(
                table,
                "name",
                format!("{name:?} is empty or there already"),
            ));
        }
        let tokens: Vec<String> = required(table, "tokens", self.file.folder())?;
        let who: Arc<str> = name.as_str().into();
        for token in tokens {
            let hash = hash(&token).map_err(|text| wrong(table, "tokens", text))?;
            if self.site.tokens.iter().any(|(known, _)| *known == hash) {
                return Err(wrong(
                    table,
                    "tokens",
                    "a token belongs to one user only".to_owned(),
                ));
            }
            self.site.tokens.push((hash, Arc::clone(&who)));
        }
        self.names.push(name);
        Ok(())
    }

    fn project(&mut self, table: &DeTable<'_>) -> Result<(), Wrong> {
        const KEYS: [&str; 9] = [
            "id", "address", "ports", "servers", "raw", "files", "public", "readers", "writers",
        ];
        known(table, &KEYS)?;
        let folder = self.file.folder().to_owned();
        let text: String = required(table, "id", &folder)?;
        let id: ProjectId = text
            .parse()
            .map_err(|error| wrong(table, "id", format!("{error}, found {text:?}")))?;
        if self.site.projects.contains_key(&id) {
            return Err(wrong(table, "id", format!("{id} is there already")));
        }
        let address: Option<String> = optional(table, "address", &folder)?;
        let address = address.as_deref().unwrap_or("127.0.0.1");
        let no_ip = |_error| {
            wrong(
                table,
                "address",
                format!("expected an IP address, found {address:?}"),
            )
        };
        let entry = Entry {
            address: address.parse().map_err(no_ip)?,
            ports: ports(table, &folder)?,
            servers: servers(table, &folder)?,
            raw: optional(table, "raw", &folder)?,
            files: optional(table, "files", &folder)?,
            public: public(table, &folder)?,
            readers: self.people(table, "readers", &folder)?,
            writers: self.people(table, "writers", &folder)?,
        };
        self.site.projects.insert(id, entry);
        Ok(())
    }

    fn people(
        &self,
        table: &DeTable<'_>,
        key: &'static str,
        folder: &Path,
    ) -> Result<Vec<String>, Wrong> {
        let names: Vec<String> = optional(table, key, folder)?.unwrap_or_default();
        match names.iter().find(|name| !self.names.contains(name)) {
            Some(name) => Err(wrong(table, key, format!("there is no user {name:?}"))),
            None => Ok(names),
        }
    }
}

/// Where, under which key, and what.
type Wrong = (Option<usize>, String, String);

fn wrong(table: &DeTable<'_>, key: &str, text: String) -> Wrong {
    let at = table
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == key);
    (
        at.map(|(_, value)| value.span().start),
        key.to_owned(),
        text,
    )
}

fn known(table: &DeTable<'_>, keys: &[&str]) -> Result<(), Wrong> {
    match table
        .iter()
        .find(|(name, _)| !keys.contains(&name.get_ref().as_ref()))
    {
        Some((name, _)) => {
            let text = format!("there is no such key; there are {}", keys.join(", "));
            Err((Some(name.span().start), name.get_ref().to_string(), text))
        }
        None => Ok(()),
    }
}

fn optional<T: Value>(table: &DeTable<'_>, key: &str, folder: &Path) -> Result<Option<T>, Wrong> {
    let found = table
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == key);
    let read = found.map(|(_, value)| T::read(Raw::Toml(value.get_ref(), folder)));
    read.transpose().map_err(|text| wrong(table, key, text))
}

fn required<T: Value>(table: &DeTable<'_>, key: &str, folder: &Path) -> Result<T, Wrong> {
    optional(table, key, folder)?.ok_or_else(|| (None, key.to_owned(), "is missing".to_owned()))
}

fn ports(table: &DeTable<'_>, folder: &Path) -> Result<Ports, Wrong> {
    let found = table
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == "ports");
    match found.map(|(_, value)| value.get_ref()) {
        None => Ok(Ports::These(Vec::new())),
        Some(DeValue::String(text)) if text == "all" => Ok(Ports::All),
        Some(_) => {
            let listed: Vec<u16> = optional(table, "ports", folder)?.unwrap_or_default();
            Ok(Ports::These(listed))
        }
    }
}

fn servers(table: &DeTable<'_>, folder: &Path) -> Result<BTreeMap<String, u16>, Wrong> {
    let found = table
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == "servers");
    let Some((_, value)) = found else {
        return Ok(BTreeMap::new());
    };
    let DeValue::Table(servers) = value.get_ref() else {
        return Err(wrong(
            table,
            "servers",
            "expected a table such as { jupyterlab = 8888 }".to_owned(),
        ));
    };
    let read = |(name, port): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let port = u16::read(Raw::Toml(port.get_ref(), folder));
        let port =
            port.map_err(|text| wrong(table, "servers", format!("{}: {text}", name.get_ref())))?;
        Ok((name.get_ref().to_string(), port))
    };
    servers.iter().map(read).collect()
}

fn public(table: &DeTable<'_>, folder: &Path) -> Result<Option<Level>, Wrong> {
    let text: Option<String> = optional(table, "public", folder)?;
    match text.as_deref() {
        None | Some("no") => Ok(None),
        Some("read") => Ok(Some(Level::Read)),
        Some("write") => Ok(Some(Level::Write)),
        Some(other) => Err(wrong(
            table,
            "public",
            format!("expected no, read or write, found {other:?}"),
        )),
    }
}

/// Reads `sha256:` and 64 hexadecimal digits, as `dialtone passwd --token` prints it.
fn hash(text: &str) -> Result<TokenHash, String> {
    let fingerprint = text
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64);
    let parsed =
        fingerprint.and_then(|digits| digits.parse::<dialtone_transport::tls::Fingerprint>().ok());
    parsed.map(|hash| TokenHash(hash.0)).ok_or_else(|| {
        "expected sha256: and 64 hexadecimal digits, from `dialtone passwd --token`".to_owned()
    })
}

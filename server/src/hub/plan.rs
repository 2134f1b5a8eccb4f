//! Everything that a hub needs, from flags and environment, before anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;

use dialtone_hub::auth::cookie::Names;
use dialtone_hub::store::{self, Location};

use super::given::given;
use super::projects::Running;
use super::{Edge, Services};
use crate::args::{Hub as Args, Mode, SettingArgs};
use crate::assemble;
use crate::base_path;
use crate::config::Strings;
use crate::database;
use crate::exit::Failure;

/// Where `dialtone up` keeps the database, within the data folder.
const DATABASE_FILE: &str = "hub.db";

/// A hub that is to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How projects are run.
    pub(crate) mode: Mode,
    /// The same, with where their homes are.
    pub(crate) projects: Running,
    /// Which parts.
    pub(crate) services: Services,
    /// Addresses and bounds of the hub itself.
    pub(crate) config: dialtone_hub::Config,
    /// Where its database is.
    pub(crate) database: store::Config,
    /// File with the other sites that people may sign in by.
    pub(crate) sso_config: Option<PathBuf>,
    /// Settings of the site that this process is given.
    pub(crate) settings: Vec<(String, String)>,
    /// The path below which the site lies: empty, or with a slash in front and none at the end.
    pub(crate) base_path: String,
    /// How browsers reach it.
    pub(crate) edge: Edge,
    /// What cookies are called.
    pub(crate) names: Names,
    /// Whether whoever started it is shown how to become the first administrator.
    pub(crate) invites_admin: bool,
    /// What to do if its address cannot be had.
    pub(crate) address_hint: &'static str,
}

impl Plan {
    /// What `dialtone hub` was told.
    pub(crate) fn of(args: &Args, strings: &dyn Strings) -> Result<Self, Failure> {
        let mut config = dialtone_hub::Config::new(hostname(), args.listen);
        let port = number(strings, &["DIALTONE_AGENT_PORT", "COCALC_AGENT_PORT"])?;
        let port = args.agent_port.or(port).unwrap_or(0);
        config.agent = (port != 0).then(|| SocketAddr::new(args.listen.ip(), port));
        let warn = number(
            strings,
            &[
                "DIALTONE_DB_CONCURRENT_WARN",
                "COCALC_HEALTH_PG_CONCURRENT_WARN",
            ],
        )?;
        if let Some(warn) = args.db_concurrent_warn.or(warn) {
            config.health.requests_warn = warn;
        }
        config.letters_folder = args
            .letters
            .clone()
            .or_else(|| strings.get("DIALTONE_LETTERS").map(Into::into));
        let mode = mode(args.mode, strings)?;
        let services = Services::of(args.services);
        let edge = Edge::of(&args.edge, strings)?;
        if edge.needs_proxy() && !services.proxy {
            let text = "--https-… and --projects-host are for a hub that runs the proxy";
            return Err(Failure::usage(text).hint("--all or --proxy-server runs it"));
        }
        let data = match args.database.data.clone() {
            Some(data) => data,
            None => match strings.get("DIALTONE_DATA") {
                Some(data) => data.into(),
                None => assemble::data_dir(strings)?,
            },
        };
        let data = std::path::absolute(&data).map_err(|error| {
            Failure::usage(format_args!(
                "cannot tell where the data folder is: {error}"
            ))
        })?;
        let base_path = base_path::of(args.base_path.as_deref(), strings)?;
        Ok(Self {
            sso_config: args.sso_config.clone(),
            mode,
            projects: Running::new(mode, strings, &data, hostname()).below(&base_path),
            services,
            config,
            edge,
            database: database::config(&args.database, strings)?,
            settings: given(&args.settings, strings)?,
            names: names(&base_path, strings)?,
            base_path,
            invites_admin: false,
            address_hint: "choose another address with --listen ADDRESS (port 0: any free port)",
        })
    }

    /// Everything in one process, with its data in this folder.
    pub(crate) fn up(
        data: &std::path::Path,
        listen: SocketAddr,
        edge: &crate::args::Edge,
        settings: &SettingArgs,
        strings: &dyn Strings,
    ) -> Result<Self, Failure> {
        database::private_folder(data)?;
        let path: PathBuf = data.join(DATABASE_FILE);
        let mut config = dialtone_hub::Config::new(hostname(), listen);
        config.letters_folder = strings.get("DIALTONE_LETTERS").map(Into::into);
        let base_path = base_path::of(None, strings)?;
        let mode = Mode::SingleUser;
        Ok(Self {
            sso_config: None,
            mode,
            projects: Running::new(mode, strings, data, hostname()).below(&base_path),
            services: Services::all(),
            config,
            edge: Edge::of(edge, strings)?,
            database: store::Config::new(Location::Sqlite { path }),
            settings: given(settings, strings)?,
            names: names(&base_path, strings)?,
            base_path,
            invites_admin: true,
            address_hint: "choose another address for the hub with --hub-listen ADDRESS (port 0: any free port), or none with --no-hub",
        })
    }
}

fn hostname() -> String {
    let machine = rustix::system::uname();
    machine.nodename().to_string_lossy().into_owned()
}

/// What cookies are called, by the environment alone: for brokers by themselves, which are told what hubs are.
pub(crate) fn cookie_names(strings: &dyn Strings) -> Result<Names, Failure> {
    names(&base_path::of(None, strings)?, strings)
}

fn names(base_path: &str, strings: &dyn Strings) -> Result<Names, Failure> {
    let names = Names::new(base_path);
    match strings.get("COCALC_REMEMBER_ME_COOKIE_NAME") {
        Some(name) => names.with_remember_me(&name).map_err(Failure::usage),
        None => Ok(names),
    }
}

fn mode(given: Option<Mode>, strings: &dyn Strings) -> Result<Mode, Failure> {
    if let Some(mode) = given {
        return Ok(mode);
    }
    let named = strings
        .get("DIALTONE_MODE")
        .or_else(|| strings.get("COCALC_MODE"));
    let Some(named) = named else {
        return Err(
            Failure::usage("--mode says how projects are run, and is missing")
                .hint("`dialtone hub --mode single-user` runs them as processes of this user"),
        );
    };
    clap::ValueEnum::from_str(&named, false).map_err(|_unknown| {
        Failure::usage(format_args!(
            "the mode is single-user, multi-user, kucalc or kubernetes, not {named:?}"
        ))
    })
}

/// As it is written in flags.
pub(crate) fn mode_name(mode: Mode) -> String {
    let value = clap::ValueEnum::to_possible_value(&mode);
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A number from the first of these variables that is there.
fn number<T: std::str::FromStr>(
    strings: &dyn Strings,
    names: &[&str],
) -> Result<Option<T>, Failure> {
    let found = names
        .iter()
        .find_map(|name| strings.get(name).map(|text| (name, text)));
    let Some((name, text)) = found else {
        return Ok(None);
    };
    let wrong =
        |_error: T::Err| Failure::usage(format_args!("{name} must be a number, not {text:?}"));
    text.parse().map(Some).map_err(wrong)
}

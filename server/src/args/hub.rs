//! The flags of `dialtone hub` and `dialtone admin`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::Span;

/// Which database.
#[derive(Debug, Clone, Args)]
pub(crate) struct DatabaseArgs {
    /// `postgres://USER@HOST/NAME` or `sqlite:FILE` [env: DIALTONE_DATABASE_URL, DATABASE_URL] [default: hub.db in the data folder]
    #[arg(long, value_name = "URL", help_heading = "Database")]
    pub(crate) database_url: Option<String>,
    /// Host, or folder of the socket, of a PostgreSQL; instead of a URL
    #[arg(
        long,
        value_name = "HOST",
        conflicts_with = "database_url",
        help_heading = "Database"
    )]
    pub(crate) database_nodes: Option<String>,
    /// Name of the database there [default: as PGDATABASE says, or smc]
    #[arg(
        long,
        value_name = "NAME",
        requires = "database_nodes",
        help_heading = "Database"
    )]
    pub(crate) database_name: Option<String>,
    /// User of the database there [default: as PGUSER says, or smc]
    #[arg(
        long,
        value_name = "USER",
        requires = "database_nodes",
        help_heading = "Database"
    )]
    pub(crate) database_user: Option<String>,
    /// File with the password of the database [env: DIALTONE_DATABASE_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Database")]
    pub(crate) database_password_file: Option<PathBuf>,
    /// Most connections to the database
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(3..=1000), help_heading = "Database")]
    pub(crate) database_connections: u32,
    /// Folder for what must outlive a restart [env: DIALTONE_DATA] [default: ~/.local/share/dialtone]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// Which parts of a site a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Args)]
pub(crate) struct ServiceArgs {
    /// Everything: --conat-server, --proxy-server and --next-server
    #[arg(long, help_heading = SERVICES)]
    pub(crate) all: bool,
    /// A broker that the hub guards, with the API and a node of persist, joined in memory
    #[arg(long, help_heading = SERVICES)]
    pub(crate) conat_server: bool,
    /// A broker that the hub guards
    #[arg(long, help_heading = SERVICES)]
    pub(crate) conat_router: bool,
    /// The functions of the hub, answered on the broker
    #[arg(long, help_heading = SERVICES)]
    pub(crate) conat_api: bool,
    /// A node of the persist service: durable streams
    #[arg(long, help_heading = SERVICES)]
    pub(crate) conat_persist: bool,
    /// The proxy that leads to projects, at --listen in front of everything else
    #[arg(long, help_heading = SERVICES)]
    pub(crate) proxy_server: bool,
    /// Signing up and in over HTTP, by pages and for programs
    #[arg(long, help_heading = SERVICES)]
    pub(crate) next_server: bool,
}

const SERVICES: &str = "What to run";

/// How projects are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Projects are processes of the user that runs the hub
    SingleUser,
    /// Each project has a user of its own
    MultiUser,
    /// Projects are run by workers that take requests
    Kucalc,
    /// Projects are pods
    Kubernetes,
}

/// `dialtone hub`
#[derive(Debug, Args)]
#[command(after_help = "\
Any number of hubs may share a PostgreSQL; what only one may do is done by the one that has its lease
(`dialtone admin leases`). The tables are made and brought up to date at the start, whoever is first.

DIALTONE_SETTING_NAME (or COCALC_SETTING_<NAME>) sets a setting of the site, which administrators
then cannot change; `dialtone admin settings ls` shows all. DIALTONE_SETUP_ADMIN_EMAIL, _PASSWORD (or
_PASSWORD_FILE) and _NAME make the first administrator if there is nobody with that address, and
DIALTONE_SETUP_REGISTRATION_TOKEN a token without which nobody signs up; COCALC_SETUP_… does as well.

Parts that run in one process are joined in memory. Otherwise they meet at the broker that --url names,
as `hub` with the site's own secret (`dialtone admin settings get conat_password`), unless other
credentials are given. Without any of --all, --conat-…, --proxy-server and --next-server the hub looks after its
database and nothing else. The broker and the node of persist take what --config says of them.

Over HTTP, whatever the base path: /alive, /healthcheck, /concurrent, /concurrent-warn, /healthz,
/readyz, /metrics; with --next-server also /api/v2/auth/sign-up, sign-in, sign-out and others below it.

Signals:
  TERM, INT   stop taking work, finish what has begun, give leases back; again: stop at once

Examples:
  dialtone hub --mode single-user --all
  dialtone hub --mode multi-user --all --database-url postgres://hub@db.example.org/site \\
      --database-password-file /run/secrets/postgres --listen 0.0.0.0:5000
  dialtone hub --mode multi-user --conat-router --broker-listen ws://0.0.0.0:4480
  dialtone hub --mode multi-user --conat-api --next-server --url ws://broker.example.org:4480")]
pub(crate) struct Hub {
    /// How projects are run [env: DIALTONE_MODE, COCALC_MODE]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) mode: Option<Mode>,
    /// What to run.
    #[command(flatten)]
    pub(crate) services: ServiceArgs,
    /// Path below which the site lies, as in `https://example.org/PATH` [env: DIALTONE_BASE_PATH, BASE_PATH] [default: /]
    #[arg(long, value_name = "PATH")]
    pub(crate) base_path: Option<String>,
    /// Where its broker listens, may be given several times [default: as `listen` of the configuration says, or ws://127.0.0.1:4480]
    #[arg(long, value_name = "URL", help_heading = SERVICES)]
    pub(crate) broker_listen: Vec<String>,
    /// File with the configuration of its broker and its node of persist, as TOML [env: DIALTONE_CONFIG]
    #[arg(long, value_name = "FILE", help_heading = SERVICES)]
    pub(crate) config: Option<PathBuf>,
    /// Where a broker of another process is, and as whom.
    #[command(flatten)]
    pub(crate) connect: super::ConnectArgs,
    /// Address for health, metrics and load balancers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// How browsers reach it.
    #[command(flatten)]
    pub(crate) edge: super::Edge,
    /// Port at which HAProxy asks whether to send work; 0: none [env: DIALTONE_AGENT_PORT, COCALC_AGENT_PORT]
    #[arg(long, value_name = "PORT")]
    pub(crate) agent_port: Option<u16>,
    /// So many requests at the database at once make the hub count as overloaded [env: DIALTONE_DB_CONCURRENT_WARN, COCALC_HEALTH_PG_CONCURRENT_WARN] [default: 300]
    #[arg(long, value_name = "N", help_heading = "Database")]
    pub(crate) db_concurrent_warn: Option<usize>,
    /// Folder in which letters become files, for development; the settings email_… name a mail server [env: DIALTONE_LETTERS]
    #[arg(long, value_name = "DIR")]
    pub(crate) letters: Option<PathBuf>,
    /// File with the other sites that people may sign in by, as JSON [env: DIALTONE_SSO_CONFIG, COCALC_SSO_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) sso_config: Option<PathBuf>,
    /// Settings of the site.
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// What to do instead of running.
    #[command(flatten)]
    pub(crate) once: Once,
    /// When ready, write addresses and process number to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Which database.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}

/// Settings of the site that a process is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingArgs {
    /// A setting of the site that administrators then cannot change, may be given several times; goes before DIALTONE_SETTING_NAME
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Site")]
    pub(crate) setting: Vec<String>,
    /// File with settings of the site, as TOML; the environment goes before it [env: DIALTONE_SITE_SETTINGS]
    #[arg(long, value_name = "FILE", help_heading = "Site")]
    pub(crate) site_settings: Option<PathBuf>,
}

/// What a hub does once, and then ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Once {
    /// Give this account a new password by chance, print it, end all sessions, and exit
    #[arg(long, value_name = "WHO", help_heading = ONCE)]
    pub(crate) passwd: Option<String>,
    /// Bring the tables up to date, which every hub does when it starts, and exit
    #[arg(long, help_heading = ONCE)]
    pub(crate) update_database_schema: bool,
    /// Remove everything that is over, and exit
    #[arg(long, help_heading = ONCE)]
    pub(crate) delete_expired: bool,
    /// Remove blobs that are over, say how many stay and how large they are, and exit
    #[arg(long, help_heading = ONCE)]
    pub(crate) blob_maintenance: bool,
    /// Count how large the site is and how much is done on it, and exit
    #[arg(long, help_heading = ONCE)]
    pub(crate) update_stats: bool,
}

const ONCE: &str = "Once, instead of running";

/// `dialtone admin`
#[derive(Debug, Args)]
#[command(after_help = "\
Works in the database itself, whether or not a hub runs on it; hubs hear of what was changed.

Examples:
  dialtone admin users add ada@example.org --first-name Ada --last-name Lovelace --admin
  dialtone admin tokens add --descr 'a course' --limit 30 --expires-in 90d
  dialtone admin settings set site_name 'Our site'
  dialtone admin letters test ada@example.org
  dialtone admin sso set google google.json
  dialtone admin db copy postgres://hub@db/site
  dialtone admin --database-url postgres://hub@db/site migrations status")]
pub(crate) struct Admin {
    /// Which database.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

/// `dialtone admin …`
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// The tables of the hub, and how far data was migrated
    #[command(subcommand)]
    Migrations(Migrations),
    /// Settings of the site
    #[command(subcommand)]
    Settings(Settings),
    /// Tokens with which people sign up
    #[command(subcommand)]
    Tokens(Tokens),
    /// Accounts
    #[command(subcommand)]
    Users(Users),
    /// What only one hub does at a time, and which one
    Leases,
    /// Hubs that run
    Hubs,
    /// Remove everything that is over
    DeleteExpired,
    /// Remove blobs that are over, and say how many stay and how large they are
    BlobMaintenance,
    /// Count how large the site is and how much is done on it, which a hub does every ten minutes
    UpdateStats,
    /// Letters that wait to be sent
    #[command(subcommand)]
    Letters(Letters),
    /// Other sites that people may sign in by
    #[command(subcommand)]
    Sso(Sso),
    /// The database as a whole
    #[command(subcommand)]
    Db(Db),
}

/// `dialtone admin letters …`
#[derive(Debug, Subcommand)]
pub(crate) enum Letters {
    /// List those that were not sent yet, or were given up, with the reason
    Ls {
        /// Most to list
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// Try those again now that have failed, as after a change of the settings
    Retry,
    /// Send a letter at once, and say what comes of it
    Test {
        /// To which address
        email_address: String,
        /// Folder in which letters become files, if the settings name no mail server
        #[arg(long, value_name = "DIR")]
        letters: Option<PathBuf>,
    },
}

/// `dialtone admin sso …`
#[derive(Debug, Subcommand)]
pub(crate) enum Sso {
    /// List them, without secrets
    Ls,
    /// Add one, or replace the one of that name
    Set {
        /// Its name, which becomes part of addresses: /auth/NAME
        name: String,
        /// File with `{"conf": {…}, "info": {…}}`; `-` reads standard input
        file: PathBuf,
    },
    /// Remove one
    Rm {
        /// Which
        name: String,
    },
    /// Set all that a file names; `null` removes one
    Apply {
        /// File with `{"NAME": {"conf": {…}, "info": {…}}, …}`; `-` reads standard input
        file: PathBuf,
    },
}

/// `dialtone admin db …`
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Move a site from SQLite to PostgreSQL: everything, compared, or nothing
    #[command(after_help = "\
The source is the database of --database-url, or hub.db in the data folder. No hub may run on it, and the
target has to be new. It is all one transaction: what fails leaves the target as it was.

Examples:
  dialtone admin db copy postgres://hub@db.example.org/site
  dialtone admin --database-url sqlite:/var/lib/dialtone/hub.db db copy postgres://hub@db/site \\
      --target-password-file /run/secrets/postgres")]
    Copy {
        /// Where to, as `postgres://USER@HOST/NAME`
        target: String,
        /// File with the password of the target
        #[arg(long, value_name = "FILE")]
        target_password_file: Option<PathBuf>,
    },
}

/// `dialtone admin migrations …`
#[derive(Debug, Subcommand)]
pub(crate) enum Migrations {
    /// Show which changes of the tables were made, and change nothing
    Status,
    /// Bring the tables up to date, as hubs do when they start
    Run,
    /// Show how far migrations of data are, and what they could not move
    Data,
}

/// `dialtone admin settings …`
#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// List what is set, or everything
    Ls {
        /// Also those at their defaults
        #[arg(long)]
        all: bool,
    },
    /// Print one
    Get {
        /// Which
        name: String,
    },
    /// Set one; `-` reads the value from standard input
    Set {
        /// Which
        name: String,
        /// To what
        value: String,
    },
    /// Let the default of one hold again
    Unset {
        /// Which
        name: String,
    },
}

/// `dialtone admin tokens …`
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// List them
    Ls,
    /// Make one; from then on nobody signs up without
    Add(TokenAdd),
    /// Switch one off
    Disable {
        /// Which
        token: String,
    },
    /// Switch one on again
    Enable {
        /// Which
        token: String,
    },
    /// Remove one
    Rm {
        /// Which
        token: String,
    },
}

/// `dialtone admin tokens add`
#[derive(Debug, Args)]
pub(crate) struct TokenAdd {
    /// The token [default: a random one, which is printed]
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) descr: String,
    /// How often it may be used [default: as often as anybody wants]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) limit: Option<i64>,
    /// How long it may be used, such as `30d` [default: for ever]
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_in: Option<Span>,
    /// How long accounts live that are made with it [default: for ever]
    #[arg(long, value_name = "TIME")]
    pub(crate) ephemeral: Option<Span>,
}

impl TokenAdd {
    /// The two times.
    pub(crate) fn times(&self) -> (Option<Duration>, Option<Duration>) {
        let get = |span: Option<Span>| span.map(|span| span.0);
        (get(self.expires_in), get(self.ephemeral))
    }
}

/// `dialtone admin users …`
#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// List accounts by beginnings of their names, those that were used last first
    Ls {
        /// Beginnings of first or last names
        words: Vec<String>,
        /// Most to list
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// Show one
    Show(UserNamed),
    /// Make one; the password is asked for, or read from standard input
    Add(UserAdd),
    /// Set the password anew and end all sessions; it is asked for, or read from standard input
    Passwd(UserNamed),
    /// Lock one out, and end everything that was let in as it
    Ban(UserNamed),
    /// Let one in again
    Unban(UserNamed),
    /// Make one an administrator of the site
    Promote(UserNamed),
    /// Make an administrator an ordinary account
    Demote(UserNamed),
    /// End all sessions
    SignOut(UserNamed),
    /// Give one up: its address is free, its sessions and keys are gone, its projects stay
    Rm(UserNamed),
}

/// Which account.
#[derive(Debug, Args)]
pub(crate) struct UserNamed {
    /// Number, email address or name
    pub(crate) who: String,
}

/// `dialtone admin users add`
#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    /// Email address
    pub(crate) email_address: String,
    /// First name
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) first_name: String,
    /// Last name
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) last_name: String,
    /// Make it an administrator of the site
    #[arg(long)]
    pub(crate) admin: bool,
}

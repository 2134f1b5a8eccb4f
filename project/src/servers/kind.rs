//! Which servers there are, and how each is started. Pure.

use std::path::Path;

use super::gate::Behind;

/// A server that is known by a name.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Other names for it.
    aliases: &'static [&'static str],
    /// What must be installed.
    pub(crate) program: &'static str,
    /// Whether the proxy takes the server's own root for that of the site.
    stripped: bool,
    /// The cookie in which it wants a secret, where it can listen at a port alone and not at a socket.
    pub(super) cookie: Option<&'static str>,
    start: fn(&Launch<'_>) -> Start,
}

/// Where it is to be.
pub(super) struct Launch<'a> {
    /// Where it listens.
    pub(super) behind: &'a Behind,
    /// The path below which browsers see it.
    pub(super) path: String,
    pub(super) home: &'a Path,
    /// A folder of its own.
    pub(super) folder: &'a Path,
}

/// How it is started.
#[derive(Default)]
pub(super) struct Start {
    pub(super) args: Vec<String>,
    /// What it finds in its environment besides: other users see arguments.
    pub(super) environment: Vec<(&'static str, String)>,
    /// Files to be written into its folder first.
    pub(super) files: Vec<(&'static str, String)>,
}

/// All of them. Who may reach them is decided by the proxy, so that they ask for no password; nobody else gets to them.
pub(crate) const KINDS: [Kind; 5] = [
    Kind {
        name: "jupyter",
        aliases: &[],
        program: "jupyter-notebook",
        stripped: false,
        cookie: None,
        start: jupyter,
    },
    Kind {
        name: "jupyterlab",
        aliases: &[],
        program: "jupyter-lab",
        stripped: false,
        cookie: None,
        start: jupyter,
    },
    Kind {
        name: "code",
        aliases: &["code-server", "vscode"],
        program: "code-server",
        stripped: true,
        cookie: None,
        start: code,
    },
    Kind {
        name: "pluto",
        aliases: &[],
        program: "julia",
        stripped: true,
        cookie: Some("secret"),
        start: pluto,
    },
    Kind {
        name: "rserver",
        aliases: &["rstudio"],
        program: "rserver",
        stripped: true,
        cookie: None,
        start: rserver,
    },
];

/// The kind of a name.
pub(crate) fn find(name: &str) -> Option<&'static Kind> {
    static ALL: [Kind; 5] = KINDS;
    ALL.iter()
        .find(|kind| kind.name == name || kind.aliases.contains(&name))
}

impl Kind {
    /// The path at which browsers see it, below that of its project.
    pub(crate) fn path(&self, project_path: &str) -> String {
        let way = if self.stripped { "server" } else { "port" };
        format!("{project_path}/{way}/{}/", self.name)
    }

    pub(super) fn launch(&self, launch: &Launch<'_>) -> Start {
        (self.start)(launch)
    }
}

fn start(args: impl IntoIterator<Item = String>) -> Start {
    Start {
        args: args.into_iter().collect(),
        ..Start::default()
    }
}

/// The socket of a server that listens at one.
fn socket(launch: &Launch<'_>) -> String {
    match launch.behind {
        Behind::Socket(path) => path.display().to_string(),
        // Kinds with a cookie alone have ports.
        Behind::Port { addr, .. } => addr.to_string(),
    }
}

fn jupyter(launch: &Launch<'_>) -> Start {
    let home = launch.home.display();
    start([
        "--no-browser".to_owned(),
        // In a container everything may run as root.
        "--allow-root".to_owned(),
        format!("--ServerApp.sock={}", socket(launch)),
        "--ServerApp.sock_mode=0600".to_owned(),
        format!("--ServerApp.base_url={}", launch.path),
        format!("--ServerApp.root_dir={home}"),
        "--IdentityProvider.token=".to_owned(),
        "--ServerApp.password=".to_owned(),
        // The name under which browsers see it is not that of this machine.
        "--ServerApp.allow_remote_access=True".to_owned(),
        "--ServerApp.quit_button=False".to_owned(),
    ])
}

fn code(launch: &Launch<'_>) -> Start {
    start([
        format!("--socket={}", socket(launch)),
        "--socket-mode=600".to_owned(),
        "--auth=none".to_owned(),
        "--disable-telemetry".to_owned(),
        "--disable-update-check".to_owned(),
        launch.home.display().to_string(),
    ])
}

fn pluto(launch: &Launch<'_>) -> Start {
    let Behind::Port { addr, secret, .. } = launch.behind else {
        return Start::default();
    };
    let (host, port) = (addr.ip(), addr.port());
    let program = format!(
        "import Pluto; secret = pop!(ENV, \"{PLUTO_SECRET}\"); \
         options = Pluto.Configuration.from_flat_kwargs(host=\"{host}\", port={port}, launch_browser=false, \
         require_secret_for_access=true, require_secret_for_open_links=true); \
         Pluto.run(Pluto.ServerSession(; options, secret))"
    );
    Start {
        args: vec!["-e".to_owned(), program],
        environment: vec![(PLUTO_SECRET, secret.clone())],
        ..Start::default()
    }
}

/// In which variable Pluto is told its secret.
const PLUTO_SECRET: &str = "DIALTONE_PLUTO_SECRET";

fn rserver(launch: &Launch<'_>) -> Start {
    let folder = launch.folder.display();
    let path = launch.path.trim_end_matches('/');
    let args = [
        "--server-daemonize=0".to_owned(),
        "--auth-none=1".to_owned(),
        format!("--www-socket={}", socket(launch)),
        format!("--www-root-path={path}"),
        format!("--server-data-dir={folder}"),
        format!("--secure-cookie-key-file={folder}/cookie-key"),
        format!("--database-config-file={folder}/database.conf"),
    ];
    Start {
        args: args.into(),
        files: vec![(
            "database.conf",
            format!("provider=sqlite\ndirectory={folder}\n"),
        )],
        ..Start::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn names_lead_to_kinds_and_paths() {
        for (asked, path) in [
            ("jupyter", "/b/p/port/jupyter/"),
            ("jupyterlab", "/b/p/port/jupyterlab/"),
            ("code-server", "/b/p/server/code/"),
            ("rstudio", "/b/p/server/rserver/"),
            ("pluto", "/b/p/server/pluto/"),
        ] {
            assert_eq!(find(asked).unwrap().path("/b/p"), path);
        }
        assert!(find("").is_none() && find("sshd").is_none());
    }

    #[test]
    fn each_is_told_where_to_listen() {
        for kind in &KINDS {
            let socket = Behind::Socket("/closed/socket".into());
            let port = |cookie| Behind::Port {
                addr: SocketAddr::from(([127, 0, 0, 1], 4321)),
                cookie,
                secret: "s3cret".to_owned(),
            };
            let launch = Launch {
                behind: &kind.cookie.map_or(socket, port),
                path: kind.path("/p"),
                home: Path::new("/home/x"),
                folder: Path::new("/f"),
            };
            let start = kind.launch(&launch);
            let text = start.args.join(" ");
            match kind.cookie {
                None => assert!(text.contains("/closed/socket"), "{text}"),
                Some(_) => {
                    assert!(
                        text.contains("127.0.0.1") && text.contains("4321"),
                        "{text}"
                    );
                    assert_eq!(start.environment[0].1, "s3cret");
                }
            }
            assert!(!text.contains("s3cret"), "others see arguments: {text}");
            assert_eq!(text.contains("/p/port/"), !kind.stripped, "{text}");
        }
    }
}

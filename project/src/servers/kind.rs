//! Which servers there are, and how each is started. Pure.

use std::net::IpAddr;
use std::path::Path;

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
    start: fn(&Launch<'_>) -> Start,
}

/// Where it is to be.
pub(super) struct Launch<'a> {
    pub(super) host: IpAddr,
    pub(super) port: u16,
    /// The path below which browsers see it.
    pub(super) path: String,
    pub(super) home: &'a Path,
    /// A folder of its own.
    pub(super) folder: &'a Path,
}

/// How it is started.
pub(super) struct Start {
    pub(super) args: Vec<String>,
    /// Files to be written into its folder first.
    pub(super) files: Vec<(&'static str, String)>,
}

/// All of them. Who may reach them is decided by the proxy, so that they ask for no password.
pub(crate) const KINDS: [Kind; 5] = [
    Kind {
        name: "jupyter",
        aliases: &[],
        program: "jupyter-notebook",
        stripped: false,
        start: jupyter,
    },
    Kind {
        name: "jupyterlab",
        aliases: &[],
        program: "jupyter-lab",
        stripped: false,
        start: jupyter,
    },
    Kind {
        name: "code",
        aliases: &["code-server", "vscode"],
        program: "code-server",
        stripped: true,
        start: code,
    },
    Kind {
        name: "pluto",
        aliases: &[],
        program: "julia",
        stripped: true,
        start: pluto,
    },
    Kind {
        name: "rserver",
        aliases: &["rstudio"],
        program: "rserver",
        stripped: true,
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
        files: Vec::new(),
    }
}

fn jupyter(launch: &Launch<'_>) -> Start {
    let home = launch.home.display();
    start([
        "--no-browser".to_owned(),
        // In a container everything may run as root.
        "--allow-root".to_owned(),
        format!("--ServerApp.ip={}", launch.host),
        format!("--ServerApp.port={}", launch.port),
        // Another port would be found by nobody.
        "--ServerApp.port_retries=0".to_owned(),
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
    let addr = std::net::SocketAddr::new(launch.host, launch.port);
    start([
        format!("--bind-addr={addr}"),
        "--auth=none".to_owned(),
        "--disable-telemetry".to_owned(),
        "--disable-update-check".to_owned(),
        launch.home.display().to_string(),
    ])
}

fn pluto(launch: &Launch<'_>) -> Start {
    let (host, port) = (launch.host, launch.port);
    start([
        "-e".to_owned(),
        format!(
            "import Pluto; Pluto.run(host=\"{host}\", port={port}, launch_browser=false, \
             require_secret_for_access=false, require_secret_for_open_links=false)"
        ),
    ])
}

fn rserver(launch: &Launch<'_>) -> Start {
    let folder = launch.folder.display();
    let path = launch.path.trim_end_matches('/');
    let args = [
        "--server-daemonize=0".to_owned(),
        "--auth-none=1".to_owned(),
        format!("--www-address={}", launch.host),
        format!("--www-port={}", launch.port),
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
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
            let launch = Launch {
                host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: 4321,
                path: kind.path("/p"),
                home: Path::new("/home/x"),
                folder: Path::new("/f"),
            };
            let text = kind.launch(&launch).args.join(" ");
            assert!(
                text.contains("127.0.0.1") && text.contains("4321"),
                "{text}"
            );
            assert_eq!(text.contains("/p/port/"), !kind.stripped, "{text}");
        }
    }
}

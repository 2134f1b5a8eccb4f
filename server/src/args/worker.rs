//! The flags of `dialtone worker`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::ConnectArgs;

/// `dialtone worker`
#[derive(Debug, Args)]
#[command(after_help = "\
A worker runs projects of a site on this machine, next to other workers. It asks the hubs of the site
for orders over the broker, and signs in there as a hub does. A project whose files are here is run here
from then on; a worker that is started again under the same --host goes on with what runs.

Homes are made with the rights of their owner. Without --users all projects run as the user who runs the
worker, and nothing keeps them from each other.

Signals:
  TERM, INT   take no more orders, finish what has begun, leave projects running; again: stop at once

Examples:
  dialtone worker --url wss://broker.example.org --credentials worker.toml --homes '/srv/projects/[project_id]'
  dialtone worker --users 400000-499999 --cgroup /sys/fs/cgroup/dialtone --address 10.0.0.7")]
pub(crate) struct Worker {
    /// Which broker, and as whom.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// The name under which what runs here is found again [default: the name of this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Where homes are; must contain `[project_id]` [env: PROJECTS] [default: below projects in the data folder]
    #[arg(long, value_name = "PATH")]
    pub(crate) homes: Option<String>,
    /// Folder for what must outlive a restart [env: DIALTONE_DATA] [default: ~/.local/share/dialtone]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Run each project as a user of the system of its own, with a number of this range; needs root
    #[arg(long, value_name = "FIRST-LAST", value_parser = range)]
    pub(crate) users: Option<(u32, u32)>,
    /// Control group (version 2) below which each run gets one of its own, with its limits
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// The broker as projects reach it [default: the first --url]
    #[arg(long, value_name = "URL")]
    pub(crate) project_url: Option<String>,
    /// The path of the site, as projects are told [env: BASE_PATH] [default: none]
    #[arg(long, value_name = "PATH")]
    pub(crate) base_path: Option<String>,
    /// The address at which the proxy reaches servers of projects
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    /// Orders that are carried out at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) orders_max: u16,
    /// What a project runs [default: this program with `project`]
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let numbers = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match numbers {
        Some((first, last)) if first <= last => Ok((first, last)),
        _ => Err("it is two numbers with a hyphen between, the smaller one first".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_numbers() {
        assert_eq!(range("400000-499999"), Ok((400_000, 499_999)));
        for wrong in ["", "7", "9-8", "-1-4", "a-b"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}

//! `dialtone cluster`: founding, joining and watching a cluster.

use std::path::PathBuf;

use crate::args::{Cluster, LogArgs};
use crate::cluster::{Folder, token};
use crate::config::{Environment, Strings as _};
use crate::exit::{Failure, Outcome};

mod authority;
mod join;

pub(crate) mod ask;
mod table;
pub(crate) mod view;

/// `dialtone cluster …`
pub(super) fn run(args: Cluster, log: &LogArgs) -> Outcome {
    match args {
        Cluster::Init(args) => authority::init(&args),
        Cluster::JoinToken(args) => authority::join_token(&args),
        Cluster::Renew(args) => authority::renew(&args),
        Cluster::Join(args) if args.to == "-" || token::is_token(&args.to) => {
            join::with_token(&args)
        }
        Cluster::Join(args) if args.to.contains("://") => {
            super::client(log, ask::join(args.to, args.json, args.connect))
        }
        Cluster::Join(args) => Err(Failure::usage(format_args!(
            "{:?} is neither a join token nor the URL of a node",
            crate::print::shortened(&args.to)
        ))
        .hint("a token begins with dialtone-join-1. and a URL with quic://, - reads a token from standard input")),
        Cluster::Status(args) => super::client(log, ask::status(args)),
        Cluster::Nodes(args) => super::client(log, ask::nodes(args)),
        Cluster::Links(args) => super::client(log, ask::links(args)),
        Cluster::Leave(args) => super::client(log, ask::leave(args)),
        Cluster::Forget(args) => super::client(log, ask::forget(args)),
    }
}

/// The folder that a flag, the environment or the default names.
pub(crate) fn folder(dir: Option<&PathBuf>) -> anyhow::Result<Folder> {
    let strings = Environment;
    let path = match dir
        .cloned()
        .or_else(|| strings.get("DIALTONE_CLUSTER_DIR").map(Into::into))
    {
        Some(path) => std::path::absolute(path)?,
        None => crate::assemble::data_dir(&strings)?.join("cluster"),
    };
    Ok(Folder::at(path))
}

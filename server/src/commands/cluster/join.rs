//! `dialtone cluster join TOKEN`

use std::io::{Read as _, Write as _};
use std::time::SystemTime;

use anyhow::Context as _;

use super::folder;
use crate::args::ClusterJoin;
use crate::cluster::{Folder, JoinToken, Joined, join, node_config, refused};
use crate::exit::Outcome;
use crate::print::{Output, time};

/// The longest standard input that is read for a token, in bytes.
const INPUT_LEN_MAX: u64 = 1 << 20;

/// Joins, and says how to start.
pub(super) fn with_token(args: &ClusterJoin) -> Outcome {
    let text = if args.to == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(INPUT_LEN_MAX)
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        text
    } else {
        args.to.clone()
    };
    let token = JoinToken::parse(&text).map_err(refused)?;
    let folder = folder(args.dir.as_ref())?;
    let joined = join(&token, &folder, SystemTime::now())?;
    let config = node_config(&token.node, &token.cluster, &args.listen, &token.seeds);
    let fresh = folder.put_config_once(&config)?;
    let mut out = Output::stdout();
    out.line(told(&token, &folder, joined, fresh)?)?;
    Ok(out.flush()?)
}

fn told(token: &JoinToken, folder: &Folder, joined: Joined, fresh: bool) -> anyhow::Result<String> {
    let dir = folder.path().display();
    let name = format!("Node {} of cluster {}", token.node, token.cluster);
    let ends = folder
        .identity()?
        .map(|own| time(own.ends))
        .unwrap_or_default();
    let what = match joined {
        Joined::New => format!("{name} is in\n  {dir}"),
        Joined::Renewed => format!(
            "{name} has a new certificate, valid until {ends}. Send its broker a SIGHUP to use it."
        ),
        Joined::Already => format!(
            "{name} has joined already; its certificate is valid until {ends}, as long as that of the token or longer."
        ),
    };
    let start = format!(
        "Start it:\n  dialtone broker --config {}",
        folder.config().display()
    );
    Ok(match (joined, fresh) {
        (Joined::New, false) => {
            format!("{what}\n\nThe configuration that was there stays as it was. {start}")
        }
        (Joined::New | Joined::Renewed | Joined::Already, true) => {
            format!("{what}\n\n{start}")
        }
        (Joined::Renewed | Joined::Already, false) => what,
    })
}

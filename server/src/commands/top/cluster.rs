//! `dialtone top --cluster`: all nodes of a cluster and the links between them.
//!
//! Each node is asked by a client of its own, at the address that clients are told, and with the credentials of the
//! command line; so nothing but what clients need has to be reachable.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dialtone_client::Client;
use futures_util::future::join_all;
use serde::Deserialize as _;

use super::look::Status;
use super::{Key, keys};
use crate::args::{ConnectArgs, Top};
use crate::commands::cluster::ask::ask;
use crate::commands::cluster::view::View;
use crate::exit::{Failure, Outcome};
use crate::print::Output;

mod rates;
use rates::Rates;

mod screen;

/// How long reaching a node, or its answer, may take before the others are shown without it.
const NODE_MAX: Duration = Duration::from_secs(2);

/// `dialtone top --cluster`
pub(super) async fn run(args: &Top) -> Outcome {
    let mut fleet = Fleet {
        home: crate::connect::connect(&args.connect).await?,
        connect: args.connect.clone(),
        clients: BTreeMap::new(),
    };
    let first = fleet.look().await?;
    if args.json {
        tokio::time::sleep(args.interval.get()).await;
        let second = fleet.look().await?;
        let mut out = Output::stdout();
        out.json(&Rates::between(&first, &second).to_json())?;
        fleet.leave().await;
        return Ok(out.flush()?);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::usage("standard output is no terminal")
            .hint("--json prints one look for scripts"));
    }
    let terminal = ratatui::try_init().context("cannot use the terminal")?;
    let watched = watch(&mut fleet, terminal, first, args.interval.get()).await;
    ratatui::restore();
    fleet.leave().await;
    watched
}

async fn watch(
    fleet: &mut Fleet,
    mut terminal: ratatui::DefaultTerminal,
    first: Look,
    interval: Duration,
) -> Outcome {
    let mut keys = keys().context("cannot read keys")?;
    let mut rates = Rates::between(&first, &first);
    let (mut before, mut paused, mut trouble) = (first, false, None::<String>);
    let period = interval.max(Duration::from_millis(100));
    let mut next = Instant::now() + period;
    loop {
        terminal
            .draw(|frame| screen::draw(frame, &rates, paused, trouble.as_deref()))
            .context("cannot draw")?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Quit) | None => return Ok(()),
                Some(Key::Pause) => paused = !paused,
                Some(Key::SortNext | Key::SortPrevious | Key::Redraw) => {}
            },
            () = tokio::time::sleep_until(next.into()) => {
                next = Instant::now() + period;
                if paused {
                    continue;
                }
                match fleet.look().await {
                    Ok(look) => {
                        rates = Rates::between(&before, &look);
                        before = look;
                        trouble = None;
                    }
                    // The cluster may come back; until then the last look stays.
                    Err(failure) => trouble = Some(failure.to_string()),
                }
            }
        }
    }
}

/// What a node said at one time.
#[derive(Debug, Clone)]
pub(super) struct NodeLook {
    pub(super) node: String,
    /// What the node that was asked first knows of it.
    pub(super) state: String,
    /// What it says itself, or why it does not.
    pub(super) said: Result<(Status, View), String>,
}

/// What all nodes said at one time.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) cluster: String,
    pub(super) nodes: Vec<NodeLook>,
}

/// The clients of the nodes.
struct Fleet {
    connect: ConnectArgs,
    /// At the node that the command line names, or at another one when that has gone.
    home: Client,
    clients: BTreeMap<String, Client>,
}

impl Fleet {
    async fn look(&mut self) -> Result<Look, Failure> {
        let answer = ask(&self.home, "sys.cluster.status", None).await?;
        let view = View::deserialize(&answer).context("the answer makes no sense")?;
        let (home, connect) = (&self.home, &self.connect);
        let mut clients = std::mem::take(&mut self.clients);
        let looks = view.members.iter().map(|member| {
            let own = member.node == view.node;
            let client = clients.remove(&member.node);
            async move {
                let (client, said) = if own {
                    (None, questions(home).await)
                } else {
                    node(client, &member.node, &member.client_addresses, connect).await
                };
                let look = NodeLook {
                    node: member.node.clone(),
                    state: member.state.clone(),
                    said,
                };
                (look, client)
            }
        });
        let mut nodes = Vec::new();
        for (look, client) in join_all(looks).await {
            if let Some(client) = client {
                self.clients.insert(look.node.clone(), client);
            }
            nodes.push(look);
        }
        Ok(Look {
            at: Instant::now(),
            cluster: view.cluster,
            nodes,
        })
    }

    async fn leave(self) {
        let clients = self.clients.into_values().chain([self.home]);
        let leaving = join_all(clients.map(|client| async move { client.close().await }));
        // What has not left by then is told by the end of the process.
        drop(tokio::time::timeout(NODE_MAX, leaving).await);
    }
}

/// Asks a node with the client of the last time, or with a new one. A client whose node has gone is at another one by
/// now, and of no use here.
async fn node(
    client: Option<Client>,
    name: &str,
    addresses: &[String],
    connect: &ConnectArgs,
) -> (Option<Client>, Result<(Status, View), String>) {
    let client = match client {
        Some(client) => client,
        None if addresses.is_empty() => return (None, Err("takes no clients".to_owned())),
        None => {
            let dialling = crate::connect::connect_to(connect, addresses.to_vec());
            match tokio::time::timeout(NODE_MAX, dialling).await {
                Ok(Ok(client)) => client,
                Ok(Err(failure)) => return (None, Err(failure.cause())),
                Err(_) => return (None, Err("takes too long to answer".to_owned())),
            }
        }
    };
    match questions(&client).await {
        Ok((status, view)) if status.node == name => (Some(client), Ok((status, view))),
        Ok((status, _)) => (
            None,
            Err(format!("node {} answers at its address", status.node)),
        ),
        Err(error) => (None, Err(error)),
    }
}

async fn questions(client: &Client) -> Result<(Status, View), String> {
    let both = async {
        let status = ask(client, "sys.status", None).await?;
        let view = ask(client, "sys.cluster.status", None).await?;
        Ok::<_, Failure>((status, view))
    };
    let (status, view) = match tokio::time::timeout(NODE_MAX, both).await {
        Ok(Ok(said)) => said,
        Ok(Err(failure)) => return Err(failure.cause()),
        Err(_) => return Err("takes too long to answer".to_owned()),
    };
    let status = Status::deserialize(&status).map_err(|error| error.to_string())?;
    let view = View::deserialize(&view).map_err(|error| error.to_string())?;
    Ok((status, view))
}

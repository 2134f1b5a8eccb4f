//! Questions to a running node about its cluster, and what it should do, over `sys.cluster`.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_client::{Client, Encoding, RequestError};
use serde::Deserialize as _;
use serde_json::Value;

use super::super::attached::with_client;
use super::view::View;
use crate::args::{ClusterAsk, ClusterForget, ConnectArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, Paint, counted, harmless};

/// How long a node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// `dialtone cluster status`
pub(super) async fn status(args: ClusterAsk) -> Outcome {
    show(args, View::summary, true).await
}

/// `dialtone cluster nodes`
pub(super) async fn nodes(args: ClusterAsk) -> Outcome {
    show(args, View::nodes, false).await
}

/// `dialtone cluster links`
pub(super) async fn links(args: ClusterAsk) -> Outcome {
    show(args, View::links, false).await
}

async fn show(args: ClusterAsk, text: fn(&View, Paint) -> String, judge: bool) -> Outcome {
    with_client(&args.connect, async |client| {
        let answer = ask(client, "sys.cluster.status", None).await?;
        let view = View::deserialize(&answer).context("the answer makes no sense")?;
        let mut out = Output::stdout();
        if args.json {
            out.json(&answer)?;
        } else {
            out.line(text(&view, out.paint))?;
        }
        out.flush()?;
        let why = match view.missing().len() {
            _ if !judge => return Ok(()),
            0 if view.unanswered().is_empty() => return Ok(()),
            0 => "no other node is found".to_owned(),
            missing => format!("{} not linked", counted(missing as u64, "node")),
        };
        Err(Failure::new(Exit::Incomplete, anyhow::Error::msg(why)))
    })
    .await
}

/// `dialtone cluster leave`
pub(super) async fn leave(args: ClusterAsk) -> Outcome {
    act(args.connect, args.json, "sys.cluster.leave", None, |_| {
        "left the cluster; `dialtone cluster join URL` brings the node back".to_owned()
    })
    .await
}

/// `dialtone cluster forget`
pub(super) async fn forget(args: ClusterForget) -> Outcome {
    let subject = format!("sys.cluster.forget.{}", args.node);
    let node = args.node;
    act(args.ask.connect, args.ask.json, &subject, None, |_| {
        format!("{} is forgotten", harmless(&node))
    })
    .await
}

/// `dialtone cluster join URL`
pub(super) async fn join(url: String, json: bool, connect: ConnectArgs) -> Outcome {
    // Read here as well, for the port that may be left out.
    let link: crate::discovery::Link = url.parse().map_err(Failure::usage)?;
    if matches!(link.0, dialtone_transport::Endpoint::Ws { .. }) {
        return Err(Failure::usage(format_args!(
            "{link} is not encrypted; use quic:// or wss://"
        )));
    }
    let url = link.to_string();
    act(connect, json, "sys.cluster.join", Some(&url), |_| {
        format!("dialling {link} until it answers; `dialtone cluster nodes` shows how it goes")
    })
    .await
}

async fn act(
    connect: ConnectArgs,
    json: bool,
    subject: &str,
    payload: Option<&str>,
    text: impl FnOnce(&Value) -> String,
) -> Outcome {
    with_client(&connect, async |client| {
        let answer = ask(client, subject, payload).await?;
        let mut out = Output::stdout();
        if json {
            out.json(&answer)?;
        } else {
            out.line(text(&answer))?;
        }
        Ok(out.flush()?)
    })
    .await
}

/// Asks the node that the client is connected to.
pub(crate) async fn ask(
    client: &Client,
    subject: &str,
    payload: Option<&str>,
) -> Result<Value, Failure> {
    let json = payload.map(|text| Value::from(text).to_string());
    let reply = client
        .message(subject)
        .encoding(Encoding::Json)
        .payload(json.unwrap_or_default())
        .timeout(ANSWER_MAX)
        .request()
        .await
        .map_err(|error: RequestError| Failure::of(error.code(), error))?;
    let headers = reply.headers().unwrap_or_default();
    let Some(error) = headers.text("error") else {
        return Ok(reply.json().context("the answer is no JSON")?);
    };
    let failure = Failure::from(anyhow::anyhow!("{}", harmless(error)));
    Err(if error.contains("belongs to no cluster") {
        failure.hint(
            "`dialtone cluster init` founds a cluster, and `dialtone cluster join` makes a node part of one",
        )
    } else {
        failure
    })
}

//! A process of a site without a broker: the hub, a node of persist, or both, joined to a broker over the network.

use std::path::PathBuf;

use anyhow::Context as _;
use dialtone_client::Options;
use tokio_util::sync::CancellationToken;

use super::{Embedded, HUB_USER, Join, Plan};
use crate::announce::Announce;
use crate::args::ConnectArgs;
use crate::config::Settings;
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::{self, Ended, Signals};
use crate::print::note;
use crate::{announce, connect, persist};

/// How long the end of it may take.
const GRACE: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs until a signal comes. `streams` is where a node of persist keeps its log.
pub(crate) async fn run(
    plan: Plan,
    place: &ConnectArgs,
    settings: &Settings,
    streams: PathBuf,
    announce: &Announce,
) -> Outcome {
    // Before anything is announced, so that whoever reads it may send signals.
    let mut signals = Signals::new().context("cannot take over signals")?;
    let (services, mode) = (plan.services, plan.mode);
    let edge = plan.edge.clone();
    let mut hub = Embedded::start(plan, &mut signals).await?;
    let mut node = None;
    if services.is_remote() {
        let join = join(place, &hub)?;
        if services.persist {
            let keep = persist::keep(settings, streams)?;
            let config = persist::service(settings)?;
            let mut dial = join.dial.clone();
            dial.retry_on_initial_connect = true;
            let started = persist::Embedded::over_network(dial, config, keep);
            let started = tokio::select! {
                started = started => started?,
                () = super::embedded::asked_to_stop(&mut signals) => {
                    // What it says at its end is of no use to who does not want it.
                    drop(hub.stop().await);
                    return Err(Failure::silent(Exit::Interrupted));
                }
            };
            node = Some(started);
        }
        hub.join(join);
    }
    announce.say(&announce::Ready::of_hub(hub.facts(), mode))?;
    let stop = CancellationToken::new();
    let failure = std::sync::OnceLock::new();
    let running = async {
        let (ended, ends) = (hub.ended(), hub.ends().persist().cloned());
        tokio::select! {
            () = stop.cancelled() => {}
            () = ended.cancelled() => {}
            () = persist::until_failed(node.as_ref(), ends) => tracing::error!("persist has ended, and the hub with it"),
        }
        hub.drain().await;
        let persist_ended = match node {
            Some(node) => node.stop().await.context("persist has failed"),
            None => Ok(()),
        };
        let hub_ended = hub.stop().await.context("the hub has failed");
        if let Err(error) = persist_ended.and(hub_ended) {
            // It is the only one that says so.
            drop(failure.set(error));
        }
    };
    let supervised = lifecycle::supervise(
        Box::pin(running),
        signals,
        stop.clone(),
        GRACE,
        || {
            if edge.certificate.is_some() {
                edge.reload.notify_one();
            } else {
                note("there is nothing to be read again");
            }
        },
        || note("stopping: what has begun is finished; press Ctrl-C again to stop at once"),
    );
    let ended = supervised.await;
    if let Some(failure) = failure.into_inner() {
        return Err(failure.into());
    }
    match ended {
        Ended::Drained => Ok(()),
        Ended::Cut => Err(Failure::silent(Exit::Interrupted)),
        Ended::Unasked => Err(Failure::from(anyhow::anyhow!("the hub ended by itself"))),
    }
}

/// Where the broker is: as flags and environment say, else as the settings of the site do. Without credentials the hub
/// is known by the site's own secret.
fn join(place: &ConnectArgs, hub: &Embedded) -> Result<Join, Failure> {
    let facts = hub.facts();
    let options = connect::options_of_service(place, &facts.broker)?;
    let by_password = options.credentials == dialtone_client::Credentials::None;
    let dial: Options = if by_password {
        options.password(HUB_USER, facts.password.as_str())
    } else {
        options
    };
    connect::warn_about_clear_text(&dial);
    Ok(Join {
        brokers: dial.urls.clone(),
        dial,
        by_password,
    })
}

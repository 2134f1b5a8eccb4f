//! Finding the other nodes of a cluster by name: looks up what seeds stand for, as often as the answers say, and tells
//! the broker. What is known stays when the name servers are out of reach.

use std::time::Instant;

use dialtone_transport::Endpoint;
use tokio_util::sync::CancellationToken;

mod seed;
pub(crate) use seed::{Link, PORT_CLUSTER, Seed};

mod names;
pub(crate) use names::Names;

mod own;
pub(crate) use own::Own;

mod plan;
use plan::{Change, Plan};

/// Looks names up until `stop`, and tells `publish` all nodes at the beginning and whenever they change. Without `names`
/// those alone are told that need no looking up.
pub(crate) async fn run(
    seeds: Vec<Seed>,
    own: Own,
    names: Option<Names>,
    stop: CancellationToken,
    mut publish: impl FnMut(Vec<Endpoint>),
) {
    let mut plan = Plan::new(&seeds, own, Instant::now());
    publish(plan.nodes());
    let Some(names) = names else { return };
    while let Some((index, at)) = plan.next() {
        let turn = async {
            tokio::time::sleep_until(at.into()).await;
            match plan.seed(index) {
                Some(seed) => Some(names.find(seed).await),
                None => None,
            }
        };
        let Some(Some(found)) = stop.run_until_cancelled(turn).await else {
            return;
        };
        let trouble = found.as_ref().err().map(ToString::to_string);
        let change = plan.answered(
            index,
            found.map_err(drop),
            Instant::now(),
            rand::random_range(0.0..1.0),
        );
        tell(&plan, index, change, trouble.as_deref());
        if change == Change::Nodes {
            publish(plan.nodes());
        }
    }
}

fn tell(plan: &Plan, index: usize, change: Change, trouble: Option<&str>) {
    let Some(seed) = plan.seed(index) else { return };
    match change {
        Change::None => {
            if let Some(error) = trouble {
                tracing::debug!(%seed, error, "the seed still cannot be looked up");
            }
        }
        Change::Nodes => tracing::info!(%seed, nodes = plan.count(index), "looked up"),
        Change::Failing => tracing::warn!(
            %seed,
            error = trouble.unwrap_or_default(),
            "the seed cannot be looked up; what is known stays, and it is tried again"
        ),
        Change::Recovered => tracing::info!(%seed, "the seed can be looked up again"),
    }
}

//! Many projects at once, and hubs that are killed meanwhile: each ends in the state last asked for, none runs twice, and
//! nothing is left behind.

use std::sync::Arc;

use dialtone_control::service::Projects;
use dialtone_hub::control::{Control as _, Error, Phase, Verb};
use dialtone_hub::id::ProjectId;
use tokio::task::JoinSet;

use crate::site::{Asks, HubProcess, Site};

/// Projects of a storm.
const PROJECTS: usize = 200;

/// How many answers come between two kills of hubs.
const ANSWERS_PER_KILL: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_on_postgres_with_control_groups() {
    Box::pin(storm(Site::postgres().with_cgroups())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_on_sqlite_without() {
    Box::pin(storm(Site::sqlite())).await;
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

async fn ask(
    projects: Arc<Projects>,
    id: ProjectId,
    verb: Verb,
) -> (ProjectId, Result<Phase, Error>) {
    let done = match verb {
        Verb::Start => projects.start(id).await,
        Verb::Stop => projects.stop(id).await,
        Verb::Restart => projects.restart(id).await,
    };
    (id, done.map(|state| state.phase))
}

/// Asks for all of this at once, and kills a hub again and again until everything is answered.
async fn wave(
    asks: &Asks,
    site: &Site,
    hubs: &mut [Option<HubProcess>],
    orders: &[(ProjectId, Verb)],
    dice: &mut Dice,
) {
    // Tasks of their own: one that has the lock of the database goes on while a hub is waited for that needs it.
    let mut answers: JoinSet<_> = orders
        .iter()
        .map(|(id, verb)| ask(Arc::clone(&asks.projects), *id, *verb))
        .collect();
    let mut answered = 0;
    while let Some(joined) = answers.join_next().await {
        let (id, answer) = joined.unwrap();
        match answer {
            Ok(_) | Err(Error::Superseded { .. }) => {}
            Err(error) => panic!("{id}: {error}"),
        }
        answered += 1;
        if answered % ANSWERS_PER_KILL == 0 {
            let index = usize::try_from(dice.roll(3)).unwrap();
            let hub = &mut hubs[index];
            hub.take().unwrap().kill();
            *hub = Some(site.hub());
        }
    }
}

async fn storm(mut site: Site) {
    site.ttl = 5000;
    let seed = std::env::var("DIALTONE_FIRST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1_u64);
    crate::site::report(&format!("the seed is {seed} (DIALTONE_FIRST_SEED)"));
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let asks = site.asks().await;
    let mut hubs = [Some(site.hub()), Some(site.hub()), Some(site.hub())];
    let mut ids = Vec::with_capacity(PROJECTS);
    for _ in 0..PROJECTS {
        ids.push(asks.make_project().await);
    }

    let all: Vec<_> = ids.iter().map(|id| (*id, Verb::Start)).collect();
    wave(&asks, &site, &mut hubs, &all, &mut dice).await;
    for id in &ids {
        assert_eq!(
            asks.projects.state(*id).await.unwrap().phase,
            Phase::Running
        );
    }
    check(&site, &ids, |_| true);

    let mixed: Vec<_> = ids
        .iter()
        .map(|id| {
            let verb =
                [Verb::Start, Verb::Stop, Verb::Restart][usize::try_from(dice.roll(3)).unwrap()];
            (*id, verb)
        })
        .collect();
    wave(&asks, &site, &mut hubs, &mixed, &mut dice).await;
    let runs = |id: &ProjectId| mixed.iter().any(|(one, verb)| one == id && verb.runs());
    for id in &ids {
        let expected = if runs(id) {
            Phase::Running
        } else {
            Phase::Opened
        };
        assert_eq!(
            asks.projects.state(*id).await.unwrap().phase,
            expected,
            "{id}"
        );
    }
    check(&site, &ids, runs);

    let none: Vec<_> = ids.iter().map(|id| (*id, Verb::Stop)).collect();
    wave(&asks, &site, &mut hubs, &none, &mut dice).await;
    check(&site, &ids, |_| false);
    for hub in hubs.into_iter().flatten() {
        hub.end();
    }
}

/// What is there is what is said to be there.
fn check(site: &Site, ids: &[ProjectId], runs: impl Fn(&ProjectId) -> bool) {
    for id in ids {
        let there = site.processes(*id);
        assert_eq!(there.len(), usize::from(runs(id)), "{id}: {there:?}");
        assert_eq!(site.read(*id, "complaints"), "", "{id}");
    }
}

//! Where servers are, remembered for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Refusal;
use crate::project::ProjectId;
use crate::target::Service;
use crate::targets::{Place, Targets};

type Known = HashMap<ProjectId, HashMap<Service, (Found, Instant)>, RandomState>;

/// Where a server is, and what it wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) addr: SocketAddr,
    pub(crate) token: Option<HeaderValue>,
}

/// Everything that is remembered.
pub(crate) struct Places {
    targets: Arc<dyn Targets>,
    known: Mutex<Known>,
    ttl: Duration,
    max: usize,
}

impl Places {
    pub(crate) fn new(targets: Arc<dyn Targets>, ttl: Duration, max: u32) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            targets,
            known: Mutex::default(),
            ttl,
            max,
        }
    }

    /// Where the server is.
    pub(crate) async fn find(
        &self,
        project: ProjectId,
        service: &Service,
    ) -> Result<Found, Refusal> {
        if let Some(found) = self.remembered(project, service) {
            return Ok(found);
        }
        let place = self.targets.place(project, service).await;
        let (addr, token) = match place.map_err(|error| Refusal::Unavailable(error.to_string()))? {
            Place::At(addr) => (addr, None),
            Place::Guarded { addr, token } => (addr, Some(token)),
            Place::Starting { retry } => return Err(Refusal::Starting(retry)),
            Place::NotRunning => return Err(Refusal::NotRunning),
            Place::NoService => return Err(Refusal::NoService(service.clone())),
            Place::Unknown => return Err(Refusal::Denied),
        };
        let found = Found { addr, token };
        self.keep(project, service, found.clone());
        Ok(found)
    }

    fn remembered(&self, project: ProjectId, service: &Service) -> Option<Found> {
        let known = self.known.lock();
        let (found, until) = known.get(&project)?.get(service)?;
        (*until > Instant::now()).then(|| found.clone())
    }

    fn keep(&self, project: ProjectId, service: &Service, found: Found) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= self.max
            || known
                .get(&project)
                .is_some_and(|services| services.len() >= self.max)
        {
            known.retain(|_, services| {
                services.retain(|_, (_, until)| *until > now);
                !services.is_empty()
            });
        }
        // Still full of what is fresh: it will be asked for again.
        if known.len() >= self.max {
            return;
        }
        let services = known.entry(project).or_default();
        if services.len() < self.max {
            services.insert(service.clone(), (found, now + self.ttl));
        }
    }

    /// Forgets where a project's servers are; all projects' without one.
    pub(crate) fn forget(&self, project: Option<ProjectId>) {
        let mut known = self.known.lock();
        match project {
            Some(project) => drop(known.remove(&project)),
            None => known.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;
    use crate::access::Answer;
    use crate::targets::TargetsError;

    /// Another port for each question.
    #[derive(Default)]
    struct Moving(AtomicU16);

    impl Targets for Moving {
        fn place<'a>(
            &'a self,
            _project: ProjectId,
            service: &'a Service,
        ) -> Answer<'a, Result<Place, TargetsError>> {
            let port = self.0.fetch_add(1, Ordering::Relaxed);
            let place = match service {
                Service::Raw => Place::NotRunning,
                Service::Named(_) | Service::Port(_) => Place::At(([127, 0, 0, 1], port).into()),
            };
            Box::pin(std::future::ready(Ok(place)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_remembered_until_they_are_old_or_changed() {
        let places = Places::new(Arc::new(Moving::default()), Duration::from_secs(30), 2);
        let id: ProjectId = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f".parse().unwrap();
        let web = Service::Port(80);
        let port = async || places.find(id, &web).await.unwrap().addr.port();
        assert_eq!((port().await, port().await), (0, 0));
        places.forget(Some(id));
        assert_eq!(port().await, 1);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(port().await, 2);
        assert!(matches!(
            places.find(id, &Service::Raw).await,
            Err(Refusal::NotRunning)
        ));
        assert!(matches!(
            places.find(id, &Service::Raw).await,
            Err(Refusal::NotRunning)
        ));
        assert_eq!(port().await, 2, "only addresses are remembered");
    }
}

//! Where the servers of projects are: project control knows the project, and the project its servers.

use std::net::SocketAddr;
use std::time::Duration;

use dialtone_hub::control::{Address, Error, Phase};
use dialtone_hub::id::ProjectId as HubProject;
use dialtone_project::remote::{Remote, RemoteError};
use dialtone_project::subjects::Place as Subjects;
use dialtone_project::token_of;
use dialtone_protocol::Code;
use dialtone_proxy::ProjectId;
use dialtone_proxy::access::Answer;
use dialtone_proxy::target::Service;
use dialtone_proxy::targets::{Place, Targets, TargetsError};
use http::HeaderValue;
use serde_json::json;

use super::Asked;

/// When to ask again for what is being started.
const RETRY: Duration = Duration::from_secs(2);

/// How long a server of a project may take to accept connections before the browser is told to wait.
const START_MAX: Duration = Duration::from_secs(20);

/// The port at which a project serves files as they are.
const RAW: &str = "browser-server";

/// Asks project control and the project.
#[derive(Debug)]
pub(super) struct SiteTargets(Asked);

impl SiteTargets {
    pub(super) fn new(asked: Asked) -> Self {
        Self(asked)
    }
}

impl Targets for SiteTargets {
    fn place<'a>(
        &'a self,
        project: ProjectId,
        service: &'a Service,
    ) -> Answer<'a, Result<Place, TargetsError>> {
        let (asked, service) = (self.0.clone(), service.clone());
        let finding = self.0.runtime.spawn(async move {
            match super::hub_id(project) {
                Some(project) => find(&asked, project, &service).await,
                None => Ok(Place::Unknown),
            }
        });
        Box::pin(async move {
            finding
                .await
                .unwrap_or_else(|_ended| Err(TargetsError("the hub is ending".to_owned())))
        })
    }
}

async fn find(
    asked: &Asked,
    project: HubProject,
    service: &Service,
) -> Result<Place, TargetsError> {
    let address = match asked.control.running_address(project).await {
        Ok(Some(address)) => address,
        Ok(None) => return not_running(asked, project, service).await,
        Err(Error::Missing(_)) => return Ok(Place::Unknown),
        Err(Error::NotConfigured) => return Ok(Place::NotRunning),
        Err(error) => return Err(TargetsError(error.to_string())),
    };
    match service {
        Service::Port(port) => Ok(Place::At(SocketAddr::new(address.ip, *port))),
        Service::Raw => Ok(raw(&address)),
        Service::Named(name) => named(asked, project, &address, name).await,
    }
}

fn raw(address: &Address) -> Place {
    match address.ports.get(RAW) {
        Some(port) => guarded(address, *port),
        None => Place::NoService,
    }
}

/// A project is started by whoever opens one of its named servers, and by nothing else.
async fn not_running(
    asked: &Asked,
    project: HubProject,
    service: &Service,
) -> Result<Place, TargetsError> {
    let state = asked.control.state(project).await;
    let state = state.map_err(|error| TargetsError(error.to_string()))?;
    if matches!(
        state.phase,
        Phase::Starting | Phase::Pending | Phase::Opening
    ) {
        return Ok(Place::Starting { retry: RETRY });
    }
    if !matches!(service, Service::Named(_)) {
        return Ok(Place::NotRunning);
    }
    let touched = asked.control.touch(project, None, true).await;
    touched.map_err(|error| TargetsError(error.to_string()))?;
    Ok(Place::Starting { retry: RETRY })
}

/// A port of the project that asks for its token.
fn guarded(address: &Address, port: u16) -> Place {
    let addr = SocketAddr::new(address.ip, port);
    // It is made of digits and letters.
    match HeaderValue::from_str(&token_of(&address.secret_token)) {
        Ok(token) => Place::Guarded { addr, token },
        Err(_unusable) => Place::At(addr),
    }
}

/// The project starts the server if it has to, and answers once that accepts connections.
async fn named(
    asked: &Asked,
    project: HubProject,
    address: &Address,
    name: &str,
) -> Result<Place, TargetsError> {
    let remote = remote(asked, project).ok_or_else(no_broker)?;
    let asking = remote.call_within("system.namedServerPort", json!([name]), START_MAX);
    match asking.await {
        Ok(port) => {
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
            let port = port.ok_or_else(|| TargetsError("the project names no port".to_owned()))?;
            Ok(guarded(address, port))
        }
        Err(RemoteError::Refused { text, .. }) => {
            tracing::info!(%project, name, reason = text, "a server of a project cannot be started");
            Ok(Place::NoService)
        }
        // It goes on starting, or the project is not connected yet.
        Err(RemoteError::Request(error))
            if [Code::Timeout, Code::NoSubscribers].contains(&error.code()) =>
        {
            tracing::info!(%project, name, %error, "a server of a project is not there yet");
            Ok(Place::Starting { retry: RETRY })
        }
        Err(error) => Err(TargetsError(format!("{:#}", anyhow::Error::from(error)))),
    }
}

/// A project as the hub reaches it over the broker, while it is connected.
pub(super) fn remote(asked: &Asked, project: HubProject) -> Option<Remote> {
    let client = asked.client.borrow().clone()?;
    let place = Subjects::new(&project.to_string(), 0).ok()?;
    Some(Remote::new(client, place))
}

fn no_broker() -> TargetsError {
    TargetsError("the hub is not connected to a broker".to_owned())
}

//! Jupyter kernels: where they are, and running code in one that nobody used before.
//!
//! A [`Gateway`] is a server that starts kernels, over HTTP and a WebSocket: a Jupyter kernel gateway of the site, or
//! the server that a project runs for its members. A kernel is started for one call and ended after it, whatever
//! becomes of the call, so that nothing of one reaches another.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, Encoding, RequestError};
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use crate::api::{Code, Error};
use crate::control::Control;
use crate::id::ProjectId;
use crate::line::{self, Line};
use crate::settings::Live;

mod message;

mod gateway;
pub use gateway::{Gateway, Unreachable};

/// How long a project may take to bring its server up.
const SERVER_MAX: Duration = Duration::from_mins(1);

/// The server of a project that starts kernels.
const SERVER: &str = "jupyter";

/// What code may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long all cells may take.
    pub total: Duration,
    /// How long one cell may take.
    pub cell: Duration,
    /// Most bytes of output.
    pub output: usize,
}

/// Where kernels are.
pub trait Gateways: Send + Sync {
    /// Those of a project, or those of the site for everybody.
    fn find(&self, project: Option<ProjectId>) -> BoxFuture<'_, Result<Gateway, Error>>;
}

/// The gateway that the settings name, and the servers of projects.
#[derive(Clone)]
pub struct SiteGateways {
    settings: Live,
    projects: Option<(Arc<dyn Control>, Line)>,
    /// What stands before paths of projects.
    base_path: String,
}

impl std::fmt::Debug for SiteGateways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteGateways")
            .field("projects", &self.projects.is_some())
            .field("base_path", &self.base_path)
            .finish_non_exhaustive()
    }
}

impl SiteGateways {
    /// The gateway of the settings alone.
    pub fn new(settings: Live) -> Self {
        Self {
            settings,
            projects: None,
            base_path: String::new(),
        }
    }

    /// Also those of projects, which are started and asked over the broker. `base_path` is what stands before their
    /// paths: empty, or as `/base`.
    #[must_use]
    pub fn projects(mut self, control: Arc<dyn Control>, line: Line, base_path: String) -> Self {
        self.projects = Some((control, line));
        self.base_path = base_path;
        self
    }

    fn of_site(&self) -> Result<Gateway, Error> {
        let settings = self.settings.get();
        let url = settings.get("jupyter_gateway_url");
        if !settings.is_on("jupyter_api_enabled") || url.is_empty() {
            return Err(not_configured());
        }
        let token = settings.get("jupyter_gateway_token").to_owned();
        Gateway::new(url, Some(token).filter(|token| !token.is_empty()))
            .map_err(|error| Error::new(Code::NotConfigured, error.to_string()))
    }

    async fn of_project(&self, id: ProjectId) -> Result<Gateway, Error> {
        let (control, line) = self.projects.as_ref().ok_or_else(not_configured)?;
        let address = control.address(id).await?;
        let port = server_port(&line::connected(line)?, id).await?;
        let url = format!(
            "http://{}{}/{id}/port/{SERVER}",
            host(address.ip, port),
            self.base_path
        );
        Gateway::new(&url, None).map_err(|error| Error::new(Code::Internal, error.to_string()))
    }
}

impl Gateways for SiteGateways {
    fn find(&self, project: Option<ProjectId>) -> BoxFuture<'_, Result<Gateway, Error>> {
        Box::pin(async move {
            match project {
                None => self.of_site(),
                Some(id) => self.of_project(id).await,
            }
        })
    }
}

fn not_configured() -> Error {
    let text = "running code in Jupyter kernels is not configured on this site";
    Error::new(Code::NotConfigured, text)
}

fn host(ip: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// Where the server of a project listens, which starts it.
async fn server_port(client: &Client, id: ProjectId) -> Result<u16, Error> {
    let request = json!({"name": "system.namedServerPort", "args": [SERVER]});
    let unavailable = |text: String| Error::new(Code::Unavailable, text);
    let answer = client
        .message(format!("project.{id}.0.api"))
        .encoding(Encoding::Json)
        .payload(request.to_string())
        .timeout(SERVER_MAX)
        .request()
        .await
        .map_err(|error: RequestError| {
            unavailable(format!("project {id} does not answer: {error}"))
        })?;
    let answer: Json = answer.decode().map_err(|error| {
        unavailable(format!(
            "project {id} answers what is not understood: {error}"
        ))
    })?;
    let port = answer.as_u64().and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| {
        let said = answer
            .get("error")
            .and_then(Json::as_str)
            .unwrap_or_default();
        unavailable(format!(
            "project {id} does not run a server for kernels: {said}"
        ))
    })
}

//! A server that starts kernels.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Limits;
use super::message::{self, Said};

/// Longest answer of a gateway to a request, in bytes.
const ANSWER_MAX: usize = 4 << 20;

/// How long a gateway may take to answer, which for a new kernel is how long that takes to start.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What is given as the token of a form, in hexadecimal digits as the server reads it.
const FORM_TOKEN: &str = "00112233445566778899aabbccddeeff";

/// What a message may be longer than the output that it has, in bytes.
const ENVELOPE_MAX: usize = 64 << 10;

/// A server that starts kernels.
#[derive(Clone)]
pub struct Gateway {
    /// Without a slash at the end.
    url: String,
    token: Option<String>,
    http: reqwest::Client,
}

/// Without the token.
impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Why a gateway did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreachable {
    /// Its address is none.
    #[error("the address of a kernel gateway must begin with http://, unlike {0:?}")]
    Address(String),
    /// It does not answer.
    #[error("the kernel gateway does not answer")]
    Http(#[from] reqwest::Error),
    /// It refuses.
    #[error("the kernel gateway answers {status}: {text}")]
    Refused {
        /// With which status.
        status: u16,
        /// What it says, shortened.
        text: String,
    },
    /// It answers what is not understood.
    #[error("the kernel gateway answers what is not understood: {0}")]
    Answer(String),
    /// The connection to a kernel breaks.
    #[error("the connection to the kernel broke")]
    Socket(#[from] Box<tungstenite::Error>),
    /// There is no such kernel.
    #[error("there is no kernel {0:?}")]
    Kernel(String),
    /// The code took too long.
    #[error("the code did not end within {} s", .0.as_secs())]
    Time(Duration),
    /// The code said too much.
    #[error("the code had more than {0} bytes of output")]
    Output(usize),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Gateway {
    /// The one at this address, which may ask for a token.
    ///
    /// # Errors
    /// [`Unreachable::Address`].
    pub fn new(url: &str, token: Option<String>) -> Result<Self, Unreachable> {
        let url = url.trim().trim_end_matches('/');
        if !url.starts_with("http://") {
            return Err(Unreachable::Address(url.chars().take(64).collect()));
        }
        // What it answers is believed, and where it sends somebody else is not asked for: that may be inside the site.
        // Variables about proxies are for the web, and a gateway is beside the hub.
        let http = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            url: url.to_owned(),
            token,
            http,
        })
    }

    /// The kernels that it can start, by name.
    ///
    /// # Errors
    /// When it does not answer as it should.
    pub async fn kernels(&self) -> Result<Vec<Json>, Unreachable> {
        let found = self
            .ask(self.http.get(format!("{}/api/kernelspecs", self.url)))
            .await?;
        let specs = found["kernelspecs"]
            .as_object()
            .ok_or_else(|| Unreachable::Answer("there are no kernelspecs".to_owned()))?;
        Ok(specs
            .iter()
            .map(|(name, found)| kernel(name, &found["spec"]))
            .collect())
    }

    /// Runs cells in a new kernel, which ends afterwards, and returns the output of the last one. It is not to be
    /// dropped before it is done, or the kernel stays until the gateway ends it.
    ///
    /// # Errors
    /// When there is no such kernel, a limit is reached, or the gateway fails.
    pub async fn run(
        &self,
        kernel: &str,
        cells: &[String],
        limits: Limits,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<Json>, Unreachable> {
        let id = self.start(kernel).await?;
        let work = async {
            let work = tokio::time::timeout(limits.total, self.run_in(&id, cells, limits));
            work.await.unwrap_or(Err(Unreachable::Time(limits.total)))
        };
        let done = tokio::select! {
            done = work => done,
            () = stop => Err(Unreachable::Time(Duration::ZERO)),
        };
        let url = format!("{}/api/kernels/{id}", self.url);
        if let Err(error) = self.ask(self.http.delete(url)).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, kernel = id, "a kernel was not ended");
        }
        done
    }

    async fn start(&self, kernel: &str) -> Result<String, Unreachable> {
        let names = self.kernels().await?;
        if !names.iter().any(|known| known["name"] == kernel) {
            return Err(Unreachable::Kernel(kernel.chars().take(64).collect()));
        }
        let request = self
            .http
            .post(format!("{}/api/kernels", self.url))
            .header(CONTENT_TYPE, "application/json")
            .body(json!({"name": kernel}).to_string());
        let started = self.ask(request).await?;
        let id = started["id"].as_str().filter(|id| is_plain(id));
        id.map(str::to_owned)
            .ok_or_else(|| Unreachable::Answer("a kernel has no id".to_owned()))
    }

    async fn run_in(
        &self,
        id: &str,
        cells: &[String],
        limits: Limits,
    ) -> Result<Vec<Json>, Unreachable> {
        let session = uuid::Uuid::new_v4().to_string();
        let mut socket = self.connect(id, &session, limits.output).await?;
        let mut output = Vec::new();
        for cell in cells {
            let work = cell_output(&mut socket, &session, cell, limits.output);
            output = tokio::time::timeout(limits.cell, work)
                .await
                .unwrap_or(Err(Unreachable::Time(limits.cell)))?;
        }
        Ok(output)
    }

    async fn connect(&self, id: &str, session: &str, output: usize) -> Result<Socket, Unreachable> {
        let url = format!(
            "{}/api/kernels/{id}/channels?session_id={session}",
            self.url
        );
        let url = url.replacen("http://", "ws://", 1);
        let mut request = url.into_client_request().map_err(Box::new)?;
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("token {token}"));
            let value = value
                .map_err(|_invalid| Unreachable::Answer("the token is no header".to_owned()))?;
            request.headers_mut().insert(AUTHORIZATION.as_str(), value);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(output + ENVELOPE_MAX))
            .max_frame_size(Some(output + ENVELOPE_MAX));
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
        let (socket, _) = connected.await.map_err(Box::new)?;
        Ok(socket)
    }

    /// Asks for something, with a bound for the answer.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Json, Unreachable> {
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("token {token}")),
            // A Jupyter server without a token wants the same in a cookie and a header: no page of another site can do
            // that. What it is does not matter.
            None => request
                .header(COOKIE, format!("_xsrf={FORM_TOKEN}"))
                .header("x-xsrftoken", FORM_TOKEN),
        };
        let mut answer = request.send().await?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if bytes.len() + chunk.len() > ANSWER_MAX {
                return Err(Unreachable::Answer(format!(
                    "it is longer than {ANSWER_MAX} bytes"
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            let status = status.as_u16();
            return Err(Unreachable::Refused { status, text });
        }
        if bytes.is_empty() {
            return Ok(Json::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| Unreachable::Answer(error.to_string()))
    }
}

/// A kernel as clients of the original know it.
fn kernel(name: &str, spec: &Json) -> Json {
    json!({
        "name": name,
        "display_name": spec["display_name"],
        "language": spec["language"],
        "interrupt_mode": spec["interrupt_mode"],
        "metadata": spec["metadata"],
    })
}

/// Whether it can stand in a path as it is.
fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Runs a cell, and returns its output.
async fn cell_output(
    socket: &mut Socket,
    session: &str,
    code: &str,
    output_max: usize,
) -> Result<Vec<Json>, Unreachable> {
    let id = uuid::Uuid::new_v4().to_string();
    let request = message::execute(session, &id, code);
    socket
        .send(Message::text(request))
        .await
        .map_err(Box::new)?;
    let (mut output, mut bytes) = (Vec::new(), 0);
    while let Some(said) = socket.next().await {
        let said = said.map_err(Box::new)?;
        let Message::Text(text) = said else {
            if said.is_close() {
                break;
            }
            continue;
        };
        let read =
            message::read(&text, &id).map_err(|error| Unreachable::Answer(error.to_string()))?;
        match read {
            Said::Output(content) => {
                bytes += text.len();
                if bytes > output_max {
                    return Err(Unreachable::Output(output_max));
                }
                output.push(content);
            }
            Said::Done => return Ok(output),
            Said::Nothing => {}
        }
    }
    Err(Unreachable::Answer("the kernel has ended".to_owned()))
}

//! The functions of a project: one request with a name and arguments, one answer.
//!
//! A request is `{name, args}`. Errors are answered as values, `{error, code}`, because existing clients look there.

mod arguments;
mod editor;
mod system;
mod terminal;

use std::sync::Arc;

use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};
use serde::Deserialize;
use serde_json::Value as Json;

use self::arguments::Arguments;
use crate::capabilities::Capabilities;
use crate::config::{Config, Limits};
use crate::daemon::Control;
use crate::error::{Code, Error};
use crate::exec::Jobs;
use crate::home::Home;
use crate::processes::Processes;
use crate::servers::Servers;
use crate::terminal::Terminals;

/// Every function, in the order in which they are shown.
const FUNCTIONS: [&str; 33] = [
    "system.ping",
    "system.test",
    "system.version",
    "system.functions",
    "system.status",
    "system.configuration",
    "system.exec",
    "system.signal",
    "system.terminate",
    "system.listing",
    "system.deleteFiles",
    "system.moveFiles",
    "system.renameFile",
    "system.realpath",
    "system.canonicalPaths",
    "system.writeTextFileToProject",
    "system.readTextFileFromProject",
    "system.namedServers",
    "system.namedServerPort",
    "system.rawServer",
    "system.listJupyterKernels",
    "editor.newFile",
    "editor.createTerminalService",
    "editor.jupyterStripNotebook",
    "editor.jupyterNbconvert",
    "editor.jupyterKernels",
    "editor.formatterString",
    "terminal.create",
    "terminal.list",
    "terminal.write",
    "terminal.resize",
    "terminal.read",
    "terminal.close",
];

/// What the functions work with.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) config: Config,
    pub(crate) home: Home,
    pub(crate) limits: Limits,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) terminals: Arc<Terminals>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) processes: Processes,
    pub(crate) capabilities: Capabilities,
    pub(crate) control: Control,
}

#[derive(Debug, Deserialize)]
struct Call {
    name: String,
    #[serde(default)]
    args: Vec<Json>,
}

impl Api {
    /// Answers requests to this subject.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        client: &Client,
        subject: String,
    ) -> Result<Service, SubscribeError> {
        let options = ServiceOptions {
            concurrency_max: self.limits.requests_max,
            ..ServiceOptions::default()
        };
        let api = Arc::clone(self);
        let handler = move |message: Message| {
            let api = Arc::clone(&api);
            async move { api.answer(&message).await }
        };
        client.service_with(subject, options, handler).await
    }

    async fn answer(self: &Arc<Self>, message: &Message) -> Result<Answer, ServiceError> {
        let done = match self.read(message) {
            Ok(call) => self.call(call).await,
            Err(error) => Err(error),
        };
        let value = done.unwrap_or_else(|error| error.to_json());
        Ok(match message.encoding() {
            Encoding::Json => Answer::json(&value)?,
            Encoding::MessagePack | Encoding::Other(_) => Answer::msgpack(&value)?,
        })
    }

    fn read(&self, message: &Message) -> Result<Call, Error> {
        let (len, len_max) = (message.payload().len(), self.limits.request_len_max);
        if len > len_max {
            let text = format!("the request is longer than {len_max} bytes ({len})");
            return Err(Error::new(Code::BadRequest, text));
        }
        message
            .decode()
            .map_err(|error| Error::new(Code::BadRequest, format!("not a request: {error}")))
    }

    async fn call(self: &Arc<Self>, call: Call) -> Result<Json, Error> {
        let args = Arguments::new(call.args);
        match call.name.split_once('.') {
            Some(("system", function)) => system::call(self, function, args).await,
            Some(("editor", function)) => editor::call(self, function, args).await,
            Some(("terminal", function)) => terminal::call(self, function, args).await,
            _ => Err(unknown(&call.name)),
        }
    }

    /// Work on files, off the threads that must not wait for a disk.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&this))
            .await
            .unwrap_or_else(|error| Err(Error::new(Code::Internal, error.to_string())))
    }
}

fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    let text = format!("there is no function {shown:?}; system.functions lists them");
    Error::new(Code::UnknownFunction, text)
}

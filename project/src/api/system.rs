//! Functions about the machine: its files, processes and servers.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::arguments::Arguments;
use super::{Api, FUNCTIONS, editor, unknown};
use crate::capabilities::now;
use crate::error::{Code, Error};
use crate::files;

/// The version that existing hubs compare with the least that they accept: a time in milliseconds since 1970, later than
/// that of any project of the original.
const VERSION: u64 = 1_800_000_000_000;

/// The name of the project itself among what can be ended.
const PROJECT: &str = "project";

#[derive(Debug, Deserialize)]
struct Listing {
    #[serde(default)]
    path: String,
    #[serde(default)]
    hidden: bool,
}

#[derive(Debug, Deserialize)]
struct Paths {
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Move {
    paths: Vec<String>,
    dest: String,
}

#[derive(Debug, Deserialize)]
struct Rename {
    src: String,
    dest: String,
}

#[derive(Debug, Deserialize)]
struct Write {
    path: String,
    content: String,
}

#[derive(Debug, Deserialize)]
struct OfPath {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Signals {
    signal: Option<i32>,
    pid: Option<i32>,
    #[serde(default)]
    pids: Vec<i32>,
}

#[derive(Debug, Deserialize)]
struct Terminate {
    service: String,
}

pub(super) async fn call(api: &Arc<Api>, name: &str, mut args: Arguments) -> Result<Json, Error> {
    match name {
        "ping" => Ok(json!({"now": now()})),
        "test" => Ok(json!({
            "project_id": api.config.place.project_id(),
            "compute_server_id": api.config.place.compute_server(),
        })),
        "version" => Ok(VERSION.into()),
        "functions" => Ok(json!(FUNCTIONS.as_slice())),
        "status" => api.blocking(|api| Ok(api.status())).await,
        "configuration" => {
            let aspect: Option<String> = args.next()?;
            let anew: Option<bool> = args.next()?;
            let aspect = aspect.unwrap_or_else(|| "main".to_owned());
            api.blocking(move |api| api.capabilities.get(&aspect, anew.unwrap_or_default()))
                .await
        }
        "exec" => api.jobs.exec(args.next()?).await,
        "signal" => signal(api, args.next()?),
        "terminate" => terminate(api, args.next()?).await,
        "namedServers" => api.blocking(|api| Ok(json!(api.servers.list()))).await,
        "namedServerPort" => {
            let name: String = args.next()?;
            Ok(api.servers.port(&name).await?.into())
        }
        "rawServer" => {
            let raw = api.control.announcement.raw;
            Ok(json!({"host": raw.ip(), "port": raw.port()}))
        }
        "listJupyterKernels" => editor::kernels(api).await,
        _ => files_call(api, name, args).await,
    }
}

async fn files_call(api: &Arc<Api>, name: &str, mut args: Arguments) -> Result<Json, Error> {
    match name {
        "listing" => {
            let Listing { path, hidden } = args.next()?;
            api.blocking(move |api| {
                let folder = api.home.resolve(&path)?;
                Ok(json!(files::list(&folder, hidden, api.limits.entries_max)?))
            })
            .await
        }
        "deleteFiles" => {
            let Paths { paths } = args.next()?;
            api.blocking(move |api| {
                let deleted = files::delete(&api.home, &api.resolve(&paths)?);
                api.home.room().freed();
                deleted
            })
            .await?;
            Ok(Json::Null)
        }
        "moveFiles" => {
            let Move { paths, dest } = args.next()?;
            api.blocking(move |api| {
                let folder = api.home.resolve(&dest)?;
                files::move_into(&api.home, &api.resolve(&paths)?, &folder)
            })
            .await?;
            Ok(Json::Null)
        }
        "renameFile" => {
            let Rename { src, dest } = args.next()?;
            api.blocking(move |api| {
                let (from, to) = (api.home.resolve(&src)?, api.home.resolve(&dest)?);
                files::rename(&api.home, &from, &to)
            })
            .await?;
            Ok(Json::Null)
        }
        "realpath" | "canonicalPaths" => paths_call(api, name, args).await,
        "writeTextFileToProject" => {
            let Write { path, content } = args.next()?;
            api.blocking(move |api| {
                let path = api.home.resolve(&path)?;
                api.home.room().take(content.len() as u64)?;
                files::write_text(&path, &content, api.limits.text_len_max)
            })
            .await?;
            Ok(Json::Null)
        }
        "readTextFileFromProject" => {
            let OfPath { path } = args.next()?;
            api.blocking(move |api| {
                let path = api.home.resolve(&path)?;
                Ok(files::read_text(&path, api.limits.text_len_max)?.into())
            })
            .await
        }
        _ => Err(unknown(&format!("system.{name}"))),
    }
}

async fn paths_call(api: &Arc<Api>, name: &str, mut args: Arguments) -> Result<Json, Error> {
    match name {
        "realpath" => {
            let path: String = args.next()?;
            api.blocking(move |api| Ok(json!(api.home.real(&path)?)))
                .await
        }
        "canonicalPaths" => {
            let paths: Vec<String> = args.next()?;
            api.bound(&paths)?;
            api.blocking(move |api| {
                let all = paths.iter().map(|path| api.home.canonical(path));
                Ok(json!(all.collect::<Result<Vec<String>, Error>>()?))
            })
            .await
        }
        _ => Err(unknown(&format!("system.{name}"))),
    }
}

impl Api {
    fn bound(&self, paths: &[String]) -> Result<(), Error> {
        let max = self.limits.paths_max;
        if paths.len() > max {
            return Err(Error::argument(
                "paths",
                format!("more than {max} ({})", paths.len()),
            ));
        }
        Ok(())
    }

    fn resolve(&self, paths: &[String]) -> Result<Vec<PathBuf>, Error> {
        self.bound(paths)?;
        paths.iter().map(|path| self.home.resolve(path)).collect()
    }

    /// What the project is, where it is reached, and what it uses.
    pub(crate) fn status(&self) -> Json {
        let mut status = self.control.announcement.to_json();
        let processes = self.processes.all().unwrap_or_default();
        let used = self.control.usage.of(&processes, self.home.root());
        if let (Some(fields), Json::Object(used)) = (status.as_object_mut(), used) {
            fields.insert("state".to_owned(), "running".into());
            fields.insert("time".to_owned(), now().into());
            fields.insert("terminals".to_owned(), self.terminals.list().len().into());
            fields.insert("servers".to_owned(), self.servers.list().into());
            fields.extend(used);
            fields.insert("disk_quota".to_owned(), self.home.room().to_json());
        }
        status
    }
}

/// Signals that may be sent, by the numbers that clients name; 2 (interrupt) by default.
fn signal(api: &Api, Signals { signal, pid, pids }: Signals) -> Result<Json, Error> {
    let number = signal.unwrap_or(2);
    let signal = match number {
        1 => Signal::HUP,
        2 => Signal::INT,
        3 => Signal::QUIT,
        9 => Signal::KILL,
        10 => Signal::USR1,
        12 => Signal::USR2,
        15 => Signal::TERM,
        18 => Signal::CONT,
        19 => Signal::STOP,
        20 => Signal::TSTP,
        _ => {
            let text = format!("is 1, 2, 3, 9, 10, 12, 15, 18, 19 or 20, not {number}");
            return Err(Error::argument("signal", text));
        }
    };
    let pids: Vec<i32> = pid.into_iter().chain(pids).collect();
    if pids.is_empty() {
        return Err(Error::argument("pids", "is missing"));
    }
    api.processes
        .signal(&pids, signal)
        .map_err(|(pid, error)| {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let code = if is_missing {
                Code::NotFound
            } else {
                Code::PermissionDenied
            };
            let text = format!("cannot send signal {number} to {pid}: {error}");
            Error::new(code, text)
        })?;
    Ok(Json::Null)
}

/// Ends the project itself, or one of its servers.
async fn terminate(api: &Api, Terminate { service }: Terminate) -> Result<Json, Error> {
    if service == PROJECT {
        tracing::info!("the project is asked to end");
        api.control.stop.cancel();
        return Ok(Json::Null);
    }
    api.servers
        .end(&service)
        .await
        .map_err(|error| Error::new(error.code, format!("{}, and {PROJECT}", error.text)))?;
    Ok(Json::Null)
}

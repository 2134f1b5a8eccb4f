//! Terminals for those who do not look at them over a socket.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::arguments::Arguments;
use super::{Api, unknown};
use crate::error::Error;
use crate::terminal::{ANSWER_LEN_MAX, Options, Size};

#[derive(Debug, Deserialize)]
struct OfPath {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Write {
    path: String,
    data: String,
}

#[derive(Debug, Deserialize)]
struct Resize {
    path: String,
    rows: u16,
    cols: u16,
}

#[derive(Debug, Deserialize)]
struct Read {
    path: String,
    #[serde(default)]
    from: u64,
}

pub(super) async fn call(api: &Arc<Api>, name: &str, mut args: Arguments) -> Result<Json, Error> {
    match name {
        "create" => {
            let path: String = args.next()?;
            let options: Option<Options> = args.next()?;
            let session = api.terminals.open(&path, &options.unwrap_or_default())?;
            Ok(session.info())
        }
        "list" => Ok(json!(api.terminals.list())),
        "write" => {
            let Write { path, data } = args.next()?;
            let limit = api.config.timing.terminal_write;
            let session = api.terminals.get(&path)?;
            session.write_within(data.as_bytes(), limit).await?;
            Ok(Json::Null)
        }
        "resize" => {
            let Resize { path, rows, cols } = args.next()?;
            api.terminals.get(&path)?.set_size(Size { rows, cols })?;
            Ok(Json::Null)
        }
        "read" => {
            let Read { path, from } = args.next()?;
            Ok(api.terminals.get(&path)?.read(from, ANSWER_LEN_MAX))
        }
        "close" => {
            let OfPath { path } = args.next()?;
            api.terminals.close(&path).await?;
            Ok(Json::Null)
        }
        _ => Err(unknown(&format!("terminal.{name}"))),
    }
}

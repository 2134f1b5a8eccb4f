//! What a request wants, from its headers.

use dialtone_client::Headers;
use dialtone_client::persist::wire::{Select, What};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::reply::Refusal;
use super::rows::Write;

/// A request.
#[derive(Debug)]
pub(super) enum Command {
    Set(Write),
    SetMany,
    Get(Select),
    GetAll {
        from: u64,
        to: Option<u64>,
    },
    /// What is removed, and the numbers that are said to be whatever was there.
    Delete(What, Option<Vec<u64>>),
    Config(Option<Map<String, Value>>),
    Inventory,
    Keys,
    Changefeed,
    ServerId,
}

/// The parameters that some commands have.
#[derive(Debug, Deserialize)]
struct Parameters {
    seq: Option<u64>,
    key: Option<String>,
    start_seq: Option<u64>,
    end_seq: Option<u64>,
    all: Option<bool>,
    last_seq: Option<u64>,
    seqs: Option<Vec<u64>>,
    config: Option<Map<String, Value>>,
}

impl Command {
    /// Reads the headers of a request.
    pub(super) fn parse(headers: &Headers) -> Result<Self, Refusal> {
        let name = headers.text("cmd").unwrap_or_default().to_owned();
        let value: Value = headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect::<Map<_, _>>()
            .into();
        let wrong = |error: serde_json::Error| Refusal::with_code(format!("{name}: {error}"), 400);
        if name == "set" {
            return serde_json::from_value(value).map(Self::Set).map_err(wrong);
        }
        let parameters = |value| serde_json::from_value::<Parameters>(value).map_err(wrong);
        match name.as_str() {
            "setMany" => Ok(Self::SetMany),
            "get" => parameters(value)?.select().map(Self::Get),
            "getAll" => {
                let given = parameters(value)?;
                Ok(Self::GetAll {
                    from: given.start_seq.unwrap_or(1),
                    to: given.end_seq,
                })
            }
            "delete" => parameters(value)?.delete(),
            "config" => Ok(Self::Config(parameters(value)?.config)),
            "inventory" => Ok(Self::Inventory),
            "keys" => Ok(Self::Keys),
            "changefeed" => Ok(Self::Changefeed),
            "serverId" => Ok(Self::ServerId),
            "sqlite" => Err(Refusal::new("sqlite command not currently supported")),
            other => Err(Refusal::with_code(format!("unknown command {other}"), 404)),
        }
    }
}

impl Parameters {
    fn select(self) -> Result<Select, Refusal> {
        match (self.seq, self.key) {
            (Some(seq), _) => Ok(Select::Seq(seq)),
            (None, Some(key)) => Ok(Select::Key(key)),
            (None, None) => Err(Refusal::with_code("get needs seq or key", 400)),
        }
    }

    /// Exactly one says what; they are looked at in this order.
    fn delete(self) -> Result<Command, Refusal> {
        if self.all == Some(true) {
            return Ok(Command::Delete(What::All, None));
        }
        if let Some(last) = self.last_seq {
            return Ok(Command::Delete(What::UpTo(last), None));
        }
        if let Some(seq) = self.seq {
            return Ok(Command::Delete(What::Seqs(vec![seq]), None));
        }
        match self.seqs {
            Some(seqs) => Ok(Command::Delete(What::Seqs(seqs.clone()), Some(seqs))),
            None => Err(Refusal::with_code(
                "delete needs all, last_seq, seq or seqs",
                400,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Command, Refusal> {
        let headers = Headers::parse(json.as_bytes());
        let wrong = |error: dialtone_client::HeadersError| Refusal::new(error.to_string());
        Command::parse(&headers.map_err(wrong)?)
    }

    #[test]
    fn commands_are_read_from_headers() {
        assert!(matches!(
            parse(r#"{"cmd":"set","key":"k","CN-Reply":"x"}"#),
            Ok(Command::Set(Write { key: Some(_), .. }))
        ));
        assert!(matches!(
            parse(r#"{"cmd":"get","seq":3}"#),
            Ok(Command::Get(Select::Seq(3)))
        ));
        assert!(matches!(
            parse(r#"{"cmd":"getAll","start_seq":2,"end_seq":9}"#),
            Ok(Command::GetAll {
                from: 2,
                to: Some(9)
            })
        ));
        assert!(matches!(
            parse(r#"{"cmd":"delete","seqs":[1,2],"all":false}"#),
            Ok(Command::Delete(What::Seqs(_), Some(_)))
        ));
        assert!(matches!(
            parse(r#"{"cmd":"delete","all":true,"seq":1}"#),
            Ok(Command::Delete(What::All, None))
        ));
        assert!(matches!(
            parse(r#"{"cmd":"config"}"#),
            Ok(Command::Config(None))
        ));
    }

    #[test]
    fn what_nobody_knows_is_named() {
        let code = |json: &str| parse(json).unwrap_err();
        assert_eq!(
            code(r#"{"cmd":"dance"}"#),
            Refusal::with_code("unknown command dance", 404)
        );
        assert_eq!(code("{}"), Refusal::with_code("unknown command ", 404));
        assert_eq!(code(r#"{"cmd":"sqlite"}"#).code, None);
        assert_eq!(code(r#"{"cmd":"get"}"#).code, Some(400.into()));
        assert_eq!(code(r#"{"cmd":"set","key":7}"#).code, Some(400.into()));
    }
}

//! `dialtone call`: calls a function of the hub.

use std::io::Write as _;

use dialtone_client::{Client, Encoding, RequestError, Status};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_protocol::Code;
use serde_json::{Map, Value as Json, json};

use super::attached::until_interrupted;
use super::records::table;
use crate::args::Call as Args;
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::Interrupts;
use crate::print::{Output, harmless};

/// Longest argument that is read from standard input, in bytes: what a request to the hub can have at most.
const INPUT_LEN_MAX: u64 = 4 << 20;

/// As whom it is asked what there is to call, where the broker knows no account or project.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// `dialtone call`
pub(super) async fn run(args: Args) -> Outcome {
    let (name, arguments) = match &args.name {
        None => ("system.describe", Vec::new()),
        Some(name) if args.describe => ("system.describe", vec![json!(name)]),
        Some(name) => (name.as_str(), arguments(&args.args, read_input)?),
    };
    until_interrupted(&args.connect, async |client, interrupts| {
        let subject = subject(&args, client)?;
        let answer = call(&args, client, interrupts, &subject, name, arguments).await?;
        show(&args, &answer)
    })
    .await
}

/// Where the request goes: to the subject of whoever calls, to which nobody else may publish.
fn subject(args: &Args, client: &Client) -> Result<String, Failure> {
    let caller = match (&args.account, &args.project) {
        (Some(text), _) => Caller::Account(text.parse::<AccountId>().map_err(Failure::usage)?),
        (None, Some(text)) => Caller::Project(text.parse::<ProjectId>().map_err(Failure::usage)?),
        (None, None) => own(args, client)?,
    };
    caller
        .request_subject()
        .ok_or_else(|| Failure::usage("only accounts and projects call functions"))
}

/// Whom the broker takes this program for.
fn own(args: &Args, client: &Client) -> Result<Caller, Failure> {
    let status = client.status().borrow().clone();
    let identity = if let Status::Connected { identity, .. } = status {
        identity
    } else {
        String::new()
    };
    let known = identity
        .parse()
        .ok()
        .filter(|caller| *caller != Caller::Hub);
    if let Some(caller) = known {
        return Ok(caller);
    }
    if args.describes() {
        // What there is to call is the same for everybody.
        return Ok(Caller::Project(
            NOBODY.parse().map_err(anyhow::Error::from)?,
        ));
    }
    let text = format!(
        "the broker takes this program for {identity:?}, which is neither account nor project"
    );
    Err(Failure::usage(text).hint(
        "--token takes an API key or the cookie of a session; who may do everything says for whom with --account ID or --project ID",
    ))
}

async fn call(
    args: &Args,
    client: &Client,
    interrupts: &mut Interrupts,
    subject: &str,
    name: &str,
    arguments: Vec<Json>,
) -> Result<Json, Failure> {
    let limit = args.timeout.get();
    let id = format!("{:032x}", rand::random::<u128>());
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let request = json!({"name": name, "args": arguments, "timeout": millis, "id": id});
    let payload = serde_json::to_vec(&request).map_err(anyhow::Error::from)?;
    let asked = client
        .message(subject)
        .encoding(Encoding::Json)
        .payload(payload)
        .timeout(limit)
        .request();
    let answer = tokio::select! {
        answer = asked => answer.map_err(failed)?,
        exit = interrupts.next() => {
            cancel(client, subject, &id).await;
            return Err(Failure::silent(exit));
        }
    };
    let answer: Json = answer
        .decode()
        .map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    refused(args, answer)
}

/// What nobody waits for any more is not to be done. Nothing can be done where this fails.
async fn cancel(client: &Client, subject: &str, id: &str) {
    let subject = subject.replace(".api", ".cancel");
    let payload = json!({ "id": id }).to_string();
    let said = client
        .message(subject.as_str())
        .encoding(Encoding::Json)
        .payload(payload.into_bytes())
        .publish()
        .await;
    if let Err(error) = said {
        tracing::debug!(error = &error as &dyn std::error::Error, "the call goes on");
    }
}

/// Failures of a function are values with a field `error`.
fn refused(args: &Args, answer: Json) -> Result<Json, Failure> {
    let Some(text) = answer.get("error").and_then(Json::as_str) else {
        return Ok(answer);
    };
    let code = answer
        .get("code")
        .and_then(Json::as_str)
        .unwrap_or_default();
    let exit = match code {
        "permission-denied" | "not-signed-in" => Exit::Denied,
        "timeout" => Exit::Timeout,
        "bad-request" | "unknown-function" | "invalid-argument" => Exit::Usage,
        _ => Exit::Failure,
    };
    if args.json {
        let mut out = Output::stdout();
        out.json(&answer)?;
        out.flush()?;
    }
    let text = harmless(text.strip_prefix("Error: ").unwrap_or(text));
    let failure = Failure::new(exit, anyhow::anyhow!("{text} ({})", harmless(code)));
    Err(match code {
        "unknown-function" => failure.hint("`dialtone call --list` shows what there is"),
        "invalid-argument" => failure.hint("`dialtone call --describe NAME` shows what it takes"),
        _ => failure,
    })
}

fn failed(error: RequestError) -> Failure {
    let code = error.code();
    let failure = Failure::of(code, error);
    if code == Code::NoSubscribers {
        failure.hint("no hub answers there; `dialtone up` and `dialtone hub --conat-api` run one")
    } else if code == Code::Denied {
        failure.hint(
            "who may not do everything calls as itself alone, without --account and --project",
        )
    } else {
        failure
    }
}

fn show(args: &Args, answer: &Json) -> Outcome {
    let mut out = Output::stdout();
    if args.json {
        out.json(answer)?;
    } else if let (Some(functions), None) = (answer.as_array(), &args.name) {
        list(&mut out, functions)?;
    } else if let Some(text) = answer.as_str() {
        out.line(harmless(text))?;
    } else if out.is_terminal() && !answer.is_null() {
        let text = serde_json::to_string_pretty(answer).map_err(anyhow::Error::from)?;
        out.line(text)?;
    } else if !answer.is_null() {
        out.json(answer)?;
    }
    Ok(out.flush()?)
}

/// One line for each function.
fn list(out: &mut Output, functions: &[Json]) -> std::io::Result<()> {
    let text = |function: &Json, field: &str| {
        function
            .get(field)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let rows: Vec<[String; 2]> = functions
        .iter()
        .map(|function| {
            let is_there = function.get("available") == Some(&Json::Bool(true));
            let about = text(function, "about");
            let about = if is_there {
                about
            } else {
                format!("(not configured) {about}")
            };
            [text(function, "name"), about]
        })
        .collect();
    table(out, ["function", "about"], &rows)
}

/// The arguments of a call: each is JSON if it can be, else a text. `name=text` and `name:=json` are fields of one object,
/// which is the first argument.
fn arguments(
    texts: &[String],
    mut input: impl FnMut() -> anyhow::Result<String>,
) -> Result<Vec<Json>, Failure> {
    let (mut fields, mut others) = (Map::new(), Vec::new());
    for text in texts {
        let read;
        let text = if text == "-" {
            read = input()?;
            read.trim_end()
        } else {
            text
        };
        match field(text)? {
            Some((name, value)) => {
                fields.insert(name, value);
            }
            None => others.push(serde_json::from_str(text).unwrap_or_else(|_text| json!(text))),
        }
    }
    if fields.is_empty() {
        return Ok(others);
    }
    let mut all = vec![Json::Object(fields)];
    all.append(&mut others);
    Ok(all)
}

/// `name=text` or `name:=json`.
fn field(text: &str) -> Result<Option<(String, Json)>, Failure> {
    let Some((name, value)) = text.split_once('=') else {
        return Ok(None);
    };
    let (name, is_json) = match name.strip_suffix(':') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Ok(None);
    }
    let value = if is_json {
        serde_json::from_str(value)
            .map_err(|error| Failure::usage(format_args!("{name} is not JSON: {error}")))?
    } else {
        json!(value)
    };
    Ok(Some((name.to_owned(), value)))
}

fn read_input() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::io::stdin()
        .take(INPUT_LEN_MAX + 1)
        .read_to_string(&mut text)?;
    anyhow::ensure!(
        text.len() as u64 <= INPUT_LEN_MAX,
        "standard input is longer than {INPUT_LEN_MAX} bytes"
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str], expected: &Json) {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let found = arguments(&texts, || Ok("[1,\n2]\n".to_owned())).unwrap();
        assert_eq!(json!(found), *expected);
    }

    #[test]
    fn arguments_are_json_texts_and_fields() {
        check(&[], &json!([]));
        check(
            &["{\"a\":1}", "true", "x y", "6a9ad7b6-5e7d"],
            &json!([{"a": 1}, true, "x y", "6a9ad7b6-5e7d"]),
        );
        check(
            &["title=7", "start:=true", "-"],
            &json!([{"title": "7", "start": true}, [1, 2]]),
        );
        check(
            &["a b=c", "=c", "x=a=b"],
            &json!([{"x": "a=b"}, "a b=c", "=c"]),
        );
        assert!(arguments(&["a:={".to_owned()], || Ok(String::new())).is_err());
    }
}

//! What a client says about a command, and what is made of it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::{Limits, Timing};
use crate::error::Error;

/// Most arguments and variables of a command.
const WORDS_MAX: usize = 10_000;

/// As it comes. What is not known is ignored: clients say things to their user interface in it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Request {
    /// A program, or a script for `bash`.
    command: Option<String>,
    args: Option<Vec<String>>,
    /// Working directory.
    path: Option<String>,
    cwd: Option<String>,
    /// Seconds.
    timeout: Option<f64>,
    /// Whether the command is a script; by default if it has no arguments.
    bash: Option<bool>,
    max_output: Option<f64>,
    err_on_exit: Option<bool>,
    env: Option<BTreeMap<String, Json>>,
    /// Concurrent commands that are equal in all else run once.
    aggregate: Option<Json>,
    #[serde(default)]
    async_call: bool,
    /// The job that is asked for, instead of a command.
    pub(crate) async_get: Option<String>,
    /// Whether to wait for its end.
    #[serde(default)]
    pub(crate) async_await: bool,
}

/// A command that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// What was asked for, in words.
    pub(crate) asked: String,
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    /// As it was written; empty stands for the home.
    pub(crate) folder: String,
    pub(crate) timeout: Duration,
    /// Bytes of each stream that are kept.
    pub(crate) output_max: usize,
    pub(crate) fails_on_exit: bool,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) is_job: bool,
    /// Equal for commands that may share one run.
    pub(crate) shared_as: Option<String>,
}

impl Request {
    /// Checks it.
    pub(crate) fn options(self, timing: &Timing, limits: &Limits) -> Result<Options, Error> {
        let command = self
            .command
            .filter(|command| !command.trim().is_empty())
            .ok_or_else(|| Error::argument("command", "is missing"))?;
        let args = self.args.unwrap_or_default();
        let environment = environment(self.env.unwrap_or_default())?;
        if args.len() > WORDS_MAX || environment.len() > WORDS_MAX {
            return Err(Error::argument("args", format!("more than {WORDS_MAX}")));
        }
        let zero = std::iter::once(&command)
            .chain(&args)
            .any(|text| text.contains('\0'));
        if zero {
            return Err(Error::argument("command", "contains a zero byte"));
        }
        let is_script = self.bash.unwrap_or(args.is_empty());
        let asked = std::iter::once(&command)
            .chain(&args)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        let (program, args) = if is_script {
            // The arguments of a script are $1 and so on; $0 is its name in error messages.
            let fixed = ["-c".to_owned(), command, "bash".to_owned()];
            ("bash".to_owned(), fixed.into_iter().chain(args).collect())
        } else {
            (command, args)
        };
        let mut options = Options {
            asked,
            program,
            args,
            folder: self.path.or(self.cwd).unwrap_or_default(),
            timeout: timeout(self.timeout, self.async_call, timing)?,
            output_max: output_max(self.max_output, limits)?,
            fails_on_exit: self.err_on_exit.unwrap_or(true),
            environment,
            is_job: self.async_call,
            shared_as: None,
        };
        options.shared_as = self
            .aggregate
            .filter(|value| !matches!(value, Json::Null | Json::Bool(false)))
            .map(|value| format!("{value} {options:?}"));
        Ok(options)
    }
}

/// A job without a time may take as long as any; other commands as long as a client waits.
fn timeout(seconds: Option<f64>, is_job: bool, timing: &Timing) -> Result<Duration, Error> {
    let max = timing.exec_max;
    match seconds {
        None | Some(0.0) if is_job => Ok(max),
        None | Some(0.0) => Ok(timing.exec_default),
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .map(|timeout| timeout.min(max))
            .map_err(|error| Error::argument("timeout", error)),
    }
}

fn output_max(bytes: Option<f64>, limits: &Limits) -> Result<usize, Error> {
    let Some(bytes) = bytes else {
        return Ok(limits.output_default);
    };
    if !bytes.is_finite() || bytes < 0.0 {
        return Err(Error::argument("max_output", "is no number of bytes"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and what is too large becomes the largest"
    )]
    let bytes = bytes as usize;
    Ok(bytes.min(limits.output_max))
}

fn environment(given: BTreeMap<String, Json>) -> Result<BTreeMap<String, String>, Error> {
    let mut environment = BTreeMap::new();
    for (name, value) in given {
        let value = match value {
            Json::String(text) => text,
            Json::Number(number) => number.to_string(),
            Json::Bool(flag) => flag.to_string(),
            Json::Null => continue,
            Json::Array(_) | Json::Object(_) => {
                return Err(Error::argument(format_args!("env.{name}"), "is no text"));
            }
        };
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::argument(
                format_args!("env.{name}"),
                "is no variable",
            ));
        }
        environment.insert(name, value);
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(request: Json) -> Result<Options, Error> {
        let request: Request =
            serde_json::from_value(request).map_err(|error| Error::argument("request", error))?;
        request.options(&Timing::default(), &Limits::default())
    }

    #[test]
    fn a_command_is_a_script_unless_it_has_arguments() {
        let script = read(json!({"command": "echo $1 | wc"})).unwrap();
        assert_eq!(script.program, "bash");
        assert_eq!(script.args, ["-c", "echo $1 | wc", "bash"]);
        assert_eq!(script.timeout, Duration::from_secs(10));
        let plain = read(json!({"command": "ls", "args": ["-l"], "timeout": 1.5})).unwrap();
        assert_eq!(
            (plain.program.as_str(), plain.args),
            ("ls", vec!["-l".to_owned()])
        );
        assert_eq!(plain.timeout, Duration::from_millis(1500));
        let both = read(json!({"command": "echo $1", "args": ["x"], "bash": true})).unwrap();
        assert_eq!(both.args, ["-c", "echo $1", "bash", "x"]);
        assert!(
            !read(json!({"command": "a", "bash": false}))
                .unwrap()
                .program
                .contains("bash")
        );
    }

    #[test]
    fn bounds_hold_and_mistakes_are_named() {
        let large = read(json!({"command": "a", "timeout": 1e9, "max_output": 1e18})).unwrap();
        assert_eq!(large.timeout, Timing::default().exec_max);
        assert_eq!(large.output_max, Limits::default().output_max);
        let job = read(json!({"command": "a", "async_call": true})).unwrap();
        assert_eq!(job.timeout, Timing::default().exec_max);
        for (request, place) in [
            (json!({}), "command"),
            (json!({"command": " "}), "command"),
            (json!({"command": "a\u{0}"}), "command"),
            (json!({"command": "a", "timeout": -1}), "timeout"),
            (json!({"command": "a", "max_output": -1}), "max_output"),
            (json!({"command": "a", "env": {"A": []}}), "env.A"),
            (json!({"command": "a", "env": {"A=B": "x"}}), "env.A=B"),
        ] {
            let error = read(request).unwrap_err();
            assert!(error.text.starts_with(place), "{error}");
        }
    }

    #[test]
    fn equal_commands_share_a_run_when_they_want_to() {
        let of = |aggregate: Json, path: &str| {
            read(json!({"command": "a", "path": path, "aggregate": aggregate}))
                .unwrap()
                .shared_as
        };
        assert_eq!(of(json!(1), ""), of(json!(1), ""));
        assert_ne!(of(json!(1), ""), of(json!(2), ""));
        assert_ne!(of(json!(1), ""), of(json!(1), "b"));
        assert_eq!(of(json!(null), ""), None);
        assert_eq!(of(json!(false), ""), None);
    }
}

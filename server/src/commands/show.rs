//! How messages look: for people, for programs, and raw.

use std::io::{self, Write as _};
use std::time::SystemTime;

use dialtone_client::{Headers, Message};
use serde_json::{Map, Value};

use crate::payload::{self, Shown, hex};
use crate::print::{Output, bytes, harmless, time};

/// What is printed of a message, and how its payload looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    form: Form,
    /// Texts are printed as they are, not as JSON.
    text: bool,
}

/// What is printed of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The payload alone.
    Payload,
    /// A line with subject, size and time, and the payload below.
    People,
    /// As for people, with headers and reply subject.
    Headers,
    /// One JSON object per line.
    Json,
    /// The payload's bytes, without anything between them.
    Raw,
}

impl Style {
    /// What the flags ask for; without any, the whole message for people.
    pub(super) fn new(raw: bool, json: bool, headers: bool) -> Self {
        let form = match (raw, json, headers) {
            (true, ..) => Form::Raw,
            (_, true, _) => Form::Json,
            (_, _, true) => Form::Headers,
            _ => Form::People,
        };
        Self { form, text: false }
    }

    /// The same with texts printed as they are, if `text`.
    pub(super) fn text(self, text: bool) -> Self {
        Self { text, ..self }
    }

    /// The same with the payload alone, unless more was asked for.
    pub(super) fn payload_only(self) -> Self {
        match self.form {
            Form::People => Self {
                form: Form::Payload,
                ..self
            },
            Form::Payload | Form::Headers | Form::Json | Form::Raw => self,
        }
    }

    /// Whether everything on standard output is JSON.
    pub(super) fn is_json(self) -> bool {
        self.form == Form::Json
    }
}

/// Prints a message.
pub(super) fn message(out: &mut Output, style: Style, message: &Message) -> io::Result<()> {
    match style.form {
        Form::Raw => out.write_all(message.payload()),
        Form::Json => out.json(&object(message)),
        Form::Payload => payload(out, style, message),
        Form::People | Form::Headers => block(out, style, message),
    }
}

fn block(out: &mut Output, style: Style, message: &Message) -> io::Result<()> {
    let paint = out.paint;
    let now = time(SystemTime::now());
    let clock = now
        .split_once('T')
        .map_or(now.as_str(), |(_, clock)| clock)
        .trim_end_matches('Z');
    let size = bytes(message.payload().len() as u64);
    let subject = paint.cyan(harmless(message.subject().as_str()));
    out.line(format_args!(
        "{subject}  {}",
        paint.dim(format_args!("{size}  {clock}"))
    ))?;
    if style.form == Form::Headers {
        if let Some(reply) = message.reply() {
            out.line(format_args!("{} {}", paint.dim("reply"), harmless(reply)))?;
        }
        match message.headers() {
            Ok(headers) => {
                for (name, value) in headers.iter() {
                    out.line(format_args!(
                        "{} {}",
                        paint.dim(format_args!("{}:", harmless(name))),
                        harmless(&value.to_string())
                    ))?;
                }
            }
            Err(error) => out.line(paint.dim(format_args!("({error})")))?,
        }
    }
    payload(out, style, message)?;
    out.line("")
}

fn payload(out: &mut Output, style: Style, message: &Message) -> io::Result<()> {
    value(out, style, message.encoding().number(), message.payload())
}

/// Prints what a payload holds.
pub(super) fn value(
    out: &mut Output,
    style: Style,
    encoding: u8,
    payload: &bytes::Bytes,
) -> io::Result<()> {
    match payload::show(encoding, payload) {
        // A program that reads a text wants every character of it.
        Shown::Value(Value::String(text)) if style.text && !out.is_terminal() => out.line(text),
        Shown::Value(Value::String(text)) if style.text => out.line(harmless(&text)),
        Shown::Value(value) => out.line(harmless(&value.to_string())),
        Shown::Text(text) => out.line(harmless(&text)),
        Shown::Packed(bytes) | Shown::Bytes(bytes) => hex_dump(out, &bytes),
    }
}

/// At most this much of bytes that are no text is shown to people.
const DUMP_LEN_MAX: usize = 256;

fn hex_dump(out: &mut Output, bytes: &[u8]) -> io::Result<()> {
    for row in bytes.chunks(16).take(DUMP_LEN_MAX / 16) {
        let digits: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = row
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect();
        out.line(format_args!("{:47}  {text}", digits.join(" ")))?;
    }
    match bytes.len().checked_sub(DUMP_LEN_MAX) {
        Some(more) if more > 0 => out.line(format_args!("({more} more bytes; --raw prints all)")),
        _ => Ok(()),
    }
}

fn object(message: &Message) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("subject", message.subject().as_str().into());
    put("time", time(SystemTime::now()).into());
    put("size", message.payload().len().into());
    put("encoding", message.encoding().number().into());
    if let Some(reply) = message.reply() {
        put("reply", reply.into());
    }
    if let Ok(headers) = message.headers()
        && !headers.is_empty()
    {
        put(
            "headers",
            headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect::<Map<_, _>>()
                .into(),
        );
    }
    let (name, value) = named(message.encoding().number(), message.payload());
    put(name, value);
    Value::Object(object)
}

/// A payload in JSON: the name of the field, which says what it is, and the value.
pub(super) fn named(encoding: u8, payload: &bytes::Bytes) -> (&'static str, Value) {
    match payload::show(encoding, payload) {
        Shown::Value(value) => ("payload", value),
        Shown::Packed(bytes) => ("payload", payload::bytes_value(&bytes)),
        Shown::Text(text) => ("payload_text", text.into()),
        Shown::Bytes(bytes) => ("payload_hex", hex(&bytes).into()),
    }
}

/// Reads `--header NAME=VALUE`: a value that is JSON is that, any other is a text.
pub(super) fn headers(given: &[String]) -> Result<Headers, crate::exit::Failure> {
    let mut headers = Headers::new();
    for header in given {
        let Some((name, value)) = header.split_once('=').filter(|(name, _)| !name.is_empty())
        else {
            return Err(crate::exit::Failure::usage(format_args!(
                "header {header:?} is not NAME=VALUE"
            )));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        drop(headers.insert(name, value));
    }
    Ok(headers)
}

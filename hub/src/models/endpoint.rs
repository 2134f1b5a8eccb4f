//! Asking a model, and reading its answer as it comes.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::sse::{Events, LineTooLong};

/// Longest answer, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Most of what a provider says of an error, in bytes.
const ERROR_MAX: usize = 4 << 10;

/// Longest time between two pieces of an answer.
const PIECE_WITHIN: Duration = Duration::from_mins(1);

/// Longest time until a provider is connected.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where a model answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, to which the names of functions are added.
    pub url: String,
    /// The key.
    pub key: Option<String>,
    /// What the model is called there.
    pub model: String,
}

/// Without the key.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// What somebody or the model said before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Turn {
    /// `user`, `assistant` or `system`.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// The site.
    System,
}

/// What a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// How it is to be.
    pub system: Option<&'a str>,
    /// What was said before.
    pub history: &'a [Turn],
    /// What is asked.
    pub input: &'a str,
    /// Most tokens of its answer.
    pub tokens_max: Option<u32>,
}

/// How many tokens were used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// By what was asked.
    pub prompt: i64,
    /// By all.
    pub total: i64,
}

/// Part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More text.
    Text(String),
    /// How many tokens that has used.
    Usage(Usage),
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// The provider does not answer.
    #[error("the model does not answer")]
    Http(#[from] reqwest::Error),
    /// It refuses.
    #[error("the model answers {status}: {text}")]
    Refused {
        /// With which status.
        status: u16,
        /// What it says, shortened.
        text: String,
    },
    /// It answers what is not understood.
    #[error("the model answers what is not understood: {0}")]
    Answer(String),
    /// It says too much.
    #[error("the answer of the model is longer than {ANSWER_MAX} bytes")]
    Long,
}

impl From<LineTooLong> for Failed {
    fn from(error: LineTooLong) -> Self {
        Self::Answer(error.to_string())
    }
}

/// An answer as it comes.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    events: Events,
    bytes: usize,
    done: bool,
}

/// A client for all providers.
pub(super) fn http() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(PIECE_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

impl Endpoint {
    /// Asks the model.
    ///
    /// # Errors
    /// When it refuses, or does not answer.
    pub async fn ask(&self, http: &reqwest::Client, ask: Ask<'_>) -> Result<Answer, Failed> {
        let request = http
            .post(format!("{}/chat/completions", self.url))
            .header(CONTENT_TYPE, "application/json")
            .body(self.body(ask).to_string());
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
            None => request,
        };
        let mut response = request.send().await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let mut text = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                text.extend_from_slice(&chunk);
                if text.len() > ERROR_MAX {
                    break;
                }
            }
            return Err(refused(status, &text));
        }
        Ok(Answer {
            response,
            events: Events::default(),
            bytes: 0,
            done: false,
        })
    }

    fn body(&self, ask: Ask<'_>) -> Json {
        let said = |role: Role, content: &str| json!({"role": role, "content": content});
        let mut messages: Vec<Json> = ask
            .system
            .into_iter()
            .filter(|system| !system.is_empty())
            .map(|system| said(Role::System, system))
            .collect();
        messages.extend(
            ask.history
                .iter()
                .map(|turn| said(turn.role, &turn.content)),
        );
        messages.push(said(Role::User, ask.input));
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(max) = ask.tokens_max {
            body["max_tokens"] = max.into();
        }
        body
    }
}

/// What a provider says is for those who look after the site; it may name keys, so that only its message is kept.
fn refused(status: u16, body: &[u8]) -> Failed {
    let body: Json = serde_json::from_slice(body).unwrap_or_default();
    let text = body["error"]["message"]
        .as_str()
        .or_else(|| body["error"].as_str());
    let text = text
        .unwrap_or("no reason given")
        .chars()
        .take(300)
        .collect();
    Failed::Refused { status, text }
}

impl Answer {
    /// What comes next; nothing at the end.
    ///
    /// # Errors
    /// When the answer breaks off, or is too long.
    pub async fn next(&mut self) -> Result<Vec<Piece>, Failed> {
        while !self.done {
            let Some(chunk) = self.response.chunk().await? else {
                self.done = true;
                break;
            };
            let mut pieces = Vec::new();
            for data in self.events.push(&chunk)? {
                if data == "[DONE]" {
                    self.done = true;
                    break;
                }
                read(&data, &mut pieces)?;
            }
            for piece in &pieces {
                if let Piece::Text(text) = piece {
                    self.bytes += text.len();
                }
            }
            if self.bytes > ANSWER_MAX {
                return Err(Failed::Long);
            }
            if !pieces.is_empty() {
                return Ok(pieces);
            }
        }
        Ok(Vec::new())
    }
}

fn read(data: &str, pieces: &mut Vec<Piece>) -> Result<(), Failed> {
    let event: Json =
        serde_json::from_str(data).map_err(|error| Failed::Answer(error.to_string()))?;
    if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
        let text = error["message"].as_str().unwrap_or("no reason given");
        return Err(Failed::Answer(text.chars().take(300).collect()));
    }
    let text = event["choices"][0]["delta"]["content"].as_str();
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        pieces.push(Piece::Text(text.to_owned()));
    }
    if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
        pieces.push(Piece::Usage(Usage {
            prompt: usage["prompt_tokens"].as_i64().unwrap_or(0),
            total: usage["total_tokens"].as_i64().unwrap_or(0),
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_with_what_was_said_before() {
        let endpoint = Endpoint {
            url: "http://x".to_owned(),
            key: None,
            model: "m".to_owned(),
        };
        let history = [Turn {
            role: Role::Assistant,
            content: "hello".to_owned(),
        }];
        let ask = Ask {
            system: Some("be brief"),
            history: &history,
            input: "2+2?",
            tokens_max: Some(7),
        };
        let body = endpoint.body(ask);
        let roles: Vec<&str> = body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["role"].as_str().unwrap())
            .collect();
        assert_eq!(roles, ["system", "assistant", "user"]);
        assert_eq!(body["max_tokens"], 7);
    }

    #[test]
    fn pieces_are_text_and_usage() {
        let mut pieces = Vec::new();
        for data in [
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"content":"4"}}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":5,"total_tokens":6}}"#,
        ] {
            read(data, &mut pieces).unwrap();
        }
        let usage = Usage {
            prompt: 5,
            total: 6,
        };
        assert_eq!(pieces, [Piece::Text("4".to_owned()), Piece::Usage(usage)]);
        let error = read(r#"{"error":{"message":"overloaded"}}"#, &mut pieces).unwrap_err();
        assert!(error.to_string().contains("overloaded"));
        assert!(read("{", &mut pieces).is_err());
    }
}

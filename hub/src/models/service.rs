//! Asking models over the broker: `llm.<kind>-<id>.api`, as clients of the original do.
//!
//! An answer comes in several messages, `{text, seq}` with numbers from 0, and ends with a message that is null, or
//! with `{error, seq}`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_client::service::Answer as LastAnswer;
use dialtone_client::{
    Client, Encoding, Headers, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::endpoint::{self, Ask, Endpoint, Failed, Piece, Turn, Usage};
use super::{Unknown, find};
use crate::api::{Admission, Bounds, Code, Error, NULL_CHARACTER, Need, has_null_character, meet};
use crate::caller::Caller;
use crate::id::ProjectId;
use crate::permission::{Authority, Fact, Facts};
use crate::settings::Live;
use crate::store::{Store, accounts, models};

/// Where questions come in.
pub const PATTERN: &str = "llm.*.api";

/// The queue group of all hubs, as in the original.
const GROUP: &str = "q";

/// Longest question with all that belongs to it, in bytes.
const QUESTION_MAX: usize = 1 << 20;

/// Most of what was said before.
const HISTORY_MAX: usize = 200;

/// Most tokens of an answer that may be asked for.
const TOKENS_MAX: u32 = 64_000;

/// Tokens in an hour: of an account or project, and of all, as in the original for models that cost nothing.
const CALLER_TOKENS_MAX: i64 = 100_000;
const SITE_TOKENS_MAX: i64 = 1_000_000;

/// How long an answer may take, if its caller says nothing, and at most.
const WITHIN: Duration = Duration::from_mins(2);
const WITHIN_MAX: Duration = Duration::from_mins(10);

/// Questions that are answered at the same time: for an account or project, and on a hub. A person reads one at a time;
/// each is a connection to a provider and its answer in memory.
const AT_ONCE: Bounds = Bounds {
    per_caller_max: 4,
    calls_max: 512,
};

/// How many questions are taken from the broker at once: more than are answered, so that what is too much is refused
/// and does not wait.
const TAKEN_MAX: usize = 1_024;

/// How often a client is sent what has come in, as in the original.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// Longest name of a model that is repeated in an error, in characters.
const MODEL_SHOWN_MAX: usize = 64;

/// About how many bytes a token has, where a provider does not count.
const TOKEN_BYTES: usize = 4;

/// What answers questions.
pub struct Models<F> {
    store: Store,
    settings: Live,
    authority: Arc<Authority<F>>,
    http: reqwest::Client,
    admission: Admission,
}

impl<F> std::fmt::Debug for Models<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models").finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
struct Question {
    input: String,
    model: String,
    system: Option<String>,
    #[serde(default)]
    history: Vec<Turn>,
    tag: Option<String>,
    project_id: Option<ProjectId>,
    path: Option<String>,
    timeout: Option<f64>,
    #[serde(rename = "maxTokens")]
    max_tokens: Option<u32>,
}

/// The service on a broker.
#[derive(Debug)]
pub struct ModelService(Service);

impl ModelService {
    /// Answers until it is stopped.
    ///
    /// # Errors
    /// When the broker does not let this client subscribe.
    pub async fn start<F: Facts>(
        client: &Client,
        models: Arc<Models<F>>,
    ) -> Result<Self, SubscribeError> {
        let options = ServiceOptions {
            group: GROUP.to_owned(),
            concurrency_max: TAKEN_MAX,
        };
        let service = client
            .service_with(PATTERN, options, move |message| {
                let models = Arc::clone(&models);
                async move { models.serve(&message).await }
            })
            .await?;
        Ok(Self(service))
    }

    /// Waits until the broker has ended the subscription, or the client has ended.
    pub async fn ended(&mut self) {
        self.0.stopped().await;
    }

    /// Takes no more questions, answers those that were received, and ends.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::new(Code::Unavailable, failed.to_string())
    }
}

impl<F: Facts> Models<F> {
    /// With the providers that the settings name.
    ///
    /// # Errors
    /// When this machine cannot make secure connections at all.
    pub fn new(store: Store, settings: Live, authority: Arc<Authority<F>>) -> Result<Self, Failed> {
        Ok(Self {
            store,
            settings,
            authority,
            http: endpoint::http()?,
            admission: Admission::new("questions", AT_ONCE),
        })
    }

    async fn serve(&self, message: &Message) -> Result<LastAnswer, ServiceError> {
        let mut seq = 0;
        let done = self.answer(message, &mut seq).await;
        let last = match done {
            Ok(()) => Json::Null,
            Err(error) => {
                let mut answer = error.to_json();
                answer["seq"] = seq.into();
                answer
            }
        };
        Ok(match message.encoding() {
            Encoding::Json => LastAnswer::json(&last)?,
            Encoding::MessagePack | Encoding::Other(_) => LastAnswer::msgpack(&last)?,
        })
    }

    async fn answer(&self, message: &Message, seq: &mut u64) -> Result<(), Error> {
        let caller = caller(message.subject().as_str())?;
        let _permit = self.admission.admit(caller)?;
        let question = question(message)?;
        self.may_ask(caller, &question).await?;
        let model = self.model(&question.model)?;
        let begin = Instant::now();
        let within = question
            .timeout
            .and_then(|millis| Duration::try_from_secs_f64(millis / 1_000.0).ok())
            .map_or(WITHIN, |within| within.min(WITHIN_MAX));
        let ask = Ask {
            system: question.system.as_deref(),
            history: &question.history,
            input: &question.input,
            tokens_max: question.max_tokens.map(|max| max.clamp(1, TOKENS_MAX)),
        };
        let mut said = Said::default();
        let work = async {
            let mut answer = model.ask(&self.http, ask).await?;
            loop {
                let pieces = answer.next().await?;
                if pieces.is_empty() {
                    return said.flush(message, seq).await;
                }
                said.take(pieces);
                if said
                    .flushed
                    .is_none_or(|flushed| flushed.elapsed() >= FLUSH_EVERY)
                {
                    said.flush(message, seq).await?;
                }
            }
        };
        let done = tokio::time::timeout(within, work).await;
        // What was used counts, also when the answer broke off.
        self.log(caller, &question, &said, begin.elapsed()).await?;
        done.unwrap_or_else(|_| {
            let text = format!("no answer within {} s", within.as_secs());
            Err(Error::new(Code::Timeout, text))
        })
    }

    fn model(&self, name: &str) -> Result<Endpoint, Error> {
        let shown: String = name.chars().take(MODEL_SHOWN_MAX).collect();
        find(&self.settings.get(), name).map_err(|unknown| match unknown {
            Unknown::NotConfigured => {
                let text = format!("model {shown:?} is not configured on this site");
                Error::new(Code::NotConfigured, text)
            }
            Unknown::NotSelectable => {
                let text = format!("model {shown:?} is none of those that this site offers");
                Error::denied(text)
            }
        })
    }

    async fn may_ask(&self, caller: Caller, question: &Question) -> Result<(), Error> {
        if let (Some(account), Some(project)) = (caller.account(), question.project_id) {
            let need = Need {
                any_of: vec![Fact::Member(account, project)],
                otherwise: Error::denied(format!("must be a collaborator on project {project}")),
            };
            meet(&self.authority, vec![need]).await?;
        }
        let mut on = self.store.read().await?;
        if let Some(account) = caller.account() {
            let found = accounts::by_id(&mut on, account).await?;
            let usable = found.filter(|account| !account.banned && !account.deleted);
            let customize = usable
                .ok_or_else(|| Error::denied("the account cannot be used"))?
                .customize;
            if customize.get("disableAI").and_then(Json::as_bool) == Some(true) {
                return Err(Error::denied(
                    "language models are switched off for this account",
                ));
            }
        }
        let (own, everybody) = models::used(&mut on, number(caller)).await?;
        if own >= CALLER_TOKENS_MAX || everybody >= SITE_TOKENS_MAX {
            let text = "language models were used as much as they may be in an hour";
            return Err(Error::new(Code::TooMany, text));
        }
        Ok(())
    }

    async fn log(
        &self,
        caller: Caller,
        question: &Question,
        said: &Said,
        duration: Duration,
    ) -> Result<(), Error> {
        let history: Vec<Json> = question
            .history
            .iter()
            .map(|turn| json!({"role": turn.role, "content": turn.content}))
            .collect();
        let usage = said.usage.unwrap_or_else(|| estimate(question, &said.text));
        let asked = models::Asked {
            account: caller.account(),
            project: caller.project().or(question.project_id),
            path: question.path.as_deref(),
            system: question.system.as_deref(),
            input: &question.input,
            history: &Json::Array(history),
            output: &said.text,
            model: &question.model,
            tag: question.tag.as_deref(),
            prompt_tokens: usage.prompt,
            total_tokens: usage.total,
            duration,
        };
        let mut on = self.store.write().await?;
        models::log(&mut on, &asked).await?;
        Ok(on.commit().await?)
    }
}

/// What has come in of an answer.
#[derive(Debug, Default)]
struct Said {
    text: String,
    sent: usize,
    flushed: Option<Instant>,
    usage: Option<Usage>,
}

impl Said {
    fn take(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                // What the database cannot store is told as what cannot be read.
                Piece::Text(text) => self.text.push_str(&text.replace('\0', "\u{fffd}")),
                Piece::Usage(usage) => self.usage = Some(usage),
            }
        }
    }

    /// Sends what has come in since it was last done.
    async fn flush(&mut self, message: &Message, seq: &mut u64) -> Result<(), Error> {
        let text = self.text.get(self.sent..).unwrap_or_default();
        if text.is_empty() {
            return Ok(());
        }
        let part = json!({"text": text, "seq": *seq});
        let failed = |error: String| Error::new(Code::Unavailable, error);
        let payload = match message.encoding() {
            Encoding::Json => part.to_string().into_bytes(),
            Encoding::MessagePack | Encoding::Other(_) => {
                rmp_serde::to_vec_named(&part).map_err(|error| failed(error.to_string()))?
            }
        };
        message
            .respond_with(&Headers::new(), message.encoding(), payload)
            .await
            .map_err(|error| failed(format!("the answer cannot be sent: {error}")))?;
        *seq += 1;
        self.sent = self.text.len();
        self.flushed = Some(Instant::now());
        Ok(())
    }
}

/// Who asks, from the subject alone.
fn caller(subject: &str) -> Result<Caller, Error> {
    let wrong = || {
        Error::new(
            Code::BadRequest,
            "a question comes from an account or a project",
        )
    };
    let mut segments = subject.split('.');
    let scope = segments.nth(1).ok_or_else(wrong)?;
    let caller: Caller = scope.parse().map_err(|_invalid| wrong())?;
    match caller {
        Caller::Account(_) | Caller::Project(_) => Ok(caller),
        Caller::Hub => Err(wrong()),
    }
}

fn number(caller: Caller) -> Uuid {
    match caller {
        Caller::Account(id) => id.uuid(),
        Caller::Project(id) => id.uuid(),
        Caller::Hub => Uuid::nil(),
    }
}

fn question(message: &Message) -> Result<Question, Error> {
    let len = message.payload().len();
    if len > QUESTION_MAX {
        let text = format!("the question is longer than {QUESTION_MAX} bytes ({len})");
        return Err(Error::new(Code::BadRequest, text));
    }
    let wrong = |error: String| Error::new(Code::BadRequest, format!("not a question: {error}"));
    let fields: Json = message.decode().map_err(|error| wrong(error.to_string()))?;
    if has_null_character(&fields) {
        return Err(Error::argument("question", NULL_CHARACTER));
    }
    let question: Question =
        serde_json::from_value(fields).map_err(|error| wrong(error.to_string()))?;
    if question.history.len() > HISTORY_MAX {
        let text = format!("has more than {HISTORY_MAX} turns");
        return Err(Error::argument("history", text));
    }
    Ok(question)
}

/// About how many tokens that is.
fn estimate(question: &Question, answer: &str) -> Usage {
    let tokens = |bytes: usize| i64::try_from(bytes.div_ceil(TOKEN_BYTES)).unwrap_or(i64::MAX);
    let history: usize = question.history.iter().map(|turn| turn.content.len()).sum();
    let system = question.system.as_deref().unwrap_or_default();
    let prompt = tokens(question.input.len() + system.len() + history);
    Usage {
        prompt,
        total: prompt.saturating_add(tokens(answer.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_stands_in_the_subject() {
        let id = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";
        assert_eq!(
            caller(&format!("llm.account-{id}.api"))
                .unwrap()
                .to_string(),
            format!("account-{id}")
        );
        assert!(caller(&format!("llm.project-{id}.api")).is_ok());
        for wrong in ["llm.hub.api", "llm.account-x.api", "llm", "llm..api"] {
            assert_eq!(caller(wrong).unwrap_err().code, Code::BadRequest, "{wrong}");
        }
    }
}

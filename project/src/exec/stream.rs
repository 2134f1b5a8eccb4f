//! `exec-stream`: many answers to one request, with the output while it is written.
//!
//! Each answer is `{type, data, seq}` with `seq` from 0: first `job`, then `stdout` and `stderr`, at last `done`, or
//! `{type: "error", error}`; then nothing, which ends it. The next answer is sent when the broker has the one before,
//! and none when nobody listens any longer.

use std::sync::Arc;

use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Message, PublishError, RespondError, Service, ServiceError, ServiceOptions,
    SubscribeError,
};
use serde_json::{Value as Json, json};
use thiserror::Error as ThisError;

use super::job::{Job, Seen, State, Which};
use super::jobs::Jobs;
use super::options::Request;
use crate::error::{Code, Error};

/// Longest piece of output in one answer, in bytes.
const PIECE_LEN: usize = 256 << 10;

/// The group that existing servers are in.
const GROUP: &str = "q";

/// Why the answers broke off.
#[derive(Debug, ThisError)]
enum Broken {
    #[error("nobody listens any longer")]
    Gone,
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Respond(#[from] RespondError),
    #[error(transparent)]
    Encode(#[from] dialtone_client::EncodeError),
}

/// Answers until it is stopped.
pub(crate) async fn serve(
    client: &Client,
    subject: String,
    jobs: Arc<Jobs>,
    concurrency_max: usize,
) -> Result<Service, SubscribeError> {
    let options = ServiceOptions {
        group: GROUP.to_owned(),
        concurrency_max,
    };
    let handler = move |message: Message| {
        let jobs = Arc::clone(&jobs);
        async move {
            let mut answers = Answers {
                message: &message,
                seq: 0,
            };
            if let Err(error) = answers.run(&jobs).await {
                tracing::debug!(%error, "the output of a command is not told any longer");
            }
            // The last answer is that there are no more.
            Ok::<_, ServiceError>(Answer::msgpack(&())?)
        }
    };
    client.service_with(subject, options, handler).await
}

struct Answers<'a> {
    message: &'a Message,
    seq: u64,
}

impl Answers<'_> {
    async fn run(&mut self, jobs: &Jobs) -> Result<(), Broken> {
        let job = match self.begin(jobs) {
            Ok(job) => job,
            Err(error) => {
                let mut value = error.to_json();
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("type".to_owned(), "error".into());
                }
                return self.send(value).await;
            }
        };
        let told = self.tell(&job).await;
        if told.is_err() && !job.options.is_job {
            // It was for this listener alone.
            jobs.end(&job).await;
        }
        told
    }

    fn begin(&self, jobs: &Jobs) -> Result<Arc<Job>, Error> {
        let request: Request = self
            .message
            .decode()
            .map_err(|error| Error::new(Code::BadRequest, format!("not a request: {error}")))?;
        match &request.async_get {
            Some(id) => jobs.find(id),
            None => jobs.start(request),
        }
    }

    async fn tell(&mut self, job: &Job) -> Result<(), Broken> {
        self.send(json!({"type": "job", "data": job.report(false)}))
            .await?;
        let mut changed = job.watch();
        let mut seen = Seen::default();
        loop {
            // Before looking, so that nothing that comes meanwhile is missed.
            changed.borrow_and_update();
            let is_over = job.state() != State::Running;
            while let Some((which, text, next)) = job.next(seen, PIECE_LEN) {
                let kind = match which {
                    Which::Out => "stdout",
                    Which::Err => "stderr",
                };
                self.send(json!({"type": kind, "data": text})).await?;
                seen = next;
            }
            if is_over {
                break;
            }
            // The job holds the sender, so that this cannot fail.
            if changed.changed().await.is_err() {
                break;
            }
        }
        self.send(json!({"type": "done", "data": job.report(false)}))
            .await
    }

    async fn send(&mut self, mut value: Json) -> Result<(), Broken> {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("seq".to_owned(), self.seq.into());
        }
        self.seq += 1;
        let draft = self.message.answer()?;
        let draft = match self.message.encoding() {
            Encoding::Json => draft.json(&value)?,
            Encoding::MessagePack | Encoding::Other(_) => draft.msgpack(&value)?,
        };
        match draft.publish_acked().await? {
            0 => Err(Broken::Gone),
            _ => Ok(()),
        }
    }
}

//! Questions to other sites: each may take so long, answer so much, and lead nowhere else.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use serde_json::Value as Json;
use url::Url;

use super::strategy::is_safe;
use crate::causes::chain;

/// How long the connection, and all of an answer, may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Longest answer, in bytes: sets of keys have some 10 KiB.
const BODY_LEN_MAX: usize = 512 << 10;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It would be asked where others can read along.
    #[error("{0} is not an https address")]
    Unsafe(String),
    /// It could not be asked, or the answer did not come.
    #[error("{}", chain(.0))]
    Failed(#[source] reqwest::Error),
    /// The answer is too long.
    #[error("its answer is longer than {BODY_LEN_MAX} bytes")]
    TooLong,
    /// The answer is not what was expected.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
}

/// Asks other sites. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Http {
    /// Made when it is first used: sites that ask nobody need no certificates.
    client: std::sync::Arc<OnceLock<reqwest::Client>>,
}

impl Http {
    pub(super) fn new() -> Self {
        Self {
            client: std::sync::Arc::default(),
        }
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let made = reqwest::Client::builder()
            // A site that sends us elsewhere could send us into our own network.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .user_agent(concat!("dialtone/", env!("CARGO_PKG_VERSION")))
            .build();
        let made = made.map_err(Error::Failed)?;
        Ok(self.client.get_or_init(|| made).clone())
    }

    /// What is there, as JSON, for whoever has this token.
    pub(super) async fn json(&self, url: &str, token: &str) -> Result<Json, Error> {
        let request = http::Request::get(url)
            .header("accept", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Vec::new())
            .map_err(|error| Error::Unusable(error.to_string()))?;
        let answer = self.ask(request).await?;
        if !answer.status().is_success() {
            return Err(Error::Unusable(format!("HTTP status {}", answer.status())));
        }
        serde_json::from_slice(answer.body()).map_err(|error| Error::Unusable(error.to_string()))
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        let url = Url::parse(&url)
            .ok()
            .filter(is_safe)
            .ok_or(Error::Unsafe(url))?;
        let asked = self
            .client()?
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body)
            .send();
        let mut answer = asked.await.map_err(Error::Failed)?;
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.extend(answer.headers().clone());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(Error::Failed)? {
            if body.len() + chunk.len() > BODY_LEN_MAX {
                return Err(Error::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        response
            .body(body)
            .map_err(|error| Error::Unusable(error.to_string()))
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = Error;
    type Future = BoxFuture<'c, Result<HttpResponse, Error>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        self.ask(request).boxed()
    }
}

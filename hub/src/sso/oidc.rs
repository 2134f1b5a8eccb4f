//! `OpenID` Connect: the code flow with PKCE and a nonce, and a token whose signature, issuer, audience and time are
//! checked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreProviderMetadata};
use openidconnect::{
    AccessToken, AccessTokenHash, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, DiscoveryError, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, SignatureVerificationError,
    TokenResponse as _,
};
use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::flow::Flow;
use super::http::Http;
use super::strategy::Strategy;
use super::{Profile, Refused};
use crate::auth::token::Token;

/// How long what a site says about itself is good. Its keys are read anew before that when one is missing.
const METADATA_KEEP: Duration = Duration::from_mins(10);

/// Most sites of which that is kept.
const PROVIDERS_MAX: usize = 64;

/// What sites say about themselves.
#[derive(Debug, Default)]
pub(super) struct Providers(Mutex<HashMap<String, (Instant, Arc<CoreProviderMetadata>)>>);

impl Providers {
    /// What this one says.
    pub(super) async fn get(
        &self,
        http: &Http,
        issuer: &str,
    ) -> Result<Arc<CoreProviderMetadata>, Refused> {
        let known = self.0.lock().get(issuer).cloned();
        if let Some((_, metadata)) = known.filter(|(since, _)| since.elapsed() < METADATA_KEEP) {
            return Ok(metadata);
        }
        self.read(http, issuer).await
    }

    /// What it says now.
    async fn read(&self, http: &Http, issuer: &str) -> Result<Arc<CoreProviderMetadata>, Refused> {
        let url = IssuerUrl::new(issuer.to_owned())
            .map_err(|error| Refused::Provider(error.to_string()))?;
        let metadata = CoreProviderMetadata::discover_async(url, http).await;
        let metadata = Arc::new(metadata.map_err(|error| discovery(&error))?);
        let mut known = self.0.lock();
        if known.len() >= PROVIDERS_MAX {
            known.clear();
        }
        known.insert(issuer.to_owned(), (Instant::now(), Arc::clone(&metadata)));
        Ok(metadata)
    }
}

fn discovery(error: &DiscoveryError<super::http::Error>) -> Refused {
    // What kept us from asking says more than that something did.
    if let DiscoveryError::Request(cause) = error {
        return Refused::Provider(cause.to_string());
    }
    Refused::Provider(error.to_string())
}

/// A client that knows what the other site has said about itself. Its type says which addresses it has.
macro_rules! client {
    ($strategy:expr, $metadata:expr, $back:expr) => {
        CoreClient::from_provider_metadata(
            CoreProviderMetadata::clone($metadata),
            ClientId::new($strategy.client_id.clone()),
            $strategy.client_secret.clone().map(ClientSecret::new),
        )
        .set_redirect_uri(
            RedirectUrl::new($back).map_err(|error| Refused::Misconfigured {
                strategy: $strategy.name.clone(),
                reason: error.to_string(),
            })?,
        )
    };
}

/// Where the browser goes.
pub(super) fn authorize_url(
    strategy: &Strategy,
    metadata: &CoreProviderMetadata,
    flow: &Flow,
    state: &Token,
    back: String,
) -> Result<String, Refused> {
    let client = client!(strategy, metadata, back);
    let verifier = PkceCodeVerifier::new(flow.verifier.clone());
    let (state, nonce) = (state.reveal().to_owned(), flow.nonce.clone());
    let (url, _, _) = client
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            || CsrfToken::new(state),
            || Nonce::new(nonce),
        )
        .add_scopes(strategy.scopes.iter().cloned().map(Scope::new))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
        .url();
    Ok(url.into())
}

/// What is asked at the end.
pub(super) struct Asked<'a> {
    pub(super) strategy: &'a Strategy,
    pub(super) issuer: &'a str,
    pub(super) flow: &'a Flow,
    pub(super) code: &'a str,
    pub(super) back: String,
}

/// Who that is, as the other site proves it.
pub(super) async fn profile(
    http: &Http,
    providers: &Providers,
    asked: Asked<'_>,
) -> Result<Profile, Refused> {
    let (strategy, flow) = (asked.strategy, asked.flow);
    let metadata = providers.get(http, asked.issuer).await?;
    let client = client!(strategy, &metadata, asked.back);
    let exchange = client
        .exchange_code(AuthorizationCode::new(asked.code.to_owned()))
        .map_err(|error| Refused::Provider(error.to_string()))?
        .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier.clone()));
    let tokens = exchange.request_async(http).await;
    let tokens = tokens.map_err(|error| super::code::exchange_failed(&error))?;
    let id_token = tokens
        .id_token()
        .ok_or_else(|| Refused::Proof("there is no ID token".to_owned()))?;
    let access = tokens.access_token();
    let claims = match claims(strategy, &metadata, id_token, access, flow) {
        Err(Unproven::UnknownKey) => {
            // It may have been made since the keys were read.
            let metadata = providers.read(http, asked.issuer).await?;
            claims(strategy, &metadata, id_token, access, flow)
        }
        other => other,
    };
    let mut claims = claims.map_err(|unproven| Refused::Proof(unproven.to_string()))?;
    if claims.get("email").is_none()
        && let Some(userinfo) = metadata.userinfo_endpoint()
    {
        let more = http.json(userinfo.url().as_str(), access.secret()).await;
        let more = more.map_err(|error| Refused::Provider(error.to_string()))?;
        // Otherwise it could be about somebody else (Core §5.3.2).
        if more.get("sub") != claims.get("sub") {
            return Err(Refused::Proof(
                "its answers are about two people".to_owned(),
            ));
        }
        add(&mut claims, more);
    }
    let mapping = super::profile::Mapping {
        // Whatever else is configured: this is what is never given to somebody else.
        id: "sub".to_owned(),
        ..strategy.mapping.clone()
    };
    let profile = mapping.read(&claims, strategy.trust_email);
    profile.map_err(Refused::Provider)
}

/// Why a token proves nothing.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error("it is signed with an unknown key")]
    UnknownKey,
    #[error("{0}")]
    Invalid(String),
}

/// What is claimed in the token, if all of it holds.
fn claims(
    strategy: &Strategy,
    metadata: &CoreProviderMetadata,
    id_token: &CoreIdToken,
    access: &AccessToken,
    flow: &Flow,
) -> Result<Json, Unproven> {
    let invalid = |error: &dyn std::fmt::Display| Unproven::Invalid(error.to_string());
    let client = CoreClient::from_provider_metadata(
        metadata.clone(),
        ClientId::new(strategy.client_id.clone()),
        strategy.client_secret.clone().map(ClientSecret::new),
    );
    let verifier = client.id_token_verifier();
    let claims = id_token
        .claims(&verifier, &Nonce::new(flow.nonce.clone()))
        .map_err(|error| {
            let ClaimsVerificationError::SignatureVerification(signature) = &error else {
                return invalid(&error);
            };
            if matches!(signature, SignatureVerificationError::NoMatchingKey) {
                return Unproven::UnknownKey;
            }
            invalid(signature)
        })?;
    if let Some(expected) = claims.access_token_hash() {
        let algorithm = id_token.signing_alg().map_err(|error| invalid(&error))?;
        let key = id_token
            .signing_key(&verifier)
            .map_err(|error| invalid(&error))?;
        let actual = AccessTokenHash::from_token(access, algorithm, key);
        if actual.map_err(|error| invalid(&error))? != *expected {
            return Err(Unproven::Invalid(
                "it belongs to another access token".to_owned(),
            ));
        }
    }
    serde_json::to_value(claims).map_err(|error| invalid(&error))
}

fn add(claims: &mut Json, more: Json) {
    if let (Some(claims), Json::Object(more)) = (claims.as_object_mut(), more) {
        for (name, value) in more {
            claims.entry(name).or_insert(value);
        }
    }
}

//! OAuth 2.0: the code flow with PKCE, and a question about who that is.

use oauth2::basic::BasicClient;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, ErrorResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse as _,
    TokenUrl,
};
use url::ParseError;

use super::flow::Flow;
use super::http::{self, Http};
use super::profile::add_emails;
use super::strategy::{Endpoints, Strategy};
use super::{Profile, Refused};
use crate::auth::token::Token;

/// Where the browser goes.
pub(super) fn authorize_url(
    strategy: &Strategy,
    endpoints: &Endpoints,
    flow: &Flow,
    state: &Token,
    back: String,
) -> Result<String, Refused> {
    let wrong = |error: ParseError| misconfigured(strategy, error);
    let client = BasicClient::new(ClientId::new(strategy.client_id.clone()))
        .set_auth_uri(AuthUrl::new(endpoints.authorize.clone()).map_err(wrong)?)
        .set_redirect_uri(RedirectUrl::new(back).map_err(wrong)?);
    let verifier = PkceCodeVerifier::new(flow.verifier.clone());
    let state = state.reveal().to_owned();
    let (url, _) = client
        .authorize_url(|| CsrfToken::new(state))
        .add_scopes(strategy.scopes.iter().cloned().map(Scope::new))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
        .url();
    Ok(url.into())
}

/// Who that is, as the other site says.
pub(super) async fn profile(
    http: &Http,
    strategy: &Strategy,
    endpoints: &Endpoints,
    flow: &Flow,
    code: &str,
    back: String,
) -> Result<Profile, Refused> {
    let wrong = |error: ParseError| misconfigured(strategy, error);
    let mut client = BasicClient::new(ClientId::new(strategy.client_id.clone()))
        .set_token_uri(TokenUrl::new(endpoints.token.clone()).map_err(wrong)?)
        .set_redirect_uri(RedirectUrl::new(back).map_err(wrong)?)
        .set_auth_type(if endpoints.basic {
            AuthType::BasicAuth
        } else {
            AuthType::RequestBody
        });
    if let Some(secret) = &strategy.client_secret {
        client = client.set_client_secret(ClientSecret::new(secret.clone()));
    }
    let tokens = client
        .exchange_code(AuthorizationCode::new(code.to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier.clone()))
        .request_async(http)
        .await
        .map_err(|error| exchange_failed(&error))?;
    let token = tokens.access_token().secret();
    let failed = |error: http::Error| Refused::Provider(error.to_string());
    let claims = http
        .json(&endpoints.userinfo, token)
        .await
        .map_err(failed)?;
    let profile = strategy.mapping.read(&claims, strategy.trust_email);
    let mut profile = profile.map_err(Refused::Provider)?;
    if let Some(emails) = &endpoints.emails {
        let list = http.json(emails, token).await.map_err(failed)?;
        add_emails(&mut profile, &list, strategy.trust_email);
    }
    Ok(profile)
}

fn misconfigured(strategy: &Strategy, error: ParseError) -> Refused {
    Refused::Misconfigured {
        strategy: strategy.name.clone(),
        reason: error.to_string(),
    }
}

/// What it means that a code was not exchanged.
pub(super) fn exchange_failed<T: ErrorResponse>(
    error: &RequestTokenError<http::Error, T>,
) -> Refused {
    match error {
        // The code was used, is of another client, or the verifier is not the one of the beginning.
        RequestTokenError::ServerResponse(response) => Refused::Denied(format!("{response:?}")),
        RequestTokenError::Request(error) => Refused::Provider(error.to_string()),
        RequestTokenError::Parse(error, _) => Refused::Provider(error.to_string()),
        RequestTokenError::Other(error) => Refused::Provider(error.clone()),
    }
}

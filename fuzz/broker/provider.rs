//! Lets everybody do everything but end other peers' connections.

use std::sync::Arc;

use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal, Rule, Rules};
use dialtone_protocol::Pattern;
use dialtone_protocol::frame::{Action, Credentials, Refused};

use super::Setting;
use super::good::TOKEN;

/// Where nobody may publish.
const FORBIDDEN: [&str; 3] = ["sys.drain", "sys.kick.>", "no.>"];

/// Applies rules, or is asked about each subject.
#[derive(Debug)]
pub(super) struct Provider(pub(super) Setting);

impl Provider {
    fn principal(&self, credentials: &Credentials) -> Principal {
        let permissions = if self.0.asks() {
            Permissions::Ask
        } else {
            let patterns = |texts: &[&str]| {
                texts
                    .iter()
                    .map(|t| Pattern::new(t).expect("valid"))
                    .collect()
            };
            let rule = |deny| Rule {
                allow: patterns(&[">"]),
                deny: patterns(deny),
            };
            Permissions::Rules(Arc::new(Rules {
                publish: rule(&FORBIDDEN),
                subscribe: rule(&["no.>"]),
            }))
        };
        if *credentials == Credentials::Token(TOKEN.to_owned()) {
            return Principal::new("good", permissions);
        }
        let mut bad = Principal::new("bad", permissions);
        bad.limits = Some(Box::new(self.0.limits()));
        bad
    }
}

impl Authenticate for Provider {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        let principal = self.principal(offer.credentials);
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(principal)
        })
    }

    fn authorize<'a>(&'a self, _: &'a Principal, _: Action, subject: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let forbidden = |pattern| dialtone_protocol::subject::matches(pattern, subject);
            !FORBIDDEN.into_iter().any(forbidden)
        })
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(Ok(principal.clone())))
    }
}

//! A provider that believes the cookie `user`, and lets an account do some things until somebody revokes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use dialtone_broker::Handle;
use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal};
use dialtone_protocol::Code;
use dialtone_protocol::frame::{Action, Refused};

struct Cookies {
    broker: Arc<OnceLock<Handle>>,
    revoked: AtomicBool,
}

/// For [`Site::new`](crate::site::Site::new).
pub(crate) fn provider() -> impl FnOnce(Arc<OnceLock<Handle>>) -> Arc<dyn Authenticate> {
    |broker| {
        Arc::new(Cookies {
            broker,
            revoked: AtomicBool::new(false),
        })
    }
}

impl Cookies {
    fn judge(&self, action: Action, subject: &str) -> bool {
        if subject == "work.revoke" && !self.revoked.swap(true, Ordering::SeqCst) {
            self.broker.get().unwrap().permissions_changed(None);
        }
        let passing = subject != "work.passing" || !self.revoked.load(Ordering::SeqCst);
        let answers = action == Action::Publish && subject.starts_with("_INBOX.");
        passing && (subject.starts_with("work.") || answers)
    }
}

impl Authenticate for Cookies {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        let cookie = offer
            .info
            .headers
            .get("cookie")
            .map(|value| value.to_str().unwrap());
        let user = cookie.and_then(|cookie| cookie.strip_prefix("user="));
        let outcome = match user {
            Some("nobody") | None => Err(Refused::new(
                Code::Unauthenticated,
                "nobody may not connect",
            )),
            Some(user) => Ok(Principal::new(user, Permissions::Ask)),
        };
        Box::pin(std::future::ready(outcome))
    }

    fn authorize<'a>(
        &'a self,
        _principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(self.judge(action, subject)))
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(Ok(principal.clone())))
    }
}

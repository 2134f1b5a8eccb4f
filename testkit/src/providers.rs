//! Providers of permissions whose answers a test decides, and how long they take.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal};
use dialtone_protocol::frame::{Action, Credentials, Refused};
use dialtone_protocol::{Code, Limits};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Decides about a subject.
pub type Decide = dyn Fn(&str, Action, &str) -> bool + Send + Sync;

/// Lets everybody in whose token names a known user, and asks a closure about subjects, after a delay from a seed.
#[derive(Clone)]
pub struct Scripted {
    inner: Arc<Inner>,
}

struct Inner {
    users: Mutex<HashMap<String, Principal>>,
    decide: Mutex<Arc<Decide>>,
    delay_max: Mutex<Duration>,
    rng: Mutex<StdRng>,
    asked: Mutex<Vec<(String, Action, String)>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripted").finish_non_exhaustive()
    }
}

impl Scripted {
    /// Knows nobody and permits nothing; answers take up to `delay_max`.
    pub fn new(seed: u64, delay_max: Duration) -> Self {
        let decide: Arc<Decide> = Arc::new(|_, _, _| false);
        let inner = Inner {
            users: Mutex::default(),
            decide: Mutex::new(decide),
            delay_max: Mutex::new(delay_max),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            asked: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Lets in who offers `name` as a token.
    pub fn user(&self, name: &str, permissions: Permissions) {
        self.principal(Principal::new(name, permissions));
    }

    /// As [`user`](Self::user), with limits.
    pub fn user_with_limits(&self, name: &str, permissions: Permissions, limits: Limits) {
        let limits = Some(Box::new(limits));
        self.principal(Principal {
            limits,
            ..Principal::new(name, permissions)
        });
    }

    /// Lets in who offers the principal's identity as a token.
    pub fn principal(&self, principal: Principal) {
        self.inner
            .users
            .lock()
            .insert(principal.identity.to_string(), principal);
    }

    /// Refuses a user from here on.
    pub fn forget(&self, name: &str) {
        self.inner.users.lock().remove(name);
    }

    /// Sets what decides for principals with [`Permissions::Ask`].
    pub fn decide(&self, decide: impl Fn(&str, Action, &str) -> bool + Send + Sync + 'static) {
        *self.inner.decide.lock() = Arc::new(decide);
    }

    /// Sets how long answers take at most from here on.
    pub fn delay(&self, delay_max: Duration) {
        *self.inner.delay_max.lock() = delay_max;
    }

    /// Everything that was asked since the last call: who, what, about which subject.
    pub fn asked(&self) -> Vec<(String, Action, String)> {
        std::mem::take(&mut self.inner.asked.lock())
    }

    async fn pause(&self) {
        let delay_max = *self.inner.delay_max.lock();
        if !delay_max.is_zero() {
            let share: f64 = self.inner.rng.lock().random();
            tokio::time::sleep(delay_max.mul_f64(share)).await;
        }
    }

    fn find(&self, name: &str) -> Result<Principal, Refused> {
        let found = self.inner.users.lock().get(name).cloned();
        found.ok_or_else(|| Refused::new(Code::Unauthenticated, "nobody knows this token"))
    }
}

impl Authenticate for Scripted {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(async move {
            self.pause().await;
            match offer.credentials {
                Credentials::Token(token) => self.find(token),
                Credentials::None | Credentials::Password { .. } => {
                    Err(Refused::new(Code::Unauthenticated, "a token is needed"))
                }
            }
        })
    }

    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let asked = (principal.identity.to_string(), action, subject.to_owned());
            self.inner.asked.lock().push(asked);
            let decide = Arc::clone(&self.inner.decide.lock());
            let decision = decide(&principal.identity, action, subject);
            self.pause().await;
            decision
        })
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(async move {
            self.pause().await;
            self.find(&principal.identity)
        })
    }
}

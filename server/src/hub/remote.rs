//! A broker by itself whose hubs are elsewhere: they connect with the site's secret, and are asked about everybody else.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use dialtone_broker::auth::{Answer, Authenticate, Offer, Principal};
use dialtone_client::{Client, Options};
use dialtone_hub::auth::cookie::{Credential, Names};
use dialtone_hub::auth::token;
use dialtone_hub::caller::Caller;
use dialtone_hub::gate::{self, RemoteGate};
use dialtone_hub::identity::Identity;
use dialtone_protocol::Code;
use dialtone_protocol::frame::{Action, Refused};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::door::{name, offered, principal};
use super::{Door, HUB_USER};

/// Longest file with a secret, in bytes.
const SECRET_LEN_MAX: u64 = 4 << 10;

/// What lets hubs in by themselves, and asks them about everybody else.
#[derive(Clone)]
pub(crate) struct RemoteHub {
    secret: Arc<str>,
    names: Names,
    door: Door,
    line: Arc<watch::Sender<Option<Client>>>,
}

impl RemoteHub {
    /// With the site's secret from this file, and its names of cookies. Hubs are asked on `runtime`.
    pub(crate) fn new(path: &Path, names: Names, runtime: Handle) -> anyhow::Result<Self> {
        let secret = read(path)?;
        let (line, asks) = watch::channel(None);
        Ok(Self {
            secret: secret.into(),
            door: Door::new(
                Arc::new(RemoteGate::new(asks)),
                runtime,
                names.clone(),
                None,
            ),
            names,
            line: Arc::new(line),
        })
    }

    /// From here on hubs can be asked, over the broker that is dialled so, until `stop`.
    pub(crate) async fn join(
        &self,
        dial: Options,
        broker: dialtone_broker::Handle,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let client = dial.connect().await;
        let client = client.context("the broker does not let its own parts in")?;
        self.line.send_replace(Some(client.clone()));
        let door = self.door.clone();
        drop(Handle::current().spawn(async move {
            door.follow(broker, stop).await;
            client.close().await;
        }));
        Ok(())
    }

    /// Nothing for whoever does not claim to be a hub.
    fn judge(&self, offer: &Offer<'_>) -> Option<Result<Principal, Refused>> {
        let claimed = match offered(offer) {
            gate::Offer::Password { user, password } if user == HUB_USER => password,
            gate::Offer::Cookies(headers) => {
                match self.names.read(headers.iter().map(String::as_bytes)) {
                    Ok(Credential::HubPassword(password)) => password,
                    Ok(_) | Err(_) => return None,
                }
            }
            gate::Offer::Password { .. } | gate::Offer::Token(_) => return None,
        };
        if token::is_same(&self.secret, &claimed) {
            return Some(Ok(hub()));
        }
        Some(Err(Refused::new(
            Code::Unauthenticated,
            "invalid hub password",
        )))
    }
}

fn hub() -> Principal {
    principal(Identity {
        caller: Caller::Hub,
        proof: 0,
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let cannot = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(cannot)?;
    let mut text = String::new();
    let mut file = file.take(SECRET_LEN_MAX + 1);
    file.read_to_string(&mut text).with_context(cannot)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    let fits = !secret.is_empty() && text.len() as u64 <= SECRET_LEN_MAX;
    anyhow::ensure!(
        fits,
        "{} must have the site's secret, of 1 to {SECRET_LEN_MAX} bytes, and nothing else",
        path.display()
    );
    Ok(secret.to_owned())
}

impl Authenticate for RemoteHub {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        match self.judge(&offer) {
            Some(outcome) => Box::pin(std::future::ready(outcome)),
            None => self.door.authenticate(offer),
        }
    }

    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        self.door.authorize(principal, action, subject)
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        if *principal.identity == *name(Caller::Hub) {
            return Box::pin(std::future::ready(Ok(principal.clone())));
        }
        self.door.refresh(principal)
    }
}

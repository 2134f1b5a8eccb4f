//! Who may pass to a project: its people, administrators of the site, and the project itself.

use dialtone_hub::caller::Caller;
use dialtone_hub::gate::{Gate, Keeper as _, Offer};
use dialtone_hub::id::ProjectId as HubProject;
use dialtone_hub::identity::Refused;
use dialtone_hub::permission::Fact;
use dialtone_proxy::access::{AccessError, Answer, Credentials, Level, Verdict};
use dialtone_proxy::{Access, ProjectId};
use tokio::runtime::Handle;

/// Asks the hub.
#[derive(Debug)]
pub(super) struct SiteAccess {
    gate: Gate,
    runtime: Handle,
}

impl SiteAccess {
    pub(super) fn new(gate: Gate, runtime: Handle) -> Self {
        Self { gate, runtime }
    }
}

impl Access for SiteAccess {
    /// Reading and writing are for the same people.
    fn check<'a>(
        &'a self,
        project: ProjectId,
        credentials: &'a Credentials,
        _level: Level,
    ) -> Answer<'a, Result<Verdict, AccessError>> {
        let gate = self.gate.clone();
        let offers = offers(credentials);
        let checking = self.runtime.spawn(async move {
            let Some(project) = super::hub_id(project) else {
                return Ok(Verdict::Denied);
            };
            check(&gate, project, offers).await
        });
        Box::pin(async move {
            checking
                .await
                .unwrap_or_else(|_ended| Err(AccessError("the hub is ending".to_owned())))
        })
    }
}

/// What to try, in this order: a key after a cookie that does not count.
fn offers(credentials: &Credentials) -> Vec<Offer> {
    let mut offers = Vec::new();
    if !credentials.cookies.is_empty() {
        offers.push(Offer::Cookies(vec![credentials.cookies.join("; ")]));
    }
    offers.extend(credentials.key.clone().map(Offer::Token));
    offers
}

async fn check(
    gate: &Gate,
    project: HubProject,
    offers: Vec<Offer>,
) -> Result<Verdict, AccessError> {
    let failed = |error: &dyn std::error::Error| AccessError(error.to_string());
    let mut verdict = Verdict::SignIn;
    for offer in offers {
        let identity = match gate.admit(&offer).await {
            Ok(identity) => identity,
            Err(Refused::Unavailable(error)) => return Err(failed(&error)),
            Err(_not) => continue,
        };
        let may = may(gate, identity.caller, project).await;
        if may.map_err(|error| failed(&error))? {
            return Ok(Verdict::Allowed {
                identity: super::identity(identity.caller),
            });
        }
        verdict = Verdict::Denied;
    }
    Ok(verdict)
}

async fn may(
    gate: &Gate,
    caller: Caller,
    project: HubProject,
) -> Result<bool, dialtone_hub::permission::LookupError> {
    match caller {
        Caller::Hub => Ok(true),
        Caller::Project(own) => Ok(own == project),
        Caller::Account(account) => {
            let authority = gate.authority();
            Ok(authority.holds(Fact::Member(account, project)).await?
                || authority.holds(Fact::Admin(account)).await?)
        }
    }
}

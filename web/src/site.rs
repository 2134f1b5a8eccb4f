//! Which page.

use std::sync::Arc;

use dialtone_hub::api::Api;
use dialtone_hub::entry::Entry;
use dialtone_hub::entry::first_admin::Invitation;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::Store;
use dialtone_hub::web::{EntryPages, From, Pages, status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use maud::html;
use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::form::Form;
use crate::guard;
use crate::page::{self, Answer, Frame};

/// The pages of a site. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where the site begins; empty, or a path without a slash at its end.
    base: String,
    door: EntryPages,
    api: Arc<Api<Store>>,
    /// How the first administrator is made, if there is none.
    invitation: Option<Arc<Invitation>>,
    /// Orders that go on when nobody waits for them any more.
    orders: TaskTracker,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) account: AccountId,
    /// The secret that the browser shows.
    pub(crate) session: String,
    /// The token of the forms.
    pub(crate) token: String,
}

/// A page, as its path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Home,
    Style(String),
    SignIn,
    SignUp,
    SignOut,
    /// Asking for a new password.
    Forgotten,
    /// Setting it, with the token of a letter.
    Reset(String),
    Verify,
    /// Making the first administrator, with the secret of the link.
    FirstAdmin(String),
    Projects,
    Project(ProjectId),
    /// Something is to be done to a project.
    Act(ProjectId, String),
    Account,
    AccountAct(String),
}

impl Place {
    /// What this path leads to, without what the site begins with.
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match *parts {
            [""] => Self::Home,
            ["static", name] => Self::Style(name.to_owned()),
            ["auth", "sign-in"] => Self::SignIn,
            ["auth", "sign-up"] => Self::SignUp,
            ["auth", "sign-out"] => Self::SignOut,
            ["auth", "password-reset"] => Self::Forgotten,
            ["auth", "password-reset", token] => Self::Reset(token.to_owned()),
            ["auth", "verify"] => Self::Verify,
            ["auth", "first-admin", token] => Self::FirstAdmin(token.to_owned()),
            ["projects"] => Self::Projects,
            ["projects", id] => Self::Project(id.parse().ok()?),
            ["projects", id, act] => Self::Act(id.parse().ok()?, act.to_owned()),
            ["account"] => Self::Account,
            ["account", act] => Self::AccountAct(act.to_owned()),
            _ => return None,
        })
    }

    /// Whether it can be opened, and whether a form can be sent to it.
    fn methods(&self) -> (bool, bool) {
        match self {
            Self::Home | Self::Style(_) | Self::Project(_) | Self::Account => (true, false),
            Self::SignIn
            | Self::SignUp
            | Self::Forgotten
            | Self::Reset(_)
            | Self::Verify
            | Self::FirstAdmin(_)
            | Self::Projects => (true, true),
            Self::SignOut | Self::Act(..) | Self::AccountAct(_) => (false, true),
        }
    }
}

impl Pages for Site {
    fn answer(
        &self,
        request: Request<Incoming>,
        from: From,
    ) -> Result<BoxFuture<'static, Answer>, Request<Incoming>> {
        let path = request.uri().path().strip_prefix(&*self.0.base);
        // People leave out the slash at the end.
        let path = path.map(|path| if path.is_empty() { "/" } else { path });
        let Some(place) = path.and_then(Place::of) else {
            return Err(request);
        };
        let site = self.clone();
        Ok(async move {
            let done = site.at(place, request, from).await;
            done.unwrap_or_else(|refused| refused)
        }
        .boxed())
    }
}

impl Site {
    /// The site that begins at `base`, which is `/` or a path.
    ///
    /// Who comes in does so by this door, and what is done is done by these functions.
    pub fn new(
        base: &str,
        door: EntryPages,
        api: Arc<Api<Store>>,
        invitation: Option<Arc<Invitation>>,
    ) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self(Arc::new(Inner {
            base,
            door,
            api,
            invitation,
            orders: TaskTracker::new(),
        }))
    }

    async fn at(
        &self,
        place: Place,
        request: Request<Incoming>,
        from: From,
    ) -> Result<Answer, Answer> {
        let (opens, takes) = place.methods();
        match *request.method() {
            Method::GET | Method::HEAD if opens => self.opened(place, request, from).await,
            Method::POST if takes => self.sent(place, request, from).await,
            _ => Err(not_allowed(opens, takes)),
        }
    }

    async fn opened(
        &self,
        place: Place,
        request: Request<Incoming>,
        from: From,
    ) -> Result<Answer, Answer> {
        if let Place::Style(name) = &place {
            return page::style(name)
                .ok_or_else(|| page::plain(StatusCode::NOT_FOUND, "There is no such file."));
        }
        let headers = request.headers();
        guard::check_opened(headers).map_err(|wrong| self.turned_away(wrong))?;
        let query = Form::parse(request.uri().query().unwrap_or_default().as_bytes());
        let visitor = self.visitor(headers).await?;
        match (place, visitor) {
            (Place::Home | Place::SignIn | Place::SignUp, Some(_)) => Ok(self.go("/projects")),
            (Place::Home, None) => Ok(self.go("/auth/sign-in")),
            (Place::SignIn, None) => Ok(self.sign_in_page(&query).await),
            (Place::SignUp, None) => Ok(self.sign_up_page(&query).await),
            (Place::Forgotten, _) => Ok(self.forgotten_page()),
            (Place::Reset(_), _) => Ok(self.reset_page(None)),
            (Place::Verify, _) => Ok(self.verify_page(&query)),
            (Place::FirstAdmin(token), _) => Ok(self.first_admin_page(&token)),
            (Place::Projects, Some(visitor)) => self.projects_page(&visitor, None).await,
            (Place::Project(id), Some(visitor)) => self.project_page(&visitor, id, None).await,
            (Place::Account, Some(visitor)) => self.account_page(&visitor, None, from).await,
            (place, None) => Ok(self.sign_in_first(&place)),
            (_, Some(_)) => Err(not_allowed(false, true)),
        }
    }

    async fn sent(
        &self,
        place: Place,
        request: Request<Incoming>,
        from: From,
    ) -> Result<Answer, Answer> {
        let headers = request.headers().clone();
        guard::check_sent(&headers, &self.entry().site).map_err(|wrong| self.turned_away(wrong))?;
        let form = Form::read(request).await?;
        let origin = dialtone_hub::web::origin(&headers, from);
        match place {
            Place::SignIn => return self.sign_in(&form, origin, from).await,
            Place::SignUp => return self.sign_up(&form, origin, from).await,
            Place::Forgotten => return self.ask_for_reset(&form, &origin).await,
            Place::Reset(token) => return self.reset(&token, &form, &origin).await,
            Place::Verify => return self.verify(&form, &origin).await,
            Place::FirstAdmin(token) => {
                return self.first_admin(&token, &form, origin, from).await;
            }
            Place::Home
            | Place::Style(_)
            | Place::SignOut
            | Place::Projects
            | Place::Project(_)
            | Place::Act(..)
            | Place::Account
            | Place::AccountAct(_) => {}
        }
        let Some(visitor) = self.visitor(&headers).await? else {
            return Ok(self.sign_in_first(&place));
        };
        guard::check_token(&visitor.session, form.get("token"))
            .map_err(|wrong| self.turned_away(wrong))?;
        match place {
            Place::SignOut => self.sign_out(&visitor, &form, from).await,
            Place::Projects => self.create_project(&visitor, &form).await,
            Place::Act(id, act) => self.act(&visitor, id, &act, &form).await,
            Place::AccountAct(act) => self.account_act(&visitor, &act, &form, from).await,
            Place::Home
            | Place::Style(_)
            | Place::SignIn
            | Place::SignUp
            | Place::Forgotten
            | Place::Reset(_)
            | Place::Verify
            | Place::FirstAdmin(_)
            | Place::Project(_)
            | Place::Account => Err(not_allowed(true, false)),
        }
    }

    pub(crate) fn door(&self) -> &EntryPages {
        &self.0.door
    }

    pub(crate) fn entry(&self) -> &Entry {
        self.0.door.entry()
    }

    pub(crate) fn api(&self) -> &Arc<Api<Store>> {
        &self.0.api
    }

    pub(crate) fn invitation(&self) -> Option<&Arc<Invitation>> {
        self.0.invitation.as_ref()
    }

    pub(crate) fn orders(&self) -> &TaskTracker {
        &self.0.orders
    }

    pub(crate) fn calls(&self, visitor: &Visitor) -> Calls<'_> {
        Calls {
            api: &self.0.api,
            account: visitor.account,
        }
    }

    pub(crate) fn base(&self) -> &str {
        &self.0.base
    }

    /// To a page of this site.
    pub(crate) fn go(&self, path: &str) -> Answer {
        page::go(&format!("{}{path}", self.0.base))
    }

    /// A page in its frame.
    pub(crate) fn page(
        &self,
        title: &str,
        visitor: Option<&Visitor>,
        code: StatusCode,
        content: &maud::Markup,
    ) -> Answer {
        self.frame(title, visitor, None, code, content)
    }

    /// The same, loaded again after a while.
    pub(crate) fn frame(
        &self,
        title: &str,
        visitor: Option<&Visitor>,
        refresh: Option<std::time::Duration>,
        code: StatusCode,
        content: &maud::Markup,
    ) -> Answer {
        let settings = self.entry().settings.get();
        let frame = Frame {
            base: &self.0.base,
            site: settings.get("site_name"),
            title,
            token: visitor.map(|visitor| visitor.token.as_str()),
            refresh,
        };
        frame.answer(code, content)
    }

    async fn visitor(&self, headers: &HeaderMap) -> Result<Option<Visitor>, Answer> {
        let found = self.0.door.visitor(headers).await.map_err(|refused| {
            let text = "The site cannot look up who you are now. Try again in a moment.";
            tracing::warn!(
                error = &refused as &dyn std::error::Error,
                "a visitor could not be looked up"
            );
            page::plain(status(&refused), text)
        })?;
        Ok(found.map(|(account, session)| Visitor {
            account,
            token: guard::token(&session),
            session,
        }))
    }

    fn sign_in_first(&self, place: &Place) -> Answer {
        // Where to go on afterwards; nothing but a project of ours.
        if let Place::Project(id) = place {
            self.go(&format!("/auth/sign-in?project={id}"))
        } else {
            self.go("/auth/sign-in")
        }
    }

    fn turned_away(&self, wrong: guard::Wrong) -> Answer {
        let content = html! { p.wrong { (wrong.text()) } };
        self.page("Not here", None, StatusCode::FORBIDDEN, &content)
    }
}

fn not_allowed(opens: bool, takes: bool) -> Answer {
    let allowed = match (opens, takes) {
        (true, true) => "GET, HEAD, POST",
        (true, false) => "GET, HEAD",
        (false, _) => "POST",
    };
    let mut answer = page::plain(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("Only {allowed} is understood here."),
    );
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_pages_and_nowhere_else() {
        let id = ProjectId::random();
        assert_eq!(Place::of("/"), Some(Place::Home));
        assert_eq!(
            Place::of(&format!("/projects/{id}")),
            Some(Place::Project(id))
        );
        assert_eq!(
            Place::of(&format!("/projects/{id}/start")),
            Some(Place::Act(id, "start".to_owned()))
        );
        assert_eq!(
            Place::of("/auth/password-reset/abc"),
            Some(Place::Reset("abc".to_owned()))
        );
        for path in [
            "",
            "projects",
            "/project",
            "/projects/x",
            "/auth",
            "//",
            "/healthz",
        ] {
            assert_eq!(Place::of(path), None, "{path}");
        }
    }
}

//! Signing up, in and out, a new password, showing that an address is one's own.

use dialtone_hub::entry::sign_in::Request as SignIn;
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::{Origin, Refused, SignedIn};
use dialtone_hub::id::ProjectId;
use dialtone_hub::letters::Kind;
use dialtone_hub::web::{From, set_cookie, status};
use hyper::StatusCode;
use maud::{Markup, html};

use crate::calls::{status as status_of, told};
use crate::form::Form;
use crate::page::{Answer, field, wrong};
use crate::site::{Site, Visitor};

impl Site {
    pub(crate) async fn sign_in_page(&self, query: &Form) -> Answer {
        self.sign_in_form(query, None, StatusCode::OK).await
    }

    async fn sign_in_form(&self, filled: &Form, text: Option<&str>, code: StatusCode) -> Answer {
        let base = self.base();
        let ways = self.ways(filled.get("email")).await;
        let content = html! {
            (wrong(text))
            form.entry method="post" action={ (base) "/auth/sign-in" } {
                (field("Email address", "email", "email", filled.get("email"), "username"))
                (field("Password", "password", "password", "", "current-password"))
                (on_to(filled))
                button { "Sign in" }
            }
            (self.or_by(&ways, filled))
            p { a href={ (base) "/auth/sign-up" } { "Make an account" } }
            p { a href={ (base) "/auth/password-reset" } { "I do not know my password any more" } }
        };
        self.page("Sign in", None, code, &content)
    }

    pub(crate) async fn sign_in(
        &self,
        form: &Form,
        origin: Origin,
        from: From,
    ) -> Result<Answer, Answer> {
        let wanted = SignIn {
            email_address: form.get("email").trim(),
            password: form.get("password"),
            origin,
        };
        match self.entry().sign_in(&wanted).await {
            Ok(signed_in) => Ok(self.welcome(&signed_in, form, from)),
            Err(refused) => {
                let text = said(&refused);
                Err(self.sign_in_form(form, Some(&text), status(&refused)).await)
            }
        }
    }

    pub(crate) async fn sign_up_page(&self, query: &Form) -> Answer {
        self.sign_up_form(query, None, StatusCode::OK).await
    }

    async fn sign_up_form(&self, filled: &Form, text: Option<&str>, code: StatusCode) -> Answer {
        let base = self.base();
        let ways = self.ways(filled.get("email")).await;
        let token = filled.get("registrationToken");
        let content = html! {
            (wrong(text))
            form.entry method="post" action={ (base) "/auth/sign-up" } {
                (field("First name", "firstName", "text", filled.get("firstName"), "given-name"))
                (field("Last name", "lastName", "text", filled.get("lastName"), "family-name"))
                (field("Email address", "email", "email", filled.get("email"), "username"))
                (field("Password", "password", "password", "", "new-password"))
                label {
                    "Registration token, if you were given one"
                    input name="registrationToken" type="text" value=(token) autocomplete="off";
                }
                button { "Make an account" }
            }
            (self.or_by(&ways, filled))
            p { a href={ (base) "/auth/sign-in" } { "I have an account" } }
        };
        self.page("Make an account", None, code, &content)
    }

    pub(crate) async fn sign_up(
        &self,
        form: &Form,
        origin: Origin,
        from: From,
    ) -> Result<Answer, Answer> {
        let token = form.get("registrationToken").trim();
        let wanted = SignUp {
            email_address: form.get("email").trim(),
            password: form.get("password"),
            first_name: form.get("firstName").trim(),
            last_name: form.get("lastName").trim(),
            token: (!token.is_empty()).then_some(token),
            tags: Vec::new(),
            intent: None,
            origin,
        };
        match self.entry().sign_up(&wanted).await {
            Ok(signed_in) => Ok(self.welcome(&signed_in, form, from)),
            Err(refused) => {
                let text = said(&refused);
                Err(self.sign_up_form(form, Some(&text), status(&refused)).await)
            }
        }
    }

    pub(crate) fn welcome(&self, signed_in: &SignedIn, form: &Form, from: From) -> Answer {
        let answer = match form.get("project").parse::<ProjectId>() {
            Ok(project) => self.go(&format!("/projects/{project}")),
            Err(_none) => self.go("/projects"),
        };
        with_cookie(answer, &self.door().cookie(signed_in, from))
    }

    /// Ends this session, or with `all` those of all browsers.
    pub(crate) async fn sign_out(
        &self,
        visitor: &Visitor,
        form: &Form,
        from: From,
    ) -> Result<Answer, Answer> {
        let ended = if form.get("all").is_empty() {
            self.entry().sign_out(&visitor.session).await
        } else {
            let store = &self.entry().store;
            let ended = dialtone_hub::accounts::sign_out(store, visitor.account, None).await;
            ended.map_err(Refused::from)
        };
        ended.map_err(|refused| {
            let content = wrong(Some(&said(&refused)));
            self.page("Sign out", Some(visitor), status(&refused), &content)
        })?;
        Ok(with_cookie(
            self.go("/auth/sign-in"),
            &self.door().forgotten(from),
        ))
    }

    pub(crate) fn forgotten_page(&self) -> Answer {
        self.forgotten_form(None, StatusCode::OK)
    }

    fn forgotten_form(&self, text: Option<&str>, code: StatusCode) -> Answer {
        let are_sent = self.entry().letters.are_sent_of(Kind::PasswordReset);
        let content = if are_sent {
            html! {
                (wrong(text))
                p { "A letter with a link, by which you set a new password, goes to your address." }
                form.entry method="post" {
                    (field("Email address", "email", "email", "", "username"))
                    button { "Send the letter" }
                }
            }
        } else {
            html! {
                p {
                    "This site sends no letters. Ask whoever runs it for a link: "
                    code { "dialtone admin users reset ADDRESS" }
                    " makes one."
                }
            }
        };
        self.page("A new password", None, code, &content)
    }

    pub(crate) async fn ask_for_reset(
        &self,
        form: &Form,
        origin: &Origin,
    ) -> Result<Answer, Answer> {
        let address = form.get("email").trim();
        match self.entry().ask_for_reset(address, origin).await {
            Ok(()) => {
                let content = html! {
                    p.done {
                        "If there is an account with the address " (address)
                        ", a letter with a link is on its way."
                    }
                };
                Ok(self.page("A new password", None, StatusCode::OK, &content))
            }
            Err(refused) => Err(self.forgotten_form(Some(&said(&refused)), status(&refused))),
        }
    }

    pub(crate) fn reset_page(&self, refused: Option<&Refused>) -> Answer {
        let content = html! {
            (wrong(refused.map(said).as_deref()))
            form.entry method="post" {
                (field("New password", "password", "password", "", "new-password"))
                button { "Set the password" }
            }
        };
        let code = refused.map_or(StatusCode::OK, status);
        self.page("A new password", None, code, &content)
    }

    pub(crate) async fn reset(
        &self,
        token: &str,
        form: &Form,
        origin: &Origin,
    ) -> Result<Answer, Answer> {
        match self
            .entry()
            .reset(token, form.get("password"), origin)
            .await
        {
            Ok(_account) => {
                let content = html! {
                    p.done { "The password is set. All your browsers are signed out." }
                    p { a href={ (self.base()) "/auth/sign-in" } { "Sign in" } }
                };
                Ok(self.page("A new password", None, StatusCode::OK, &content))
            }
            Err(refused) => Err(self.reset_page(Some(&refused))),
        }
    }

    /// Opening the link of a letter does nothing yet: programs that look through mail open links too.
    pub(crate) fn verify_page(&self, query: &Form) -> Answer {
        self.verify_form(query, None, StatusCode::OK)
    }

    fn verify_form(&self, query: &Form, text: Option<&str>, code: StatusCode) -> Answer {
        let (address, token) = (query.get("email"), query.get("token"));
        let content = html! {
            (wrong(text))
            p { "Is " code { (address) } " your address?" }
            form.entry method="post" action={ (self.base()) "/auth/verify" } {
                input type="hidden" name="email" value=(address);
                input type="hidden" name="verification" value=(token);
                button { "Yes, it is mine" }
            }
        };
        self.page("Your address", None, code, &content)
    }

    pub(crate) async fn verify(&self, form: &Form, origin: &Origin) -> Result<Answer, Answer> {
        let (address, token) = (form.get("email"), form.get("verification"));
        match self.entry().verify(address, token, origin).await {
            Ok(_account) => {
                let content = html! {
                    p.done { "This is known to be your address now." }
                    p { a href={ (self.base()) "/projects" } { "To your projects" } }
                };
                Ok(self.page("Your address", None, StatusCode::OK, &content))
            }
            Err(refused) => Err(self.verify_form(form, Some(&said(&refused)), status(&refused))),
        }
    }
}

/// Where to go on, within a form.
fn on_to(filled: &Form) -> Markup {
    let project = filled.get("project").parse::<ProjectId>();
    html! {
        @if let Ok(project) = project {
            input type="hidden" name="project" value=(project);
        }
    }
}

/// What somebody is told who does not come in.
pub(crate) fn said(refused: &Refused) -> String {
    let text = if status(refused).is_server_error() {
        tracing::warn!(
            error = refused as &dyn std::error::Error,
            "a page could not do what it was asked"
        );
        "this is not possible now; try again later".to_owned()
    } else {
        refused.to_string()
    };
    sentence(&text)
}

/// A text as a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    format!("{}{}{end}", first.unwrap_or_default(), chars.as_str())
}

fn with_cookie(mut answer: Answer, cookie: &str) -> Answer {
    set_cookie(&mut answer, cookie);
    answer
}

impl Site {
    /// A page that says why a function did not do it.
    pub(crate) fn failed(
        &self,
        title: &str,
        visitor: &Visitor,
        error: &dialtone_hub::api::Error,
    ) -> Answer {
        let content = html! {
            (wrong(Some(&sentence(&told(error)))))
            p { a href={ (self.base()) "/projects" } { "To your projects" } }
        };
        self.page(title, Some(visitor), status_of(error), &content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_sentences() {
        assert_eq!(sentence("wrong password"), "Wrong password.");
        assert_eq!(sentence("Done!"), "Done!");
        assert_eq!(sentence(""), ".");
    }
}

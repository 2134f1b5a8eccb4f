//! The page behind the link by which the first administrator is made.

use std::sync::Arc;

use dialtone_hub::entry::Origin;
use dialtone_hub::entry::first_admin::{Invitation, Request};
use dialtone_hub::web::{From, status};
use hyper::StatusCode;
use maud::html;

use crate::entry::said;
use crate::form::Form;
use crate::page::{Answer, field, wrong};
use crate::site::Site;

impl Site {
    /// The form, if the link is good.
    pub(crate) fn first_admin_page(&self, token: &str) -> Answer {
        if self.invited(token).is_some() {
            self.first_admin_form(&Form::default(), None, StatusCode::OK)
        } else {
            self.not_invited()
        }
    }

    fn invited(&self, token: &str) -> Option<&Arc<Invitation>> {
        let invitation = self.invitation();
        invitation.filter(|invitation| invitation.is_open_to(token))
    }

    fn not_invited(&self) -> Answer {
        let content = html! {
            p.wrong { "This link was used, or is none." }
            p { code { "dialtone admin users promote" } " makes an account an administrator." }
        };
        self.page("The administrator", None, StatusCode::NOT_FOUND, &content)
    }

    fn first_admin_form(&self, filled: &Form, text: Option<&str>, code: StatusCode) -> Answer {
        let content = html! {
            p { "This makes the administrator of this site." }
            (wrong(text))
            form.entry method="post" {
                (field("First name", "firstName", "text", filled.get("firstName"), "given-name"))
                (field("Last name", "lastName", "text", filled.get("lastName"), "family-name"))
                (field("Email address", "email", "email", filled.get("email"), "username"))
                (field("Password", "password", "password", "", "new-password"))
                button { "Make the account" }
            }
        };
        self.page("The administrator", None, code, &content)
    }

    pub(crate) async fn first_admin(
        &self,
        token: &str,
        form: &Form,
        origin: Origin,
        from: From,
    ) -> Result<Answer, Answer> {
        let Some(invitation) = self.invited(token) else {
            return Err(self.not_invited());
        };
        let wanted = Request {
            token,
            email_address: form.get("email").trim(),
            password: form.get("password"),
            first_name: form.get("firstName").trim(),
            last_name: form.get("lastName").trim(),
            origin,
        };
        match self.entry().become_first_admin(invitation, &wanted).await {
            Ok(signed_in) => Ok(self.welcome(&signed_in, form, from)),
            Err(refused) => {
                let text = said(&refused);
                Err(self.first_admin_form(form, Some(&text), status(&refused)))
            }
        }
    }
}

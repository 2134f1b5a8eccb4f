//! Somebody's account: its keys and its sessions.

use dialtone_hub::api::Error;
use dialtone_hub::web::From;
use hyper::StatusCode;
use maud::{Markup, html};
use serde_json::{Value as Json, json};

use crate::calls::{self, told};
use crate::entry::sentence;
use crate::form::Form;
use crate::page::{Answer, hidden, wrong};
use crate::projects::when;
use crate::site::{Site, Visitor};

/// What is said above the page.
pub(crate) enum Said {
    /// A key that was made: it is shown once.
    Key(String),
    Wrong(Error),
}

impl Site {
    pub(crate) async fn account_page(
        &self,
        visitor: &Visitor,
        said: Option<Said>,
        _from: From,
    ) -> Result<Answer, Answer> {
        let title = "Account";
        let calls = self.calls(visitor);
        let fields = ["first_name", "last_name", "email_address", "passports"];
        let own = ("account_id", json!(visitor.account));
        let row = calls.row("accounts", own, &fields).await;
        let row = row.map_err(|error| self.failed(title, visitor, &error))?;
        let row = row.unwrap_or_default();
        let text = |field: &str| {
            row.get(field)
                .and_then(Json::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let keys = calls
            .call("system.manageApiKeys", json!({"action": "get"}))
            .await;
        let keys = keys.map_err(|error| self.failed(title, visitor, &error))?;
        let keys = keys.as_array().map(Vec::as_slice).unwrap_or_default();
        let (base, token) = (self.base(), visitor.token.as_str());
        let passports = passports(&row);
        let mut ways = self.ways(&text("email_address")).await;
        ways.retain(|way| !passports.iter().any(|linked| linked.strategy == way.name));
        let failure = match &said {
            Some(Said::Wrong(error)) => Some(sentence(&told(error))),
            Some(Said::Key(_)) | None => None,
        };
        let content = html! {
            (wrong(failure.as_deref()))
            @if let Some(Said::Key(key)) = &said {
                p.done { "The key is made. It is shown this once: keep it now." }
                p.secret { (key) }
            }
            p { (text("first_name")) " " (text("last_name")) ", " (text("email_address")) }
            p { "Your number is " code { (visitor.account) } "." }
            (keys_part(keys, base, token))
            @if !passports.is_empty() || !ways.is_empty() {
                h2 { "Other ways to sign in" }
                @for passport in &passports {
                    (passport.line(base, token))
                }
                @if !ways.is_empty() {
                    p.hint { "Sign in with one of these as well:" }
                    (self.link_with(&ways))
                }
            }
            h2 { "Browsers" }
            form method="post" action={ (base) "/auth/sign-out" } {
                (hidden(token))
                input type="hidden" name="all" value="yes";
                button.quiet { "Sign out everywhere" }
            }
        };
        let code = match &said {
            Some(Said::Wrong(error)) => calls::status(error),
            Some(Said::Key(_)) | None => StatusCode::OK,
        };
        Ok(self.page(title, Some(visitor), code, &content))
    }

    pub(crate) async fn account_act(
        &self,
        visitor: &Visitor,
        act: &str,
        form: &Form,
        from: From,
    ) -> Result<Answer, Answer> {
        let keys = "system.manageApiKeys";
        let (function, options) = match act {
            "make-key" => {
                let options = json!({"action": "create", "name": form.get("name").trim()});
                (keys, options)
            }
            "end-key" => {
                let id = form.get("id").parse::<i64>().unwrap_or(-1);
                (keys, json!({"action": "delete", "id": id}))
            }
            "unlink" => {
                let (strategy, id) = (form.get("strategy"), form.get("id"));
                let options = json!({"strategy": strategy, "id": id});
                ("system.deletePassport", options)
            }
            _ => {
                let content = wrong(Some("Nothing of that name can be done to an account."));
                return Err(self.page("Account", Some(visitor), StatusCode::NOT_FOUND, &content));
            }
        };
        let done = self.calls(visitor).call(function, options).await;
        match done {
            Ok(made) if act == "make-key" => {
                let secret = made.get(0).and_then(|key| key.get("secret"));
                let secret = secret.and_then(Json::as_str).unwrap_or_default().to_owned();
                self.account_page(visitor, Some(Said::Key(secret)), from)
                    .await
            }
            Ok(_) => Ok(self.go("/account")),
            Err(error) => {
                self.account_page(visitor, Some(Said::Wrong(error)), from)
                    .await
            }
        }
    }
}

/// Another site that vouches for the account.
struct Passport {
    strategy: String,
    id: String,
    /// The address or name that it says somebody has.
    who: String,
}

/// Those of a row of the account.
fn passports(row: &Json) -> Vec<Passport> {
    let all = row.get("passports").and_then(Json::as_object);
    let all = all.into_iter().flatten();
    let read = all.filter_map(|(name, said)| {
        let id = said.get("id").and_then(Json::as_str)?;
        // Both may have a `-` of their own.
        let strategy = name.strip_suffix(id)?.strip_suffix('-')?;
        let email = said.pointer("/emails/0/email").and_then(Json::as_str);
        Some(Passport {
            strategy: strategy.to_owned(),
            id: id.to_owned(),
            who: email.unwrap_or(id).to_owned(),
        })
    });
    read.collect()
}

impl Passport {
    fn line(&self, base: &str, token: &str) -> Markup {
        html! {
            form.row method="post" action={ (base) "/account/unlink" } {
                (hidden(token))
                input type="hidden" name="strategy" value=(self.strategy);
                input type="hidden" name="id" value=(self.id);
                span { (self.strategy) ", as " (self.who) }
                button.quiet { "Unlink" }
            }
        }
    }
}

/// The keys of an account, and how to make one.
fn keys_part(keys: &[Json], base: &str, token: &str) -> Markup {
    html! {
        h2 { "Keys for programs" }
        p.hint { "A key lets a program do what you may do. Send it as " code { "Authorization: Bearer KEY" } "." }
        @if !keys.is_empty() {
            table {
                thead { tr { th { "Name" } th { "Key" } th { "Used" } th { "Ends" } th {} } }
                tbody {
                    @for key in keys {
                        (key_line(key, base, token))
                    }
                }
            }
        }
        form.row method="post" action={ (base) "/account/make-key" } {
            (hidden(token))
            label { "Name" input name="name" type="text" maxlength="100" required; }
            button { "Make a key" }
        }
    }
}

fn key_line(key: &Json, base: &str, token: &str) -> Markup {
    let text = |field: &str| key.get(field).and_then(Json::as_str).unwrap_or_default();
    let time = |field: &str| key.get(field).and_then(Json::as_i64).map(when);
    html! {
        tr {
            td { (text("name")) }
            td { code { (text("trunc")) } }
            td { (time("last_active").unwrap_or_else(|| "never".to_owned())) }
            td { (time("expire").unwrap_or_else(|| "never".to_owned())) }
            td.actions {
                form method="post" action={ (base) "/account/end-key" } {
                    (hidden(token))
                    input type="hidden" name="id" value=(key.get("id").and_then(Json::as_i64).unwrap_or(-1));
                    button.quiet { "End it" }
                }
            }
        }
    }
}

//! The page behind the link by which the first administrator is made.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;

use super::entry::{failure, origin, set_cookie};
use super::{Answer, EntryPages, From, Pages, answer, body};
use crate::entry::first_admin::{Invitation, Request as Wanted};

/// What the path of the page begins with; the secret of the link is behind it.
pub const PREFIX: &str = "/auth/first-admin/";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Nothing is loaded, nobody shows it in a frame, and no other site learns the link.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
);

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem}\
label{display:block;margin:.8rem 0}input{display:block;width:100%;font:inherit;padding:.4rem;box-sizing:border-box}\
button{font:inherit;padding:.5rem 1.2rem}.wrong{color:#b00020}";

/// The page. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FirstAdminPages {
    pages: EntryPages,
    invitation: Arc<Invitation>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    email: String,
    password: String,
    first_name: String,
    last_name: String,
}

impl Pages for FirstAdminPages {
    fn answer(
        &self,
        request: Request<Incoming>,
        from: From,
    ) -> Result<BoxFuture<'static, Answer>, Request<Incoming>> {
        let Some(token) = request.uri().path().strip_prefix(PREFIX) else {
            return Err(request);
        };
        let (page, token) = (self.clone(), token.to_owned());
        Ok(async move { page.at(&token, request, from).await }.boxed())
    }
}

impl FirstAdminPages {
    /// For who has this invitation, who then comes in by these pages.
    pub fn new(pages: EntryPages, invitation: Arc<Invitation>) -> Self {
        Self { pages, invitation }
    }

    async fn at(&self, token: &str, request: Request<Incoming>, from: From) -> Answer {
        if !self.invitation.is_open_to(token) {
            let text = "<p>This link was used, or is none. <code>dialtone admin users promote</code> \
                        makes an account an administrator.</p>";
            return page(StatusCode::NOT_FOUND, text);
        }
        match *request.method() {
            Method::GET | Method::HEAD => page(StatusCode::OK, &form(&Fields::default(), None)),
            Method::POST => self.submitted(token, request, from).await,
            _ => answer::text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and POST\n".to_owned(),
            ),
        }
    }

    /// From the page's own form, or as JSON from a program.
    async fn submitted(&self, token: &str, request: Request<Incoming>, from: From) -> Answer {
        let origin = origin(request.headers(), from);
        let by_form = !body::is_of_type(request.headers(), "application/json");
        let read = if by_form {
            body::read(request).await.map(|body| fields(&body))
        } else {
            body::json(request).await
        };
        let fields: Fields = match read {
            Ok(fields) => fields,
            Err(refused) => return refused,
        };
        let wanted = Wanted {
            token,
            email_address: &fields.email,
            password: &fields.password,
            first_name: &fields.first_name,
            last_name: &fields.last_name,
            origin,
        };
        let made = self.pages.entry();
        let made = made.become_first_admin(&self.invitation, &wanted).await;
        match made {
            Ok(signed_in) if by_form => {
                let text = format!(
                    "<p>You are the administrator of this site, and signed in.</p>\
                     <p>Your account is <code>{}</code>.</p>",
                    signed_in.account_id
                );
                let mut answer = page(StatusCode::OK, &text);
                set_cookie(&mut answer, &self.pages.cookie(&signed_in, from));
                answer
            }
            Ok(signed_in) => self.pages.welcome(&signed_in, from),
            Err(refused) if by_form => {
                let code = failure(&refused).status();
                page(code, &form(&fields, Some(&refused.to_string())))
            }
            Err(refused) => failure(&refused),
        }
    }
}

fn fields(body: &[u8]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in form_urlencoded::parse(body) {
        let field = match &*name {
            "email" => &mut fields.email,
            "password" => &mut fields.password,
            "firstName" => &mut fields.first_name,
            "lastName" => &mut fields.last_name,
            _ => continue,
        };
        *field = value.into_owned();
    }
    fields
}

fn form(fields: &Fields, wrong: Option<&str>) -> String {
    let wrong = wrong.map_or_else(String::new, |text| {
        format!("<p class=\"wrong\">{}</p>", escaped(text))
    });
    let field = |label: &str, name: &str, kind: &str, value: &str| {
        format!(
            "<label>{label}<input name=\"{name}\" type=\"{kind}\" value=\"{}\" required></label>",
            escaped(value)
        )
    };
    [
        "<p>This makes the administrator of this site.</p>".to_owned(),
        wrong,
        "<form method=\"post\">".to_owned(),
        field("First name", "firstName", "text", &fields.first_name),
        field("Last name", "lastName", "text", &fields.last_name),
        field("Email address", "email", "email", &fields.email),
        field("Password", "password", "password", ""),
        "<button>Create the account</button></form>".to_owned(),
    ]
    .concat()
}

fn page(code: StatusCode, content: &str) -> Answer {
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Dialtone</title><style>{STYLE}</style>\
         <h1>Dialtone</h1>{content}</html>\n"
    );
    let mut answer = answer::text(code, text);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert("content-security-policy", POLICY);
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    answer
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_in_comes_back_as_text() {
        let fields = fields(b"email=a%40b.org&firstName=%3Cb%3E%22&password=x&other=1");
        assert_eq!(fields.email, "a@b.org");
        let shown = form(&fields, Some("no & <never>"));
        assert!(shown.contains("value=\"&lt;b&gt;&quot;\""), "{shown}");
        assert!(shown.contains("no &amp; &lt;never&gt;"), "{shown}");
        assert!(!shown.contains("value=\"x\""), "{shown}");
    }
}

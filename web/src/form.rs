//! What was filled in.

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};

use crate::page::{self, Answer};

/// Most fields that are looked at.
const FIELDS_MAX: usize = 64;

/// The fields of a form, or of the part of an address behind `?`.
#[derive(Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// From the body of a request.
    pub(crate) async fn read(request: Request<Incoming>) -> Result<Self, Answer> {
        if !is_form(request.headers()) {
            let text = "Send the fields of a form: application/x-www-form-urlencoded.";
            return Err(page::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        let body = dialtone_hub::web::read_body(request).await?;
        Ok(Self::parse(&body))
    }

    /// From its text.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let fields = form_urlencoded::parse(text).into_owned();
        Self(fields.take(FIELDS_MAX).collect())
    }

    /// What is in this field; nothing if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value)
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let said = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let said = said.and_then(|said| said.split(|byte| *byte == b';').next());
    said.is_some_and(|said| {
        said.trim_ascii()
            .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_field_counts() {
        let form = Form::parse(b"a=1%202&a=3&b=%C3%BC+x&c");
        assert_eq!((form.get("a"), form.get("b")), ("1 2", "ü x"));
        assert_eq!((form.get("c"), form.get("d")), ("", ""));
    }

    #[test]
    fn other_bodies_are_no_forms() {
        let said = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            is_form(&headers)
        };
        assert!(said("application/x-www-form-urlencoded; charset=utf-8"));
        assert!(!said("text/plain"));
        assert!(!said("application/json"));
        assert!(!is_form(&HeaderMap::new()));
    }
}

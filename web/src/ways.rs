//! Other sites by which somebody signs in, as pages show them.

use dialtone_hub::email::EmailAddress;
use dialtone_hub::id::ProjectId;
use dialtone_hub::sso::{self, Strategy};
use maud::{Markup, html};

use crate::form::Form;
use crate::site::Site;

impl Site {
    /// Those that are shown to whoever has this address: the ones for everybody, and the one for people of its domain.
    /// None if they cannot be looked up now, since there are others.
    pub(crate) async fn ways(&self, address: &str) -> Vec<Strategy> {
        let address = address.trim().parse::<EmailAddress>().ok();
        let mut all = sso::strategies(&self.entry().store)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the ways to sign in could not be looked up"
                );
                Vec::new()
            });
        all.retain(|way| {
            let theirs = address
                .as_ref()
                .is_some_and(|one| way.is_exclusive_for(one));
            way.public || way.do_not_hide || theirs
        });
        all
    }

    /// Links that lead to them, and from there to what was asked for.
    pub(crate) fn or_by(&self, ways: &[Strategy], filled: &Form) -> Markup {
        let target = match filled.get("project").parse::<ProjectId>() {
            Ok(project) => format!("/projects/{project}"),
            Err(_none) => "/projects".to_owned(),
        };
        html! {
            @if !ways.is_empty() {
                h2 { "Or sign in with" }
                (self.links(ways, &format!("target={target}")))
            }
        }
    }

    /// Links by which the account of whoever is signed in is linked with them.
    pub(crate) fn link_with(&self, ways: &[Strategy]) -> Markup {
        self.links(ways, "link=yes&target=/account")
    }

    fn links(&self, ways: &[Strategy], query: &str) -> Markup {
        html! {
            ul.ways {
                @for way in ways {
                    li {
                        a href={ (self.base()) "/auth/" (way.name) "?" (query) } { (way.display) }
                        @if let Some(description) = &way.description {
                            " – " (description)
                        }
                    }
                }
            }
        }
    }
}

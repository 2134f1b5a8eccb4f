//! Who a connection speaks for, and what it may do.
//!
//! The broker knows only [`Authenticate`]. A provider that can list what a principal may do gives
//! [`Permissions::Rules`], which the broker applies itself; one that cannot gives
//! [`Permissions::Ask`] and is asked once per subject and connection. When something changes, the
//! provider's owner calls [`Handle::permissions_changed`](crate::Handle::permissions_changed).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use dialtone_protocol::frame::{Action, Credentials, Refused};
use dialtone_protocol::{Limits, Pattern, inbox, subject};
use dialtone_transport::Info;

pub mod certificate;
pub mod file;
pub mod open;
pub mod system;

/// A future that a provider returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a client offers when it connects.
#[derive(Debug)]
pub struct Offer<'a> {
    /// The transport's part: address, cookies of the upgrade request, client certificates.
    pub info: &'a Info,
    /// The hello's part.
    pub credentials: &'a Credentials,
}

/// Finds out who is connecting and what they may do.
pub trait Authenticate: Send + Sync + 'static {
    /// Judges an offer. A bad credential is refused, never ignored in favour of another one.
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>>;

    /// Decides about one subject (or pattern, for a subscription) of a principal whose permissions
    /// are [`Permissions::Ask`].
    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool>;

    /// What the principal may do by now, after a change. `Err` ends its connections.
    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>>;
}

/// Who a connection speaks for.
#[derive(Debug, Clone)]
pub struct Principal {
    /// A name for people and for the limit on connections; equal names are the same principal.
    pub identity: Arc<str>,
    /// What it may do.
    pub permissions: Permissions,
    /// What its connections are granted; `None` takes the broker's defaults.
    pub limits: Option<Box<Limits>>,
    /// Most connections at the same time; `None` takes the broker's default.
    pub connections_max: Option<u32>,
    /// The provider's mark for the credential that was used, so that [`Authenticate::refresh`] can
    /// end the connections of a credential that was withdrawn; 0 where the provider needs none.
    /// Says nothing about the credential to anybody else.
    pub proof: u64,
}

impl Principal {
    /// A principal with the broker's default limits.
    pub fn new(identity: impl Into<Arc<str>>, permissions: Permissions) -> Self {
        Self {
            identity: identity.into(),
            permissions,
            limits: None,
            connections_max: None,
            proof: 0,
        }
    }
}

/// What a principal may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permissions {
    /// Everything.
    All,
    /// What the rules allow.
    Rules(Arc<Rules>),
    /// The provider decides about each subject.
    Ask,
}

/// Permissions as subject patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Where it may publish, and whose interest it may ask about.
    pub publish: Rule,
    /// What it may subscribe to.
    pub subscribe: Rule,
}

/// Allowed unless denied; what is not mentioned is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// What is allowed.
    pub allow: Vec<Pattern>,
    /// What is denied even if it is allowed.
    pub deny: Vec<Pattern>,
}

impl Rule {
    /// Whether a concrete, checked subject is allowed.
    pub fn allows_subject(&self, text: &str) -> bool {
        let any =
            |patterns: &[Pattern]| patterns.iter().any(|p| subject::matches(p.as_str(), text));
        any(&self.allow) && !any(&self.deny)
    }

    /// Whether a subscription to a checked pattern is allowed: all that it can match must be
    /// allowed, and nothing that it can match denied. Inboxes are allowed only by patterns that
    /// name them, so that a permission for `>` does not open other peers' answers.
    pub fn allows_pattern(&self, text: &str) -> bool {
        let names_inboxes = |pattern: &str| pattern.starts_with(inbox::PREFIX);
        let about_inboxes = names_inboxes(text);
        let covered = self.allow.iter().any(|p| {
            subject::covers(p.as_str(), text) && (!about_inboxes || names_inboxes(p.as_str()))
        });
        covered && !self.deny.iter().any(|p| overlaps(p.as_str(), text))
    }
}

/// Whether some subject is matched by both patterns.
fn overlaps(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(allow: &[&str], deny: &[&str]) -> Rule {
        let patterns = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Pattern::new(text).unwrap())
                .collect()
        };
        Rule {
            allow: patterns(allow),
            deny: patterns(deny),
        }
    }

    #[test]
    fn a_subject_is_allowed_unless_denied_or_unmentioned() {
        let rule = rule(&["work.>", "news.*"], &["work.secret.>", "news.war"]);
        for subject in ["work.a", "work.secret", "work.a.secret.b", "news.sports"] {
            assert!(rule.allows_subject(subject), "{subject}");
        }
        for subject in ["work", "work.secret.a", "news.war", "news.a.b", "other"] {
            assert!(!rule.allows_subject(subject), "{subject}");
        }
    }

    #[test]
    fn a_subscription_must_be_covered_and_must_not_reach_what_is_denied() {
        let rule = rule(&["work.>", "news.*"], &["work.secret.>", "news.war"]);
        for pattern in ["work.a", "work.a.>", "work.*", "work.secret", "news.sports"] {
            assert!(rule.allows_pattern(pattern), "{pattern}");
        }
        for pattern in [
            ">",
            "*",
            "work.>",
            "work.*.a",
            "work.*.>",
            "work.secret.>",
            "news.*",
            "news.>",
            "*.a",
        ] {
            assert!(!rule.allows_pattern(pattern), "{pattern}");
        }
    }

    #[test]
    fn an_empty_rule_allows_nothing() {
        let rule = Rule::default();
        assert!(
            !rule.allows_subject("a") && !rule.allows_pattern("a") && !rule.allows_pattern(">")
        );
    }

    fn segments(words: &'static str, tail: bool) -> impl Strategy<Value = String> {
        let tail = if tail { "(\\.>)?" } else { "" };
        proptest::string::string_regex(&format!("{words}(\\.{words}){{0,3}}{tail}")).unwrap()
    }

    proptest! {
        /// Whoever may subscribe to a pattern may subscribe to each subject that it matches.
        #[test]
        fn an_allowed_pattern_reaches_only_allowed_subjects(
            allow in proptest::collection::vec(segments("[ab*]", true), 0..3),
            deny in proptest::collection::vec(segments("[ab*]", true), 0..3),
            pattern in segments("[ab*]", true),
            subject in segments("[ab]", false),
        ) {
            let texts = |list: &[String]| list.iter().map(|text| Pattern::new(text).unwrap()).collect();
            let rule = Rule { allow: texts(&allow), deny: texts(&deny) };
            if rule.allows_pattern(&pattern) && subject::matches(&pattern, &subject) {
                prop_assert!(rule.allows_subject(&subject));
            }
        }

        #[test]
        fn patterns_overlap_when_a_subject_is_matched_by_both(
            one in segments("[ab*]", true),
            other in segments("[ab*]", true),
            subject in segments("[ab]", false),
        ) {
            prop_assert_eq!(overlaps(&one, &other), overlaps(&other, &one));
            if subject::matches(&one, &subject) && subject::matches(&other, &subject) {
                prop_assert!(overlaps(&one, &other));
            }
        }
    }
}

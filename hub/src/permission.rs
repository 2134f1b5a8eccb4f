//! What an identity may publish and subscribe to on the broker.
//!
//! [`decide`] is a pure function of the caller and the subject. Where that alone does not decide, it says which fact
//! does ([`Decision::IfAdmin`], [`Decision::IfMember`]); [`Authority`] looks facts up, keeps them, and forgets each at
//! the moment that it changes.
//!
//! What is not mentioned is denied. In the table, `U-ID` is the caller's own `account-<id>` or `project-<id>`, and an
//! account has besides its own the scope of each project of which it is a member, except for the inboxes.
//!
//! | subject | publish | subscribe |
//! |---|---|---|
//! | `hub.U.ID.…` | yes | hubs alone |
//! | `_INBOX.…` | yes: knowing an inbox is the permission to answer | own `_INBOX.U-ID.…` |
//! | `public.…` | hubs alone | yes |
//! | `auth.…`: what brokers ask hubs | hubs alone | hubs alone |
//! | `sys.…` | administrators | administrators |
//! | services ([`SERVICES`]): `persist.U-ID.…` and others | yes, but for the answers below `….client.` | the answers below `….client.` |
//! | `project.ID.…`, `account.ID.…`, `<any>.U-ID.…` | yes | yes |
//!
//! The first two segments of a subscription are words, never wildcards: that is what keeps everybody in their scope.

mod facts;
pub use facts::{Fact, Facts, LookupError};

mod authority;
pub use authority::{Authority, Config, Status};

mod stored;
pub(crate) use stored::affected;
pub use stored::{Affected, follow};

pub use dialtone_protocol::frame::Action;

use crate::caller::{Caller, canonical};
use crate::id::ProjectId;

/// First segments of the subjects at which parts of the site answer. Only hubs receive requests there, so that nobody
/// can pose as the service, and only hubs answer, so that nobody can make up its answers to another member.
pub const SERVICES: &[&str] = &["persist", "changefeeds", "llm", "time"];

/// The third segment of the subjects at which a service answers to the sockets of its clients.
const ANSWERS: &str = "client";

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// If the account is an administrator of the site.
    IfAdmin,
    /// If the account is an owner or collaborator of the project.
    IfMember(ProjectId),
}

/// A subject taken apart as far as the rules look.
struct Parts<'a> {
    first: &'a str,
    second: &'a str,
    third: Option<&'a str>,
    fourth: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// `None` for less than two segments, which nobody but hubs may use, and for wildcards among the first two.
    fn of(subject: &'a str) -> Option<Self> {
        let mut segments = subject.split('.');
        let parts = Self {
            first: segments.next()?,
            second: segments.next()?,
            third: segments.next(),
            fourth: segments.next(),
        };
        let word = |segment: &str| !matches!(segment, "" | "*" | ">");
        (word(parts.first) && word(parts.second)).then_some(parts)
    }
}

/// Who a subject belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Own,
    Project(ProjectId),
    Nobody,
}

/// What the rules say about a subject, or about a pattern where the action is to subscribe.
pub fn decide(caller: Caller, action: Action, subject: &str) -> Decision {
    if caller == Caller::Hub {
        return Decision::Allow;
    }
    match (subject.split_once('.'), action) {
        (Some(("_INBOX", _)), Action::Publish) | (Some(("public", _)), Action::Subscribe) => {
            return Decision::Allow;
        }
        (Some(("public", _)), Action::Publish) | (None, _) => return Decision::Deny,
        (Some(("sys", _)), _) => {
            return caller
                .account()
                .map_or(Decision::Deny, |_| Decision::IfAdmin);
        }
        (Some(_), _) => {}
    }
    let Some(parts) = Parts::of(subject) else {
        return Decision::Deny;
    };
    match parts.first {
        "_INBOX" => allow_if(scope(caller, &parts) == Scope::Own && parts.third.is_some()),
        "hub" => allow_if(action == Action::Publish && is_own_request(caller, &parts)),
        first if first.starts_with("persist:") => Decision::Deny,
        first if SERVICES.contains(&first) => service(caller, action, &parts),
        _ => in_scope(scope(caller, &parts)),
    }
}

fn allow_if(condition: bool) -> Decision {
    if condition {
        Decision::Allow
    } else {
        Decision::Deny
    }
}

fn in_scope(scope: Scope) -> Decision {
    match scope {
        Scope::Own => Decision::Allow,
        Scope::Project(id) => Decision::IfMember(id),
        Scope::Nobody => Decision::Deny,
    }
}

/// `hub.<kind>.<id>.…` with the caller's own kind and identifier.
fn is_own_request(caller: Caller, parts: &Parts<'_>) -> bool {
    let owner = parts.third.and_then(|id| of_kind(parts.second, id));
    parts.fourth.is_some() && owner == Some(caller)
}

/// Requests go to a service, answers come from it.
fn service(caller: Caller, action: Action, parts: &Parts<'_>) -> Decision {
    let answers = parts.third == Some(ANSWERS);
    let requests = parts
        .third
        .is_some_and(|third| !matches!(third, ANSWERS | "*" | ">"));
    let right_way = match action {
        Action::Publish => requests,
        Action::Subscribe => answers,
    };
    match by_segment(parts.second) {
        Some(owner) if right_way => in_scope(scope_of(caller, owner)),
        Some(_) | None => Decision::Deny,
    }
}

/// Who owns the subject: `<kind>.<id>.…`, or else anything with `<kind>-<id>` as its second segment.
fn scope(caller: Caller, parts: &Parts<'_>) -> Scope {
    let owner = match parts.first {
        "project" | "account" if parts.third.is_some() => {
            of_kind(parts.first, parts.second).or_else(|| by_segment(parts.second))
        }
        _ => by_segment(parts.second),
    };
    owner.map_or(Scope::Nobody, |owner| scope_of(caller, owner))
}

fn scope_of(caller: Caller, owner: Caller) -> Scope {
    match (caller, owner) {
        (_, Caller::Hub) => Scope::Nobody,
        (caller, owner) if caller == owner => Scope::Own,
        (Caller::Account(_), Caller::Project(id)) => Scope::Project(id),
        (Caller::Account(_) | Caller::Project(_) | Caller::Hub, _) => Scope::Nobody,
    }
}

fn of_kind(kind: &str, id: &str) -> Option<Caller> {
    match kind {
        "account" => canonical(id).ok().map(Caller::Account),
        "project" => canonical(id).ok().map(Caller::Project),
        _ => None,
    }
}

fn by_segment(segment: &str) -> Option<Caller> {
    let (kind, id) = segment.split_once('-')?;
    of_kind(kind, id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::AccountId;

    const ME: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";
    const OTHER: &str = "11111111-5e7d-4d3c-8f53-0c2a1d5a3c11";
    const PROJECT: &str = "22222222-5e7d-4d3c-8f53-0c2a1d5a3c11";

    fn account() -> Caller {
        Caller::Account(ME.parse().unwrap())
    }

    fn project() -> Caller {
        Caller::Project(PROJECT.parse().unwrap())
    }

    /// Replaces `ME`, `OTHER` and `PROJECT` by identifiers.
    fn subject(text: &str) -> String {
        text.replace("ME", ME)
            .replace("OTHER", OTHER)
            .replace("PROJECT", PROJECT)
    }

    #[track_caller]
    fn check(caller: Caller, rows: &[(&str, &str, &str)]) {
        for (text, publish, subscribe) in rows {
            for (action, expected) in [(Action::Publish, publish), (Action::Subscribe, subscribe)] {
                let found = match decide(caller, action, &subject(text)) {
                    Decision::Allow => "yes",
                    Decision::Deny => "no",
                    Decision::IfAdmin => "admin",
                    Decision::IfMember(id) => {
                        assert_eq!(id.to_string(), PROJECT, "{text}");
                        "member"
                    }
                };
                assert_eq!(found, *expected, "{caller} {action:?} {text}");
            }
        }
    }

    #[test]
    fn what_an_account_may() {
        check(
            account(),
            &[
                ("hub.account.ME.api", "yes", "no"),
                ("hub.account.ME", "no", "no"),
                ("hub.account.OTHER.api", "no", "no"),
                ("hub.project.PROJECT.api", "no", "no"),
                ("hub.project.ME.api", "no", "no"),
                ("hub.account-ME.api", "no", "no"),
                ("hub.*.*.api", "no", "no"),
                ("hub.>", "no", "no"),
                ("_INBOX.anything.at.all", "yes", "no"),
                ("_INBOX.account-ME.x.y", "yes", "yes"),
                ("_INBOX.account-ME.>", "yes", "yes"),
                ("_INBOX.account-ME", "yes", "no"),
                ("_INBOX.account-OTHER.>", "yes", "no"),
                // The rule for members does not hold for inboxes.
                ("_INBOX.project-PROJECT.>", "yes", "no"),
                ("_INBOX.>", "yes", "no"),
                ("public.news", "no", "yes"),
                ("public.>", "no", "yes"),
                ("public", "no", "no"),
                ("sys.conat.default", "admin", "admin"),
                ("sys.>", "admin", "admin"),
                ("sys", "no", "no"),
                ("account.ME.x", "yes", "yes"),
                ("account.ME.>", "yes", "yes"),
                ("account.ME", "no", "no"),
                ("account.OTHER.x", "no", "no"),
                ("account.*.x", "no", "no"),
                ("services.account-ME.x", "yes", "yes"),
                ("services.account-OTHER.x", "no", "no"),
                ("services.account-MEx.x", "no", "no"),
                ("project.PROJECT.0.api.-", "member", "member"),
                ("project.PROJECT.>", "member", "member"),
                ("project.PROJECT", "no", "no"),
                ("project.ME-x.y", "no", "no"),
                ("services.project-PROJECT.*.*", "member", "member"),
                ("*.account-ME.>", "no", "no"),
                ("*.project-PROJECT.>", "no", "no"),
                ("x.*", "no", "no"),
                (">", "no", "no"),
                ("x", "no", "no"),
            ],
        );
    }

    #[test]
    fn what_a_project_may() {
        check(
            project(),
            &[
                ("hub.project.PROJECT.api", "yes", "no"),
                ("hub.account.ME.api", "no", "no"),
                ("project.PROJECT.0.api.-", "yes", "yes"),
                ("project.OTHER.0.api.-", "no", "no"),
                ("services.project-PROJECT.>", "yes", "yes"),
                ("services.project-OTHER.>", "no", "no"),
                ("account.ME.x", "no", "no"),
                ("services.account-ME.x", "no", "no"),
                ("_INBOX.project-PROJECT.>", "yes", "yes"),
                ("_INBOX.account-ME.>", "yes", "no"),
                ("sys.conat.default", "no", "no"),
                ("public.x", "no", "yes"),
                ("persist.project-PROJECT.call", "yes", "no"),
                ("persist.account-ME.call", "no", "no"),
            ],
        );
    }

    #[test]
    fn only_hubs_are_services_and_only_services_answer() {
        check(
            account(),
            &[
                ("persist.account-ME.call", "yes", "no"),
                ("persist.account-ME.on.n1", "yes", "no"),
                ("persist.account-ME.id", "yes", "no"),
                ("persist.account-ME.server.0.c", "yes", "no"),
                ("persist.account-ME.client.c", "no", "yes"),
                ("persist.account-ME.>", "no", "no"),
                ("persist.account-ME.*.c", "no", "no"),
                ("persist.account-ME", "no", "no"),
                ("persist.account-OTHER.call", "no", "no"),
                ("persist.account-OTHER.client.c", "no", "no"),
                ("persist.hub.call", "no", "no"),
                ("persist.*.server.status", "no", "no"),
                ("persist.project-PROJECT.call", "member", "no"),
                ("persist.project-PROJECT.client.c", "no", "member"),
                ("persist:default:n1.account-ME.x", "no", "no"),
                ("changefeeds.account-ME.server.status", "yes", "no"),
                ("changefeeds.*", "no", "no"),
                ("llm.account-ME.api", "yes", "no"),
                ("time.account-ME.api", "yes", "no"),
                ("time.*.api", "no", "no"),
            ],
        );
    }

    #[test]
    fn hubs_may_do_everything() {
        check(
            Caller::Hub,
            &[(">", "yes", "yes"), ("hub.*.*.api", "yes", "yes")],
        );
    }

    #[test]
    fn another_spelling_of_an_identifier_is_nobody() {
        for text in [
            "account.ME.x",
            "services.account-ME.x",
            "hub.account.ME.api",
        ] {
            let upper = text.replace("ME", &ME.to_uppercase());
            assert_eq!(decide(account(), Action::Publish, &upper), Decision::Deny);
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("hub"),
            Just("account"),
            Just("project"),
            Just("persist"),
            Just("llm"),
            Just("_INBOX"),
            Just("public"),
            Just("sys"),
            Just("services"),
            Just("client"),
            Just("api"),
            Just("*"),
            Just(">"),
            Just(ME),
            Just(OTHER),
            Just(PROJECT),
            Just("account-6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11"),
            Just("account-11111111-5e7d-4d3c-8f53-0c2a1d5a3c11"),
            Just("project-22222222-5e7d-4d3c-8f53-0c2a1d5a3c11"),
            Just("project-11111111-5e7d-4d3c-8f53-0c2a1d5a3c11"),
        ]
        .prop_map(str::to_owned)
    }

    fn subjects() -> impl Strategy<Value = String> {
        proptest::collection::vec(segment(), 1..6).prop_map(|segments| segments.join("."))
    }

    fn callers() -> impl Strategy<Value = Caller> {
        prop_oneof![
            Just(account()),
            Just(project()),
            Just(Caller::Account(AccountId::from_uuid(
                OTHER.parse().unwrap()
            ))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        /// Whoever may subscribe to a pattern may subscribe to everything that it matches, under no easier condition.
        #[test]
        fn a_pattern_reaches_nothing_that_is_not_allowed_by_itself(
            caller in callers(),
            pattern in subjects(),
            concrete in subjects(),
        ) {
            let valid = dialtone_protocol::Pattern::new(&pattern).is_ok()
                && dialtone_protocol::Subject::new(&concrete).is_ok();
            if valid && dialtone_protocol::subject::matches(&pattern, &concrete) {
                let wide = decide(caller, Action::Subscribe, &pattern);
                let narrow = decide(caller, Action::Subscribe, &concrete);
                prop_assert!(wide == Decision::Deny || narrow == wide || narrow == Decision::Allow,
                    "{wide:?} for {pattern}, {narrow:?} for {concrete}");
            }
        }

        /// Except for what is open to all, a subject is allowed without a condition only to those whom it names.
        #[test]
        fn without_a_condition_everybody_stays_in_what_names_them(
            caller in callers(),
            text in subjects(),
            publish in any::<bool>(),
        ) {
            let action = if publish { Action::Publish } else { Action::Subscribe };
            let open = match action {
                Action::Publish => text.starts_with("_INBOX."),
                Action::Subscribe => text.starts_with("public."),
            };
            if decide(caller, action, &text) == Decision::Allow && !open {
                let id = match caller {
                    Caller::Account(id) => id.to_string(),
                    Caller::Project(id) => id.to_string(),
                    Caller::Hub => unreachable!(),
                };
                prop_assert!(text.contains(&id), "{caller} {action:?} {text}");
            }
        }

        /// No answer to a request to the hub is received, and no service played, by anybody but hubs.
        #[test]
        fn nobody_hears_requests_to_the_site(caller in callers(), text in subjects()) {
            let first = text.split('.').next().unwrap();
            if decide(caller, Action::Subscribe, &text) != Decision::Deny {
                prop_assert!(first != "hub" && first != "*" && first != ">");
                if SERVICES.contains(&first) {
                    prop_assert_eq!(text.split('.').nth(2), Some("client"));
                }
            }
        }
    }
}

//! A function of the hub as the table declares it.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::shape::Field;

/// How long a call may take, if its caller says nothing: as long as the original's clients wait for most answers.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the identity of the caller does to a call, under the names that the original has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapper {
    /// Nothing: the function is the same for everybody.
    NoAuth,
    /// The first argument is an object, made if it is missing; a project's own identifier is put into it.
    AuthFirst,
    /// The caller must be an account.
    RequireAccount,
    /// Both.
    AuthFirstRequireAccount,
}

impl Wrapper {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoAuth => "noAuth",
            Self::AuthFirst => "authFirst",
            Self::RequireAccount => "requireAccount",
            Self::AuthFirstRequireAccount => "authFirstRequireAccount",
        }
    }

    pub(crate) fn is_auth_first(self) -> bool {
        matches!(self, Self::AuthFirst | Self::AuthFirstRequireAccount)
    }

    pub(crate) fn requires_account(self) -> bool {
        matches!(self, Self::RequireAccount | Self::AuthFirstRequireAccount)
    }
}

/// What must hold of the caller before a function runs. A path names fields of the first argument, with dots between;
/// where nothing is there, nothing must hold, and where a list is there, it must hold for each of its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The caller is an account.
    Account,
    /// The caller is an administrator of the site.
    Admin,
    /// The caller is an administrator of the site, if this field is there and not false.
    AdminIf(&'static str),
    /// The caller is an owner or collaborator of the project, or the project itself.
    Member(&'static str),
    /// That, or an administrator of the site.
    MemberOrAdmin(&'static str),
}

impl Rule {
    /// In words, for `system.describe`.
    fn describe(self) -> String {
        match self {
            Self::Account => "account".to_owned(),
            Self::Admin => "admin".to_owned(),
            Self::AdminIf(path) => format!("admin if {path}"),
            Self::Member(path) => format!("member of {path}"),
            Self::MemberOrAdmin(path) => format!("member of {path}, or admin"),
        }
    }
}

/// A function of the hub.
#[derive(Debug)]
pub struct Function {
    /// `group.function`.
    pub name: &'static str,
    /// What the caller's identity does to a call.
    pub wrapper: Wrapper,
    /// Its arguments in their order.
    pub params: &'static [Field],
    /// What must hold of the caller, all of it.
    pub rules: &'static [Rule],
    /// The longest that a caller may let it run.
    pub deadline_max: Duration,
    /// What it does, in a sentence.
    pub about: &'static str,
}

impl Function {
    pub(super) const fn new(
        name: &'static str,
        wrapper: Wrapper,
        params: &'static [Field],
        rules: &'static [Rule],
        about: &'static str,
    ) -> Self {
        Self {
            name,
            wrapper,
            params,
            rules,
            deadline_max: Duration::from_mins(2),
            about,
        }
    }

    pub(super) const fn deadline_max(mut self, deadline_max: Duration) -> Self {
        self.deadline_max = deadline_max;
        self
    }

    /// How long a call may take whose caller waits for so long.
    pub fn deadline(&self, wanted: Option<Duration>) -> Duration {
        wanted.unwrap_or(DEADLINE).min(self.deadline_max)
    }

    /// What `system.describe` says of it.
    pub fn describe(&self, available: bool) -> Json {
        let params: Vec<Json> = self
            .params
            .iter()
            .map(|param| {
                json!({"name": param.name, "required": param.required, "schema": param.shape.schema()})
            })
            .collect();
        let rules: Vec<String> = self.rules.iter().map(|rule| rule.describe()).collect();
        json!({
            "name": self.name,
            "about": self.about,
            "auth": self.wrapper.name(),
            "rules": rules,
            "params": params,
            "timeout_max": u64::try_from(self.deadline_max.as_millis()).unwrap_or(u64::MAX),
            "available": available,
        })
    }
}

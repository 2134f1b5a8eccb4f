//! Who a connection speaks for, as a client is told.

use serde_json::{Value, json};

/// Who a connection speaks for: a JSON value, since clients and tools show it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    json: Value,
}

/// What the identities of accounts, projects and hubs begin with.
const KINDS: [(&str, &str); 3] = [
    ("account-", "account_id"),
    ("project-", "project_id"),
    ("hub-", "hub_id"),
];

impl User {
    /// Of an identity: `account-ID`, `project-ID` and `hub-ID` are what they say, `anonymous` is nobody, and any other
    /// name is that of a hub if it may do everything.
    pub fn of_identity(identity: &str) -> Self {
        if identity == "anonymous" {
            return Self { json: Value::Null };
        }
        for (prefix, key) in KINDS {
            if let Some(id) = identity.strip_prefix(prefix) {
                return Self {
                    json: json!({ key: id }),
                };
            }
        }
        Self {
            json: json!({ "user": identity }),
        }
    }

    /// Of one who was not let in.
    pub fn refused(error: &str, code: Option<u16>) -> Self {
        let error = format!("Error: {error}");
        let json = match code {
            Some(code) => json!({ "error": error, "code": code }),
            None => json!({ "error": error }),
        };
        Self { json }
    }

    /// As clients see it.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Whether it is a hub, which has many subscriptions.
    pub fn is_hub(&self) -> bool {
        self.json.get("hub_id").is_some()
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.json.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_become_users() {
        for (identity, json) in [
            ("anonymous", "null"),
            ("account-1f", r#"{"account_id":"1f"}"#),
            ("project-1f", r#"{"project_id":"1f"}"#),
            ("hub-system", r#"{"hub_id":"system"}"#),
            ("alice", r#"{"user":"alice"}"#),
        ] {
            assert_eq!(User::of_identity(identity).to_string(), json);
        }
        assert!(User::of_identity("hub-hub").is_hub());
        assert!(!User::of_identity("account-hub").is_hub());
    }

    #[test]
    fn a_refusal_has_a_code_only_for_limits() {
        assert_eq!(
            User::refused("no", None).to_string(),
            r#"{"error":"Error: no"}"#
        );
        let limited = User::refused("no", Some(429));
        assert_eq!(limited.json().get("code"), Some(&json!(429)));
    }
}

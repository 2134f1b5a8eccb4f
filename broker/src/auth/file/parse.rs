//! From the text of a file of users to a table, or to everything that is wrong with it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use dialtone_protocol::{Limits, Pattern};
use serde::Deserialize;
use toml::Spanned;

use super::error::Problem;
use super::password::{StoredPassword, StoredToken};
use super::table::{Grant, Proofs, Table, User};
use crate::auth::certificate::NAME_LEN_MAX;
use crate::auth::{Permissions, Rule, Rules};

/// Longest file of users, in bytes.
pub(super) const FILE_LEN_MAX: u64 = 64 << 20;

/// Most users of a file.
const USERS_MAX: usize = 100_000;

/// Most patterns in one list of a user.
const PATTERNS_MAX: usize = 1_000;

/// Most problems that are reported at once.
pub(super) const PROBLEMS_MAX: usize = 20;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    user: Vec<Spanned<RawUser>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: Spanned<String>,
    password: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    certificate: Option<Spanned<String>>,
    publish: Option<Spanned<RawRule>>,
    subscribe: Option<Spanned<RawRule>>,
    connections_max: Option<u32>,
    limits: Option<RawLimits>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    allow: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "named as in the broker's limits")]
struct RawLimits {
    subscriptions_max: Option<u32>,
    messages_per_second_max: Option<u32>,
    bytes_per_second_max: Option<u64>,
    message_len_max: Option<u64>,
}

/// Reads the users. Limits that a user does not set are `defaults`.
///
/// # Errors
/// All problems, [`PROBLEMS_MAX`] at most.
pub(super) fn parse(text: &str, defaults: &Limits) -> Result<Table, Vec<Problem>> {
    let file: RawFile = toml::from_str(text).map_err(|error| vec![unreadable(text, &error)])?;
    let mut reader = Reader {
        text,
        defaults,
        problems: Vec::new(),
        taken: HashMap::new(),
        user: String::new(),
    };
    let mut table = Table::new();
    if let Some(first_over) = file.user.get(USERS_MAX) {
        reader.problem(
            first_over.span(),
            "name",
            format!("there must be at most {USERS_MAX} users"),
        );
    }
    for user in file.user.iter().take(USERS_MAX) {
        reader.user(user, &mut table);
        if reader.problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    reader.problems.truncate(PROBLEMS_MAX);
    if reader.problems.is_empty() {
        Ok(table)
    } else {
        Err(reader.problems)
    }
}

/// What must be of one user alone.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Unique {
    Name(String),
    Token(String),
    Certificate(String),
}

struct Reader<'a> {
    text: &'a str,
    defaults: &'a Limits,
    problems: Vec<Problem>,
    /// Whose is what, and in which line.
    taken: HashMap<Unique, usize>,
    /// Whose entry is read.
    user: String,
}

impl Reader<'_> {
    /// Adds one user, or what is wrong with it.
    fn user(&mut self, entry: &Spanned<RawUser>, table: &mut Table) {
        let raw = entry.get_ref();
        raw.name.get_ref().clone_into(&mut self.user);
        self.name(&raw.name);
        let password = raw.password.as_ref().and_then(|text| self.password(text));
        let token = raw.token.as_ref().and_then(|text| self.token(text));
        let certificate = raw
            .certificate
            .as_ref()
            .and_then(|name| self.certificate(name));
        if raw.password.is_none() && raw.token.is_none() && raw.certificate.is_none() {
            self.problem(
                raw.name.span(),
                "name",
                "has no password, token or certificate to be known by",
            );
        }
        let grant = Grant {
            permissions: self.permissions(raw),
            limits: raw
                .limits
                .as_ref()
                .map(|limits| Box::new(limits.over(self.defaults))),
            connections_max: raw.connections_max,
        };
        let mark =
            |kind: &str, stored: Option<&str>| stored.map(|stored| Proofs::mark(kind, stored));
        let proofs = Proofs {
            password: mark(
                "password",
                raw.password.as_ref().map(|text| text.get_ref().as_str()),
            ),
            token: mark(
                "token",
                raw.token.as_ref().map(|text| text.get_ref().as_str()),
            ),
            certificate: mark("certificate", certificate.as_deref()),
        };
        if self.problems.is_empty() {
            let user = User::new(Arc::from(self.user.as_str()), grant, password, proofs);
            table.add(user, token, certificate.as_deref());
        }
    }

    fn name(&mut self, name: &Spanned<String>) {
        let (text, span) = (name.get_ref(), name.span());
        if text.is_empty() || text.len() > NAME_LEN_MAX || text.chars().any(char::is_control) {
            let rule = format!("must have 1 to {NAME_LEN_MAX} bytes and no control characters");
            self.problem(span, "name", rule);
        } else {
            self.unique(Unique::Name(text.clone()), span, "name");
        }
    }

    fn password(&mut self, text: &Spanned<String>) -> Option<StoredPassword> {
        StoredPassword::parse(text.get_ref())
            .map_err(|why| self.problem(text.span(), "password", why))
            .ok()
    }

    fn token(&mut self, text: &Spanned<String>) -> Option<StoredToken> {
        let token = StoredToken::parse(text.get_ref());
        match token {
            Some(_) => self.unique(
                Unique::Token(text.get_ref().to_ascii_lowercase()),
                text.span(),
                "token",
            ),
            None => {
                let rule =
                    "must be \"sha256:\" and the 64 hexadecimal digits of the token's SHA-256 hash";
                self.problem(text.span(), "token", rule);
            }
        }
        token
    }

    fn certificate(&mut self, name: &Spanned<String>) -> Option<String> {
        let lower = name.get_ref().to_ascii_lowercase();
        if lower.is_empty() || lower.len() > NAME_LEN_MAX {
            let rule = format!("must be a common name or DNS name of 1 to {NAME_LEN_MAX} bytes");
            self.problem(name.span(), "certificate", rule);
            return None;
        }
        self.unique(
            Unique::Certificate(lower.clone()),
            name.span(),
            "certificate",
        );
        Some(lower)
    }

    fn permissions(&mut self, raw: &RawUser) -> Permissions {
        if raw.publish.is_none() && raw.subscribe.is_none() {
            return Permissions::All;
        }
        let publish = self.rule(raw.publish.as_ref().map(Spanned::get_ref), "publish");
        let subscribe = self.rule(raw.subscribe.as_ref().map(Spanned::get_ref), "subscribe");
        Permissions::Rules(Arc::new(Rules { publish, subscribe }))
    }

    /// A rule that is absent, or has no `allow`, allows everything that it does not deny.
    fn rule(&mut self, raw: Option<&RawRule>, field: &str) -> Rule {
        let allow = match raw.and_then(|rule| rule.allow.as_ref()) {
            Some(patterns) => self.patterns(patterns, field, "allow"),
            None => vec![Pattern::new(">").expect("the widest pattern is valid")],
        };
        let deny = raw
            .map(|rule| self.patterns(&rule.deny, field, "deny"))
            .unwrap_or_default();
        Rule { allow, deny }
    }

    fn patterns(&mut self, raw: &[Spanned<String>], rule: &str, list: &str) -> Vec<Pattern> {
        let field = format!("{rule}.{list}");
        if let Some(first_over) = raw.get(PATTERNS_MAX) {
            self.problem(
                first_over.span(),
                &field,
                format!("must have at most {PATTERNS_MAX} patterns"),
            );
        }
        let mut patterns = Vec::with_capacity(raw.len().min(PATTERNS_MAX));
        for text in raw.iter().take(PATTERNS_MAX) {
            match Pattern::new(text.get_ref()) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.problem(
                    text.span(),
                    &field,
                    format!("{:?}: {error}", text.get_ref()),
                ),
            }
        }
        patterns
    }

    fn unique(&mut self, what: Unique, span: Range<usize>, field: &str) {
        let line = position(self.text, span.start).0;
        if let Some(first) = self.taken.get(&what) {
            let text = format!("is the same as in line {first}");
            self.problem(span, field, text);
        } else {
            self.taken.insert(what, line);
        }
    }

    fn problem(&mut self, span: Range<usize>, field: &str, text: impl Into<String>) {
        let (line, column) = position(self.text, span.start);
        let user = Some(self.user.clone()).filter(|user| !user.is_empty());
        self.problems.push(Problem {
            line,
            column,
            user,
            field: Some(field.to_owned()),
            text: text.into(),
        });
    }
}

impl RawLimits {
    /// These limits where they are set, and the others where they are not.
    fn over(&self, defaults: &Limits) -> Limits {
        let mut limits = defaults.clone();
        limits.subscriptions_max = self.subscriptions_max.unwrap_or(limits.subscriptions_max);
        limits.messages_per_second_max = self
            .messages_per_second_max
            .unwrap_or(limits.messages_per_second_max);
        limits.bytes_per_second_max = self
            .bytes_per_second_max
            .unwrap_or(limits.bytes_per_second_max);
        limits.message_len_max = self.message_len_max.unwrap_or(limits.message_len_max);
        limits
    }
}

/// What toml could not read. The parser tells the place; whose entry that is and which field is
/// found in the text, since the values of passwords and tokens must not be repeated.
fn unreadable(text: &str, error: &toml::de::Error) -> Problem {
    let start = error.span().map_or(0, |span| span.start);
    let (line, column) = position(text, start);
    let field = key_of_line(text.lines().nth(line - 1).unwrap_or_default());
    let message = match field {
        Some("password" | "token") => "must be a string, written once and in quotes".to_owned(),
        _ => error.message().trim_end().replace('\n', ", "),
    };
    Problem {
        line,
        column,
        user: user_at(text, line),
        field: field.map(ToOwned::to_owned),
        text: message,
    }
}

/// The bare key in front of the line's first equals sign.
fn key_of_line(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(key)
}

/// The name in the entry around a line: between the header above it and the next one.
fn user_at(text: &str, line: usize) -> Option<String> {
    let is_header = |line: &str| line.trim_start().starts_with("[[");
    let above = text.lines().take(line).enumerate();
    let start = above
        .filter(|(_, line)| is_header(line))
        .map(|(index, _)| index)
        .last()?;
    let entry = text
        .lines()
        .skip(start + 1)
        .take_while(|line| !is_header(line));
    let value = entry
        .filter(|line| key_of_line(line) == Some("name"))
        .find_map(|line| line.split_once('='))?
        .1;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// Line and character of a byte, both counted from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A";

    fn read(text: &str) -> Result<Table, Vec<Problem>> {
        parse(&text.replace("HASH", HASH), &Limits::default())
    }

    #[track_caller]
    fn refuse(text: &str, expected: &[&str]) {
        let problems: Vec<String> = read(text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(problems, expected);
    }

    #[track_caller]
    fn rules(text: &str) -> Arc<Rules> {
        let table = read(&format!("[[user]]\nname = 'a'\npassword = 'HASH'\n{text}")).unwrap();
        match table.by_name("a").unwrap().grant.permissions.clone() {
            Permissions::Rules(rules) => rules,
            other @ (Permissions::All | Permissions::Ask) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_absent_is_allowed_and_what_is_empty_is_not() {
        let table = read("[[user]]\nname = 'a'\npassword = 'HASH'").unwrap();
        assert_eq!(
            table.by_name("a").unwrap().grant.permissions,
            Permissions::All
        );
        let none = rules("subscribe = { allow = [] }");
        assert!(none.publish.allows_subject("x.y") && !none.subscribe.allows_pattern("x"));
        let but = rules("publish = { deny = ['x.>'] }");
        assert!(but.publish.allows_subject("y") && !but.publish.allows_subject("x.y"));
        assert!(but.subscribe.allows_pattern(">"));
        let empty = rules("publish = {}");
        assert!(empty.publish.allows_subject("x"));
    }

    #[test]
    fn limits_fill_up_from_the_defaults() {
        let text = "[[user]]\nname = 'a'\npassword = 'HASH'\nconnections_max = 3\nlimits = { subscriptions_max = 7 }";
        let grant = read(text).unwrap().by_name("a").unwrap().grant.clone();
        let expected = Limits {
            subscriptions_max: 7,
            ..Limits::default()
        };
        assert_eq!(
            (grant.limits.as_deref(), grant.connections_max),
            (Some(&expected), Some(3))
        );
    }

    #[test]
    fn an_empty_file_has_no_users() {
        assert!(read("").unwrap().by_name("").is_none());
    }

    #[test]
    fn every_problem_of_a_file_is_reported_with_its_place() {
        refuse(
            "[[user]]\nname = 'a'\npassword = 'hunter2'\ntoken = 'abc'\n\n\
             [[user]]\nname = 'b'\npassword = 'HASH'\npublish = { allow = ['x', 'a..b'], deny = ['>.a'] }\n\
             [[user]]\nname = 'a'\n[[user]]\nname = ''\ncertificate = ''",
            &[
                "3:12: user \"a\": password: is not a hash; passwords are stored hashed, and `dialtone passwd` makes a hash",
                "4:9: user \"a\": token: must be \"sha256:\" and the 64 hexadecimal digits of the token's SHA-256 hash",
                "9:27: user \"b\": publish.allow: \"a..b\": a subject must not have an empty segment (segment 2)",
                "9:44: user \"b\": publish.deny: \">.a\": the wildcard > must be the last segment (it is segment 1)",
                "11:8: user \"a\": name: is the same as in line 2",
                "11:8: user \"a\": name: has no password, token or certificate to be known by",
                "13:8: name: must have 1 to 256 bytes and no control characters",
                "14:15: certificate: must be a common name or DNS name of 1 to 256 bytes",
            ],
        );
    }

    #[test]
    fn credentials_belong_to_one_user() {
        let digits = "0a".repeat(32);
        let user = |name: &str, digits: &str, certificate: &str| {
            format!(
                "[[user]]\nname = '{name}'\ntoken = 'sha256:{digits}'\ncertificate = '{certificate}'\n"
            )
        };
        let text = user("a", &digits, "a.org") + &user("b", &digits.to_uppercase(), "A.org");
        refuse(
            &text,
            &[
                "7:9: user \"b\": token: is the same as in line 3",
                "8:15: user \"b\": certificate: is the same as in line 4",
            ],
        );
    }

    #[test]
    fn what_toml_cannot_read_is_placed_too() {
        let head = "[[user]]\nname = 'z'\npassword = 'HASH'\n[[user]]\n";
        let fields = "`name`, `password`, `token`, `certificate`, `publish`, `subscribe`, `connections_max`, `limits`";
        refuse(
            &format!("{head}name = 'a'\ncolour = 'red'"),
            &[&format!(
                "6:1: user \"a\": colour: unknown field `colour`, expected one of {fields}"
            )],
        );
        refuse(
            &format!("{head}name = \"a\"\nconnections_max = -1"),
            &["6:19: user \"a\": connections_max: invalid value: integer `-1`, expected u32"],
        );
        refuse(
            &format!("{head}publish = {{ alow = [] }}\nname = 'a'"),
            &["5:13: user \"a\": publish: unknown field `alow`, expected `allow` or `deny`"],
        );
        refuse(
            &format!("{head}password = 'HASH'"),
            &["4:1: missing field `name`"],
        );
        refuse(
            "users = 1",
            &["1:1: users: unknown field `users`, expected `user`"],
        );
    }

    #[test]
    fn secrets_are_not_repeated() {
        for text in [
            "password = 12345",
            "password = hunter2",
            "password = 'a'\npassword = 'hunter2'",
            "token = [12345]",
        ] {
            let problem = read(&format!("[[user]]\nname = 'a'\n{text}"))
                .unwrap_err()
                .remove(0);
            assert!(
                !problem.text.contains("12345") && !problem.text.contains("hunter2"),
                "{problem}"
            );
            assert_eq!(problem.user.as_deref(), Some("a"));
        }
    }

    #[test]
    fn many_problems_are_cut_short() {
        let text = [0; 100].map(|_| "[[user]]\nname = 'a'\n").concat();
        assert_eq!(read(&text).unwrap_err().len(), PROBLEMS_MAX);
    }
}

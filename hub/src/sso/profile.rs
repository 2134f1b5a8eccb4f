//! What another site says about somebody, from its JSON.

use serde_json::{Value as Json, json};

use crate::email::EmailAddress;
use crate::entry::sign_up::NAME_LEN_MAX;

/// Longest name that another site has for somebody, in bytes.
pub const ID_LEN_MAX: usize = 255;

/// Most addresses of somebody that are looked at.
const EMAILS_MAX: usize = 20;

/// An address that another site says is somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The address.
    pub address: EmailAddress,
    /// Whether the other site has seen that; `None` if it says nothing about it and is not believed either.
    pub verified: Option<bool>,
}

/// Somebody, as another site knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What the other site calls them: the same each time, and never somebody else's.
    pub id: String,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// Their addresses; those that are known to be theirs come first.
    pub emails: Vec<Email>,
}

/// Where in the JSON of the other site these are: names with dots between, and places in lists as numbers or in
/// brackets: `emails.0.value`, `emails[0].value`. A name with dots of its own, as that of a claim which is an address,
/// is found where it stands in the answer itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What the other site calls somebody.
    pub id: String,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// Both, where the two above are not there.
    pub full_name: String,
    /// One address, a list of addresses, or a list of objects with `email` or `value`, and `verified`.
    pub emails: String,
    /// Whether that one address is known to be theirs.
    pub email_verified: String,
}

impl Mapping {
    /// The claims of `OpenID` Connect (Core §5.1).
    pub fn standard() -> Self {
        let owned = ToOwned::to_owned;
        Self {
            id: owned("sub"),
            first_name: owned("given_name"),
            last_name: owned("family_name"),
            full_name: owned("name"),
            emails: owned("email"),
            email_verified: owned("email_verified"),
        }
    }

    /// Reads a profile. `believed`: whether addresses count as theirs if the other site does not say whether it has
    /// seen that.
    ///
    /// # Errors
    /// When what they are called is not there, in words for people.
    pub fn read(&self, claims: &Json, believed: bool) -> Result<Profile, String> {
        let id = match find(claims, &self.id) {
            Some(Json::String(text)) => text.clone(),
            Some(Json::Number(number)) => number.to_string(),
            Some(_) | None => return Err(format!("there is no {} in its answer", self.id)),
        };
        if id.is_empty() || id.len() > ID_LEN_MAX {
            return Err(format!("{} in its answer is empty or too long", self.id));
        }
        let (first_name, last_name) = self.names(claims);
        let verified = find(claims, &self.email_verified).and_then(said);
        let mut emails = find(claims, &self.emails)
            .map(|found| emails(found, verified, believed))
            .unwrap_or_default();
        emails.sort_by_key(rank);
        Ok(Profile {
            id,
            first_name,
            last_name,
            emails,
        })
    }

    fn names(&self, claims: &Json) -> (Option<String>, Option<String>) {
        let text = |path: &str| find(claims, path).and_then(Json::as_str).and_then(name);
        let (first, last) = (text(&self.first_name), text(&self.last_name));
        if first.is_some() || last.is_some() {
            return (first, last);
        }
        let Some(full) = text(&self.full_name) else {
            return (None, None);
        };
        match full.rsplit_once(' ') {
            Some((first, last)) => (name(first), name(last)),
            None => (Some(full), None),
        }
    }
}

impl Profile {
    /// What is kept of it.
    pub fn to_json(&self) -> Json {
        let emails: Vec<Json> = self
            .emails
            .iter()
            .map(|email| json!({"email": email.address.as_str(), "verified": email.verified == Some(true)}))
            .collect();
        json!({
            "id": self.id,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "emails": emails,
        })
    }
}

/// Adds the addresses of a list that another request has brought, as GitHub's is.
pub(super) fn add_emails(profile: &mut Profile, list: &Json, believed: bool) {
    let primary = |email: &Json| email.get("primary").and_then(said) == Some(true);
    let (first, rest): (Vec<&Json>, Vec<&Json>) = list
        .as_array()
        .into_iter()
        .flatten()
        .partition(|email| primary(email));
    let mut more: Vec<Email> = first
        .into_iter()
        .chain(rest)
        .filter_map(|email| one(email, None, believed))
        .take(EMAILS_MAX)
        .collect();
    // What the list says about an address counts more than that it stands in the profile.
    let known = |address: &EmailAddress| more.iter().any(|email| email.address == *address);
    let others: Vec<Email> = profile
        .emails
        .drain(..)
        .filter(|email| !known(&email.address))
        .collect();
    more.extend(others);
    more.sort_by_key(rank);
    profile.emails = more;
}

/// Those that are known to be theirs come first, and those that are known not to be last.
fn rank(email: &Email) -> u8 {
    match email.verified {
        Some(true) => 0,
        None => 1,
        Some(false) => 2,
    }
}

fn emails(found: &Json, verified: Option<bool>, believed: bool) -> Vec<Email> {
    if let Some(list) = found.as_array() {
        let list = list.iter().take(EMAILS_MAX);
        return list.filter_map(|item| one(item, None, believed)).collect();
    }
    one(found, verified, believed).into_iter().collect()
}

fn one(item: &Json, verified: Option<bool>, believed: bool) -> Option<Email> {
    let (text, verified) = if let Some(text) = item.as_str() {
        (text, verified)
    } else {
        let text = item.get("email").or_else(|| item.get("value"));
        let says = item.get("verified").and_then(said);
        (text.and_then(Json::as_str)?, says.or(verified))
    };
    Some(Email {
        address: text.parse().ok()?,
        verified: verified.or_else(|| believed.then_some(true)),
    })
}

/// What a claim says that is true or false; `null` says nothing. Some sites say `"true"`, and what cannot be understood
/// is no yes.
fn said(value: &Json) -> Option<bool> {
    if value.is_null() {
        return None;
    }
    Some(value.as_bool() == Some(true) || value.as_str() == Some("true"))
}

fn name(text: &str) -> Option<String> {
    let text: String = text
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_LEN_MAX)
        .collect();
    (!text.is_empty()).then_some(text)
}

fn find<'a>(claims: &'a Json, path: &str) -> Option<&'a Json> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let mut at = claims;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        at = match at.as_array() {
            Some(list) => list.get(step.parse::<usize>().ok()?)?,
            None => at.get(step)?,
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(profile: &Profile) -> String {
        let emails: Vec<String> = profile
            .emails
            .iter()
            .map(|email| {
                format!(
                    "{}{}",
                    email.address,
                    match email.verified {
                        Some(true) => "!",
                        None => "",
                        Some(false) => "?",
                    }
                )
            })
            .collect();
        format!(
            "{} {:?} {:?} {}",
            profile.id,
            profile.first_name.as_deref().unwrap_or(""),
            profile.last_name.as_deref().unwrap_or(""),
            emails.join(",")
        )
    }

    #[track_caller]
    fn check(mapping: &Mapping, claims: &Json, expected: &str) {
        let read = mapping.read(claims, false);
        assert_eq!(read.as_ref().map_or_else(Clone::clone, shown), expected);
    }

    #[test]
    fn claims_become_a_profile() {
        let standard = Mapping::standard();
        check(
            &standard,
            &json!({"sub": "7", "given_name": "Ada", "family_name": "Lovelace", "email": "Ada@Example.org",
                    "email_verified": true}),
            "7 \"Ada\" \"Lovelace\" ada@example.org!",
        );
        check(
            &standard,
            &json!({"sub": 7, "name": "Ada King Lovelace", "email": "ada@example.org"}),
            "7 \"Ada King\" \"Lovelace\" ada@example.org",
        );
        check(
            &standard,
            &json!({"sub": "7", "name": "Ada\n", "email": "no"}),
            "7 \"Ada\" \"\" ",
        );
        check(
            &standard,
            &json!({"sub": "7", "email_verified": "true", "email": "a@b.c"}),
            "7 \"\" \"\" a@b.c!",
        );
        check(
            &standard,
            &json!({"sub": "7", "email_verified": false, "email": "a@b.c"}),
            "7 \"\" \"\" a@b.c?",
        );
        check(
            &standard,
            &json!({"sub": "7", "email_verified": null, "email": "a@b.c"}),
            "7 \"\" \"\" a@b.c",
        );
        check(
            &standard,
            &json!({"name": "Ada"}),
            "there is no sub in its answer",
        );
        check(
            &standard,
            &json!({"sub": ""}),
            "sub in its answer is empty or too long",
        );
        check(
            &standard,
            &json!({"sub": null}),
            "there is no sub in its answer",
        );
    }

    #[test]
    fn other_shapes_are_found_by_their_paths() {
        let mapping = Mapping {
            id: "user.uid".to_owned(),
            emails: "user.mails".to_owned(),
            ..Mapping::standard()
        };
        check(
            &mapping,
            &json!({"user": {"uid": 12, "mails": ["x@y.z", {"value": "v@y.z", "verified": true}, 7]}}),
            "12 \"\" \"\" v@y.z!,x@y.z",
        );
        let first = Mapping {
            id: "ids.0".to_owned(),
            ..Mapping::standard()
        };
        check(&first, &json!({"ids": ["a", "b"]}), "a \"\" \"\" ");
        let brackets = Mapping {
            emails: "emails[1].value".to_owned(),
            email_verified: "https://example.org/seen".to_owned(),
            ..Mapping::standard()
        };
        check(
            &brackets,
            &json!({"sub": "7", "emails": [{"value": "x@y.z"}, {"value": "v@y.z"}],
                    "https://example.org/seen": "true"}),
            "7 \"\" \"\" v@y.z!",
        );
        for path in ["emails[2].value", "emails[x].value", "emails[1", ""] {
            let nothing = Mapping {
                emails: path.to_owned(),
                ..brackets.clone()
            };
            check(
                &nothing,
                &json!({"sub": "7", "emails": [1, "x"]}),
                "7 \"\" \"\" ",
            );
        }
    }

    #[test]
    fn a_site_that_is_believed_is_not_believed_more_than_it_says() {
        let read = |claims| Mapping::standard().read(&claims, true).unwrap();
        let claims = json!({"sub": 1, "email": "a@b.c"});
        assert_eq!(read(claims).emails[0].verified, Some(true));
        let claims = json!({"sub": 1, "email": "a@b.c", "email_verified": false});
        assert_eq!(read(claims).emails[0].verified, Some(false));
        let list = json!({"sub": 1, "email": [{"email": "a@b.c", "verified": "no"}, "x@b.c"]});
        let said: Vec<_> = read(list)
            .emails
            .iter()
            .map(|email| email.verified)
            .collect();
        assert_eq!(said, [Some(true), Some(false)]);
    }

    #[test]
    fn a_list_of_addresses_says_more_than_the_profile() {
        let claims = json!({"sub": 1, "email": "public@example.org"});
        let mut profile = Mapping::standard().read(&claims, false).unwrap();
        let list = json!([
            {"email": "second@example.org", "verified": true, "primary": false},
            {"email": "public@example.org", "verified": false, "primary": false},
            {"email": "first@example.org", "verified": true, "primary": true},
        ]);
        add_emails(&mut profile, &list, false);
        assert_eq!(
            shown(&profile),
            "1 \"\" \"\" first@example.org!,second@example.org!,public@example.org?"
        );
    }
}

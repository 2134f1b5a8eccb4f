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
    /// Whether the other site has seen that, and is believed.
    pub verified: bool,
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

/// Where in the JSON of the other site these are: names with dots between, numbers for places in lists.
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

    /// Reads a profile. `believed`: whether addresses count as theirs without the other site saying that it has seen
    /// that.
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
        let verified = believed || find(claims, &self.email_verified).is_some_and(is_true);
        let mut emails = find(claims, &self.emails)
            .map(|found| emails(found, verified, believed))
            .unwrap_or_default();
        emails.sort_by_key(|email| !email.verified);
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
            .map(|email| json!({"email": email.address.as_str(), "verified": email.verified}))
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
    let primary = |email: &Json| email.get("primary").is_some_and(is_true);
    let (first, rest): (Vec<&Json>, Vec<&Json>) = list
        .as_array()
        .into_iter()
        .flatten()
        .partition(|email| primary(email));
    let mut more: Vec<Email> = first
        .into_iter()
        .chain(rest)
        .filter_map(|email| one(email, false, believed))
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
    more.sort_by_key(|email| !email.verified);
    profile.emails = more;
}

fn emails(found: &Json, verified: bool, believed: bool) -> Vec<Email> {
    if let Some(list) = found.as_array() {
        let list = list.iter().take(EMAILS_MAX);
        return list.filter_map(|item| one(item, false, believed)).collect();
    }
    one(found, verified, believed).into_iter().collect()
}

fn one(item: &Json, verified: bool, believed: bool) -> Option<Email> {
    let (text, verified) = if let Some(text) = item.as_str() {
        (text, verified)
    } else {
        let text = item.get("email").or_else(|| item.get("value"));
        let says = item.get("verified").is_some_and(is_true);
        (text.and_then(Json::as_str)?, says)
    };
    Some(Email {
        address: text.parse().ok()?,
        verified: verified || believed,
    })
}

/// Some sites say `"true"`.
fn is_true(value: &Json) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
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
    let mut at = claims;
    for step in path.split('.') {
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
            .map(|email| format!("{}{}", email.address, if email.verified { "!" } else { "" }))
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
            "1 \"\" \"\" first@example.org!,second@example.org!,public@example.org"
        );
    }
}

//! Domains whose people sign in in one way only: with such an address nobody signs up or in with a password.

use serde_json::Value as Json;

use crate::email::EmailAddress;
use crate::store::passports::Stored;
use crate::store::{Error, Reader, passports};

/// A way to sign in that is the only one for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusive {
    /// Its name.
    pub strategy: String,
    /// What it is called for people.
    pub display: String,
}

/// The only way to sign in with this address, if there is one.
///
/// # Errors
/// When the database does not answer.
pub async fn of(on: &mut Reader, address: &EmailAddress) -> Result<Option<Exclusive>, Error> {
    Ok(among(&passports::strategies(on).await?, address))
}

/// The first of these that is the only one for an address. One that is switched off keeps nobody out, and one that
/// cannot be used keeps its people from other ways all the same: a mistake opens nothing.
pub fn among(strategies: &[Stored], address: &EmailAddress) -> Option<Exclusive> {
    let found = strategies.iter().find(|stored| {
        let disabled = stored.info.get("disabled").and_then(Json::as_bool);
        let domains = stored
            .info
            .get("exclusive_domains")
            .and_then(Json::as_array);
        let mut domains = domains.into_iter().flatten().filter_map(Json::as_str);
        disabled != Some(true) && domains.any(|domain| covers(domain, address))
    })?;
    let display = found.info.get("display").and_then(Json::as_str);
    Some(Exclusive {
        strategy: found.strategy.clone(),
        display: display.unwrap_or(&found.strategy).to_owned(),
    })
}

/// Whether an address is of this domain or of one below it; `*` is every domain.
pub fn covers(domain: &str, address: &EmailAddress) -> bool {
    let domain = domain.trim().trim_start_matches('@').to_lowercase();
    if domain == "*" {
        return true;
    }
    let own = address.domain();
    let below = own
        .strip_suffix(&domain)
        .is_some_and(|rest| rest.ends_with('.'));
    !domain.is_empty() && (own == domain || below)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_domain_covers_itself_and_those_below() {
        let covers = |domain, address: &str| covers(domain, &address.parse().unwrap());
        assert!(covers("example.org", "ada@example.org"));
        assert!(covers("Example.ORG", "ada@maths.example.org"));
        assert!(covers("*", "ada@anywhere.net"));
        assert!(!covers("example.org", "ada@notexample.org"));
        assert!(!covers("example.org", "ada@example.org.evil.net"));
        assert!(!covers("maths.example.org", "ada@example.org"));
        assert!(!covers("", "ada@example.org"));
    }

    #[test]
    fn who_is_switched_off_keeps_nobody_out() {
        let stored = |name: &str, info| Stored {
            strategy: name.to_owned(),
            conf: json!({}),
            info,
        };
        let strategies = [
            stored(
                "off",
                json!({"exclusive_domains": ["example.org"], "disabled": true}),
            ),
            stored("open", json!({})),
            stored(
                "uni",
                json!({"exclusive_domains": ["example.org"], "display": "The University"}),
            ),
        ];
        let found = among(&strategies, &"ada@example.org".parse().unwrap()).unwrap();
        assert_eq!(
            (found.strategy.as_str(), found.display.as_str()),
            ("uni", "The University")
        );
        assert_eq!(
            among(&strategies, &"ada@example.net".parse().unwrap()),
            None
        );
    }
}

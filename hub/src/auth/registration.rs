//! Tokens with which one may sign up.
//!
//! A token is needed as soon as one is there that is not disabled, whether or not anybody can still use it: a site that
//! hands out tokens does not open to everybody when the last of them is used up.

use std::time::Duration;

use crate::time::Time;

/// A token as the store has it. It is judged and counted in one transaction that has its row to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// How often it was used.
    pub counter: i64,
    /// How often it may be used.
    pub limit: Option<i64>,
    /// When it ends.
    pub expires: Option<Time>,
    /// Whether an administrator has switched it off.
    pub disabled: bool,
    /// How long accounts made with it live; otherwise as long as anybody wants.
    pub ephemeral: Option<Duration>,
}

/// Why nobody can sign up with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One is needed.
    #[error("a registration token is required")]
    Missing,
    /// There is none like that, or it is switched off.
    #[error("the registration token is wrong")]
    Wrong,
    /// Its time is over.
    #[error("the registration token is expired")]
    Expired,
    /// It was used as often as it may.
    #[error("the registration token is used up")]
    UsedUp,
    /// It makes accounts that last, and one was wanted that does not.
    #[error("the registration token is not for ephemeral accounts")]
    NotEphemeral,
}

/// What is known when somebody signs up.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Whether a token was given.
    pub given: bool,
    /// Whether the site has one that is not disabled.
    pub required: bool,
    /// The one that was given, if it exists.
    pub found: Option<Stored>,
    /// Whether the account is to be made from the token alone, without an address.
    pub ephemeral: bool,
}

/// Whether the attempt may go on, and how long the account then lives. If it may and a token was given, its counter is
/// to be increased.
///
/// # Errors
/// When it may not.
pub fn redeem(attempt: Attempt, now: Time) -> Result<Option<Duration>, Refused> {
    if !attempt.given {
        if attempt.required || attempt.ephemeral {
            return Err(Refused::Missing);
        }
        return Ok(None);
    }
    let found = attempt.found.filter(|found| !found.disabled);
    let token = found.ok_or(Refused::Wrong)?;
    if token.expires.is_some_and(|expires| expires <= now) {
        return Err(Refused::Expired);
    }
    if token.limit.is_some_and(|limit| token.counter >= limit) {
        return Err(Refused::UsedUp);
    }
    if attempt.ephemeral && token.ephemeral.is_none() {
        return Err(Refused::NotEphemeral);
    }
    Ok(token.ephemeral)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000_000);

    const TOKEN: Stored = Stored {
        counter: 3,
        limit: None,
        expires: None,
        disabled: false,
        ephemeral: None,
    };

    const ATTEMPT: Attempt = Attempt {
        given: true,
        required: true,
        found: Some(TOKEN),
        ephemeral: false,
    };

    #[track_caller]
    fn check(stored: Stored, expected: Result<Option<Duration>, Refused>) {
        let attempt = Attempt {
            found: Some(stored),
            ..ATTEMPT
        };
        assert_eq!(redeem(attempt, NOW), expected);
    }

    #[test]
    fn a_token_is_good_until_it_ends_is_used_up_or_switched_off() {
        let hour = Duration::from_hours(1);
        check(TOKEN, Ok(None));
        check(
            Stored {
                ephemeral: Some(hour),
                ..TOKEN
            },
            Ok(Some(hour)),
        );
        check(
            Stored {
                limit: Some(4),
                ..TOKEN
            },
            Ok(None),
        );
        check(
            Stored {
                limit: Some(3),
                ..TOKEN
            },
            Err(Refused::UsedUp),
        );
        check(
            Stored {
                limit: Some(0),
                ..TOKEN
            },
            Err(Refused::UsedUp),
        );
        check(
            Stored {
                disabled: true,
                ..TOKEN
            },
            Err(Refused::Wrong),
        );
        for (expires, expected) in [
            (1_000_001, Ok(None)),
            (1_000_000, Err(Refused::Expired)),
            (9, Err(Refused::Expired)),
        ] {
            check(
                Stored {
                    expires: Some(Time::from_millis(expires)),
                    ..TOKEN
                },
                expected,
            );
        }
    }

    #[test]
    fn without_a_token_one_signs_up_only_where_none_is_needed() {
        let none = Attempt {
            given: false,
            found: None,
            ..ATTEMPT
        };
        assert_eq!(redeem(none, NOW), Err(Refused::Missing));
        assert_eq!(
            redeem(
                Attempt {
                    required: false,
                    ..none
                },
                NOW
            ),
            Ok(None)
        );
        assert_eq!(
            redeem(
                Attempt {
                    required: false,
                    ephemeral: true,
                    ..none
                },
                NOW
            ),
            Err(Refused::Missing)
        );
    }

    #[test]
    fn a_wrong_token_is_wrong_also_where_none_is_needed() {
        let wrong = Attempt {
            found: None,
            ..ATTEMPT
        };
        assert_eq!(redeem(wrong, NOW), Err(Refused::Wrong));
        assert_eq!(
            redeem(
                Attempt {
                    required: false,
                    ..wrong
                },
                NOW
            ),
            Err(Refused::Wrong)
        );
    }

    #[test]
    fn an_account_from_a_token_alone_needs_one_that_is_meant_for_that() {
        let attempt = Attempt {
            ephemeral: true,
            ..ATTEMPT
        };
        assert_eq!(redeem(attempt, NOW), Err(Refused::NotEphemeral));
        let day = Some(Duration::from_hours(24));
        let found = Some(Stored {
            ephemeral: day,
            ..TOKEN
        });
        assert_eq!(redeem(Attempt { found, ..attempt }, NOW), Ok(day));
    }
}

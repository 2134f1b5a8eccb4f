//! How often something may be tried: rules, and the decision by counts that all hubs share.
//!
//! Time is cut into windows of the rule's length. Who tries is counted under a key per window, in the store; a decision
//! weighs the window before with the part of it that still reaches into the last period, so that nobody gets twice the
//! limit around the end of a window.

use std::time::Duration;

use crate::time::Time;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Signing in with a wrong password, by address of the account.
    SignInEmail,
    /// Signing in with a wrong password, by network address.
    SignInIp,
    /// Signing up, by network address.
    SignUpIp,
    /// Asking for a new password, by address of the account and network address.
    PasswordReset,
    /// Offering a token to sign up, to reset a password, or to verify an address, by network address.
    TokenIp,
    /// Giving the password of somebody else's account for a token, by caller and account.
    AuthToken,
    /// Beginning and finishing to sign in by another site, by network address.
    SsoIp,
    /// Calls of a function that writes for others to read, by caller.
    Message,
    /// Letters that verify an address, by account.
    Verification,
    /// Telling the site of errors and of what was done, by caller.
    Report,
}

/// At most so many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How long a window is.
    pub window: Duration,
    /// Most in one.
    pub max: u32,
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

const fn at_most(max: u32, window: Duration) -> Rule {
    Rule { window, max }
}

impl Action {
    /// The rules that hold for it, all of them. Those for signing in and resetting are the original's.
    pub fn rules(self) -> &'static [Rule] {
        const SIGN_IN_EMAIL: &[Rule] = &[at_most(5, MINUTE), at_most(50, HOUR)];
        const SIGN_IN_IP: &[Rule] = &[at_most(30, MINUTE), at_most(200, HOUR)];
        const SIGN_UP_IP: &[Rule] = &[at_most(10, MINUTE), at_most(100, HOUR)];
        const PASSWORD_RESET: &[Rule] = &[at_most(3, Duration::from_mins(10))];
        const TOKEN_IP: &[Rule] = &[at_most(20, MINUTE), at_most(200, HOUR)];
        const AUTH_TOKEN: &[Rule] = &[at_most(1, Duration::from_secs(30))];
        const SSO_IP: &[Rule] = &[at_most(60, MINUTE), at_most(600, HOUR)];
        const MESSAGE: &[Rule] = &[at_most(30, MINUTE), at_most(300, HOUR)];
        const VERIFICATION: &[Rule] = &[at_most(3, Duration::from_mins(10))];
        const REPORT: &[Rule] = &[at_most(120, MINUTE), at_most(1_000, HOUR)];
        match self {
            Self::SignInEmail => SIGN_IN_EMAIL,
            Self::SignInIp => SIGN_IN_IP,
            Self::SignUpIp => SIGN_UP_IP,
            Self::PasswordReset => PASSWORD_RESET,
            Self::TokenIp => TOKEN_IP,
            Self::AuthToken => AUTH_TOKEN,
            Self::SsoIp => SSO_IP,
            Self::Message => MESSAGE,
            Self::Verification => VERIFICATION,
            Self::Report => REPORT,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SignInEmail => "sign-in-email",
            Self::SignInIp => "sign-in-ip",
            Self::SignUpIp => "sign-up-ip",
            Self::PasswordReset => "password-reset",
            Self::TokenIp => "token-ip",
            Self::AuthToken => "auth-token",
            Self::SsoIp => "sso-ip",
            Self::Message => "message",
            Self::Verification => "verification",
            Self::Report => "report",
        }
    }

    /// What somebody's attempts in the window that began then are counted under. Who it is goes in as a hash, so that
    /// no list of addresses comes about, and a key is short whatever was typed.
    pub fn key(self, rule: &Rule, who: &str, window_start: Time) -> String {
        let seconds = rule.window.as_secs();
        let start = window_start.millis();
        let hash = super::token::hash(&who.to_lowercase());
        let short = hash.get(..32).unwrap_or(&hash);
        format!("{}/{seconds}/{short}/{start}", self.name())
    }
}

/// How often something happened, in the window of now and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// In the window that has not ended.
    pub now: u32,
    /// In the one before.
    pub before: u32,
}

/// Whether something may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// Not before that time has gone by.
    Wait(Duration),
}

impl Rule {
    /// When the window began in which this moment is.
    pub fn window_start(&self, now: Time) -> Time {
        Time::from_millis(now.millis() - now.millis().rem_euclid(self.millis()))
    }

    /// When the window before that began.
    pub fn window_before(&self, now: Time) -> Time {
        Time::from_millis(self.window_start(now).millis() - self.millis())
    }

    /// From when on a window that began then does not count any more.
    pub fn expire(&self, window_start: Time) -> Time {
        Time::from_millis(window_start.millis().saturating_add(2 * self.millis()))
    }

    /// Whether one more is allowed after so many.
    pub fn judge(&self, counts: Counts, now: Time) -> Verdict {
        let window = self.millis();
        let elapsed = now.millis().rem_euclid(window);
        let max = i64::from(self.max);
        if self.weighed(counts, elapsed) < max * window {
            return Verdict::Allowed;
        }
        let left = window - elapsed;
        let at_end = Counts {
            now: 0,
            before: counts.now,
        };
        let wait = if i64::from(counts.now) < max {
            // What is in the window before leaves this one in equal measure.
            self.until_below(counts, elapsed)
        } else {
            left + self.until_below(at_end, 0)
        };
        Verdict::Wait(Duration::from_millis(
            u64::try_from(wait.max(1)).unwrap_or(0),
        ))
    }

    /// What counts, times the window's length.
    fn weighed(&self, counts: Counts, elapsed: i64) -> i64 {
        let window = self.millis();
        i64::from(counts.now) * window + i64::from(counts.before) * (window - elapsed)
    }

    /// Milliseconds until fewer count than may, if nothing happens.
    fn until_below(&self, counts: Counts, elapsed: i64) -> i64 {
        let before = i64::from(counts.before);
        let excess = self.weighed(counts, elapsed) - i64::from(self.max) * self.millis();
        if excess < 0 || before == 0 {
            return 0;
        }
        excess / before + 1
    }

    fn millis(&self) -> i64 {
        i64::try_from(self.window.as_millis())
            .unwrap_or(i64::MAX)
            .max(1)
    }
}

/// The verdict of several rules: all of them must allow it.
pub fn strictest(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let waits = verdicts.into_iter().filter_map(|verdict| match verdict {
        Verdict::Allowed => None,
        Verdict::Wait(wait) => Some(wait),
    });
    waits.max().map_or(Verdict::Allowed, Verdict::Wait)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = at_most(5, MINUTE);

    fn at(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn so_many_are_allowed_and_no_more() {
        for attempts in 0..5 {
            let counts = Counts {
                now: attempts,
                before: 0,
            };
            assert_eq!(RULE.judge(counts, at(60_000)), Verdict::Allowed);
        }
        let full = Counts { now: 5, before: 0 };
        // At the end of the window all five still count; the first of them goes after a fifth of the next one.
        let wait = RULE.judge(full, at(60_000));
        assert_eq!(wait, Verdict::Wait(Duration::from_millis(60_001)));
    }

    #[test]
    fn the_window_before_counts_by_the_part_that_is_left_of_it() {
        let counts = Counts { now: 0, before: 10 };
        assert_eq!(RULE.judge(counts, at(90_001)), Verdict::Allowed);
        assert_eq!(
            RULE.judge(counts, at(90_000)),
            Verdict::Wait(Duration::from_millis(1))
        );
        assert_eq!(RULE.window_start(at(90_001)), at(60_000));
        assert_eq!(RULE.window_before(at(90_001)), at(0));
        assert_eq!(RULE.window_start(at(-1)), at(-60_000));
    }

    #[test]
    fn the_longest_wait_counts() {
        let wait = |seconds| Verdict::Wait(Duration::from_secs(seconds));
        assert_eq!(strictest([]), Verdict::Allowed);
        assert_eq!(
            strictest([Verdict::Allowed, wait(2), wait(7), Verdict::Allowed]),
            wait(7)
        );
    }

    #[test]
    fn keys_tell_actions_rules_and_people_apart_but_not_spellings() {
        let rules = Action::SignInEmail.rules();
        let key = |action: Action, rule: &Rule, who| action.key(rule, who, at(60_000));
        let [minute, hour] = *rules else {
            panic!("there are two");
        };
        let mine = key(Action::SignInEmail, &minute, "a@x.org");
        assert_eq!(mine, key(Action::SignInEmail, &minute, "A@X.org"));
        for other in [
            key(Action::SignInEmail, &minute, "b@x.org"),
            key(Action::SignInEmail, &hour, "a@x.org"),
            key(Action::SignInIp, &minute, "a@x.org"),
        ] {
            assert_ne!(mine, other);
        }
        assert!(!mine.contains("x.org") && mine.len() < 96);
        assert_ne!(
            mine,
            Action::SignInEmail.key(&minute, "a@x.org", at(120_000))
        );
        assert_eq!(minute.expire(at(60_000)), at(180_000));
    }

    proptest! {
        /// Whoever tries at any times gets no more than the limit in any window of the table, and at most the limit
        /// and what came in the window before in any period of that length. Waiting as told is enough.
        #[test]
        fn nobody_gets_more_than_the_limit(pauses in proptest::collection::vec(0_i64..30_000, 1..200)) {
            let mut counted: BTreeMap<Time, u32> = BTreeMap::new();
            let mut allowed = Vec::new();
            let mut now = 1_000_000;
            for pause in pauses {
                now += pause;
                let time = at(now);
                let count = |start| counted.get(&start).copied().unwrap_or(0);
                let counts = Counts { now: count(RULE.window_start(time)), before: count(RULE.window_before(time)) };
                match RULE.judge(counts, time) {
                    Verdict::Allowed => {
                        *counted.entry(RULE.window_start(time)).or_default() += 1;
                        allowed.push(now);
                    }
                    Verdict::Wait(wait) => {
                        now += i64::try_from(wait.as_millis()).unwrap();
                        let time = at(now);
                        let count = |start| counted.get(&start).copied().unwrap_or(0);
                        let counts = Counts { now: count(RULE.window_start(time)), before: count(RULE.window_before(time)) };
                        prop_assert_eq!(RULE.judge(counts, time), Verdict::Allowed);
                    }
                }
            }
            for start in &allowed {
                let within = allowed.iter().filter(|time| (*start..*start + 60_000).contains(*time)).count();
                prop_assert!(within < 10, "{within} in a minute");
            }
            for (start, count) in &counted {
                prop_assert!(*count <= 5, "{count} from {start:?}");
            }
        }
    }
}

//! Which passwords are accepted for an account.
//!
//! Length is what makes a password hard to guess online, where attempts are throttled and hashing is slow; beyond that,
//! what an attacker tries first is refused: the best known passwords, what is known of the person, runs and repetitions.

/// Fewest characters, as in the original.
pub const LEN_MIN: usize = 8;

/// Most characters, as in the original.
pub const LEN_MAX: usize = 64;

/// Fewest different characters.
const DISTINCT_MIN: usize = 5;

/// Words of the person that are shorter than this are no reason to refuse a password that has them.
const WORD_LEN_MIN: usize = 4;

/// Fewest characters when each row of them is counted as one.
const UNITS_MIN: usize = 6;

/// Characters that a password has besides what is easily guessed of it, at least.
const REST_MIN: usize = 4;

/// Why a password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Fewer than [`LEN_MIN`] characters.
    #[error("the password must have at least {LEN_MIN} characters")]
    Short,
    /// More than [`LEN_MAX`] characters.
    #[error("the password must have at most {LEN_MAX} characters")]
    Long,
    /// A few characters again and again.
    #[error("the password has too few different characters")]
    Repeats,
    /// A row of letters, digits or keys, or little more.
    #[error("the password is a row of letters, digits or keys")]
    Sequence,
    /// One that attackers try first, or little more.
    #[error("the password is one of the best known ones")]
    Common,
    /// Name or address of its owner, or little more.
    #[error("the password is made of the name or the address of its owner")]
    Personal,
}

/// What attackers try first, in lower case and without the digits and signs that people add.
const COMMON: &[&str] = &[
    "password",
    "passwort",
    "passw0rd",
    "p@ssword",
    "p@ssw0rd",
    "motdepasse",
    "contraseña",
    "letmein",
    "welcome",
    "iloveyou",
    "trustno1",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "basketball",
    "superman",
    "batman",
    "starwars",
    "dragon",
    "monkey",
    "shadow",
    "master",
    "michael",
    "jennifer",
    "jordan",
    "hunter",
    "killer",
    "charlie",
    "computer",
    "internet",
    "whatever",
    "freedom",
    "corvette",
    "mercedes",
    "liverpool",
    "chelsea",
    "arsenal",
    "changeme",
    "default",
    "secret",
    "access",
    "administrator",
    "admin",
    "root",
    "test",
    "guest",
    "login",
    "hello",
    "flower",
    "cheese",
    "banana",
    "chocolate",
    "samsung",
    "google",
    "facebook",
    "pokemon",
    "abc",
    "qwe",
    "asd",
    "zxc",
    "qaz",
    "wsx",
    "cocalc",
    "dialtone",
    "sagemath",
    "jupyter",
];

/// Rows of keys and characters.
const ROWS: &[&str] = &[
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Whether the password is accepted for an account with these names and this address.
///
/// # Errors
/// When it is not.
pub fn check(password: &str, personal: &[&str]) -> Result<(), Weak> {
    let len = password.chars().count();
    if len < LEN_MIN {
        return Err(Weak::Short);
    }
    if len > LEN_MAX {
        return Err(Weak::Long);
    }
    let lower = password.to_lowercase();
    let mut distinct: Vec<char> = lower.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < DISTINCT_MIN {
        return Err(Weak::Repeats);
    }
    let leaves_little = |word: &str| {
        let left = lower.replace(word, "");
        left != lower && left.chars().count() < REST_MIN
    };
    if rest_without_rows(&lower) < UNITS_MIN {
        return Err(Weak::Sequence);
    }
    if COMMON.iter().any(|word| leaves_little(word)) {
        return Err(Weak::Common);
    }
    let mut words = personal
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()).chain([*text]));
    let is_personal =
        |word: &str| word.chars().count() >= WORD_LEN_MIN && leaves_little(&word.to_lowercase());
    if words.any(is_personal) {
        return Err(Weak::Personal);
    }
    Ok(())
}

/// How many characters are left when each row of three or more is counted as one.
fn rest_without_rows(lower: &str) -> usize {
    let characters: Vec<char> = lower.chars().collect();
    let mut rest = 0;
    let mut at = 0;
    while at < characters.len() {
        let run = run_len(characters.get(at..).unwrap_or_default());
        at += run;
        rest += 1;
    }
    rest
}

/// The length of the row that begins here, forwards or backwards, or of repetitions; 1 if there is none of three.
fn run_len(characters: &[char]) -> usize {
    let follows = |row: &str, one: char, next: char| {
        row.chars()
            .zip(row.chars().skip(1))
            .any(|pair| pair == (one, next))
    };
    let longest = |is_next: &dyn Fn(char, char) -> bool| {
        1 + characters
            .windows(2)
            .take_while(|pair| matches!(pair, [one, next] if is_next(*one, *next)))
            .count()
    };
    let forwards = ROWS
        .iter()
        .map(|row| longest(&|one, next| follows(row, one, next)));
    let backwards = ROWS
        .iter()
        .map(|row| longest(&|one, next| follows(row, next, one)));
    let repeated = longest(&|one, next| one == next);
    let run = forwards.chain(backwards).max().unwrap_or(1).max(repeated);
    if run < 3 { 1 } else { run }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(password: &str, why: Weak) {
        let personal = ["Ada", "Lovelace", "countess@analytical.org"];
        assert_eq!(check(password, &personal), Err(why), "{password}");
    }

    #[test]
    fn what_attackers_try_first_is_refused() {
        refused("", Weak::Short);
        refused("Tr0ub4&", Weak::Short);
        refused(&"correct horse ".repeat(5), Weak::Long);
        for password in ["aaaaaaaa", "abababab", "12121212", "        "] {
            refused(password, Weak::Repeats);
        }
        for password in [
            "12345678",
            "87654321",
            "abcdefgh",
            "qwertyuiop",
            "qwertz123",
            "1qaz2wsx",
            "11112222333344445555",
            "1q2w3e4r",
        ] {
            refused(password, Weak::Sequence);
        }
        for password in [
            "password",
            "Password1!",
            "P@ssw0rd!",
            "iloveyou2",
            "trustno1!",
            "superman99",
        ] {
            refused(password, Weak::Common);
        }
        for password in [
            "lovelace",
            "Lovelace1",
            "countess@analytical.org",
            "analytical7",
        ] {
            refused(password, Weak::Personal);
        }
    }

    #[test]
    fn other_passwords_are_accepted() {
        let personal = ["Ada", "Lovelace", "countess@analytical.org", ""];
        for password in [
            "correct horse",
            "x7#kQ2vT",
            "mußtemirwieder",
            "lovelace likes engines",
            "Ada-1815-punched-cards",
            "パスワードではない何か",
        ] {
            assert_eq!(check(password, &personal), Ok(()), "{password}");
        }
        assert_eq!(check(&"correct horse batt".repeat(3), &[]), Ok(()));
    }
}

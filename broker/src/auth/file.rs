//! Users in a file, with their credentials, permissions and limits.
//!
//! ```toml
//! [[user]]
//! name = "alice"
//! password = "$argon2id$v=19$m=19456,t=2,p=1$…"  # from `dialtone passwd`
//! publish = { allow = ["work.>"], deny = ["work.secret.>"] }
//! subscribe = { allow = ["work.>", "news.*"] }
//! connections_max = 10
//! limits = { subscriptions_max = 500, messages_per_second_max = 1000 }
//!
//! [[user]]
//! name = "sensor-7"
//! token = "sha256:…"                             # the SHA-256 hash of a bearer token
//! certificate = "sensor-7.example.org"           # a common name or DNS name; or both
//! subscribe = { allow = [] }                     # nothing; without the line: everything
//! ```
//!
//! The hello's credentials decide; only a hello without any is judged by its client certificate.
//! Whatever is offered and wrong is refused, never passed over for another credential.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dialtone_protocol::frame::{Action, Credentials, Refused};
use dialtone_protocol::{Code, Limits};
use dialtone_transport::Info;
use parking_lot::{Mutex, RwLock};

use super::{Answer, Authenticate, Offer, Permissions, Principal, certificate};

mod error;
pub use error::{FileError, Problem};

mod parse;

mod password;
pub use password::{HashError, hash_password, hash_token};

mod table;
pub use table::Changed;

use password::{Gate, GateError, StoredToken};
use table::{Table, User};

/// Authenticates the users of a file, which can be read again at any time.
#[derive(Debug)]
pub struct FileAuth {
    path: PathBuf,
    /// Replaced as a whole, so that every decision is made by one state of the file.
    table: RwLock<Arc<Table>>,
    /// What users are granted who have no limits of their own; held while the file is read, so that
    /// of two reloads at once the later reading stays.
    defaults: Mutex<Limits>,
    gate: Gate,
}

impl FileAuth {
    /// Reads the file. What a user's `limits` leave out is taken from `defaults`, the broker's.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong anywhere; see [`FileError`].
    pub fn open(path: impl Into<PathBuf>, defaults: Limits) -> Result<Self, FileError> {
        let path = path.into();
        let table = read(&path, &defaults)?;
        Ok(Self {
            path,
            table: RwLock::new(Arc::new(table)),
            defaults: Mutex::new(defaults),
            gate: Gate::new(),
        })
    }

    /// Reads the file again. What has changed applies to whoever connects from here on; for those
    /// who are connected call `permissions_changed` with each of [`Changed::affected`]. A user whose
    /// credential was replaced loses the connections that were made with it.
    ///
    /// Reads a file, so it blocks for as long as the disk takes.
    ///
    /// # Errors
    /// As for [`FileAuth::open`]; everything stays as it was.
    pub fn reload(&self) -> Result<Changed, FileError> {
        let defaults = self.defaults.lock();
        self.read_again(&defaults)
    }

    /// [`FileAuth::reload`] with other limits for what the users leave out.
    ///
    /// # Errors
    /// As for [`FileAuth::open`]; everything stays as it was.
    pub fn reload_with(&self, defaults: Limits) -> Result<Changed, FileError> {
        let mut held = self.defaults.lock();
        let changed = self.read_again(&defaults)?;
        *held = defaults;
        Ok(changed)
    }

    fn read_again(&self, defaults: &Limits) -> Result<Changed, FileError> {
        let newer = read(&self.path, defaults)?;
        let older = self.current();
        let changed = older.changes(&newer);
        *self.table.write() = Arc::new(newer);
        Ok(changed)
    }

    fn current(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    async fn judge(&self, offer: Offer<'_>) -> Result<Principal, Refused> {
        match offer.credentials {
            Credentials::Password { user, password } => self.by_password(user, password).await,
            Credentials::Token(token) => self.by_token(token),
            Credentials::None => self.by_certificate(offer.info),
        }
    }

    /// Unknown users and wrong passwords look the same, in the answer and in the time it takes.
    async fn by_password(&self, name: &str, password: &str) -> Result<Principal, Refused> {
        let table = self.current();
        let known = table.by_name(name).filter(|user| user.password.is_some());
        if let Some(user) = known.filter(|user| table.recognises(user, password)) {
            return Ok(user.principal(user.proofs.password));
        }
        let stored = known
            .and_then(|user| user.password.as_ref())
            .or_else(|| table.decoy());
        let stored = stored.ok_or_else(wrong_password)?;
        let right = self
            .gate
            .check(stored.clone(), password.to_owned())
            .await
            .map_err(not_checked)?;
        let user = known.filter(|_| right).ok_or_else(wrong_password)?;
        table.recognise(user, password);
        self.still(user)
    }

    /// The user as of now, if its password was not replaced while it was checked.
    fn still(&self, checked: &User) -> Result<Principal, Refused> {
        let table = self.current();
        let user = table
            .by_name(&checked.name)
            .filter(|user| user.password == checked.password);
        user.map(|user| user.principal(user.proofs.password))
            .ok_or_else(wrong_password)
    }

    fn by_token(&self, token: &str) -> Result<Principal, Refused> {
        let table = self.current();
        let user = table.by_token(&StoredToken::of(token));
        user.map(|user| user.principal(user.proofs.token))
            .ok_or_else(|| unauthenticated("unknown token"))
    }

    fn by_certificate(&self, info: &Info) -> Result<Principal, Refused> {
        if info.client_certificates.is_empty() {
            return Err(unauthenticated(
                "a user name and password, a token or a client certificate is needed",
            ));
        }
        let table = self.current();
        let name = certificate::find(info, |name| {
            table.by_certificate(name).map(|user| &*user.name)
        })?;
        let user = table.by_certificate(&name);
        user.map(|user| user.principal(user.proofs.certificate))
            .ok_or_else(|| unauthenticated("the client certificate belongs to no user"))
    }

    fn judge_again(&self, principal: &Principal) -> Result<Principal, Refused> {
        let table = self.current();
        let user = table.by_name(&principal.identity);
        let user = user.ok_or_else(|| Refused::new(Code::Kicked, "the user was removed"))?;
        if !user.holds(principal.proof) {
            return Err(Refused::new(
                Code::Kicked,
                "the user's credential was replaced",
            ));
        }
        Ok(user.principal(Some(principal.proof)))
    }
}

impl Authenticate for FileAuth {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(self.judge(offer))
    }

    /// Answers by the rules, although the broker applies them itself and does not ask.
    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        let allowed = match &principal.permissions {
            Permissions::All => true,
            Permissions::Rules(rules) => match action {
                Action::Publish => rules.publish.allows_subject(subject),
                Action::Subscribe => rules.subscribe.allows_pattern(subject),
            },
            Permissions::Ask => false,
        };
        Box::pin(std::future::ready(allowed))
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        Box::pin(std::future::ready(self.judge_again(principal)))
    }
}

fn read(path: &Path, defaults: &Limits) -> Result<Table, FileError> {
    let unread = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unread)?;
    file.take(parse::FILE_LEN_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unread)?;
    if text.len() as u64 > parse::FILE_LEN_MAX {
        return Err(FileError::TooLong {
            path: path.to_owned(),
        });
    }
    parse::parse(&text, defaults).map_err(|problems| FileError::Invalid {
        path: path.to_owned(),
        problems,
    })
}

fn wrong_password() -> Refused {
    unauthenticated("wrong user name or password")
}

fn unauthenticated(text: &str) -> Refused {
    Refused::new(Code::Unauthenticated, text)
}

/// What the client is told when its password was not looked at.
#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn not_checked(error: GateError) -> Refused {
    match &error {
        GateError::Busy => Refused::new(
            Code::TooMany,
            "too many logins at the same time; try again later",
        ),
        GateError::Broken(source) => {
            tracing::error!(%source, "{error}");
            Refused::new(Code::Internal, "the password cannot be checked")
        }
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher as _;
    use argon2::{Algorithm, Argon2, Params, Version};

    use super::*;

    /// Users `alice` with a password and `bob` with a token.
    fn provider(password: &str) -> FileAuth {
        let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(password.as_bytes())
            .unwrap();
        let token = hash_token("t");
        let text = format!(
            "[[user]]\nname = 'bob'\ntoken = '{token}'\n[[user]]\nname = 'alice'\npassword = '{hash}'\n"
        );
        let table = parse::parse(&text, &Limits::default()).unwrap();
        let table = RwLock::new(Arc::new(table));
        FileAuth {
            path: PathBuf::new(),
            table,
            defaults: Mutex::new(Limits::default()),
            gate: Gate::new(),
        }
    }

    async fn code(auth: &FileAuth, user: &str, password: &str) -> Option<Code> {
        auth.by_password(user, password)
            .await
            .err()
            .map(|refused| refused.code)
    }

    #[tokio::test]
    async fn whoever_has_no_password_is_checked_like_everybody_else() {
        let auth = provider("secret");
        let full = auth.gate.fill();
        for name in ["alice", "bob", "eve", ""] {
            assert_eq!(
                code(&auth, name, "secret").await,
                Some(Code::TooMany),
                "{name}"
            );
        }
        drop(full);
        assert_eq!(
            code(&auth, "eve", "secret").await,
            Some(Code::Unauthenticated)
        );
        assert_eq!(
            code(&auth, "bob", "secret").await,
            Some(Code::Unauthenticated)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_password_is_recognised_for_a_while() {
        let auth = provider("secret");
        assert_eq!(code(&auth, "alice", "secret").await, None);
        let full = auth.gate.fill();
        assert_eq!(code(&auth, "alice", "secret").await, None);
        assert_eq!(code(&auth, "alice", "Secret").await, Some(Code::TooMany));
        tokio::time::advance(table::RECOGNISED_FOR).await;
        assert_eq!(code(&auth, "alice", "secret").await, Some(Code::TooMany));
        drop(full);
        assert_eq!(code(&auth, "alice", "secret").await, None);
    }

    #[tokio::test]
    async fn a_wrong_password_is_never_recognised() {
        let auth = provider("secret");
        for _ in 0..2 {
            assert_eq!(
                code(&auth, "alice", "Secret").await,
                Some(Code::Unauthenticated)
            );
        }
        let full = auth.gate.fill();
        assert_eq!(code(&auth, "alice", "Secret").await, Some(Code::TooMany));
        drop(full);
    }

    #[tokio::test]
    async fn a_password_that_is_replaced_while_it_is_checked_is_refused() {
        let (auth, newer) = (provider("secret"), provider("other"));
        let older = auth.current();
        let alice = older.by_name("alice").unwrap();
        assert!(auth.still(alice).is_ok());
        *auth.table.write() = newer.current();
        assert!(auth.still(alice).is_err());
    }
}

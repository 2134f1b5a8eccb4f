//! The users of a file, found by name, token and certificate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dialtone_protocol::Limits;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::password::{StoredPassword, StoredToken};
use crate::auth::{Permissions, Principal};

/// How long a password that was right is recognised by a keyed hash, which costs microseconds
/// instead of the milliseconds of argon2id, so that a crowd of clients can reconnect at once.
pub(super) const RECOGNISED_FOR: Duration = Duration::from_mins(10);

/// One user.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Arc<str>,
    pub(super) grant: Grant,
    pub(super) password: Option<StoredPassword>,
    /// What connections by password, token and certificate carry as their proof.
    pub(super) proofs: Proofs,
    /// The last password that was right, if that was lately. A user has one password, so one place
    /// is enough, and the whole of it goes away with the table.
    recognised: Mutex<Option<Recognised>>,
}

/// What a user is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) permissions: Permissions,
    pub(super) limits: Option<Box<Limits>>,
    pub(super) connections_max: Option<u32>,
}

/// Marks of a user's credentials, equal as long as the stored credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Proofs {
    pub(super) password: Option<u64>,
    pub(super) token: Option<u64>,
    pub(super) certificate: Option<u64>,
}

#[derive(Debug)]
struct Recognised {
    digest: [u8; 32],
    until: Instant,
}

impl Proofs {
    /// The mark of one credential, by its kind and the form in which it is stored.
    pub(super) fn mark(kind: &str, stored: &str) -> u64 {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(kind)
            .chain_update([0])
            .chain_update(stored)
            .finalize()
            .into();
        u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes")).max(1)
    }

    /// Whether a connection that was made with this mark could be made again.
    fn hold(&self, mark: u64) -> bool {
        [self.password, self.token, self.certificate].contains(&Some(mark))
    }
}

impl User {
    pub(super) fn new(
        name: Arc<str>,
        grant: Grant,
        password: Option<StoredPassword>,
        proofs: Proofs,
    ) -> Self {
        Self {
            name,
            grant,
            password,
            proofs,
            recognised: Mutex::new(None),
        }
    }

    /// The user as the broker knows it.
    pub(super) fn principal(&self, proof: Option<u64>) -> Principal {
        Principal {
            identity: Arc::clone(&self.name),
            permissions: self.grant.permissions.clone(),
            limits: self.grant.limits.clone(),
            connections_max: self.grant.connections_max,
            proof: proof.unwrap_or(0),
        }
    }

    /// Whether the credential behind a mark is still one of this user's.
    pub(super) fn holds(&self, proof: u64) -> bool {
        self.proofs.hold(proof)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.grant == other.grant && self.proofs == other.proofs
    }
}

/// Whose token it is.
type TokenHolder = (StoredToken, Arc<User>);

/// All users, as of one reading of the file.
#[derive(Debug)]
pub(super) struct Table {
    users: BTreeMap<Arc<str>, Arc<User>>,
    /// By the first bytes of the token's hash.
    tokens: HashMap<u64, SmallVec<[TokenHolder; 1]>>,
    /// By the name in the certificate, in lower case.
    certificates: HashMap<String, Arc<User>>,
    /// What the passwords of unknown users are checked against, so that they take as long as others.
    decoy: Option<StoredPassword>,
    /// Keys the hashes by which passwords are recognised.
    key: [u8; 32],
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            users: BTreeMap::new(),
            tokens: HashMap::new(),
            certificates: HashMap::new(),
            decoy: None,
            key: rand::random(),
        }
    }

    /// Adds a user whose name, token and certificate are not in the table.
    pub(super) fn add(
        &mut self,
        user: User,
        token: Option<StoredToken>,
        certificate: Option<&str>,
    ) {
        if self.decoy.is_none() {
            self.decoy.clone_from(&user.password);
        }
        let user = Arc::new(user);
        if let Some(token) = token {
            self.tokens
                .entry(token.prefix())
                .or_default()
                .push((token, Arc::clone(&user)));
        }
        if let Some(name) = certificate {
            self.certificates
                .insert(name.to_ascii_lowercase(), Arc::clone(&user));
        }
        self.users.insert(Arc::clone(&user.name), user);
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    pub(super) fn by_token(&self, token: &StoredToken) -> Option<&Arc<User>> {
        let candidates = self.tokens.get(&token.prefix())?;
        candidates
            .iter()
            .find(|(stored, _)| stored.is(token))
            .map(|(_, user)| user)
    }

    /// `name` in lower case.
    pub(super) fn by_certificate(&self, name: &str) -> Option<&Arc<User>> {
        self.certificates.get(name)
    }

    pub(super) fn decoy(&self) -> Option<&StoredPassword> {
        self.decoy.as_ref()
    }

    /// Whether this password was right lately.
    pub(super) fn recognises(&self, user: &User, password: &str) -> bool {
        let digest = self.digest(password);
        let recognised = user.recognised.lock();
        recognised
            .as_ref()
            .is_some_and(|last| Instant::now() < last.until && last.digest.ct_eq(&digest).into())
    }

    /// Notes that this password is right.
    pub(super) fn recognise(&self, user: &User, password: &str) {
        let digest = self.digest(password);
        *user.recognised.lock() = Some(Recognised {
            digest,
            until: Instant::now() + RECOGNISED_FOR,
        });
    }

    fn digest(&self, password: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.key)
            .chain_update(password)
            .finalize()
            .into()
    }

    /// What is different in `newer`.
    pub(super) fn changes(&self, newer: &Self) -> Changed {
        let mut changed = Changed::default();
        for (name, user) in &self.users {
            match newer.users.get(name) {
                None => changed.removed.push(Arc::clone(name)),
                Some(other) if !user.is_same(other) => changed.altered.push(Arc::clone(name)),
                Some(_) => {}
            }
        }
        let added = newer
            .users
            .keys()
            .filter(|name| !self.users.contains_key(*name));
        changed.added.extend(added.map(Arc::clone));
        changed
    }
}

/// What a reload found to be different, as identities in alphabetical order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Users that are new.
    pub added: Vec<Arc<str>>,
    /// Users whose permissions, limits or credentials are others.
    pub altered: Vec<Arc<str>>,
    /// Users that are gone.
    pub removed: Vec<Arc<str>>,
}

impl Changed {
    /// The identities whose connections must be looked at again: for each,
    /// [`Handle::permissions_changed`](crate::Handle::permissions_changed).
    pub fn affected(&self) -> impl Iterator<Item = &str> {
        self.altered.iter().chain(&self.removed).map(|name| &**name)
    }
}

//! Users in a file: who is let in, as whom, and what a change of the file does.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

use std::fs;
use std::sync::Arc;

use argon2::password_hash::PasswordHasher as _;
use argon2::{Algorithm, Argon2, Params, Version};
use dialtone_broker::auth::file::{FileAuth, FileError, hash_token};
use dialtone_broker::auth::{Authenticate as _, Offer, Permissions, Principal};
use dialtone_protocol::frame::{Action, Credentials, Refused};
use dialtone_protocol::{Code, Limits};
use dialtone_transport::memory;
use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

/// A provider and the file that it reads.
struct World {
    auth: FileAuth,
    dir: TempDir,
}

impl World {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("users.toml"), text).unwrap();
        let auth = FileAuth::open(dir.path().join("users.toml"), Limits::default()).unwrap();
        Self { auth, dir }
    }

    fn write(&self, text: &str) {
        fs::write(self.dir.path().join("users.toml"), text).unwrap();
    }

    async fn offer(
        &self,
        credentials: Credentials,
        certificate: Option<&str>,
    ) -> Result<Principal, Refused> {
        let mut info = memory::pair(1).0.info;
        info.client_certificates
            .extend(certificate.map(|name| der(name).into()));
        self.auth
            .authenticate(Offer {
                info: &info,
                credentials: &credentials,
            })
            .await
    }

    async fn password(&self, user: &str, password: &str) -> Result<Principal, Refused> {
        let credentials = Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        self.offer(credentials, None).await
    }

    async fn token(&self, token: &str) -> Result<Principal, Refused> {
        self.offer(Credentials::Token(token.to_owned()), None).await
    }
}

fn der(common: &str) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

/// The cheapest hash that there is.
fn hash(password: &str) -> String {
    let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2
        .hash_password(password.as_bytes())
        .unwrap()
        .to_string()
}

fn user(name: &str, fields: &str) -> String {
    format!("[[user]]\nname = \"{name}\"\n{fields}\n")
}

fn with_password(name: &str, password: &str) -> String {
    user(name, &format!("password = \"{}\"", hash(password)))
}

fn with_token(name: &str, token: &str) -> String {
    user(name, &format!("token = \"{}\"", hash_token(token)))
}

#[track_caller]
fn refused(outcome: Result<Principal, Refused>, code: Code, text: &str) {
    assert_eq!(
        outcome.map(|principal| principal.identity),
        Err(Refused::new(code, text))
    );
}

#[tokio::test]
async fn the_right_password_is_let_in_again_and_again() {
    let world = World::new(&with_password("alice", "secret"));
    for _ in 0..3 {
        let alice = world.password("alice", "secret").await.unwrap();
        assert_eq!(&*alice.identity, "alice");
        assert_eq!(alice.permissions, Permissions::All);
        refused(
            world.password("alice", "Secret").await,
            Code::Unauthenticated,
            "wrong user name or password",
        );
    }
}

#[tokio::test]
async fn unknown_users_and_wrong_passwords_look_the_same() {
    let world = World::new(&(with_password("alice", "secret") + &with_token("bob", "t")));
    let text = "wrong user name or password";
    refused(
        world.password("alice", "").await,
        Code::Unauthenticated,
        text,
    );
    refused(
        world.password("eve", "secret").await,
        Code::Unauthenticated,
        text,
    );
    refused(
        world.password("bob", "t").await,
        Code::Unauthenticated,
        text,
    );
    refused(world.password("", "").await, Code::Unauthenticated, text);
}

#[tokio::test]
async fn tokens_name_their_bearer() {
    let world = World::new(&(with_token("a", "token of a") + &with_token("b", "token of b")));
    assert_eq!(&*world.token("token of b").await.unwrap().identity, "b");
    refused(
        world.token("token of c").await,
        Code::Unauthenticated,
        "unknown token",
    );
    refused(
        world.token("").await,
        Code::Unauthenticated,
        "unknown token",
    );
}

#[tokio::test]
async fn certificates_count_only_without_other_credentials() {
    let world =
        World::new(&(user("alice", "certificate = \"Alice.example\"") + &with_token("bob", "t")));
    let alice = world
        .offer(Credentials::None, Some("alice.example"))
        .await
        .unwrap();
    assert_eq!(&*alice.identity, "alice");
    let bob = world
        .offer(Credentials::Token("t".to_owned()), Some("alice.example"))
        .await
        .unwrap();
    assert_eq!(&*bob.identity, "bob");
    let bad_token = world
        .offer(Credentials::Token("x".to_owned()), Some("alice.example"))
        .await;
    refused(bad_token, Code::Unauthenticated, "unknown token");
    let unknown = world.offer(Credentials::None, Some("eve")).await;
    refused(
        unknown,
        Code::Unauthenticated,
        "the client certificate of \"eve\" belongs to no user",
    );
    let nothing = "a user name and password, a token or a client certificate is needed";
    refused(
        world.offer(Credentials::None, None).await,
        Code::Unauthenticated,
        nothing,
    );
}

#[tokio::test]
async fn rules_and_limits_come_with_the_principal() {
    let fields = "publish = { allow = [\"a.>\"], deny = [\"a.b\"] }\nsubscribe = { allow = [] }\n\
                  connections_max = 10\nlimits = { message_len_max = 9 }\n";
    let text = with_token("a", "t") + fields;
    let world = World::new(&text);
    let a = world.token("t").await.unwrap();
    assert_eq!(
        (
            a.connections_max,
            a.limits.as_ref().unwrap().message_len_max
        ),
        (Some(10), 9)
    );
    let may = async |action, subject| world.auth.authorize(&a, action, subject).await;
    assert!(may(Action::Publish, "a.c").await);
    assert!(!may(Action::Publish, "a.b").await);
    assert!(!may(Action::Publish, "b").await);
    assert!(!may(Action::Subscribe, "a.c").await);
}

#[tokio::test]
async fn a_reload_says_who_is_affected() {
    let (kept, old, changing) = (
        with_token("kept", "1"),
        with_token("old", "2"),
        with_token("changing", "3"),
    );
    let world = World::new(&format!("{kept}{old}{changing}"));
    let principals = [
        world.token("1").await.unwrap(),
        world.token("2").await.unwrap(),
        world.token("3").await.unwrap(),
    ];
    let [kept_one, old_one, changing_one] = &principals;
    world.write(&format!(
        "{kept}{changing}publish = {{ allow = [] }}\n{}",
        with_token("new", "4")
    ));
    let changed = world.auth.reload().unwrap();
    let names = |list: &[Arc<str>]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&changed.added), ["new"]);
    assert_eq!(names(&changed.altered), ["changing"]);
    assert_eq!(names(&changed.removed), ["old"]);
    assert_eq!(changed.affected().collect::<Vec<_>>(), ["changing", "old"]);

    assert_eq!(
        world.auth.refresh(kept_one).await.unwrap().permissions,
        Permissions::All
    );
    refused(
        world.auth.refresh(old_one).await,
        Code::Kicked,
        "the user was removed",
    );
    let changing = world.auth.refresh(changing_one).await.unwrap();
    assert!(matches!(changing.permissions, Permissions::Rules(_)));
    refused(
        world.token("2").await,
        Code::Unauthenticated,
        "unknown token",
    );
    assert_eq!(&*world.token("4").await.unwrap().identity, "new");
}

#[tokio::test]
async fn a_replaced_credential_ends_what_was_made_with_it() {
    let hash_of_one = hash("one");
    let fields = |password: &str, token: &str| {
        format!(
            "password = \"{password}\"\ntoken = \"{}\"",
            hash_token(token)
        )
    };
    let world = World::new(&user("a", &fields(&hash_of_one, "t")));
    let by_password = world.password("a", "one").await.unwrap();
    let by_token = world.token("t").await.unwrap();
    world.write(&user("a", &fields(&hash("two"), "t")));
    assert_eq!(
        world.auth.reload().unwrap().affected().collect::<Vec<_>>(),
        ["a"]
    );
    refused(
        world.auth.refresh(&by_password).await,
        Code::Kicked,
        "the user's credential was replaced",
    );
    assert_eq!(
        world.auth.refresh(&by_token).await.unwrap().proof,
        by_token.proof
    );
    refused(
        world.password("a", "one").await,
        Code::Unauthenticated,
        "wrong user name or password",
    );
    world.password("a", "two").await.unwrap();
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let world = World::new(&with_token("a", "t"));
    world.write(&user("a", "password = \"hunter2\""));
    let error = world.auth.reload().unwrap_err();
    let place = world.dir.path().join("users.toml");
    let expected = format!(
        "{}:3:12: user \"a\": password: is not a hash; passwords are stored hashed, and `dialtone passwd` makes a hash",
        place.display()
    );
    assert_eq!(error.to_string(), expected);
    world.token("t").await.unwrap();
    fs::remove_file(place).unwrap();
    assert!(matches!(world.auth.reload(), Err(FileError::Read { .. })));
    world.token("t").await.unwrap();
}

#[tokio::test]
async fn new_defaults_change_those_who_build_on_them() {
    let own = with_token("own", "1") + "limits = { subscriptions_max = 5 }\n";
    let world = World::new(&(own + &with_token("none", "2")));
    let defaults = Limits {
        message_len_max: 77,
        ..Limits::default()
    };
    let changed = world.auth.reload_with(defaults).unwrap();
    assert_eq!(changed.affected().collect::<Vec<_>>(), ["own"]);
    let limits = world.token("1").await.unwrap().limits.unwrap();
    assert_eq!((limits.message_len_max, limits.subscriptions_max), (77, 5));
    assert!(world.token("2").await.unwrap().limits.is_none());
    assert!(world.auth.reload().unwrap().affected().next().is_none());
}

//! Letters that the hub sends.
//!
//! ```text
//!   a service ─ put, in its transaction ─▶ table `letters` ─ claim ─▶ Sender ─▶ SMTP server or folder
//!                                               ▲                       │
//!                                               └── later, if it failed ┘
//! ```
//!
//! Sending takes its time and may fail, and whoever waits for the answer to a question must not learn from either
//! whether there is an account. So a letter is stored in the transaction that gives a reason for it, and sent later by
//! any hub. One is sent at least once; it has the same number each time, by which mail servers know it again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::email::EmailAddress;
use crate::settings::Live;
use crate::store::{Error, Transaction, letters as stored};

mod route;
pub use route::{Route, Server, Tls, Unready};

mod smtp;

mod folder;

mod sender;
pub use sender::{Config, Sender, send_now};

/// Most letters that are kept; more are not taken, and that is said.
pub const WAITING_MAX: i64 = 10_000;

/// Most notices among them: however much news there is, who has forgotten a password gets a letter.
pub const NOTICES_MAX: i64 = WAITING_MAX / 2;

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// To whom.
    pub to: EmailAddress,
    /// What it is about, in one line.
    pub subject: String,
    /// What it says, as plain text.
    pub text: String,
}

/// What a letter is for, which decides about its way and for how long sending it makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A link to set a new password.
    PasswordReset,
    /// A link that shows whose an address is.
    Verification,
    /// News about projects, messages and the like.
    Notice,
}

impl Kind {
    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::PasswordReset => "password-reset",
            Self::Verification => "verification",
            Self::Notice => "notice",
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "password-reset" => Self::PasswordReset,
            "verification" => Self::Verification,
            // Also what a newer hub may have put there.
            _ => Self::Notice,
        }
    }

    /// How long it is tried to send one: links end.
    pub fn keep(self) -> Duration {
        match self {
            Self::PasswordReset => crate::entry::reset::LIFETIME,
            Self::Verification => crate::entry::verify::LIFETIME,
            Self::Notice => Duration::from_hours(48),
        }
    }
}

/// Takes letters to be sent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Letters {
    /// Without them none are sent.
    settings: Option<Live>,
    folder: Option<Arc<Path>>,
    new: Arc<Notify>,
}

impl Letters {
    /// Those of a site with these settings, and a folder that they become files in where the settings name no server:
    /// for development, and for sites that pick them up there.
    pub fn new(settings: Live, folder: Option<PathBuf>) -> Self {
        Self {
            settings: Some(settings),
            folder: folder.map(Arc::from),
            new: Arc::new(Notify::new()),
        }
    }

    /// None are sent, whatever the site says.
    pub fn none() -> Self {
        Self {
            settings: None,
            folder: None,
            new: Arc::default(),
        }
    }

    /// Whether letters are sent at all: whether the site has a way to, which may fail for a while.
    pub fn are_sent(&self) -> bool {
        self.are_sent_of(Kind::Notice)
    }

    /// The same for letters of this kind, which may have a way of their own.
    pub fn are_sent_of(&self, kind: Kind) -> bool {
        !matches!(self.route(kind), Ok(Route::None))
    }

    /// Keeps a letter, to be sent when the transaction is committed, after which [`wake`](Self::wake) makes it quick.
    /// On a site that sends none it is left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put(
        &self,
        on: &mut Transaction,
        kind: Kind,
        letter: &Letter,
    ) -> Result<(), Error> {
        if !self.are_sent_of(kind) {
            tracing::debug!(
                kind = kind.name(),
                "a letter is not sent, since the site has no way to send such"
            );
            return Ok(());
        }
        let new = stored::New {
            id: uuid::Uuid::new_v4(),
            kind: kind.name(),
            to: letter.to.as_str(),
            subject: &letter.subject,
            body: &letter.text,
            keep: kind.keep(),
        };
        let of_kind_max = match kind {
            Kind::PasswordReset | Kind::Verification => WAITING_MAX,
            Kind::Notice => NOTICES_MAX,
        };
        let max = stored::Max {
            all: WAITING_MAX,
            of_kind: of_kind_max,
        };
        if !stored::put(on, &new, max).await? {
            tracing::error!(
                kind = kind.name(),
                waiting_max = WAITING_MAX,
                of_kind_max,
                "a letter is lost, since too many wait to be sent"
            );
        }
        Ok(())
    }

    /// Tells the sender of this process that there is something to send. Others look by themselves.
    pub fn wake(&self) {
        self.new.notify_one();
    }

    fn route(&self, kind: Kind) -> Result<Route, Unready> {
        match &self.settings {
            Some(settings) => route::of(&settings.get(), kind, self.folder.as_deref()),
            None => Ok(Route::None),
        }
    }

    fn site_name(&self) -> String {
        let settings = self.settings.as_ref().map(Live::get);
        settings.map_or_else(String::new, |settings| settings.get("site_name").to_owned())
    }
}

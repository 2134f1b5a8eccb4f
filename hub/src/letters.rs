//! Letters that the hub sends, and ways to send them.
//!
//! Sending takes its time and may fail, and whoever waits for the answer to a question must not learn from either
//! whether there is an account. So a letter is handed over and sent later, by whoever has the way.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::email::EmailAddress;

/// Most letters that wait to be sent; more are lost, and that is said.
const WAITING_MAX: usize = 1000;

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

/// Hands letters over to be sent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Letters {
    waiting: Option<mpsc::Sender<Letter>>,
}

/// What sends the letters that were handed over.
#[derive(Debug)]
pub struct Sender {
    waiting: mpsc::Receiver<Letter>,
    folder: PathBuf,
}

impl Letters {
    /// None are sent: the site has no way to.
    pub fn none() -> Self {
        Self { waiting: None }
    }

    /// Letters become files in a folder, for development and for sites that pick them up there.
    pub fn folder(folder: PathBuf) -> (Self, Sender) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let letters = Self {
            waiting: Some(sender),
        };
        (letters, Sender { waiting, folder })
    }

    /// Whether letters are sent at all.
    pub fn are_sent(&self) -> bool {
        self.waiting.is_some()
    }

    /// Hands a letter over.
    pub fn send(&self, letter: Letter) {
        let Some(waiting) = &self.waiting else {
            tracing::debug!("a letter is not sent, since the site has no way to send any");
            return;
        };
        if waiting.try_send(letter).is_err() {
            tracing::error!(
                waiting_max = WAITING_MAX,
                "a letter is lost, since too many wait to be sent"
            );
        }
    }
}

impl Sender {
    /// Sends letters until it is told to stop, and then those that wait.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let letter = tokio::select! {
                letter = self.waiting.recv() => letter,
                () = stop.cancelled() => self.waiting.try_recv().ok(),
            };
            let Some(letter) = letter else {
                return;
            };
            let folder = self.folder.clone();
            let written = tokio::task::spawn_blocking(move || write(&folder, &letter)).await;
            if let Ok(Err(error)) = written {
                tracing::error!(%error, "a letter could not be written");
            }
        }
    }
}

/// As `<number>.eml`; a name that begins with a dot is not finished.
fn write(folder: &std::path::Path, letter: &Letter) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let name = uuid::Uuid::new_v4();
    let (unfinished, finished) = (
        folder.join(format!(".{name}")),
        folder.join(format!("{name}.eml")),
    );
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let subject = letter.subject.replace(['\r', '\n'], " ");
    write!(
        file,
        "To: {}\r\nSubject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}",
        letter.to,
        letter.text.replace('\n', "\r\n")
    )?;
    std::fs::rename(unfinished, finished)
}

//! `dialtone passwd`: hashes for a users file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use dialtone_broker::auth::file::{hash_password, hash_token};
use dialtone_protocol::limits::CREDENTIAL_LEN_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::args::Passwd;
use crate::exit::{Failure, Outcome};
use crate::print::Output;

/// Shortest token, in characters; shorter ones can be guessed from their hashes.
const TOKEN_LEN_MIN: usize = 16;

/// `dialtone passwd`
pub(super) fn run(args: &Passwd) -> Outcome {
    let what = if args.token { "token" } else { "password" };
    let secret = secret(what)?;
    if args.token && secret.chars().count() < TOKEN_LEN_MIN {
        return Err(Failure::usage(format_args!(
            "a token needs at least {TOKEN_LEN_MIN} characters, since its hash is quick to check"
        ))
        .hint("`openssl rand -hex 32` makes one"));
    }
    let hash = if args.token {
        hash_token(&secret)
    } else {
        hash_password(&secret).map_err(anyhow::Error::from)?
    };
    let mut out = Output::stdout();
    out.line(hash)?;
    Ok(out.flush()?)
}

/// A secret from whoever types it, twice and without showing it, or from standard input.
pub(super) fn secret(what: &str) -> Result<String, Failure> {
    let secret = if io::stdin().is_terminal() {
        asked(what)?
    } else {
        piped()?
    };
    if secret.is_empty() {
        return Err(Failure::usage(format_args!("the {what} is empty")));
    }
    if secret.contains('\n') {
        let text = format_args!("the {what} on standard input has more than one line");
        return Err(Failure::usage(text));
    }
    Ok(secret)
}

fn piped() -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = CREDENTIAL_LEN_MAX as u64 + 2;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn asked(what: &str) -> Result<String, Failure> {
    let mut terminal = Terminal::open().context("cannot use the terminal")?;
    let first = terminal
        .ask(&format!("New {what}: "))
        .context("cannot read from the terminal")?;
    let second = terminal
        .ask("Once more: ")
        .context("cannot read from the terminal")?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::usage("the two are not the same"))
    }
}

/// The terminal, without echo until it is dropped.
struct Terminal {
    reader: BufReader<File>,
    writer: File,
    before: Termios,
}

impl Terminal {
    fn open() -> io::Result<Self> {
        let writer = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let reader = BufReader::new(writer.try_clone()?);
        let before = tcgetattr(&writer)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&writer, OptionalActions::Flush, &silent)?;
        Ok(Self {
            reader,
            writer,
            before,
        })
    }

    fn ask(&mut self, prompt: &str) -> io::Result<String> {
        self.writer.write_all(prompt.as_bytes())?;
        let mut line = String::new();
        self.reader
            .by_ref()
            .take(CREDENTIAL_LEN_MAX as u64 + 2)
            .read_line(&mut line)?;
        self.writer.write_all(b"\n")?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(&self.writer, OptionalActions::Flush, &self.before) {
            crate::print::note(format_args!(
                "the terminal does not show what is typed ({error}); `stty echo` helps"
            ));
        }
    }
}

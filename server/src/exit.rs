//! How a subcommand fails: the exit code, the error, and a hint at what to do.

use std::fmt;
use std::io;
use std::process::ExitCode;

use dialtone_protocol::Code;

/// The exit codes of the program; stable, and documented in `docs/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Whoever read the output has gone; not worth a word.
    Quiet,
    /// Something went wrong.
    Failure,
    /// The command line or the configuration makes no sense.
    Usage,
    /// Nobody subscribes to the subject.
    NoSubscriber,
    /// Nothing came in time.
    Timeout,
    /// The credentials were refused, or do not permit it.
    Denied,
    /// A cluster of which some nodes are missing.
    Incomplete,
    /// `SIGINT` came before the end.
    Interrupted,
    /// `SIGTERM` came before the end.
    Terminated,
}

impl Exit {
    /// The number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NoSubscriber => 4,
            Self::Timeout => 5,
            Self::Denied => 6,
            Self::Incomplete => 7,
            // What a shell gives for a program that ends by the signal.
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// What a code of the protocol means to a shell.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only some codes have an exit code of their own"
    )]
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::NoSubscribers => Self::NoSubscriber,
            Code::Timeout => Self::Timeout,
            Code::Unauthenticated | Code::Denied | Code::Kicked => Self::Denied,
            Code::InvalidSubject => Self::Usage,
            _ => Self::Failure,
        }
    }
}

/// Why a subcommand did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

/// What subcommands return.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            hint: None,
        }
    }

    /// A failure whose exit code follows from a code of the protocol.
    pub(crate) fn of(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::of(code), error)
    }

    /// An end that needs no words.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, anyhow::anyhow!("interrupted"))
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{text}"))
    }

    /// The same failure with a hint at what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What went wrong with its causes, in one line.
    pub(crate) fn cause(&self) -> String {
        format!("{:#}", self.error)
    }

    /// Says what went wrong on standard error, and how the process ends.
    pub(crate) fn report(&self) -> ExitCode {
        let silent = matches!(
            self.exit,
            Exit::Quiet | Exit::Interrupted | Exit::Terminated
        );
        if !silent {
            // Nothing is left to be done when standard error is gone as well.
            drop(io::Write::write_all(
                &mut io::stderr().lock(),
                self.to_string().as_bytes(),
            ));
        }
        ExitCode::from(self.exit.number())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paint = crate::print::Paint::stderr();
        writeln!(f, "{} {}", paint.red("error:"), self.error)?;
        for cause in self.error.chain().skip(1) {
            writeln!(f, "  because: {cause}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "{} {hint}", paint.bold("hint:")),
            None => Ok(()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let broken = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>());
        let quiet = broken
            .into_iter()
            .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
        Self::new(if quiet { Exit::Quiet } else { Exit::Failure }, error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_and_hint_are_shown() {
        let error = Err::<(), _>(io::Error::other("disk is full"))
            .context("cannot write")
            .unwrap_err();
        let failure = Failure::from(error).hint("make room");
        assert_eq!(failure.exit, Exit::Failure);
        assert_eq!(
            failure.to_string(),
            "error: cannot write\n  because: disk is full\nhint: make room\n"
        );
    }

    #[test]
    fn a_broken_pipe_is_quiet() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit.number(), 0);
    }

    #[test]
    fn codes_of_the_protocol_become_exit_codes() {
        for (code, number) in [
            (Code::NoSubscribers, 4),
            (Code::Timeout, 5),
            (Code::Denied, 6),
            (Code::Unauthenticated, 6),
            (Code::InvalidSubject, 2),
            (Code::TooLarge, 1),
        ] {
            assert_eq!(Exit::of(code).number(), number);
        }
    }
}

//! What the subcommands about streams, keys and objects have in common: reaching the service, and what its refusals mean
//! to a shell.

use std::time::Duration;

use dialtone_client::Client;
use dialtone_client::persist::object::ObjectError;
use dialtone_client::persist::wire::FaultKind;
use dialtone_client::persist::{
    AckError, AppendError, CallError, OpenError, Owner, Persist, WatchError,
};

use crate::args::StoreArgs;
use crate::exit::{Exit, Failure};

/// A person waits: a service that is not there is said at once.
const SERVICE_WAIT: Duration = Duration::ZERO;

/// The service, asked for the scope of the flags.
pub(super) fn persist(client: &Client, args: &StoreArgs) -> Result<Persist, Failure> {
    let owner = Owner::from_scope(&args.scope).ok_or_else(|| {
        Failure::usage(format_args!("--scope: {:?} is no scope", args.scope))
            .hint("hub, account-UUID and project-UUID are")
    })?;
    Ok(Persist::of(client, owner)
        .timeout(args.timeout.get())
        .service_wait(SERVICE_WAIT))
}

/// Fails where nodes did not answer, whose streams are then not in a list.
pub(super) fn all_there(missing: &[String]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let nodes = missing.join(", ");
    let text = format!("what these nodes keep is not known, because they do not answer: {nodes}");
    Err(Failure::new(Exit::Failure, anyhow::anyhow!(text))
        .hint("`dialtone stream nodes` shows the nodes"))
}

/// A failed request as the shell sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some kinds have an exit code or a hint of their own"
)]
pub(super) fn call(error: CallError) -> Failure {
    match error.kind() {
        Some(FaultKind::BadRequest) => Failure::new(Exit::Usage, error),
        Some(FaultKind::Denied) => Failure::new(Exit::Denied, error)
            .hint("--scope says whose streams are meant, and the broker who may use them"),
        Some(FaultKind::NotFound) => Failure::new(Exit::Failure, error).hint(
            "`dialtone stream ls` shows which streams there are (`kv put` makes a store), `dialtone stream consumer ls STREAM` the consumers of one",
        ),
        Some(FaultKind::Corrupt) => damaged(error),
        Some(_) => Failure::new(Exit::Failure, error),
        None => match error {
            CallError::NoService { .. } => Failure::new(Exit::NoSubscriber, error)
                .hint("`dialtone up` runs the persist service beside the broker"),
            error => Failure::of(error.code(), error),
        },
    }
}

/// Damage, with a way around it where that is known.
fn damaged(error: CallError) -> Failure {
    let mut seq = None;
    if let CallError::Fault(fault) = &error {
        seq = fault.seq;
    }
    let failure = Failure::new(Exit::Failure, error);
    match seq {
        Some(seq) => failure.hint(format!(
            "`stream read STREAM --from {}` goes on behind it, `stream verify STREAM` names all that is damaged, and `stream rm STREAM --seq {seq}` gives it up",
            seq + 1
        )),
        None => failure.hint("`dialtone stream verify` names all that is damaged"),
    }
}

/// A stream that could not be opened, as the shell sees it.
pub(super) fn open(error: OpenError) -> Failure {
    match error {
        OpenError::Call(error) => call(error),
        OpenError::Name(_) => Failure::new(Exit::Usage, error),
        OpenError::NotFound { .. } => Failure::new(Exit::Failure, error)
            .hint("`dialtone stream ls` shows which streams there are; `stream add` makes one"),
        OpenError::Exists { .. } => Failure::new(Exit::Failure, error)
            .hint("--exist-ok accepts one that is there, where that flag exists"),
        error => Failure::new(Exit::Failure, error),
    }
}

/// A record that was not written, as the shell sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some errors have an exit code or a hint of their own"
)]
pub(super) fn append(error: AppendError) -> Failure {
    match error {
        AppendError::Call(error) => call(error),
        error => Failure::new(Exit::Failure, error),
    }
}

/// A watch that ended, as the shell sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some errors have an exit code or a hint of their own"
)]
pub(super) fn watch(error: WatchError) -> Failure {
    match error {
        WatchError::Call(error) => call(error),
        error => Failure::new(Exit::Failure, error)
            .hint("`dialtone stream ls` shows which streams there are; the first `kv put` makes a store, `stream add` a stream"),
    }
}

/// A failed acknowledgement as the shell sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some errors have an exit code or a hint of their own"
)]
pub(super) fn ack(error: AckError) -> Failure {
    match error {
        AckError::Call(error) => call(error),
        error => Failure::new(Exit::Failure, error),
    }
}

/// What went wrong with an object, as the shell sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some errors have an exit code or a hint of their own"
)]
pub(super) fn object(error: ObjectError) -> Failure {
    match error {
        ObjectError::Call(error) => call(error),
        ObjectError::Append(error) => append(error),
        ObjectError::Io(error) => error.into(),
        ObjectError::Name => Failure::new(Exit::Usage, error),
        ObjectError::NotFound { .. } => Failure::new(Exit::Failure, error)
            .hint("`dialtone object ls STORE` shows which objects there are"),
        error => Failure::new(Exit::Failure, error),
    }
}

//! `dialtone config`: the resolved configuration and what is wrong with it, and the sample.

use std::io::Write as _;

use dialtone_broker::auth::file::FileError;

use crate::args::{Config, ConfigCheck, ConfigCommand, LogArgs};
use crate::config::{Environment, Layer, Loaded, resolved, sample};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, Paint, note};
use crate::{assemble, cluster, serve};

/// `dialtone config`
pub(super) fn run(args: Config, log: &LogArgs) -> Outcome {
    match args.command {
        ConfigCommand::Check(args) if args.proxy => check_proxy(args),
        ConfigCommand::Check(args) => check(args, log),
        ConfigCommand::Sample(args) => {
            let mut out = Output::stdout();
            let text = if args.proxy {
                crate::proxy::sample()
            } else {
                sample()
            };
            out.write_all(text.as_bytes())?;
            Ok(out.flush()?)
        }
    }
}

fn check(args: ConfigCheck, log: &LogArgs) -> Outcome {
    let sources = serve::sources(args.config.as_deref(), args.settings, log, Layer::default());
    let loaded = sources.load(&Environment);
    let mut out = Output::stdout();
    out.write_all(resolved(&loaded.settings).as_bytes())?;
    out.flush()?;
    let paint = Paint::stderr();
    for warning in &loaded.warnings {
        note(format_args!("{} {warning}", paint.bold("warning:")));
    }
    verdict(&problems(&loaded))
}

/// The same for a proxy, whose settings are not among the flags here.
fn check_proxy(args: ConfigCheck) -> Outcome {
    let sources = crate::proxy::Sources {
        file: args.config,
        ..Default::default()
    };
    let loaded = sources.load(&Environment);
    let mut out = Output::stdout();
    out.write_all(crate::proxy::resolved(&loaded.settings, &loaded.site).as_bytes())?;
    out.flush()?;
    for warning in &loaded.warnings {
        note(format_args!(
            "{} {warning}",
            Paint::stderr().bold("warning:")
        ));
    }
    let mut problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    problems.extend(loaded.unopened());
    verdict(&problems)
}

/// Tells what is wrong, and how many of it there are.
fn verdict(problems: &[String]) -> Outcome {
    for problem in problems {
        note(format_args!("{} {problem}", Paint::stderr().red("wrong:")));
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(
            Exit::Failure,
            anyhow::anyhow!("one thing is wrong with the configuration"),
        )),
        count => Err(Failure::new(
            Exit::Failure,
            anyhow::anyhow!("{count} things are wrong with the configuration"),
        )),
    }
}

/// What is wrong with the settings, and with the files that they name.
fn problems(loaded: &Loaded) -> Vec<String> {
    let mut problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let settings = &loaded.settings;
    if settings.users.value.is_some()
        && let Err(error) = assemble::auth(settings)
    {
        match error.downcast_ref::<FileError>() {
            // Each line names the place in the users file itself.
            Some(FileError::Invalid { .. }) => problems.extend(lines(&error)),
            _ => problems.push(format!("{}: users: {error:#}", settings.users.origin)),
        }
    }
    // A development certificate is made when it is needed; nothing can be wrong with it before.
    if settings.tls_cert.value.is_some()
        && settings.tls_key.value.is_some()
        && let Err(error) = assemble::tls(settings)
    {
        problems.push(format!("{}: tls.cert: {error:#}", settings.tls_cert.origin));
    }
    if let Err(error) = cluster::trusted(settings, &Environment) {
        let at = [&settings.cluster_cert, &settings.cluster_secret_file]
            .into_iter()
            .find(|file| file.value.is_some())
            .map_or(&settings.cluster_name.origin, |file| &file.origin);
        problems.push(format!("{at}: cluster: {error:#}"));
    }
    problems
}

fn lines(error: &anyhow::Error) -> Vec<String> {
    error.to_string().lines().map(str::to_owned).collect()
}

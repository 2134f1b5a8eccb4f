//! `dialtone config`: the resolved configuration and what is wrong with it, and the sample.

use std::io::Write as _;
use std::time::SystemTime;

use dialtone_broker::auth::file::FileError;
use dialtone_transport::tls::ServerTls;

use crate::args::{Config, ConfigCheck, ConfigCommand, LogArgs};
use crate::config::{Environment, Layer, Loaded, resolved, sample};
use crate::exit::{Exit, Failure, Outcome};
use crate::expiry::{Notice, Shown};
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
    let Findings { problems, notices } = findings(&loaded);
    for notice in &notices {
        note(format_args!("{} {notice}", paint.bold("warning:")));
    }
    verdict(&problems)
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

/// What there is to say about the settings and the files that they name.
struct Findings {
    /// With these, a broker does not start.
    problems: Vec<String>,
    /// With these it does, but clients or nodes may be in trouble.
    notices: Vec<String>,
}

fn findings(loaded: &Loaded) -> Findings {
    let mut problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let mut notices: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
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
    if settings.tls_cert.value.is_some() && settings.tls_key.value.is_some() {
        let origin = &settings.tls_cert.origin;
        match assemble::tls(settings) {
            Ok(tls) => {
                let notice = tls.and_then(|tls| notice(&tls, Shown::Clients));
                notices.extend(notice.map(|notice| format!("{origin}: tls.cert: {notice}")));
            }
            Err(error) => problems.push(format!("{origin}: tls.cert: {error:#}")),
        }
    }
    let origin = [&settings.cluster_cert, &settings.cluster_secret_file]
        .into_iter()
        .find(|file| file.value.is_some())
        .map_or(&settings.cluster_name.origin, |file| &file.origin);
    match cluster::trusted(settings, &Environment) {
        Ok(trusted) => {
            let notice = trusted
                .filter(|trusted| trusted.keys.files)
                .and_then(|trusted| notice(&trusted.keys.server, Shown::Nodes));
            notices.extend(notice.map(|notice| format!("{origin}: cluster.cert: {notice}")));
        }
        Err(error) => problems.push(format!("{origin}: cluster: {error:#}")),
    }
    Findings { problems, notices }
}

fn notice(tls: &ServerTls, shown: Shown) -> Option<Notice> {
    Notice::about(tls, shown, SystemTime::now())
}

fn lines(error: &anyhow::Error) -> Vec<String> {
    error.to_string().lines().map(str::to_owned).collect()
}

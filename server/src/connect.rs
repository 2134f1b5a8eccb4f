//! Connecting to a broker as flags, environment and contexts say.

use dialtone_client::{Client, ConnectError, Options};
use dialtone_protocol::Code;
use dialtone_transport::tls::{ClientCertificate, ClientTls, Roots};
use dialtone_transport::{DialError, Endpoint};

use crate::args::ConnectArgs;
use crate::config::{Environment, Strings};
use crate::contexts::Contexts;
use crate::exit::{Exit, Failure};
use crate::profile::{Profile, merge};

/// Where a broker is when nobody says where.
pub(crate) const URL_DEFAULT: &str = "ws://127.0.0.1:4480/";

/// Connects, or says why not and what could be done.
pub(crate) async fn connect(args: &ConnectArgs) -> Result<Client, Failure> {
    let options = options(args, &Environment)?;
    let urls = options.urls.join(", ");
    options
        .connect()
        .await
        .map_err(|error| explain(error, &urls))
}

/// Connects elsewhere, as the same and with the same trust.
pub(crate) async fn connect_to(args: &ConnectArgs, urls: Vec<String>) -> Result<Client, Failure> {
    let mut options = options(args, &Environment)?;
    options.urls = urls;
    let urls = options.urls.join(", ");
    options
        .connect()
        .await
        .map_err(|error| explain(error, &urls))
}

fn options(args: &ConnectArgs, strings: &dyn Strings) -> Result<Options, Failure> {
    let profile = merge(
        args,
        Profile::from_environment(strings),
        context(args.context.as_deref(), strings)?,
    );
    let options = of_profile(args, &profile, URL_DEFAULT)?;
    warn_about_clear_text(&options);
    Ok(options)
}

/// How a service of the site connects: a context is taken only if it is named, since those in use are people's. `site`
/// is where the brokers of the site are, if that is known.
pub(crate) fn options_of_service(args: &ConnectArgs, site: &str) -> Result<Options, Failure> {
    let strings = &Environment;
    let named = args.context.is_some() || strings.get("DIALTONE_CONTEXT").is_some();
    let context = if named {
        context(args.context.as_deref(), strings)?
    } else {
        None
    };
    let profile = merge(args, Profile::from_environment(strings), context);
    of_profile(
        args,
        &profile,
        if site.is_empty() { URL_DEFAULT } else { site },
    )
}

/// `url` is where it goes if the profile does not say.
fn of_profile(args: &ConnectArgs, profile: &Profile, url: &str) -> Result<Options, Failure> {
    let mut options = Options::default()
        .name(concat!("dialtone/", env!("CARGO_PKG_VERSION")))
        .tls(tls(profile)?);
    options.urls = if profile.url.is_empty() {
        vec![url.to_owned()]
    } else {
        profile.url.clone()
    };
    if let Some(limit) = args.connect_timeout {
        options.connect_timeout = limit.get();
    }
    options = match (&profile.credentials, &profile.user, &profile.token) {
        (Some(path), _, _) => options
            .credentials_file(path)
            .map_err(|error| Failure::new(Exit::Usage, error))?,
        (None, Some(user), None) => {
            let password = profile.password.as_ref();
            let password =
                password.ok_or_else(|| Failure::usage("a user name was given, but no password"))?;
            options.password(user, password)
        }
        (None, None, Some(token)) => options.token(token),
        (None, Some(_), Some(_)) => {
            return Err(Failure::usage("both a user name and a token were given"));
        }
        (None, None, None) => options,
    };
    Ok(options)
}

/// The profile of the context that is named, or of the one in use.
pub(crate) fn context(
    named: Option<&str>,
    strings: &dyn Strings,
) -> Result<Option<Profile>, Failure> {
    let named = named
        .map(str::to_owned)
        .or_else(|| strings.get("DIALTONE_CONTEXT"));
    let contexts = match Contexts::open(strings) {
        Ok(contexts) => contexts,
        // Without a home there are no contexts, which matters only if one was asked for.
        Err(error) if named.is_some() => return Err(error.into()),
        Err(error) => {
            tracing::warn!("contexts are not used: {error:#}");
            return Ok(None);
        }
    };
    match named.as_deref().or_else(|| contexts.current()) {
        Some(name) => contexts.get(name).cloned().map(Some),
        None => Ok(None),
    }
}

fn tls(profile: &Profile) -> Result<ClientTls, Failure> {
    let roots = if profile.insecure {
        Roots::Insecure
    } else if let Some(text) = &profile.fingerprint {
        Roots::Fingerprint(
            text.parse()
                .map_err(|error| Failure::usage(format_args!("--fingerprint: {error}")))?,
        )
    } else if let Some(path) = &profile.ca {
        Roots::Pem(path.clone())
    } else {
        Roots::Platform
    };
    let own = match (&profile.cert, &profile.key) {
        (Some(cert), Some(key)) => {
            let read = ClientCertificate::from_pem_files(cert, key);
            Some(read.map_err(|error| Failure::new(Exit::Usage, error))?)
        }
        (Some(_), None) | (None, Some(_)) => {
            return Err(Failure::usage(
                "a certificate needs its key, and a key its certificate",
            ));
        }
        (None, None) => None,
    };
    Ok(ClientTls::with_certificate(roots, own))
}

/// Warns if a secret goes over the network for everybody to read.
pub(crate) fn warn_about_clear_text(options: &Options) {
    let secret = options.credentials != dialtone_client::Credentials::None;
    for url in options.urls.iter().filter(|_| secret) {
        if let Ok(Endpoint::Ws { host, .. }) = url.parse()
            && !crate::config::is_loopback(&host)
        {
            tracing::warn!("the credentials travel to {host} in clear; use wss:// or quic://");
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some errors have an exit code or a hint of their own"
)]
fn explain(error: ConnectError, urls: &str) -> Failure {
    match error {
        ConnectError::Unreachable { endpoint, source } => unreachable(&endpoint, *source, urls),
        error @ ConnectError::BadAddress { .. } => Failure::new(Exit::Usage, error),
        error if error.code() == Code::Unauthenticated => Failure::new(Exit::Denied, error)
            .hint("--user and --password, --token or --credentials say who you are"),
        error => Failure::of(error.code(), error),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only some errors have a hint"
)]
fn unreachable(endpoint: &Endpoint, error: DialError, urls: &str) -> Failure {
    // A sentence that ends in a URL must not change it.
    let nobody = format!(
        "is a broker running at {urls} ? `dialtone up` starts one on this machine; --url names another"
    );
    match error {
        // It says where it went itself.
        DialError::Connect { .. } => Failure::new(Exit::Failure, error).hint(nobody),
        DialError::TimedOut(_) => Failure::new(Exit::Timeout, error).hint(nobody),
        DialError::Tls(error) => Failure::new(Exit::Usage, error),
        DialError::TlsHandshake(_) | DialError::Quic(_) => handshake(endpoint, error),
        error => Failure::new(
            Exit::Failure,
            anyhow::Error::from(error).context(format!("cannot connect to {endpoint}")),
        ),
    }
}

/// The layers of TLS tell the reason by their words alone.
fn handshake(endpoint: &Endpoint, error: DialError) -> Failure {
    let error = anyhow::Error::from(error);
    let text = format!("{error:#}");
    let error = error.context(format!("cannot connect to {endpoint}"));
    if text.contains("ApplicationVerificationFailure") {
        let error = anyhow::anyhow!(
            "the certificate of {endpoint} does not have the fingerprint that was given"
        );
        return Failure::new(Exit::Failure, error).hint(
            "`dialtone up` prints the fingerprint of its certificate, and --json gives it as well",
        );
    }
    if text.contains("corrupt message") {
        let plain = endpoint.to_string().replacen("wss://", "ws://", 1);
        return Failure::new(Exit::Failure, error).hint(format!(
            "the server does not speak TLS there; is it {plain} ?"
        ));
    }
    if text.contains("certificate") {
        return Failure::new(Exit::Failure, error).hint(
            "the certificate is not trusted; --fingerprint HEX, --ca FILE or --insecure trust it",
        );
    }
    Failure::new(Exit::Failure, error)
}

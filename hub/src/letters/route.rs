//! What the settings of the site say about where letters go.
//!
//! | `email_backend` | |
//! |---|---|
//! | `none` | nowhere |
//! | `file` | into the hub's folder |
//! | `smtp` | to `email_smtp_server`, if `email_enabled` is `yes` |
//! | not set | as `smtp` if that names a server and letters are enabled, else into the folder if the hub has one |
//!
//! Letters with which a password is set anew have a server of their own where `password_reset_override` is `smtp`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Kind;
use crate::settings::Settings;

/// Where letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Nowhere.
    None,
    /// Each becomes a file in this folder.
    Folder(PathBuf),
    /// To a mail server.
    Smtp(Box<Server>),
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// From the first byte on, as at port 465.
    Implicit,
    /// After `STARTTLS`, without which nothing is sent, as at port 587.
    AfterStart,
    /// After `STARTTLS` where the server offers it. Whoever is on the way can read along.
    Opportunistic,
    /// Not at all.
    None,
}

/// A mail server that takes our letters.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// Certificates in PEM that are trusted besides those of the system.
    pub roots: Option<String>,
    /// User and password.
    pub login: Option<(String, String)>,
    /// The address that letters are from.
    pub from: String,
}

/// Without the password.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// The settings want letters to be sent and do not say enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// One is missing.
    #[error("setting {0} is not set")]
    Missing(&'static str),
    /// The hub was given no folder.
    #[error("letters should become files, and this hub has no folder for them")]
    NoFolder,
    /// A password would go over the network for everybody to read.
    #[error(
        "setting {0} would send the password of the mail server unprotected; use implicit or starttls"
    )]
    Unprotected(&'static str),
}

/// The names of the settings of a server.
struct Names {
    server: &'static str,
    port: &'static str,
    from: &'static str,
    login: &'static str,
    password: &'static str,
    secure: &'static str,
    tls: &'static str,
    roots: &'static str,
}

const GENERAL: Names = Names {
    server: "email_smtp_server",
    port: "email_smtp_port",
    from: "email_smtp_from",
    login: "email_smtp_login",
    password: "email_smtp_password",
    secure: "email_smtp_secure",
    tls: "email_smtp_tls",
    roots: "email_smtp_certificates",
};

const PASSWORD_RESET: Names = Names {
    server: "password_reset_smtp_server",
    port: "password_reset_smtp_port",
    from: "password_reset_smtp_from",
    login: "password_reset_smtp_login",
    password: "password_reset_smtp_password",
    secure: "password_reset_smtp_secure",
    tls: "password_reset_smtp_tls",
    roots: "password_reset_smtp_certificates",
};

/// Where letters of this kind go.
///
/// # Errors
/// When the settings do not say enough. Letters wait until they do.
pub(super) fn of(settings: &Settings, kind: Kind, folder: Option<&Path>) -> Result<Route, Unready> {
    let own_server =
        kind == Kind::PasswordReset && settings.get("password_reset_override") == "smtp";
    let enabled = settings.is_on("email_enabled");
    let general = !settings.get(GENERAL.server).is_empty();
    let to_folder = folder.map(|folder| Route::Folder(folder.to_owned()));
    match settings.get("email_backend") {
        "none" => Ok(Route::None),
        "file" => to_folder.ok_or(Unready::NoFolder),
        _ if enabled && own_server => server(settings, &PASSWORD_RESET),
        "smtp" if enabled => server(settings, &GENERAL),
        "" if enabled && general => server(settings, &GENERAL),
        "" => Ok(to_folder.unwrap_or(Route::None)),
        _ => Ok(Route::None),
    }
}

fn server(settings: &Settings, names: &Names) -> Result<Route, Unready> {
    let text = |name| Some(settings.get(name).trim()).filter(|text: &&str| !text.is_empty());
    let host = text(names.server).ok_or(Unready::Missing(names.server))?;
    let from = text(names.from)
        .or_else(|| text("organization_email"))
        .or_else(|| text("help_email"))
        .ok_or(Unready::Missing(names.from))?;
    let login =
        text(names.login).map(|login| (login.to_owned(), settings.get(names.password).to_owned()));
    let port = u16::try_from(settings.number(names.port)).unwrap_or(0);
    let tls = tls(settings, names, host, port, login.is_some())?;
    Ok(Route::Smtp(Box::new(Server {
        host: host.to_owned(),
        port,
        tls,
        roots: text(names.roots).map(ToOwned::to_owned),
        login,
        from: from.to_owned(),
    })))
}

/// As the newer setting says, or as CoCalc understands the older one: at port 587 nobody speaks TLS from the first byte.
fn tls(
    settings: &Settings,
    names: &Names,
    host: &str,
    port: u16,
    login: bool,
) -> Result<Tls, Unready> {
    // A password that stays on the machine is not protected by more.
    let exposed = login && !is_this_machine(host);
    match settings.get(names.tls) {
        "implicit" => Ok(Tls::Implicit),
        "starttls" => Ok(Tls::AfterStart),
        "opportunistic" | "none" if exposed => Err(Unready::Unprotected(names.tls)),
        "opportunistic" => Ok(Tls::Opportunistic),
        "none" => Ok(Tls::None),
        _ if settings.is_on(names.secure) && port != 587 => Ok(Tls::Implicit),
        _ if settings.is_on(names.secure) || exposed => Ok(Tls::AfterStart),
        _ => Ok(Tls::Opportunistic),
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::of_pairs(pairs)
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], folder: Option<&str>, expected: Result<&str, &str>) {
        let route = of(&settings(pairs), Kind::PasswordReset, folder.map(Path::new));
        let shown = route.map(|route| match route {
            Route::None => "none".to_owned(),
            Route::Folder(folder) => folder.display().to_string(),
            Route::Smtp(server) => format!(
                "{:?} {}@{}:{} {}",
                server.tls,
                server.login.map(|(user, _)| user).unwrap_or_default(),
                server.host,
                server.port,
                server.from
            ),
        });
        let shown = shown.map_err(|error| error.to_string());
        assert_eq!(
            shown.as_deref().map_err(String::as_str),
            expected,
            "{pairs:?}"
        );
    }

    const ON: (&str, &str) = ("email_enabled", "yes");
    const SERVER: (&str, &str) = ("email_smtp_server", "mx.example.org");
    const FROM: (&str, &str) = ("email_smtp_from", "hub@example.org");
    const LOGIN: (&str, &str) = ("email_smtp_login", "hub");

    #[test]
    fn the_backend_says_where_letters_go() {
        check(&[], None, Ok("none"));
        check(&[], Some("/letters"), Ok("/letters"));
        check(
            &[("email_backend", "none"), ON, SERVER],
            Some("/letters"),
            Ok("none"),
        );
        check(
            &[("email_backend", "file"), ON, SERVER],
            Some("/letters"),
            Ok("/letters"),
        );
        check(
            &[("email_backend", "file")],
            None,
            Err("letters should become files, and this hub has no folder for them"),
        );
        let implicit = "Implicit @mx.example.org:465 hub@example.org";
        check(&[ON, SERVER, FROM], Some("/letters"), Ok(implicit));
        check(&[SERVER, FROM], Some("/letters"), Ok("/letters"));
        check(
            &[("email_backend", "smtp"), SERVER, FROM],
            Some("/letters"),
            Ok("none"),
        );
        check(
            &[ON, SERVER],
            None,
            Err("setting email_smtp_from is not set"),
        );
        check(
            &[ON, ("email_backend", "smtp")],
            None,
            Err("setting email_smtp_server is not set"),
        );
        check(
            &[ON, SERVER, ("help_email", "help@example.org")],
            None,
            Ok("Implicit @mx.example.org:465 help@example.org"),
        );
    }

    #[test]
    fn letters_for_passwords_may_have_a_server_of_their_own() {
        let own = [
            ON,
            SERVER,
            FROM,
            ("password_reset_override", "smtp"),
            ("password_reset_smtp_server", "reset.example.org"),
            ("password_reset_smtp_from", "reset@example.org"),
        ];
        check(
            &own,
            None,
            Ok("Implicit @reset.example.org:465 reset@example.org"),
        );
        let other = of(&settings(&own), Kind::Notice, None).unwrap();
        assert!(matches!(other, Route::Smtp(server) if server.host == "mx.example.org"));
    }

    #[test]
    fn a_password_is_never_sent_unprotected() {
        let with = |secure, tls, port, host, expected: Result<&str, &str>| {
            let pairs = [
                ON,
                FROM,
                LOGIN,
                ("email_smtp_server", host),
                ("email_smtp_secure", secure),
                ("email_smtp_tls", tls),
                ("email_smtp_port", port),
            ];
            let route = of(&settings(&pairs), Kind::Notice, None);
            let tls = route.map(|route| match route {
                Route::Smtp(server) => format!("{:?}", server.tls),
                Route::None | Route::Folder(_) => "no server".to_owned(),
            });
            let tls = tls.map_err(|error| error.to_string());
            assert_eq!(
                tls.as_deref().map_err(String::as_str),
                expected,
                "{pairs:?}"
            );
        };
        let far = "mx.example.org";
        with("true", "", "465", far, Ok("Implicit"));
        with("true", "", "587", far, Ok("AfterStart"));
        with("false", "", "587", far, Ok("AfterStart"));
        with("false", "", "25", "127.0.0.1", Ok("Opportunistic"));
        with("false", "none", "25", "localhost", Ok("None"));
        with("false", "starttls", "25", far, Ok("AfterStart"));
        let refused = "setting email_smtp_tls would send the password of the mail server unprotected; \
                       use implicit or starttls";
        with("true", "none", "465", far, Err(refused));
        with("true", "opportunistic", "465", far, Err(refused));
    }
}

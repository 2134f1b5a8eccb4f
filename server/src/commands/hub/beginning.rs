//! What the environment and files say that a site begins with: its first administrator, a token to sign up with, other
//! sites to sign in by.

use std::path::PathBuf;

use anyhow::Context as _;
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::setup::{self, Admin, Error};
use dialtone_hub::sso::configure;
use dialtone_hub::store::Store;

use super::super::admin::{failure, sso};
use crate::config::Strings;
use crate::exit::{Failure, Outcome};
use crate::print::note;

/// How variables begin; the earlier one goes first.
const PREFIXES: [&str; 2] = ["DIALTONE_SETUP_", "COCALC_SETUP_"];

/// The variables with the file of the ways to sign in.
const SSO_CONFIG: [&str; 2] = ["DIALTONE_SSO_CONFIG", "COCALC_SSO_CONFIG"];

/// Makes what is not there yet.
pub(crate) async fn make(
    store: &Store,
    sso_config: Option<PathBuf>,
    strings: &dyn Strings,
) -> Outcome {
    let (admin, token) = (admin(strings)?, variable(strings, "REGISTRATION_TOKEN"));
    if admin.is_some() || token.is_some() {
        let hasher = Hasher::new(password::Config::default()).map_err(anyhow::Error::from)?;
        let made = setup::run(store, &hasher, admin.as_ref(), token.as_deref()).await;
        let made = made.map_err(refused)?;
        if let Some(admin) = admin.filter(|_| made.admin) {
            note(format_args!(
                "made the administrator {}",
                admin.email_address
            ));
        }
    }
    let file = sso_config.or_else(|| {
        let mut names = SSO_CONFIG.iter();
        names.find_map(|name| strings.get(name)).map(PathBuf::from)
    });
    if let Some(file) = file {
        let applied = configure::apply(store, &sso::read(&file)?).await;
        applied.map_err(sso::refused)?;
    }
    Ok(())
}

fn admin(strings: &dyn Strings) -> Result<Option<Admin>, Failure> {
    let Some(email_address) = variable(strings, "ADMIN_EMAIL") else {
        return Ok(None);
    };
    let password = match variable(strings, "ADMIN_PASSWORD_FILE") {
        Some(path) => {
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read {path}"))?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        None => variable(strings, "ADMIN_PASSWORD"),
    };
    let password = password.ok_or_else(|| {
        Failure::usage("DIALTONE_SETUP_ADMIN_EMAIL needs DIALTONE_SETUP_ADMIN_PASSWORD as well")
    })?;
    Ok(Some(Admin {
        email_address,
        password,
        name: variable(strings, "ADMIN_NAME"),
    }))
}

fn variable(strings: &dyn Strings, name: &str) -> Option<String> {
    let found = PREFIXES
        .iter()
        .find_map(|prefix| strings.get(&format!("{prefix}{name}")));
    found.filter(|text| !text.is_empty())
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Store(error) => failure(error),
        Error::Password(error) => Failure::from(anyhow::Error::from(error)),
        Error::EmailAddress(_) | Error::Weak(_) | Error::Token => Failure::usage(error),
    }
}

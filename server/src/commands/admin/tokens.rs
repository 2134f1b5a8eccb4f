//! `dialtone admin tokens`

use std::io::Write as _;
use std::time::Duration;

use dialtone_hub::store::throttle;
use dialtone_hub::store::tokens::{self, Registration};
use dialtone_hub::time::Time;
use serde_json::json;

use super::super::records::table;
use super::{Site, failure, when};
use crate::args::{TokenAdd, Tokens};
use crate::config::Span;
use crate::exit::{Failure, Outcome};
use crate::print::{Output, harmless};

/// Most tokens that are listed.
const TOKENS_MAX: i64 = 10_000;

/// Longest token, in bytes.
const TOKEN_LEN_MAX: usize = 256;

pub(super) async fn run(site: &Site<'_>, command: Tokens) -> Outcome {
    match command {
        Tokens::Ls => ls(site).await,
        Tokens::Add(args) => add(site, args).await,
        Tokens::Disable { token } => disable(site, &token, true).await,
        Tokens::Enable { token } => disable(site, &token, false).await,
        Tokens::Rm { token } => {
            let mut on = site.store.write().await.map_err(failure)?;
            let gone = tokens::delete_registration(&mut on, &token).await;
            known(gone.map_err(failure)?)?;
            on.commit().await.map_err(failure)
        }
    }
}

fn known(found: bool) -> Outcome {
    if found {
        return Ok(());
    }
    let error = anyhow::anyhow!("there is no such token");
    Err(Failure::from(error).hint("`dialtone admin tokens ls` lists them"))
}

async fn disable(site: &Site<'_>, token: &str, disabled: bool) -> Outcome {
    let mut on = site.store.write().await.map_err(failure)?;
    let done = tokens::disable_registration(&mut on, token, disabled).await;
    known(done.map_err(failure)?)?;
    on.commit().await.map_err(failure)
}

async fn add(site: &Site<'_>, args: TokenAdd) -> Outcome {
    let (expires_in, ephemeral) = args.times();
    let token = args.token.unwrap_or_else(|| {
        let bytes: [u64; 2] = std::array::from_fn(|_| rand::random());
        format!("{:016x}{:016x}", bytes[0], bytes[1])
    });
    if token.is_empty() || token.len() > TOKEN_LEN_MAX || token.chars().any(char::is_control) {
        return Err(Failure::usage(format_args!(
            "a token has 1 to {TOKEN_LEN_MAX} bytes, and no control characters"
        )));
    }
    let mut on = site.store.write().await.map_err(failure)?;
    let found = tokens::registration_locked(&mut on, &token).await;
    if found.map_err(failure)?.is_some() {
        return Err(Failure::usage("there is such a token already")
            .hint("`dialtone admin tokens rm` removes it"));
    }
    let now = throttle::now(&mut on).await.map_err(failure)?;
    let later = |span: Duration| {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Time::from_millis(now.millis().saturating_add(millis))
    };
    let registration = Registration {
        token: token.clone(),
        descr: args.descr,
        counter: 0,
        limit: args.limit,
        expires: expires_in.map(later),
        disabled: false,
        ephemeral,
        customize: json!({}),
    };
    let put = tokens::put_registration(&mut on, &registration).await;
    put.map_err(failure)?;
    on.commit().await.map_err(failure)?;
    let mut out = Output::stdout();
    if site.json {
        out.json(&shown(&registration))?;
    } else {
        out.line(token)?;
    }
    Ok(out.flush()?)
}

fn shown(token: &Registration) -> serde_json::Value {
    json!({
        "token": token.token,
        "descr": token.descr,
        "counter": token.counter,
        "limit": token.limit,
        "expires": token.expires,
        "disabled": token.disabled,
        "ephemeral_ms": token.ephemeral.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        "customize": token.customize,
    })
}

async fn ls(site: &Site<'_>) -> Outcome {
    let mut on = site.store.read().await.map_err(failure)?;
    let all = tokens::registrations(&mut on, TOKENS_MAX).await;
    let all = all.map_err(failure)?;
    let mut out = Output::stdout();
    if site.json {
        all.iter().try_for_each(|token| out.json(&shown(token)))?;
        return Ok(out.flush()?);
    }
    let rows: Vec<_> = all
        .iter()
        .map(|token| {
            let limit = token
                .limit
                .map_or_else(|| "∞".to_owned(), |limit| limit.to_string());
            let state = if token.disabled {
                "disabled"
            } else {
                "enabled"
            };
            [
                harmless(&token.token),
                state.to_owned(),
                format!("{}/{limit}", token.counter),
                when(token.expires),
                token
                    .ephemeral
                    .map_or_else(|| "-".to_owned(), |time| Span(time).to_string()),
                harmless(&token.descr),
            ]
        })
        .collect();
    table(
        &mut out,
        ["TOKEN", "STATE", "USED", "EXPIRES", "ACCOUNTS LIVE", "FOR"],
        &rows,
    )?;
    Ok(out.flush()?)
}

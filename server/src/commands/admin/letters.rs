//! `dialtone admin letters`

use std::io::Write as _;
use std::path::PathBuf;

use dialtone_hub::email::EmailAddress;
use dialtone_hub::letters::{Letter, Letters as Post, send_now};
use dialtone_hub::settings::Live;
use dialtone_hub::store::letters as stored;
use serde_json::json;

use super::super::records::table;
use super::{Site, failure, when};
use crate::args::Letters;
use crate::exit::{Failure, Outcome};
use crate::print::{Output, counted, harmless, note};

pub(super) async fn run(site: &Site<'_>, command: Letters) -> Outcome {
    match command {
        Letters::Ls { limit } => ls(site, limit).await,
        Letters::Retry => retry(site).await,
        Letters::Test {
            email_address,
            letters,
        } => test(site, &email_address, letters).await,
    }
}

async fn ls(site: &Site<'_>, limit: i64) -> Outcome {
    let mut on = site.store.read().await.map_err(failure)?;
    let letters = stored::list(&mut on, limit).await.map_err(failure)?;
    let mut out = Output::stdout();
    if site.json {
        for letter in &letters {
            out.json(&json!({
                "id": letter.id.to_string(),
                "kind": letter.kind,
                "to": letter.to,
                "subject": letter.subject,
                "created": letter.created,
                "due": letter.due,
                "attempts": letter.attempts,
                "last_error": letter.last_error,
                "expire": letter.expire,
            }))?;
        }
        return Ok(out.flush()?);
    }
    let rows: Vec<_> = letters
        .iter()
        .map(|letter| {
            let due = letter
                .due
                .map_or_else(|| "given up".to_owned(), |due| when(Some(due)));
            [
                harmless(&letter.to),
                letter.kind.clone(),
                when(Some(letter.created)),
                due,
                letter.attempts.to_string(),
                harmless(letter.last_error.as_deref().unwrap_or("-")),
            ]
        })
        .collect();
    let heads = [
        "TO",
        "KIND",
        "HANDED OVER",
        "NEXT ATTEMPT",
        "ATTEMPTS",
        "LAST ERROR",
    ];
    table(&mut out, heads, &rows)?;
    Ok(out.flush()?)
}

async fn retry(site: &Site<'_>) -> Outcome {
    let mut on = site.store.write().await.map_err(failure)?;
    let hurried = stored::hurry(&mut on).await.map_err(failure)?;
    on.commit().await.map_err(failure)?;
    note(format_args!(
        "a running hub tries {} now",
        counted(hurried, "letter")
    ));
    Ok(())
}

async fn test(site: &Site<'_>, address: &str, folder: Option<PathBuf>) -> Outcome {
    let to: EmailAddress = address.parse().map_err(Failure::usage)?;
    let (settings, _follower) = Live::open(site.store).await.map_err(failure)?;
    let name = settings.get().get("site_name").to_owned();
    let letter = Letter {
        to,
        subject: format!("{name}: letters arrive"),
        text: format!(
            "An administrator of {name} wanted to know whether letters arrive. This one does.\n"
        ),
    };
    let sent = send_now(&Post::new(settings, folder), letter).await;
    sent.map_err(|reason| {
        Failure::from(anyhow::anyhow!("the letter was not sent: {reason}"))
            .hint("`dialtone admin settings ls --all` shows the settings email_…")
    })?;
    note("the letter was taken");
    Ok(())
}

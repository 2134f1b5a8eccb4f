//! What language models were asked, and what they answered.

use std::time::Duration;

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::millis;

/// Something that a model was asked.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// By which account.
    pub account: Option<AccountId>,
    /// By or for which project.
    pub project: Option<ProjectId>,
    /// For which file.
    pub path: Option<&'a str>,
    /// How it was to be.
    pub system: Option<&'a str>,
    /// What was asked.
    pub input: &'a str,
    /// What was said before.
    pub history: &'a Json,
    /// What it answered.
    pub output: &'a str,
    /// Which model.
    pub model: &'a str,
    /// For what, as the caller said.
    pub tag: Option<&'a str>,
    /// How many tokens were used by what was asked.
    pub prompt_tokens: i64,
    /// How many tokens were used by all.
    pub total_tokens: i64,
    /// How long it took.
    pub duration: Duration,
}

/// Notes what a model was asked.
///
/// # Errors
/// When the database does not answer.
pub async fn log(on: &mut Transaction, asked: &Asked<'_>) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO openai_chatgpt_log (id, time, account_id, project_id, path, system, input, history, output,
                                         model, tag, prompt_tokens, total_tokens, duration)
         VALUES ($1, {now}, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(asked.account)
        .bind(asked.project)
        .bind(asked.path.map(str::to_owned))
        .bind(asked.system.map(str::to_owned))
        .bind(asked.input)
        .bind(asked.history)
        .bind(asked.output)
        .bind(asked.model)
        .bind(asked.tag.map(str::to_owned))
        .bind(asked.prompt_tokens)
        .bind(asked.total_tokens)
        .bind(millis(asked.duration));
    on.execute(insert).await.map(drop)
}

/// How many tokens were used in the last hour: by this account or project, and by all.
///
/// # Errors
/// When the database does not answer.
pub async fn used(on: &mut Reader, caller: Uuid) -> Result<(i64, i64), Error> {
    let sum = Sql::same(
        "SELECT CAST(coalesce(sum(total_tokens), 0) AS bigint) AS everybody,
                CAST(coalesce(sum(CASE WHEN coalesce(account_id, project_id) = $1 THEN total_tokens ELSE 0 END), 0)
                     AS bigint) AS own
           FROM openai_chatgpt_log WHERE time > {ago $2}",
    );
    let hour = Duration::from_hours(1);
    match on.row(sum.bind(caller).bind(hour)).await? {
        Some(row) => Ok((row.get("own")?, row.get("everybody")?)),
        None => Ok((0, 0)),
    }
}

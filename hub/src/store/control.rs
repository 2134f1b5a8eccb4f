//! What was ordered of projects, who carries it out, and what was started.
//!
//! An order has a number. Whoever carries it out **claims** the project for a while, which gives it a generation; each
//! of its changes begins with a fence, so that one who stood still and was replaced meanwhile changes nothing. The
//! decisions are those of the crate `dialtone-control`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::error::Error;
use super::outbox::{Change, Table};
use super::projects::{clear_secret_token, key};
use super::row::Row;
use super::sql::{Sql, Statement};
use super::transaction::{Reader, Transaction};
use crate::control::{Phase, State, Verb};
use crate::id::ProjectId;
use crate::time::{Time, millis};

/// Columns of a project that tell what it does.
const STATE: &[&str] = &["state", "state_json", "state_time"];

/// What is known of a project that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Which one.
    pub project_id: ProjectId,
    /// Whether it was given up.
    pub deleted: bool,
    /// What it does.
    pub state: State,
    /// The number of the last order; 0 if there was none.
    pub ordered: i64,
    /// What was ordered last.
    pub verb: Option<Verb>,
    /// Why, if nobody asked for it.
    pub reason: Option<String>,
    /// The number of the last order that was carried out.
    pub done: i64,
    /// What that one was.
    pub done_verb: Option<Verb>,
    /// Why it could not be done.
    pub failure: Option<Failure>,
    /// How often it was claimed.
    pub generation: i64,
    /// Whether somebody has it claimed.
    pub claimed: bool,
    /// The machine that has its files.
    pub host: Option<String>,
    /// The number of what was started.
    pub run_id: Option<Uuid>,
    /// What was started, as its runner describes it.
    pub run: Option<Json>,
    /// What it may use, as it was computed last.
    pub run_quota: Option<Json>,
    /// What its processes find in their environment besides.
    pub env: Json,
    /// With which software it runs.
    pub compute_image: Option<String>,
}

impl Record {
    /// Whether there is an order that is not done.
    pub fn is_pending(&self) -> bool {
        self.ordered > self.done
    }
}

/// Why an order could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It was tried and did not work, for this reason.
    Failed(String),
    /// It was not done in time, with what was waited for.
    Late(String),
}

impl Failure {
    /// Its kind and its text, as they are stored.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Failed(text) => ("failed", text),
            Self::Late(text) => ("late", text),
        }
    }
}

/// A project that is claimed, as the one who has it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which one.
    pub project_id: ProjectId,
    /// How often it was claimed until then.
    pub generation: i64,
}

/// What a fence has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of the last order.
    pub ordered: i64,
    /// What it says.
    pub verb: Verb,
    /// The time of the database.
    pub now: Time,
}

const SELECT: &str = "SELECT p.project_id, p.deleted, p.state, p.state_json, p.state_time, p.created, p.run_quota, p.env,
        p.compute_image, c.ordered, c.verb, c.reason, c.done, c.done_verb, c.error_kind, c.error, c.generation,
        coalesce(c.expires > {now}, false) AS claimed, c.host, c.run_id, c.run";

fn record(row: &Row) -> Result<Record, Error> {
    let state: Option<Json> = row.maybe("state_json")?;
    let text = |name: &str| Some(state.as_ref()?.get(name)?.as_str()?.to_owned());
    let phase = row.maybe::<String>("state")?;
    let phase = phase.map_or(Ok(Phase::Opened), |name| name.parse::<Phase>());
    let time: Option<Time> = row.maybe("state_time")?;
    let error: Option<String> = row.maybe("error")?;
    let failure = error
        .map(|error| {
            Ok(match row.get::<String>("error_kind")?.as_str() {
                "late" => Failure::Late(error),
                _ => Failure::Failed(error),
            })
        })
        .transpose()?;
    Ok(Record {
        project_id: row.get("project_id")?,
        deleted: row.get("deleted")?,
        state: State {
            phase: phase.map_err(|error| Error::Corrupt(error.to_string()))?,
            time: time.map_or_else(|| row.get("created"), Ok)?,
            error: text("error"),
            ip: text("ip").and_then(|ip| ip.parse().ok()),
        },
        ordered: row.maybe("ordered")?.unwrap_or(0),
        verb: verb(row, "verb")?,
        reason: row.maybe("reason")?,
        done: row.maybe("done")?.unwrap_or(0),
        done_verb: verb(row, "done_verb")?,
        failure,
        generation: row.maybe("generation")?.unwrap_or(0),
        claimed: row.get("claimed")?,
        host: row.maybe("host")?,
        run_id: row.maybe("run_id")?,
        run: row.maybe("run")?,
        run_quota: row.maybe("run_quota")?,
        env: row.get("env")?,
        compute_image: row.maybe("compute_image")?,
    })
}

fn verb(row: &Row, column: &str) -> Result<Option<Verb>, Error> {
    let name: Option<String> = row.maybe(column)?;
    name.map(|name| {
        Verb::from_name(&name).ok_or_else(|| Error::Corrupt(format!("there is no order {name:?}")))
    })
    .transpose()
}

async fn list(on: &mut Reader, statement: Statement) -> Result<Vec<Record>, Error> {
    on.rows(statement).await?.iter().map(record).collect()
}

/// What is known of these projects, those that were never run as well; those that are not there are left out.
///
/// # Errors
/// When the database does not answer.
pub async fn by_ids(on: &mut Reader, ids: &[ProjectId]) -> Result<Vec<Record>, Error> {
    let find = Sql::built(format!(
        "{SELECT} FROM projects p LEFT JOIN project_control c ON c.project_id = p.project_id
          WHERE p.project_id IN ({{each $1}})"
    ));
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    list(on, find.bind(ids)).await
}

/// What is known of a project.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(on: &mut Reader, id: ProjectId) -> Result<Option<Record>, Error> {
    Ok(by_ids(on, &[id]).await?.pop())
}

/// The same, which nobody else orders or claims until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn locked(on: &mut Transaction, id: ProjectId) -> Result<Option<Record>, Error> {
    let there = Sql::same("SELECT 1 FROM projects WHERE project_id = $1");
    if on.row(there.bind(id)).await?.is_none() {
        return Ok(None);
    }
    let ensure = Sql::same(
        "INSERT INTO project_control (project_id) VALUES ($1) ON CONFLICT (project_id) DO NOTHING",
    );
    on.execute(ensure.bind(id)).await?;
    let lock = Sql::pair(
        "SELECT 1 FROM project_control WHERE project_id = $1 FOR UPDATE",
        "SELECT 1 FROM project_control WHERE project_id = $1",
    );
    on.row(lock.bind(id)).await?;
    by_id(on, id).await
}

/// Writes an order down, and returns its number. The project has been [`locked`].
///
/// # Errors
/// When the database does not answer.
pub async fn order(
    on: &mut Transaction,
    id: ProjectId,
    verb: Verb,
    reason: Option<&str>,
) -> Result<i64, Error> {
    let order = Sql::same(
        "UPDATE project_control SET ordered = ordered + 1, verb = $2, reason = $3, ordered_at = {now}
          WHERE project_id = $1 RETURNING ordered, ordered_at",
    );
    let order = order
        .bind(id)
        .bind(verb.name())
        .bind(reason.map(str::to_owned));
    let row = on.row(order).await?;
    let row = row.ok_or_else(|| Error::Missing(format!("project {id}")))?;
    let time: Time = row.get("ordered_at")?;
    let told = json!({"action": verb.name(), "time": time});
    let tell = Sql::same("UPDATE projects SET action_request = $2 WHERE project_id = $1");
    on.execute(tell.bind(id).bind(told)).await?;
    on.changed(Change::update(Table::Projects, key(id), &["action_request"]).project(id));
    row.get("ordered")
}

/// Whether there is an order that nobody carries out, and that this machine could.
///
/// # Errors
/// When the database does not answer.
pub async fn any_to_claim(on: &mut Reader, host: &str) -> Result<bool, Error> {
    let find = Sql::same(
        "SELECT project_id FROM project_control
          WHERE ordered > done AND (host IS NULL OR host = $1) AND (expires IS NULL OR expires <= {now}) LIMIT 1",
    );
    Ok(on.row(find.bind(host)).await?.is_some())
}

/// Claims projects with orders that nobody carries out, the oldest first; at most `limit`, and only those whose files
/// this machine has or could have.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(
    on: &mut Transaction,
    host: &str,
    holder: &str,
    ttl: Duration,
    limit: i64,
) -> Result<Vec<Record>, Error> {
    let claim = Sql::pair(
        "UPDATE project_control SET holder = $1, generation = generation + 1, expires = {after $2}
          WHERE project_id IN (
                SELECT project_id FROM project_control
                 WHERE ordered > done AND (host IS NULL OR host = $3) AND (expires IS NULL OR expires <= {now})
                 ORDER BY ordered_at LIMIT $4 FOR UPDATE SKIP LOCKED)
         RETURNING project_id",
        "UPDATE project_control SET holder = $1, generation = generation + 1, expires = {after $2}
          WHERE project_id IN (
                SELECT project_id FROM project_control
                 WHERE ordered > done AND (host IS NULL OR host = $3) AND (expires IS NULL OR expires <= {now})
                 ORDER BY ordered_at LIMIT $4)
         RETURNING project_id",
    );
    let claim = claim.bind(holder).bind(millis(ttl)).bind(host).bind(limit);
    let rows = on.rows(claim).await?;
    let ids: Vec<ProjectId> = rows
        .iter()
        .map(|row| row.get("project_id"))
        .collect::<Result<_, _>>()?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    by_ids(on, &ids).await
}

/// Keeps a claim for so long from now on, and holds off others until the transaction ends. `None` if it is over.
///
/// # Errors
/// When the database does not answer.
pub async fn hold(
    on: &mut Transaction,
    claim: &Claim,
    ttl: Duration,
) -> Result<Option<Held>, Error> {
    let hold = Sql::same(
        "UPDATE project_control SET expires = {after $3}
          WHERE project_id = $1 AND generation = $2 AND expires > {now} RETURNING ordered, verb, {now} AS now",
    );
    let hold = hold
        .bind(claim.project_id)
        .bind(claim.generation)
        .bind(millis(ttl));
    let Some(row) = on.row(hold).await? else {
        return Ok(None);
    };
    let verb =
        verb(&row, "verb")?.ok_or_else(|| Error::Corrupt("an order without a verb".to_owned()))?;
    Ok(Some(Held {
        ordered: row.get("ordered")?,
        verb,
        now: row.get("now")?,
    }))
}

/// Writes down what a project does, with its claim [held](hold).
///
/// # Errors
/// When the database does not answer.
pub async fn put_state(on: &mut Transaction, claim: &Claim, state: &State) -> Result<(), Error> {
    let put = Sql::same(
        "UPDATE projects SET state = $3, state_json = $4, state_time = $5, generation = $2
          WHERE project_id = $1 AND generation <= $2",
    );
    let put = put
        .bind(claim.project_id)
        .bind(claim.generation)
        .bind(state.phase.name())
        .bind(state.to_json())
        .bind(state.time);
    on.execute(put).await?;
    let id = claim.project_id;
    on.changed(Change::update(Table::Projects, key(id), STATE).project(id));
    Ok(())
}

/// Writes down what is about to be started, and where; from then on that machine has the project's files.
///
/// # Errors
/// When the database does not answer.
pub async fn put_run(
    on: &mut Transaction,
    claim: &Claim,
    host: &str,
    run_id: Uuid,
    run: &Json,
) -> Result<(), Error> {
    let put = Sql::same(
        "UPDATE project_control SET host = $3, run_id = $4, run = $5 WHERE project_id = $1 AND generation = $2",
    );
    let put = put
        .bind(claim.project_id)
        .bind(claim.generation)
        .bind(host)
        .bind(run_id)
        .bind(run);
    on.execute(put).await.map(drop)
}

/// Writes down what became of an order, and gives the claim back. What was started is forgotten unless it runs, and
/// with it the secret that it had.
///
/// # Errors
/// When the database does not answer.
pub async fn finish(
    on: &mut Transaction,
    claim: &Claim,
    order: i64,
    verb: Verb,
    failure: Option<&Failure>,
    runs: bool,
) -> Result<(), Error> {
    let parts = failure.map(Failure::parts);
    let finish = Sql::same(
        "UPDATE project_control
            SET done = $3, done_verb = $4, error_kind = $5, error = $6, holder = NULL, expires = NULL,
                run_id = CASE WHEN $7 THEN run_id END, run = CASE WHEN $7 THEN run END
          WHERE project_id = $1 AND generation = $2",
    );
    let finish = finish
        .bind(claim.project_id)
        .bind(claim.generation)
        .bind(order)
        .bind(verb.name())
        .bind(parts.map(|(kind, _)| kind.to_owned()))
        .bind(parts.map(|(_, text)| text.to_owned()))
        .bind(runs);
    on.execute(finish).await?;
    let id = claim.project_id;
    // Whoever waits looks at the order, even if the state is what it was.
    on.changed(Change::update(Table::Projects, key(id), &["action_request"]).project(id));
    if !runs {
        let clear = Sql::same("UPDATE projects SET status = NULL WHERE project_id = $1");
        on.execute(clear.bind(id)).await?;
        return clear_secret_token(on, id).await;
    }
    Ok(())
}

/// Notes that a project was started now, and what is known of it.
///
/// # Errors
/// When the database does not answer.
pub async fn put_status(on: &mut Transaction, id: ProjectId, status: &Json) -> Result<(), Error> {
    let put = Sql::same(
        "UPDATE projects SET status = $2, last_started = {now}, last_edited = {now} WHERE project_id = $1",
    );
    on.execute(put.bind(id).bind(status)).await?;
    let fields = ["status", "last_started", "last_edited"];
    on.changed(Change::update(Table::Projects, key(id), &fields).project(id));
    Ok(())
}

/// What a running project says about itself, if anything.
///
/// # Errors
/// When the database does not answer.
pub async fn status(on: &mut Reader, id: ProjectId) -> Result<Option<Json>, Error> {
    let find = Sql::same("SELECT status FROM projects WHERE project_id = $1");
    match on.row(find.bind(id)).await? {
        Some(row) => row.maybe("status"),
        None => Ok(None),
    }
}

/// Writes down what a project may use.
///
/// # Errors
/// When the database does not answer.
pub async fn put_quota(on: &mut Transaction, id: ProjectId, quota: &Json) -> Result<(), Error> {
    let put = Sql::same("UPDATE projects SET run_quota = $2 WHERE project_id = $1");
    on.execute(put.bind(id).bind(quota)).await?;
    on.changed(Change::update(Table::Projects, key(id), &["run_quota"]).project(id));
    Ok(())
}

/// What quotas follow from: the settings of the project, and what each member gives.
///
/// # Errors
/// When the database does not answer.
pub async fn quota_facts(
    on: &mut Reader,
    id: ProjectId,
) -> Result<Option<(Json, Vec<Json>)>, Error> {
    let find = Sql::same("SELECT settings FROM projects WHERE project_id = $1");
    let Some(row) = on.row(find.bind(id)).await? else {
        return Ok(None);
    };
    let settings = row.get("settings")?;
    let members =
        Sql::same("SELECT upgrades FROM project_members WHERE project_id = $1 ORDER BY account_id");
    let rows = on.rows(members.bind(id)).await?;
    let upgrades = rows.iter().map(|row| row.get("upgrades"));
    Ok(Some((settings, upgrades.collect::<Result<_, _>>()?)))
}

/// Notes that a project is used, without an account.
///
/// # Errors
/// When the database does not answer.
pub async fn touch(on: &mut Transaction, id: ProjectId) -> Result<(), Error> {
    let touch = Sql::same("UPDATE projects SET last_edited = {now} WHERE project_id = $1");
    if on.execute(touch.bind(id)).await? > 0 {
        on.changed(Change::update(Table::Projects, key(id), &["last_edited"]).project(id));
    }
    Ok(())
}

/// The projects that were started on this machine and not ended since.
///
/// # Errors
/// When the database does not answer.
pub async fn started_on(on: &mut Reader, host: &str) -> Result<Vec<Record>, Error> {
    let find = Sql::built(format!(
        "{SELECT} FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.run_id IS NOT NULL AND c.host = $1"
    ));
    list(on, find.bind(host)).await
}

/// Projects that are always to run and do not, those first that stopped first. One that could not be started is left
/// alone for `pause`.
///
/// # Errors
/// When the database does not answer.
pub async fn always_running(
    on: &mut Reader,
    pause: Duration,
    limit: i64,
) -> Result<Vec<ProjectId>, Error> {
    let find = Sql::pair(
        "SELECT p.project_id FROM projects p LEFT JOIN project_control c ON c.project_id = p.project_id
          WHERE NOT p.deleted
            AND (p.run_quota ->> 'always_running' IN ('true', '1') OR p.settings ->> 'always_running' IN ('true', '1'))
            AND (p.state IS NULL OR p.state IN ('archived', 'closed', 'opened'))
            AND coalesce(c.ordered = c.done, true)
            AND (p.state_json ->> 'error' IS NULL OR p.state_time <= {ago $1})
          ORDER BY p.state_time LIMIT $2",
        "SELECT p.project_id FROM projects p LEFT JOIN project_control c ON c.project_id = p.project_id
          WHERE NOT p.deleted
            AND (p.run_quota ->> 'always_running' IN (1, 'true', '1') OR p.settings ->> 'always_running' IN (1, 'true', '1'))
            AND (p.state IS NULL OR p.state IN ('archived', 'closed', 'opened'))
            AND coalesce(c.ordered = c.done, 1)
            AND (p.state_json ->> 'error' IS NULL OR p.state_time <= {ago $1})
          ORDER BY p.state_time LIMIT $2",
    );
    ids(on, find.bind(millis(pause)).bind(limit)).await
}

/// Projects that run and that nobody has used for as long as they may be idle; none that was started within `least`.
///
/// # Errors
/// When the database does not answer.
pub async fn idle(on: &mut Reader, least: Duration, limit: i64) -> Result<Vec<ProjectId>, Error> {
    let find = Sql::pair(
        "SELECT p.project_id FROM projects p JOIN project_control c ON c.project_id = p.project_id
          WHERE p.state = 'running' AND c.ordered = c.done
            AND coalesce(p.run_quota ->> 'always_running', 'false') NOT IN ('true', '1')
            AND coalesce(p.settings ->> 'always_running', 'false') NOT IN ('true', '1')
            AND (p.run_quota ->> 'idle_timeout')::double precision > 0
            AND coalesce(p.last_edited, p.state_time)
                < {now} - (p.run_quota ->> 'idle_timeout')::double precision * interval '1 second'
            AND (p.last_started IS NULL OR p.last_started <= {ago $1})
          ORDER BY p.last_edited LIMIT $2",
        "SELECT p.project_id FROM projects p JOIN project_control c ON c.project_id = p.project_id
          WHERE p.state = 'running' AND c.ordered = c.done
            AND coalesce(p.run_quota ->> 'always_running', 0) NOT IN (1, 'true', '1')
            AND coalesce(p.settings ->> 'always_running', 0) NOT IN (1, 'true', '1')
            AND (p.run_quota ->> 'idle_timeout') > 0
            AND coalesce(p.last_edited, p.state_time) < {now} - (p.run_quota ->> 'idle_timeout') * 1000
            AND (p.last_started IS NULL OR p.last_started <= {ago $1})
          ORDER BY p.last_edited LIMIT $2",
    );
    ids(on, find.bind(millis(least)).bind(limit)).await
}

async fn ids(on: &mut Reader, statement: Statement) -> Result<Vec<ProjectId>, Error> {
    let rows = on.rows(statement).await?;
    rows.iter().map(|row| row.get("project_id")).collect()
}

/// This machine has the project's files from now on, unless another one has them.
///
/// # Errors
/// When the database does not answer.
pub async fn settle(on: &mut Transaction, id: ProjectId, host: &str) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO project_control (project_id, host) VALUES ($1, $2)
         ON CONFLICT (project_id) DO UPDATE SET host = coalesce(project_control.host, excluded.host)",
    );
    on.execute(put.bind(id).bind(host)).await.map(drop)
}

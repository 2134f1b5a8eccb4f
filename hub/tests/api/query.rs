//! What is planned for queries, for whom: the security rules about rows and fields, without a database.

mod reading;
mod writing;

use dialtone_hub::api::{Code, Error};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::permission::Fact;
use dialtone_hub::query::{Planned, plan};
use dialtone_hub::time::Time;
use serde_json::Value as Json;

/// The account that asks.
const ME: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";

/// Somebody else.
const OTHER: &str = "11111111-5e7d-4d3c-8f53-0c2a1d5a3c11";

/// A project; whether the caller is a member of it is what plans ask for.
const PROJECT: &str = "22222222-5e7d-4d3c-8f53-0c2a1d5a3c11";

/// Another one.
const ELSEWHERE: &str = "33333333-5e7d-4d3c-8f53-0c2a1d5a3c11";

fn me() -> AccountId {
    ME.parse().unwrap()
}

fn project() -> ProjectId {
    PROJECT.parse().unwrap()
}

fn account() -> Caller {
    Caller::Account(me())
}

fn daemon() -> Caller {
    Caller::Project(project())
}

fn planned(caller: Caller, query: &Json, options: &Json) -> Result<Planned, Error> {
    let mut all = plan(caller, query, options, Time::from_millis(1_000))?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

#[track_caller]
fn refused(caller: Caller, query: &Json, options: &Json, code: Code, text: &str) {
    let error = planned(caller, query, options).unwrap_err();
    assert_eq!(error.code, code, "{query}: {error}");
    assert!(error.text.contains(text), "{query}: {error}");
}

fn facts(planned: &Planned) -> Vec<Fact> {
    planned
        .needs
        .iter()
        .flat_map(|need| need.any_of.clone())
        .collect()
}

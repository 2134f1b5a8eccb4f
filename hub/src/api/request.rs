//! From what a caller sent to a call that may run: pure, up to the facts that only the store knows.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::error::{Code, Error};
use super::function::{Function, Rule};
use super::shape::{Place, Shape};
use super::table;
use crate::caller::Caller;
use crate::id::ProjectId;
use crate::permission::{Authority, Fact, Facts};

/// Longest request, in bytes.
pub(crate) const REQUEST_LEN_MAX: usize = 4 << 20;

/// Longest name of a function that is repeated in an error, in characters.
const NAME_SHOWN_MAX: usize = 64;

/// Longest name that a caller gives to a call, in bytes.
pub(crate) const CALL_ID_LEN_MAX: usize = 64;

/// Most rows of facts that one call may need, which the bounds of lists keep far away.
const NEEDS_MAX: usize = 4_096;

/// What a caller sends.
#[derive(Debug, Clone, Deserialize)]
pub struct Request {
    /// `group.function`.
    pub name: String,
    /// The arguments in their order.
    #[serde(default)]
    pub args: Vec<Json>,
    /// How long the caller waits, in milliseconds.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// A name by which the caller can cancel the call.
    #[serde(default)]
    pub id: Option<String>,
}

/// A fact that must hold, or one of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Of which one must hold.
    pub any_of: Vec<Fact>,
    /// What the caller is told otherwise.
    pub otherwise: Error,
}

/// A call that may run as soon as what it needs was looked up.
#[derive(Debug)]
pub struct Prepared {
    /// Which function.
    pub function: &'static Function,
    /// Its arguments: without identities, with their declared fields, within their bounds.
    pub args: Vec<Json>,
    /// What must hold, all of it.
    pub needs: Vec<Need>,
    /// How long it may run.
    pub deadline: Duration,
}

/// Checks a request as far as it can be checked without asking anybody.
///
/// # Errors
/// When there is no such function, the caller may not call it, or an argument is wrong.
pub fn prepare(caller: Caller, request: Request) -> Result<Prepared, Error> {
    let function = table::find(&request.name).ok_or_else(|| {
        let name: String = request.name.chars().take(NAME_SHOWN_MAX).collect();
        Error::new(Code::UnknownFunction, format!("unknown function '{name}'"))
    })?;
    require_account(caller, function)?;
    let mut args = request.args;
    let wanted = request
        .timeout
        .or_else(|| timeout_argument(function, &args));
    if function.wrapper.is_auth_first() {
        identify(caller, &mut args)?;
    }
    let args = read_arguments(function, args)?;
    let needs = needs(caller, function, args.first().unwrap_or(&Json::Null))?;
    Ok(Prepared {
        function,
        args,
        needs,
        deadline: function.deadline(wanted.and_then(millis)),
    })
}

/// Looks up what a call needs.
///
/// # Errors
/// When something does not hold, or cannot be looked up.
pub async fn meet<F: Facts>(authority: &Authority<F>, needs: Vec<Need>) -> Result<(), Error> {
    for need in needs {
        let mut met = false;
        for fact in need.any_of {
            if authority.holds(fact).await? {
                met = true;
                break;
            }
        }
        if !met {
            return Err(need.otherwise);
        }
    }
    Ok(())
}

fn require_account(caller: Caller, function: &Function) -> Result<(), Error> {
    let needed = function.wrapper.requires_account() || function.rules.contains(&Rule::Account);
    if needed && caller.account().is_none() {
        return Err(Error::new(Code::NotSignedIn, "user must be signed in"));
    }
    Ok(())
}

/// Clients of the original say in the first argument how long they wait, in milliseconds, unless the function has an
/// argument of that name itself.
fn timeout_argument(function: &Function, args: &[Json]) -> Option<f64> {
    let Shape::Object(fields) = function.params.first()?.shape else {
        return None;
    };
    if fields.iter().any(|field| field.name == "timeout") {
        return None;
    }
    args.first()?.get("timeout")?.as_f64()
}

fn millis(millis: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(millis / 1_000.0)
        .ok()
        .filter(|duration| !duration.is_zero())
}

/// Removes what the first argument says about the caller. A project's own identifier takes the place of what it says
/// about projects, so that it acts on itself whatever it sends.
fn identify(caller: Caller, args: &mut Vec<Json>) -> Result<(), Error> {
    if args.is_empty() {
        args.push(Json::Null);
    }
    let Some(first) = args.first_mut() else {
        return Ok(());
    };
    if first.is_null() {
        *first = Json::Object(Map::new());
    }
    let Some(fields) = first.as_object_mut() else {
        return Err(Error::argument(Place::argument(0), "must be an object"));
    };
    fields.remove("account_id");
    if let Caller::Project(id) = caller {
        fields.insert("project_id".to_owned(), id.to_string().into());
    }
    Ok(())
}

/// The declared arguments; what is sent beyond them is dropped.
fn read_arguments(function: &Function, args: Vec<Json>) -> Result<Vec<Json>, Error> {
    let mut given = args.into_iter();
    let mut read = Vec::with_capacity(function.params.len());
    for (number, param) in function.params.iter().enumerate() {
        let place = Place::argument(number);
        let value = given.next().unwrap_or(Json::Null);
        if !value.is_null() {
            read.push(param.shape.read(value, place)?);
        } else if param.required {
            let what = format_args!("is required: {}, {}", param.name, param.shape);
            return Err(Error::argument(place, what));
        } else {
            read.push(Json::Null);
        }
    }
    Ok(read)
}

fn needs(caller: Caller, function: &Function, first: &Json) -> Result<Vec<Need>, Error> {
    let mut found = Vec::new();
    if caller == Caller::Hub {
        return Ok(found);
    }
    for rule in function.rules {
        match *rule {
            Rule::Account => {}
            Rule::Admin => found.push(admin(caller)?),
            Rule::AdminIf(path) => {
                if is_set(at(first, path)) {
                    found.push(admin(caller)?);
                }
            }
            Rule::Member(path) => {
                for project in projects(first, path)? {
                    found.extend(member(caller, project, false)?);
                }
            }
            Rule::MemberOrAdmin(path) => {
                for project in projects(first, path)? {
                    found.extend(member(caller, project, true)?);
                }
            }
        }
    }
    debug_assert!(found.len() <= NEEDS_MAX, "lists of projects have bounds");
    Ok(found)
}

fn admin(caller: Caller) -> Result<Need, Error> {
    let otherwise = Error::denied("must be an admin");
    match caller.account() {
        Some(account) => Ok(Need {
            any_of: vec![Fact::Admin(account)],
            otherwise,
        }),
        None => Err(otherwise),
    }
}

fn member(caller: Caller, project: ProjectId, or_admin: bool) -> Result<Option<Need>, Error> {
    let otherwise = Error::denied(format!("must be a collaborator on project {project}"));
    match caller {
        Caller::Account(account) => {
            let mut any_of = vec![Fact::Member(account, project)];
            any_of.extend(or_admin.then_some(Fact::Admin(account)));
            Ok(Some(Need { any_of, otherwise }))
        }
        Caller::Project(own) if own == project => Ok(None),
        Caller::Project(_) => Err(otherwise),
        Caller::Hub => Ok(None),
    }
}

/// What stands at a path of fields.
fn at<'a>(value: &'a Json, path: &str) -> &'a Json {
    path.split('.').fold(value, |value, field| {
        value.get(field).unwrap_or(&Json::Null)
    })
}

fn is_set(value: &Json) -> bool {
    !matches!(value, Json::Null | Json::Bool(false))
}

/// The projects at a path: none, one, or a list.
fn projects(first: &Json, path: &str) -> Result<Vec<ProjectId>, Error> {
    let parse = |value: &Json| -> Result<ProjectId, Error> {
        let text = value.as_str().unwrap_or_default();
        text.parse()
            .map_err(|error: crate::id::InvalidId| Error::argument(InFirst(path), error))
    };
    let found = at(first, path);
    if found.is_null() {
        return Ok(Vec::new());
    }
    let list = found
        .as_array()
        .map_or_else(|| std::slice::from_ref(found), Vec::as_slice);
    list.iter().map(parse).collect()
}

/// A path within the first argument, as it is shown.
struct InFirst<'a>(&'a str);

impl fmt::Display for InFirst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "args[0].{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::AccountId;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "arguments are written where they are used"
    )]
    fn request(name: &str, args: Json) -> Request {
        serde_json::from_value(json!({"name": name, "args": args})).unwrap()
    }

    fn account() -> Caller {
        Caller::Account(AccountId::random())
    }

    #[test]
    fn a_request_is_a_name_and_arguments() {
        for (name, args) in [
            ("system.ping", json!([])),
            ("system.test", json!([null])),
            ("system.test", json!([{}, 1, 2])),
        ] {
            let prepared = prepare(account(), request(name, args)).unwrap();
            assert_eq!(prepared.function.name, name);
            assert_eq!(prepared.args.len(), prepared.function.params.len());
            assert_eq!(prepared.needs, []);
        }
        let error = prepare(account(), request("x.y", json!([]))).unwrap_err();
        assert_eq!(
            (error.code, &*error.text),
            (Code::UnknownFunction, "unknown function 'x.y'")
        );
        let long = prepare(account(), request(&"x".repeat(1 << 20), json!([]))).unwrap_err();
        assert!(long.text.len() < 200);
    }

    /// Rule 1 of the security rules: who the caller is stands in the subject, and nowhere else.
    #[test]
    fn identities_in_arguments_do_not_reach_a_function() {
        let victim = AccountId::random().to_string();
        for function in table::functions() {
            for param in function.params {
                if let Shape::Object(fields) = param.shape {
                    let declared = fields.iter().any(|field| field.name == "account_id");
                    assert!(!declared, "{}", function.name);
                }
            }
        }
        let args = json!([{"account_id": victim, "event": "x", "error": "y"}]);
        let prepared = prepare(account(), request("system.logClientError", args)).unwrap();
        assert_eq!(prepared.args, [json!({"event": "x", "error": "y"})]);
    }

    #[test]
    fn a_project_acts_on_itself_whatever_it_sends() {
        let own = ProjectId::random();
        let other = ProjectId::random().to_string();
        let args = json!([{"project_id": other}]);
        let prepared = prepare(Caller::Project(own), request("jupyter.kernels", args)).unwrap();
        assert_eq!(prepared.args, [json!({"project_id": own.to_string()})]);
        assert_eq!(prepared.needs, []);
    }

    #[test]
    fn accounts_are_needed_where_the_table_says_so() {
        let project = Caller::Project(ProjectId::random());
        for name in ["projects.start", "system.getNames", "messages.get"] {
            let error = prepare(project, request(name, json!([]))).unwrap_err();
            assert_eq!(
                (error.code, &*error.text),
                (Code::NotSignedIn, "user must be signed in")
            );
        }
    }

    /// Rule 3 of the security rules: each element is checked by itself.
    #[test]
    fn every_project_is_needed_by_itself() {
        let (one, other) = (ProjectId::random(), ProjectId::random());
        let account = AccountId::random();
        let args = json!([{"src_project_id": one, "target_project_id": other, "src_path": "x"}]);
        let request = request("projects.copyPathBetweenProjects", args);
        let prepared = prepare(Caller::Account(account), request).unwrap();
        let facts: Vec<Fact> = prepared
            .needs
            .into_iter()
            .flat_map(|need| need.any_of)
            .collect();
        assert_eq!(
            facts,
            [Fact::Member(account, one), Fact::Member(account, other)]
        );
    }

    #[test]
    fn an_optional_right_is_needed_when_it_is_used() {
        let needs = |options: Json| {
            let request = request("system.userSearch", json!([options]));
            prepare(account(), request).unwrap().needs.len()
        };
        assert_eq!(needs(json!({"query": "x"})), 0);
        assert_eq!(needs(json!({"query": "x", "admin": false})), 0);
        assert_eq!(needs(json!({"query": "x", "admin": true})), 1);
    }

    #[test]
    fn whoever_waits_less_gets_less_time_and_nobody_gets_more_than_there_is() {
        let deadline = |timeout: Json, args: Json| {
            let request = json!({"name": "system.test", "args": args, "timeout": timeout});
            let request = serde_json::from_value(request).unwrap();
            prepare(account(), request).unwrap().deadline
        };
        let seconds = Duration::from_secs;
        assert_eq!(deadline(json!(null), json!([])), seconds(30));
        assert_eq!(deadline(json!(5_000), json!([])), seconds(5));
        assert_eq!(
            deadline(json!(null), json!([{"timeout": 7_000}])),
            seconds(7)
        );
        assert_eq!(deadline(json!(1e300), json!([])), seconds(30));
        assert_eq!(deadline(json!(10_000_000), json!([])), seconds(120));
        for wrong in [json!(-1), json!(0)] {
            assert_eq!(deadline(wrong, json!([])), seconds(30));
        }
    }

    #[test]
    fn arguments_are_named_where_they_are_wrong() {
        for (name, args, text) in [
            (
                "system.getNames",
                json!([]),
                "args[0]: is required: account_ids, a list of at most 1000, each a UUID",
            ),
            ("system.test", json!([7]), "args[0]: must be an object"),
            (
                "projects.start",
                json!([{"project_id": "x"}]),
                "args[0].project_id: must be a UUID",
            ),
            (
                "projects.start",
                json!([]),
                "args[0].project_id: is required: a UUID",
            ),
        ] {
            let error = prepare(account(), request(name, args)).unwrap_err();
            assert_eq!((error.code, &*error.text), (Code::InvalidArgument, text));
        }
    }
}

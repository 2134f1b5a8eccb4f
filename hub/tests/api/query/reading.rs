//! Queries that read.

use std::collections::BTreeSet;

use dialtone_hub::api::Code;
use dialtone_hub::permission::Fact;
use dialtone_hub::query::{
    Comparison, Condition, Direction, Kind, Plan, Rows, Select, TABLES, Value, Who,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{ELSEWHERE, ME, OTHER, PROJECT, account, daemon, facts, me, planned, project, refused};

fn select(query: &Json, options: &Json) -> Select {
    match planned(account(), query, options).unwrap().plan {
        Plan::Get(select) => select,
        other => panic!("{other:?}"),
    }
}

fn equal(column: &'static str, value: Value) -> Condition {
    Condition::Compare(column, Comparison::Equal, value)
}

#[test]
fn one_reads_ones_own_account() {
    let select = select(
        &json!({"accounts": {"account_id": null, "first_name": null}}),
        &Json::Null,
    );
    let fields: Vec<&str> = select.fields.iter().map(|field| field.name).collect();
    assert_eq!(fields, ["account_id", "first_name"]);
    assert_eq!(
        select.conditions,
        [equal("account_id", Value::Uuid(me().uuid()))]
    );
    assert_eq!(select.limit, 1);
}

/// Naming another account adds a condition and takes none away.
#[test]
fn naming_somebody_else_finds_nobody() {
    let query = json!({"accounts": [{"account_id": OTHER, "email_address": null}]});
    let conditions = select(&query, &Json::Null).conditions;
    assert!(conditions.contains(&equal("account_id", Value::Uuid(me().uuid()))));
    assert!(conditions.contains(&equal("account_id", Value::Uuid(OTHER.parse().unwrap()))));
}

#[test]
fn projects_are_those_of_the_caller() {
    let all = planned(
        account(),
        &json!({"projects": [{"project_id": null}]}),
        &Json::Null,
    )
    .unwrap();
    assert_eq!(facts(&all), []);
    let Plan::Get(select) = all.plan else {
        panic!("it reads");
    };
    assert_eq!(
        select.conditions,
        [Condition::MemberProject("project_id", me())]
    );
    assert_eq!(select.order, [("last_edited", Direction::Descending)]);

    let one = json!({"projects": [{"project_id": PROJECT, "title": null}]});
    let named = planned(account(), &one, &Json::Null).unwrap();
    assert_eq!(facts(&named), [Fact::Member(me(), project())]);
    let Plan::Get(select) = named.plan else {
        panic!("it reads");
    };
    // The statement itself holds the condition, whatever happened since it was checked.
    assert!(
        select
            .conditions
            .contains(&Condition::MemberProject("project_id", me()))
    );
}

#[test]
fn a_project_reads_itself() {
    let query = json!({"projects": [{"project_id": null, "title": null}]});
    let Plan::Get(select) = planned(daemon(), &query, &Json::Null).unwrap().plan else {
        panic!("it reads");
    };
    assert_eq!(
        select.conditions,
        [equal("project_id", Value::Uuid(project().uuid()))]
    );
    let other = json!({"projects": [{"project_id": ELSEWHERE, "title": null}]});
    refused(
        daemon(),
        &other,
        &Json::Null,
        Code::PermissionDenied,
        "collaborator",
    );
    for table in ["accounts", "collaborators", "project_invite_tokens"] {
        let query = json!({table: [{"project_id": null, "account_id": null}]});
        assert!(planned(daemon(), &query, &Json::Null).is_err(), "{table}");
    }
}

/// Rule 11: secrets are in no table that a query can read.
#[test]
fn no_secret_can_be_read() {
    let secrets = [
        "password_hash",
        "secret_token",
        "hash",
        "session_epoch",
        "email_address_challenge",
        "api_key",
        "auth_token_hash",
        "stripe_customer_id",
    ];
    for table in TABLES {
        for field in table.fields {
            assert!(
                !secrets.contains(&field.column),
                "{}.{}",
                table.name,
                field.name
            );
        }
        for secret in secrets {
            let query = json!({table.name: [{secret: null}]});
            let error = planned(account(), &query, &Json::Null).unwrap_err();
            assert_eq!(error.code, Code::PermissionDenied, "{query}");
        }
        assert!(
            !["remember_me", "api_keys", "auth_tokens", "password_reset"].contains(&table.real)
        );
    }
    let query = json!({"site_settings": [{"name": "conat_password", "value": null}]});
    let conditions = select(&query, &Json::Null).conditions;
    let hidden = conditions.iter().find_map(|condition| match condition {
        Condition::NoneOf("name", texts) => Some(texts),
        _ => None,
    });
    assert!(hidden.unwrap().contains(&"conat_password"));
}

/// Rule 16: orders and filters name only what the caller may read.
#[test]
fn orders_and_filters_name_what_may_be_read() {
    let query = json!({"accounts": [{"account_id": null}]});
    for column in [
        "password_hash",
        "-secret_token",
        "account_id; DROP TABLE accounts",
        "",
        "-",
        "1",
        "--account_id",
    ] {
        let options = json!({"order_by": column});
        refused(
            account(),
            &query,
            &options,
            Code::InvalidArgument,
            "order_by",
        );
    }
    let filter = json!({"accounts": [{"password_hash": {">": "a"}, "account_id": null}]});
    refused(
        account(),
        &filter,
        &Json::Null,
        Code::PermissionDenied,
        "password_hash",
    );
    let derived = json!({"order_by": "users"});
    refused(
        account(),
        &json!({"projects": [{"users": null}]}),
        &derived,
        Code::InvalidArgument,
        "order_by",
    );
    let select = select(&query, &json!({"order_by": ["-created", "first_name"]}));
    assert_eq!(
        select.order,
        [
            ("created", Direction::Descending),
            ("first_name", Direction::Ascending)
        ]
    );
}

#[test]
fn filters_compare() {
    let query = json!({"project_log": [{
        "project_id": PROJECT,
        "time": {">=": 5, "<": "1970-01-01T00:00:10Z"},
        "account_id": [ME, OTHER],
        "event": null,
        "id": {"!=": null},
    }]});
    let conditions = select(&query, &Json::Null).conditions;
    let time = |comparison, millis| {
        Condition::Compare(
            "time",
            comparison,
            Value::Time(dialtone_hub::time::Time::from_millis(millis)),
        )
    };
    let ids = [ME, OTHER].map(|id| Value::Uuid(id.parse().unwrap()));
    for expected in [
        time(Comparison::GreaterOrEqual, 5),
        time(Comparison::Less, 10_000),
        Condition::AnyOf("account_id", ids.to_vec()),
        Condition::Empty("id", false),
    ] {
        assert!(conditions.contains(&expected), "{expected:?}");
    }
    for (field, value) in [
        ("time", json!({"~": 1})),
        ("time", json!({"ILIKE": "x"})),
        ("time", json!({">": "yesterday"})),
        ("time", json!({})),
        ("event", json!("x")),
        ("account_id", json!([])),
        ("account_id", json!("x")),
        ("account_id", json!({"ANY": "x"})),
        ("account_id", json!({"== $1; --": "x"})),
    ] {
        let query = json!({"project_log": [{field: value, "time": null, "project_id": null}]});
        let query = if field == "time" {
            json!({"project_log": [{field: query["project_log"][0][field].clone(), "event": null}]})
        } else {
            query
        };
        if query["project_log"][0][field].is_null() {
            continue;
        }
        let error = planned(account(), &query, &Json::Null).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{query}: {error}");
    }
}

#[test]
fn profiles_are_read_by_name_alone() {
    let all = json!({"account_profiles": [{"account_id": null, "profile": null}]});
    refused(
        account(),
        &all,
        &Json::Null,
        Code::InvalidArgument,
        "must say which account_id",
    );
    let above = json!({"account_profiles": [{"account_id": {">": ME}, "profile": null}]});
    refused(
        account(),
        &above,
        &Json::Null,
        Code::InvalidArgument,
        "must say which account_id",
    );
    let one = json!({"account_profiles": {"account_id": OTHER, "profile": null}});
    assert!(planned(account(), &one, &Json::Null).is_ok());
}

#[test]
fn administrators_are_asked_for_where_rows_are_theirs() {
    for table in TABLES {
        let Some(get) = &table.get else {
            continue;
        };
        let key = table.key[0];
        let query = json!({table.name: [{key: ME, table.fields[1].name: null}]});
        let Ok(planned) = planned(account(), &query, &Json::Null) else {
            continue;
        };
        let asked = facts(&planned).contains(&Fact::Admin(me()));
        assert_eq!(asked, get.who == Who::Admin, "{}", table.name);
    }
}

#[test]
fn an_administrator_acts_as_another_account_and_nobody_else_does() {
    let query = json!({"accounts": {"email_address": null}});
    let options = json!({"account_id": OTHER});
    let planned = planned(account(), &query, &options).unwrap();
    assert_eq!(facts(&planned), [Fact::Admin(me())]);
    let Plan::Get(select) = planned.plan else {
        panic!("it reads");
    };
    assert_eq!(
        select.conditions,
        [equal("account_id", Value::Uuid(OTHER.parse().unwrap()))]
    );
    refused(
        daemon(),
        &query,
        &options,
        Code::PermissionDenied,
        "must be an admin",
    );
}

#[test]
fn what_is_no_query_is_refused() {
    for (query, text) in [
        (json!(7), "must be an object"),
        (json!({}), "must be an object"),
        (json!({"accounts": {}, "projects": {}}), "must be an object"),
        (json!({"pg_catalog": {"x": null}}), "there is no table"),
        (json!({"remember_me": {"hash": null}}), "there is no table"),
        (json!({"accounts": 7}), "must be an object with fields"),
        (json!({"accounts": []}), "must be an object with fields"),
        (
            json!({"accounts": [{"account_id": null}, {"account_id": null}]}),
            "must be an object with fields",
        ),
    ] {
        refused(account(), &query, &Json::Null, Code::InvalidArgument, text);
    }
    let many = Json::Array(vec![json!({"accounts": {"account_id": null}}); 33]);
    let error = dialtone_hub::query::plan(
        account(),
        &many,
        &Json::Null,
        dialtone_hub::time::Time::from_millis(0),
    );
    assert!(error.unwrap_err().text.contains("more than 32"));
}

/// Tables with what the site tells everybody.
const TOLD: &[&str] = &["news", "system_notifications", "compute_images"];

/// Tables in which everybody reads what they can name.
const NAMED: &[&str] = &[
    "account_profiles",
    "public_paths_by_id",
    "public_projects",
    "site_license_public_info",
];

/// Every table that an account reads without being an administrator keeps it in rows of its own.
#[test]
fn every_table_has_a_condition() {
    for table in TABLES {
        let Some(get) = &table.get else {
            continue;
        };
        let kept = get.rows.iter().any(|rows| match rows {
            Rows::Own(_)
            | Rows::Member(_)
            | Rows::Listed(_)
            | Rows::SharesProject(_)
            | Rows::Named(_) => true,
            Rows::Within(..) | Rows::Is(..) | Rows::NoneOf(..) => false,
        });
        let open = get.who == Who::Admin || TOLD.contains(&table.name);
        assert!(kept || open, "{}", table.name);
        assert!(get.limit <= 1_000, "{}", table.name);
        let names: BTreeSet<&str> = table.fields.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), table.fields.len(), "{}", table.name);
        for key in table.key {
            assert!(
                table.fields.iter().any(|field| field.column == *key),
                "{}.{key}",
                table.name
            );
        }
        let ordered = get.order.map(|order| order.trim_start_matches('-'));
        assert!(
            ordered.is_none_or(|column| table.readable(column).is_some()),
            "{}",
            table.name
        );
    }
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        Just(json!(ME)),
        Just(json!(OTHER)),
        Just(json!(PROJECT)),
        Just(json!({"!=": OTHER})),
        Just(json!([OTHER, ME])),
        Just(json!("{account_id}")),
        any::<i64>().prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        "[a-z' ;-]{0,8}".prop_map(Json::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    /// Whatever an account sends: what is planned reads declared fields alone, and holds the condition that keeps the
    /// account in its own rows, or asks whether it is an administrator.
    #[test]
    fn no_query_leaves_the_rows_of_its_caller(
        table in 0..TABLES.len(),
        fields in proptest::collection::vec((0_usize..40, leaf()), 1..5),
        order in proptest::option::of("-?[a-z_]{1,12}"),
    ) {
        let table = &TABLES[table];
        let template: serde_json::Map<String, Json> = fields
            .into_iter()
            .filter_map(|(at, value)| Some((table.fields.get(at % table.fields.len())?.name.to_owned(), value)))
            .collect();
        let options = json!([{"set": false}, {"order_by": order}]);
        let Ok(planned) = planned(account(), &json!({table.name: [template]}), &options) else {
            return Ok(());
        };
        let admin = facts(&planned).contains(&Fact::Admin(me()));
        let Plan::Get(select) = planned.plan else {
            panic!("it reads");
        };
        for field in &select.fields {
            prop_assert!(field.read);
        }
        for (column, _) in &select.order {
            let field = table.fields.iter().find(|field| field.column == *column).unwrap();
            prop_assert!(field.read && !matches!(field.kind, Kind::Derived(_)));
        }
        let kept = select.conditions.iter().any(|condition| match condition {
            Condition::Compare("account_id" | "created_by", Comparison::Equal, Value::Uuid(id)) => *id == me().uuid(),
            Condition::MemberProject(_, account)
            | Condition::SharesProject(_, account)
            | Condition::Listed(_, account) => *account == me(),
            _ => false,
        });
        let everybodys = NAMED.contains(&table.name) || TOLD.contains(&table.name);
        prop_assert!(kept || admin || everybodys, "{:?}", select.conditions);
    }
}

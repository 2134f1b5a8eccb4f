//! Queries that write.

use dialtone_hub::api::Code;
use dialtone_hub::permission::Fact;
use dialtone_hub::query::{
    Assigned, Change, ChangeKind, Comparison, Condition, Plan, TABLES, Value, Write,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{ELSEWHERE, ME, OTHER, PROJECT, account, daemon, facts, me, planned, project, refused};

fn change(query: &Json) -> Change {
    match planned(account(), query, &Json::Null).unwrap().plan {
        Plan::Set(change) => change,
        other => panic!("{other:?}"),
    }
}

fn equal(column: &'static str, value: Value) -> Condition {
    Condition::Compare(column, Comparison::Equal, value)
}

fn my_id() -> Value {
    Value::Uuid(me().uuid())
}

fn project_id() -> Value {
    Value::Uuid(project().uuid())
}

#[test]
fn one_changes_ones_own_account_whatever_account_is_named() {
    for named in [json!(ME), json!(OTHER), Json::Null] {
        let query = json!({"accounts": {"account_id": named, "first_name": "Ada"}});
        let options = json!({"set": true});
        let Plan::Set(change) = planned(account(), &query, &options).unwrap().plan else {
            panic!("it writes");
        };
        assert_eq!(change.kind, ChangeKind::Update);
        assert_eq!(change.key, [("account_id", my_id())]);
        assert_eq!(change.existing, [equal("account_id", my_id())]);
        let name = Assigned::Value(Value::Text("Ada".to_owned()));
        assert_eq!(change.values, [("first_name", name)]);
    }
}

/// Rules 2 and 11: what decides about rights is written by functions that know who may, and by no query.
#[test]
fn rights_are_not_written_by_queries() {
    for (table, field, value) in [
        ("accounts", "groups", json!(["admin"])),
        ("accounts", "banned", json!(false)),
        ("accounts", "password_hash", json!("x")),
        ("accounts", "email_address", json!("a@b.c")),
        ("accounts", "email_address_verified", json!({"a@b.c": 1})),
        ("accounts", "balance", json!(1_000_000)),
        ("accounts", "org", json!("x")),
        ("accounts", "session_epoch", json!(0)),
        ("projects", "settings", json!({"memory": 1e9})),
        ("projects", "run_quota", json!({"memory": 1e9})),
        ("projects", "site_license", json!({})),
        ("projects", "secret_token", json!("x")),
        ("projects", "state", json!({"state": "running"})),
        ("projects", "manage_users_owner_only", json!(false)),
        ("projects", "deleted", json!(true)),
        ("projects", "sandbox", json!(true)),
        ("project_invite_tokens", "counter", json!(0)),
        ("site_settings", "readonly", json!(false)),
    ] {
        let query = json!({table: {"project_id": PROJECT, field: value}});
        let query = if table.starts_with("project") {
            query
        } else {
            json!({table: {field: query[table][field].clone()}})
        };
        refused(
            account(),
            &query,
            &Json::Null,
            Code::PermissionDenied,
            field,
        );
    }
}

/// Rule 2: nobody raises himself, and nobody changes others by a query.
#[test]
fn of_members_one_writes_whether_one_hides_a_project_oneself() {
    let query = |users: Json| json!({"projects": {"project_id": PROJECT, "users": users}});
    let own = change(&query(json!({ME: {"hide": true}})));
    assert_eq!(own.hide, Some((project(), me(), true)));
    for users in [
        json!({ME: {"group": "owner"}}),
        json!({ME: {"hide": true, "group": "owner"}}),
        json!({OTHER: {"hide": true}}),
        json!({ME: {"hide": true}, OTHER: {"group": "collaborator"}}),
        json!({ME: {"hide": 1}}),
        json!({}),
        json!("x"),
    ] {
        refused(
            account(),
            &query(users),
            &json!({"set": true}),
            Code::PermissionDenied,
            "own account",
        );
    }
}

#[test]
fn a_project_is_changed_by_its_members() {
    let query = json!({"projects": {"project_id": PROJECT, "title": "x"}});
    let planned = planned(account(), &query, &Json::Null).unwrap();
    assert_eq!(facts(&planned), [Fact::Member(me(), project())]);
    let query = json!({"projects": {"title": "x"}});
    refused(
        account(),
        &query,
        &Json::Null,
        Code::InvalidArgument,
        "project_id",
    );
    let query = json!({"projects_owner": {"project_id": PROJECT, "sandbox": true}});
    let planned = super::planned(account(), &query, &Json::Null).unwrap();
    assert_eq!(facts(&planned), [Fact::Owner(me(), project())]);
}

#[test]
fn a_project_changes_itself_whatever_project_it_names() {
    let query = json!({"projects": {"project_id": ELSEWHERE, "title": "x"}});
    let planned = planned(daemon(), &query, &Json::Null).unwrap();
    assert_eq!(facts(&planned), []);
    let Plan::Set(change) = planned.plan else {
        panic!("it writes");
    };
    assert_eq!(change.key, [("project_id", project_id())]);
    let users = json!({"projects": {"users": {ME: {"hide": true}}}});
    refused(
        daemon(),
        &users,
        &Json::Null,
        Code::PermissionDenied,
        "own account",
    );
}

/// Who names a row of another project together with a project of its own does not get that row.
#[test]
fn a_row_stays_with_its_project_and_its_author() {
    let log =
        change(&json!({"project_log": {"id": OTHER, "project_id": PROJECT, "event": {"a": 1}}}));
    assert_eq!(log.kind, ChangeKind::Upsert);
    assert_eq!(log.key, [("id", Value::Uuid(OTHER.parse().unwrap()))]);
    assert_eq!(
        log.existing,
        [
            equal("project_id", project_id()),
            equal("account_id", my_id())
        ]
    );
    assert!(
        log.values
            .contains(&("account_id", Assigned::Value(my_id())))
    );
    assert!(log.values.contains(&("time", Assigned::Now)));

    let token = json!({"project_invite_tokens": {"token": "0123456789abcdef", "project_id": PROJECT, "usage_limit": 3}});
    assert_eq!(change(&token).existing, [equal("project_id", project_id())]);
    let short = json!({"project_invite_tokens": {"token": "guess-me", "project_id": PROJECT, "usage_limit": 3}});
    refused(
        account(),
        &short,
        &Json::Null,
        Code::InvalidArgument,
        "at least 16",
    );
}

#[test]
fn the_identifier_of_a_path_follows_from_it() {
    let query = json!({"file_use": {"project_id": PROJECT, "path": "a.txt", "id": "0".repeat(40), "last_edited": 5}});
    let written = change(&query);
    // SHA-1 of the project and the path, as the original computes it.
    let id = Value::Text("75d726cbb3c4bf1385e26a6d142e2169dcc6de09".to_owned());
    assert_eq!(written.key, [("id", id)]);
    let missing = json!({"file_use": {"project_id": PROJECT, "last_edited": 5}});
    refused(
        account(),
        &missing,
        &Json::Null,
        Code::InvalidArgument,
        "path",
    );
}

#[test]
fn settings_are_written_by_administrators_and_secrets_by_nobody() {
    let query = json!({"site_settings": {"name": "site_name", "value": "x"}});
    let planned = planned(account(), &query, &Json::Null).unwrap();
    assert_eq!(facts(&planned), [Fact::Admin(me())]);
    let Plan::Set(change) = planned.plan else {
        panic!("it writes");
    };
    assert_eq!(change.existing, [equal("readonly", Value::Bool(false))]);
    let query = json!({"site_settings": {"name": "conat_password", "value": "x"}});
    refused(
        account(),
        &query,
        &Json::Null,
        Code::PermissionDenied,
        "cannot be written here",
    );
    refused(
        daemon(),
        &query,
        &Json::Null,
        Code::NotSignedIn,
        "signed in",
    );
}

#[test]
fn deleting_needs_a_table_that_says_so_and_the_whole_key() {
    let delete = json!({"delete": true});
    let token = json!({"registration_tokens": {"token": "x"}});
    let planned = planned(account(), &token, &delete).unwrap();
    assert_eq!(facts(&planned), [Fact::Admin(me())]);
    let Plan::Set(change) = planned.plan else {
        panic!("it writes");
    };
    assert_eq!((change.kind, change.values.len()), (ChangeKind::Delete, 0));
    refused(
        account(),
        &json!({"registration_tokens": {}}),
        &delete,
        Code::InvalidArgument,
        "token",
    );
    for table in ["accounts", "projects", "project_log", "central_log"] {
        let query = json!({table: {"project_id": PROJECT, "id": OTHER}});
        refused(
            account(),
            &query,
            &delete,
            Code::PermissionDenied,
            "cannot be deleted",
        );
    }
}

#[test]
fn what_is_noted_is_noted_once_and_under_a_name_for_browsers() {
    let query = |event: &str| json!({"central_log": {"id": OTHER, "event": event, "value": {}}});
    let planned = planned(account(), &query("webapp-x"), &Json::Null).unwrap();
    assert_eq!(facts(&planned), []);
    let Plan::Set(change) = planned.plan else {
        panic!("it writes");
    };
    assert_eq!(change.kind, ChangeKind::Insert);
    refused(
        account(),
        &query("auth-token"),
        &Json::Null,
        Code::InvalidArgument,
        "webapp-",
    );
}

#[test]
fn values_have_kinds_and_bounds() {
    for (field, value) in [
        ("first_name", json!("x".repeat(255))),
        ("first_name", json!(7)),
        ("name", json!("no spaces")),
        ("name", json!(OTHER)),
        ("profile", json!({"image": "x".repeat(300_000)})),
        ("autosave", json!(1.5)),
        ("unlisted", json!("yes")),
    ] {
        refused(
            account(),
            &json!({"accounts": {field: value}}),
            &Json::Null,
            Code::InvalidArgument,
            field,
        );
    }
}

#[test]
fn a_query_that_writes_nothing_does_nothing() {
    for query in [
        json!({"accounts": {"account_id": ME}}),
        json!({"projects": {"project_id": PROJECT}}),
    ] {
        let planned = planned(account(), &query, &json!({"set": true})).unwrap();
        assert!(matches!(planned.plan, Plan::Nothing), "{query}");
    }
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(json!(ME)),
        Just(json!(OTHER)),
        Just(json!(PROJECT)),
        Just(json!(ELSEWHERE)),
        Just(json!("webapp-x")),
        Just(json!("0123456789abcdef")),
        Just(json!({"a": 1})),
        Just(json!({ME: {"hide": true}})),
        Just(json!({OTHER: {"group": "owner"}})),
        any::<bool>().prop_map(Json::from),
        (0_i64..1_000).prop_map(Json::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    /// Whatever an account sends: what is planned writes declared fields alone; the row is its own, or in a project of
    /// which it must be a member, or it must be an administrator.
    #[test]
    fn no_query_writes_what_is_not_its_callers(
        table in 0..TABLES.len(),
        fields in proptest::collection::vec((0_usize..40, value()), 1..6),
        delete in any::<bool>(),
    ) {
        let table = &TABLES[table];
        let template: serde_json::Map<String, Json> = fields
            .into_iter()
            .filter_map(|(at, value)| Some((table.fields.get(at % table.fields.len())?.name.to_owned(), value)))
            .collect();
        let options = json!([{"set": true}, {"delete": delete}]);
        let Ok(planned) = planned(account(), &json!({table.name: template}), &options) else {
            return Ok(());
        };
        let facts = facts(&planned);
        let Plan::Set(change) = planned.plan else {
            return Ok(());
        };
        for (column, _) in &change.values {
            let field = table.fields.iter().find(|field| field.column == *column).unwrap();
            prop_assert!(field.write != Write::No);
        }
        let named = |column: &str| {
            let key = change.key.iter().find(|(found, _)| *found == column).map(|(_, value)| value.clone());
            key.or_else(|| change.values.iter().find_map(|(found, value)| match value {
                Assigned::Value(value) if *found == column => Some(value.clone()),
                _ => None,
            }))
        };
        // Members say no to whoever asks to be let in; whoever asks is no member.
        let (answers, asks) = (table.name == "project_join_requests", table.name == "project_invite_requests");
        if let Some(Value::Uuid(account)) = named("account_id").filter(|_| !answers) {
            prop_assert_eq!(account, me().uuid());
        }
        if let Some(Value::Uuid(id)) = named("project_id").filter(|_| !asks) {
            let asked = facts.iter().any(|fact| match fact {
                Fact::Member(account, project) | Fact::Owner(account, project) => {
                    *account == me() && project.uuid() == id
                }
                Fact::Admin(_) => false,
            });
            prop_assert!(asked, "{facts:?}");
            let held = change.key.iter().any(|(column, _)| *column == "project_id")
                || change.existing.contains(&equal("project_id", Value::Uuid(id)));
            prop_assert!(held, "{change:?}");
        }
        let listed = |condition: &Condition| matches!(condition, Condition::Listed(_, account) if *account == me());
        let owned = named("account_id").is_some()
            || named("project_id").is_some()
            || change.existing.iter().any(listed);
        let noted = ["central_log", "create_group"].contains(&table.name) && change.kind == ChangeKind::Insert;
        prop_assert!(owned || noted || facts == [Fact::Admin(me())], "{change:?}");
    }
}

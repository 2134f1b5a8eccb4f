//! Every function by every kind of caller, allowed and refused, from one table.
//!
//! The table is written by hand from the specification of the functions, and not made from the table in `api`: it is
//! what that one is held against. A function without a row fails the test.

use std::collections::BTreeSet;

use dialtone_hub::api::{Code, functions};
use dialtone_hub::caller::Caller;
use serde_json::{Value as Json, json};

use crate::world::World;

/// Who may, of: an administrator of the site, an owner of the project in question, a collaborator there, a stranger,
/// the project itself, another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// Everybody.
    All,
    /// Every account.
    Accounts,
    /// Administrators of the site.
    Admins,
    /// Owners and collaborators.
    Members,
    /// Owners, collaborators, and the project itself, which also is what another project then acts on.
    MembersAndProjects,
    /// Owners, collaborators and administrators.
    MembersAndAdmins,
}

const ID: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";

#[expect(clippy::too_many_lines, reason = "one row for each function")]
/// Each function with arguments, in which `PROJECT` is the project in question.
fn table() -> Vec<(&'static str, May, Json)> {
    use May::{Accounts, Admins, All, Members, MembersAndAdmins, MembersAndProjects};
    let project = json!([{"project_id": "PROJECT"}]);
    let named = json!([{"name": "org"}]);
    let named_user = json!([{"name": "org", "user": ID}]);
    let file = json!([{"project_id": "PROJECT", "path": "a.txt"}]);
    vec![
        ("system.describe", All, json!([])),
        ("system.getCustomize", All, json!([])),
        ("system.ping", All, json!([])),
        ("system.test", All, json!([])),
        ("system.terminate", Admins, json!([{"service": "api"}])),
        ("system.userTracking", Accounts, json!([{"event": "x"}])),
        (
            "system.logClientError",
            All,
            json!([{"event": "x", "error": "y"}]),
        ),
        ("system.webappError", All, json!([{"message": "x"}])),
        ("system.manageApiKeys", Accounts, json!([{"action": "get"}])),
        (
            "system.manageApiKeys",
            Members,
            json!([{"action": "get", "project_id": "PROJECT"}]),
        ),
        (
            "system.generateUserAuthToken",
            Accounts,
            json!([{"user_account_id": ID, "password": "x"}]),
        ),
        ("system.revokeUserAuthToken", All, json!(["token"])),
        ("system.userSearch", Accounts, json!([{"query": "x"}])),
        (
            "system.userSearch",
            Admins,
            json!([{"query": "x", "admin": true}]),
        ),
        ("system.getNames", Accounts, json!([[ID]])),
        (
            "system.adminResetPasswordLink",
            Admins,
            json!([{"user_account_id": ID}]),
        ),
        ("system.sendEmailVerification", Accounts, json!([])),
        (
            "system.deletePassport",
            Accounts,
            json!([{"strategy": "google", "id": "7"}]),
        ),
        (
            "system.adminSalesloftSync",
            Admins,
            json!([{"account_ids": [ID]}]),
        ),
        ("system.userSalesloftSync", Accounts, json!([])),
        ("projects.createProject", Accounts, json!([{"title": "x"}])),
        (
            "projects.createProject",
            Admins,
            json!([{"project_id": "PROJECT"}]),
        ),
        (
            "projects.copyPathBetweenProjects",
            Members,
            json!([{"src_project_id": "PROJECT", "src_path": "x"}]),
        ),
        (
            "projects.removeCollaborator",
            Members,
            json!([{"opts": {"project_id": "PROJECT", "account_id": ID}}]),
        ),
        (
            "projects.addCollaborator",
            Accounts,
            json!([{"opts": {"account_id": ID, "token_id": "x"}}]),
        ),
        (
            "projects.inviteCollaborator",
            Members,
            json!([{"opts": {"project_id": "PROJECT", "account_id": ID}}]),
        ),
        (
            "projects.inviteCollaboratorWithoutAccount",
            Members,
            json!([{"opts": {"project_id": "PROJECT", "to": "a@b.c", "email": "x"}}]),
        ),
        (
            "projects.changeUserType",
            Members,
            json!([{"opts": {"project_id": "PROJECT", "target_account_id": ID, "new_group": "owner"}}]),
        ),
        (
            "projects.setQuotas",
            Admins,
            json!([{"project_id": "PROJECT", "memory": 1}]),
        ),
        ("projects.start", Members, project.clone()),
        ("projects.stop", Members, project.clone()),
        ("projects.deleteProject", MembersAndAdmins, project.clone()),
        ("projects.touch", Members, project.clone()),
        ("projects.state", Members, project.clone()),
        ("projects.status", Members, project.clone()),
        ("db.userQuery", All, json!([{"query": {}}])),
        ("db.touch", Accounts, json!([])),
        ("db.touch", Members, project.clone()),
        ("db.getLegacyTimeTravelInfo", Members, file.clone()),
        (
            "db.getLegacyTimeTravelPatches",
            Accounts,
            json!([{"uuid": ID}]),
        ),
        ("db.fileUseTimes", Members, file.clone()),
        ("db.removeBlobTtls", Accounts, json!([{"uuids": [ID]}])),
        ("purchases.getBalance", Accounts, json!([])),
        ("purchases.getMinBalance", Accounts, json!([])),
        ("jupyter.kernels", All, json!([])),
        ("jupyter.kernels", MembersAndProjects, project),
        (
            "jupyter.execute",
            MembersAndProjects,
            json!([{"project_id": "PROJECT", "input": "1+1"}]),
        ),
        ("sync.history", Members, file),
        ("org.getAll", Admins, json!([])),
        ("org.create", Admins, named.clone()),
        ("org.get", Accounts, named.clone()),
        ("org.set", Accounts, named.clone()),
        ("org.addAdmin", Admins, named_user.clone()),
        ("org.addUser", Admins, named_user.clone()),
        (
            "org.createUser",
            Accounts,
            json!([{"name": "org", "email": "a@b.c", "firstName": "A", "lastName": "B"}]),
        ),
        ("org.removeUser", Accounts, named_user.clone()),
        ("org.removeAdmin", Accounts, named_user),
        ("org.createToken", Accounts, json!([{"user": ID}])),
        ("org.expireToken", Accounts, json!([{"token": "x"}])),
        ("org.getUsers", Accounts, named),
        (
            "org.message",
            Accounts,
            json!([{"name": "org", "subject": "x", "body": "y"}]),
        ),
        (
            "messages.send",
            Accounts,
            json!([{"to_ids": [ID], "subject": "x", "body": "y"}]),
        ),
        ("messages.get", Accounts, json!([])),
    ]
}

fn with_project(args: &Json, project: &str) -> Json {
    serde_json::from_str(&args.to_string().replace("PROJECT", project)).unwrap()
}

#[tokio::test]
async fn everybody_may_what_the_table_says_and_nothing_else() {
    let world = World::new();
    for (name, may, args) in table() {
        let args = with_project(&args, &world.project_id.to_string());
        let callers: [(&str, Caller, &[May]); 6] = [
            (
                "admin",
                world.admin,
                &[May::All, May::Accounts, May::Admins, May::MembersAndAdmins],
            ),
            (
                "owner",
                world.owner,
                &[
                    May::All,
                    May::Accounts,
                    May::Members,
                    May::MembersAndProjects,
                    May::MembersAndAdmins,
                ],
            ),
            (
                "member",
                world.member,
                &[
                    May::All,
                    May::Accounts,
                    May::Members,
                    May::MembersAndProjects,
                    May::MembersAndAdmins,
                ],
            ),
            ("stranger", world.stranger, &[May::All, May::Accounts]),
            (
                "project",
                world.project,
                &[May::All, May::MembersAndProjects],
            ),
            (
                "other project",
                world.other_project,
                &[May::All, May::MembersAndProjects],
            ),
        ];
        for (who, caller, allowed) in callers {
            let done = world.call(caller, name, &args).await;
            match (done, allowed.contains(&may)) {
                (Ok(_), true) => {}
                (Err(error), false) => {
                    let expected = [Code::PermissionDenied, Code::NotSignedIn];
                    assert!(expected.contains(&error.code), "{name} by {who}: {error:?}");
                }
                (done, allowed) => panic!("{name} by {who}: allowed {allowed}, got {done:?}"),
            }
        }
    }
}

#[test]
fn the_table_has_every_function() {
    let rows: BTreeSet<&str> = table().iter().map(|(name, _, _)| *name).collect();
    let functions: BTreeSet<&str> = functions().map(|function| function.name).collect();
    assert_eq!(rows, functions);
}

/// Rule 1: identities that are sent reach no function, whoever sends them and wherever.
#[tokio::test]
async fn no_function_sees_an_identity_that_was_sent() {
    let world = World::new();
    let victim = "deadbeef-dead-4ead-8ead-deadbeefdead";
    let callers = [world.admin, world.owner, world.project];
    for (name, _, args) in table() {
        let mut args = with_project(&args, &world.project_id.to_string());
        if args.as_array().is_some_and(Vec::is_empty) {
            args = json!([{}]);
        }
        let Some(first) = args.get_mut(0).and_then(Json::as_object_mut) else {
            continue;
        };
        first.insert("account_id".to_owned(), victim.into());
        first.insert("accountId".to_owned(), victim.into());
        for caller in callers {
            if let Ok(done) = world.call(caller, name, &args).await {
                assert!(
                    !done.to_string().contains(victim),
                    "{name} by {caller}: {done}"
                );
            }
        }
    }
}

/// A project that names another one acts on itself.
#[tokio::test]
async fn a_project_reaches_no_other_project() {
    let world = World::new();
    let other = world.other_project_id.to_string();
    for (name, _, args) in table() {
        let args = with_project(&args, &other);
        if let Ok(done) = world.call(world.project, name, &args).await {
            assert!(!done.to_string().contains(&other), "{name}: {done}");
        }
    }
}

/// Rule 3: with several projects, each is looked at.
#[tokio::test]
async fn one_foreign_project_among_several_is_enough_to_refuse() {
    let world = World::new();
    let (own, other) = (world.project_id, world.other_project_id);
    for (from, to) in [(own, other), (other, own), (other, other)] {
        let args = json!([{"src_project_id": from, "target_project_id": to, "src_path": "x"}]);
        let refused = world
            .call(world.member, "projects.copyPathBetweenProjects", &args)
            .await
            .unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
    }
    let args = json!([{"src_project_id": own, "target_project_id": own, "src_path": "x"}]);
    let done = world
        .call(world.member, "projects.copyPathBetweenProjects", &args)
        .await;
    assert!(done.is_ok(), "{done:?}");
}

#[tokio::test]
async fn describe_lists_what_there_is() {
    let world = World::new();
    let all = world
        .call(world.stranger, "system.describe", &json!([]))
        .await
        .unwrap();
    assert_eq!(all.as_array().unwrap().len(), functions().count());
    let one = world
        .call(
            world.stranger,
            "system.describe",
            &json!(["projects.deleteProject"]),
        )
        .await
        .unwrap();
    assert_eq!(one["rules"], json!(["member of project_id, or admin"]));
    assert_eq!(one["auth"], "authFirstRequireAccount");
    assert_eq!(
        one["params"][0]["schema"]["required"],
        json!(["project_id"])
    );
    assert_eq!(one["available"], true);
    let none = world
        .call(world.stranger, "system.describe", &json!(["x.y"]))
        .await;
    assert_eq!(none.unwrap_err().code, Code::NotFound);
}

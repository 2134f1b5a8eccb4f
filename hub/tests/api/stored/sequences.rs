//! Whatever somebody calls, in whatever order: what is not theirs is neither seen nor touched.
//!
//! Calls are made from the shapes that the functions declare, and queries from the rules of the tables, with the
//! identifiers of everything that there is, so that a function without a rule would be used against somebody. What the
//! others have has a mark that no answer may show, and their rows are compared afterwards.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_hub::api::{Field, Function, Shape, functions};
use dialtone_hub::id::{AccountId, OrganizationId, ProjectId};
use dialtone_hub::query::{Kind, TABLES, Write};
use dialtone_hub::store::accounts::{self, Update};
use dialtone_hub::store::organizations;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value as Json, json};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::Site;

/// In everything that others have said or written, and nowhere else.
const MARK: &str = "canary";

const SEQUENCES: u64 = 24;

const CALLS: usize = 60;

/// Everything that a call can name.
struct World {
    site: Site,
    caller: AccountId,
    /// Accounts of others.
    foreign: BTreeSet<String>,
    /// A project and an organization of others.
    places: BTreeSet<String>,
    ids: Vec<String>,
    texts: Vec<String>,
    numbers: Vec<i64>,
}

impl World {
    /// The caller has a project, is in another one and in an organization, which it looks after in every other world.
    async fn new(seed: u64) -> Self {
        let site = Site::sqlite().await;
        let [root, caller, friend, victim, chief] = [
            site.account("root", &["admin"]).await,
            site.account("mallory", &[]).await,
            site.account("friend", &[]).await,
            site.account("victim", &[]).await,
            site.account("chief", &[]).await,
        ];
        let (own, shared) = (site.project(caller).await, site.project(friend).await);
        site.add(friend, shared, caller).await.unwrap();
        let foreign_project = foreign_project(&site, victim).await;
        let (cats, dogs) = (
            organization(&site, root, "cats").await,
            organization(&site, root, "dogs").await,
        );
        let role = if seed.is_multiple_of(2) {
            "org.addAdmin"
        } else {
            "org.addUser"
        };
        for (function, name, user) in [
            (role, "cats", caller),
            ("org.addUser", "cats", root),
            ("org.addAdmin", "dogs", chief),
            ("org.addUser", "dogs", victim),
        ] {
            let options = json!({"name": name, "user": user});
            site.call(root, function, options).await.unwrap();
        }
        let message = json!({"to_ids": [chief], "subject": MARK, "body": MARK});
        let message = site.call(victim, "messages.send", message).await.unwrap();
        let key = json!({"action": "create", "name": MARK});
        let key = site
            .call(victim, "system.manageApiKeys", key)
            .await
            .unwrap();
        let foreign = [victim, chief, root].map(|id| id.to_string());
        let foreign = BTreeSet::from(foreign);
        let places = BTreeSet::from([foreign_project.to_string(), dogs.to_string()]);
        let mut ids: Vec<String> = foreign.union(&places).cloned().collect();
        ids.extend([caller, friend].map(|id| id.to_string()));
        ids.extend([own, shared].map(|id| id.to_string()));
        ids.push(cats.to_string());
        let texts = [
            "cats",
            "dogs",
            "a.txt",
            "../x",
            "x",
            "token-of-the-victim-01",
            "owner",
        ];
        Self {
            site,
            caller,
            foreign,
            places,
            ids,
            texts: texts.map(str::to_owned).into(),
            numbers: vec![
                0,
                1,
                2,
                message.as_i64().unwrap(),
                key[0]["id"].as_i64().unwrap(),
            ],
        }
    }
}

/// A project of the victim with something in every table that is about projects.
async fn foreign_project(site: &Site, victim: AccountId) -> ProjectId {
    let id = site.project(victim).await;
    let time = 1_900_000_000_000_i64;
    for write in [
        json!({"projects": {"project_id": id, "title": MARK, "description": MARK, "env": {"x": MARK}}}),
        json!({"project_log": {"id": uuid::Uuid::new_v4(), "project_id": id, "event": {"x": MARK}}}),
        json!({"project_invite_tokens": {"project_id": id, "token": "token-of-the-victim-01", "usage_limit": 0}}),
        json!({"file_use": {"project_id": id, "path": MARK, "users": {}}}),
        json!({"mentions": {"time": time, "project_id": id, "path": MARK, "target": victim, "description": MARK}}),
        json!({"public_paths": {"project_id": id, "path": MARK, "disabled": true}}),
        json!({"create_group": {"group_id": id, "title": MARK}}),
    ] {
        site.query(victim, write).await.unwrap();
    }
    let mut on = site.store.write().await.unwrap();
    let update = Update {
        email_address: Some(Some(format!("{MARK}@example.org"))),
        password_hash: Some(Some(MARK.to_owned())),
        ..Update::default()
    };
    accounts::update(&mut on, victim, update).await.unwrap();
    on.commit().await.unwrap();
    id
}

async fn organization(site: &Site, root: AccountId, name: &str) -> OrganizationId {
    let made = site.call(root, "org.create", json!({"name": name})).await;
    let set = json!({"name": name, "description": if name == "dogs" { MARK } else { "" }});
    site.call(root, "org.set", set).await.unwrap();
    let mut on = site.store.read().await.unwrap();
    let found = organizations::by_name(&mut on, name).await.unwrap();
    assert_eq!(json!(found.unwrap().id), made.clone().unwrap());
    serde_json::from_value(made.unwrap()).unwrap()
}

impl World {
    fn id(&self, random: &mut StdRng) -> Json {
        self.ids.choose(random).unwrap().as_str().into()
    }

    fn text(&self, random: &mut StdRng) -> Json {
        self.texts.choose(random).unwrap().as_str().into()
    }

    fn number(&self, random: &mut StdRng) -> i64 {
        *self.numbers.choose(random).unwrap()
    }

    /// Something of this shape.
    fn value(&self, shape: &Shape, random: &mut StdRng) -> Json {
        match *shape {
            Shape::Text(_) => self.text(random),
            Shape::Id | Shape::IdOrEmail => self.id(random),
            Shape::Int(min, max) => self.number(random).clamp(min, max).into(),
            Shape::Number => self.number(random).into(),
            Shape::Bool => random.random_bool(0.5).into(),
            Shape::Time => 1_900_000_000_000_i64.into(),
            Shape::OneOf(words) => (*words.choose(random).unwrap()).into(),
            Shape::List(of, _) => {
                let len = random.random_range(0..3);
                (0..len).map(|_| self.value(of, random)).collect()
            }
            Shape::OneOrList(of, _) => self.value(of, random),
            Shape::Object(fields) => self.object(fields, random),
            Shape::Any(_) => json!({"x": self.text(random)}),
        }
    }

    fn object(&self, fields: &[Field], random: &mut StdRng) -> Json {
        let mut object = Map::new();
        for field in fields {
            // Administrators alone may say so, and then everything is refused.
            let wanted = field.required || random.random_bool(0.5);
            if wanted && field.name != "admin" && field.name != "debug_delay_ms" {
                object.insert(field.name.to_owned(), self.value(&field.shape, random));
            }
        }
        Json::Object(object)
    }

    /// A query of some table, to read or to write.
    fn query(&self, random: &mut StdRng) -> Json {
        let table = TABLES.choose(random).unwrap();
        let writes = random.random_bool(0.5);
        let mut row = Map::new();
        for field in table.fields {
            if writes && field.write == Write::No {
                continue;
            }
            let is_key = table.key.contains(&field.column) || field.name == "project_id";
            let value = match field.kind {
                _ if !(writes || is_key && random.random_bool(0.5)) => Json::Null,
                Kind::Uuid => self.id(random),
                Kind::Text(_) => self.text(random),
                Kind::Int => self.number(random).into(),
                Kind::Bool => random.random_bool(0.5).into(),
                Kind::Time => 1_900_000_000_000_i64.into(),
                Kind::Json(_) | Kind::Derived(_) => json!({"x": 1}),
            };
            if !writes || is_key || random.random_bool(0.4) {
                row.insert(field.name.to_owned(), value);
            }
        }
        let mut options = match (writes, random.random_bool(0.2)) {
            (true, true) => json!({"delete": true}),
            (true, false) => json!({"set": true}),
            (false, _) => json!({"limit": 100}),
        };
        if random.random_bool(0.05) {
            options["account_id"] = self.id(random);
        }
        let row = if writes {
            Json::Object(row)
        } else {
            json!([row])
        };
        json!({"query": {table.name: row}, "options": options})
    }

    fn call(&self, random: &mut StdRng) -> (&'static Function, Vec<Json>) {
        let all: Vec<&'static Function> = functions().collect();
        let function = if random.random_bool(0.4) {
            all.iter().find(|function| function.name == "db.userQuery")
        } else {
            all.choose(random)
        };
        let function = *function.unwrap();
        if function.name == "db.userQuery" {
            return (function, vec![self.query(random)]);
        }
        let args = function.params.iter();
        (
            function,
            args.map(|param| self.value(&param.shape, random)).collect(),
        )
    }

    /// The rows of all tables, as text, by table. What others cannot but get is left out: messages to them.
    async fn rows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let options = SqliteConnectOptions::new().filename(self.site.file().unwrap());
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        let mut all = BTreeMap::new();
        for table in tables {
            if LOGS.contains(&table.as_str()) {
                continue;
            }
            let statement = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
                .fetch_all(&pool)
                .await
                .unwrap();
            let columns: Vec<String> = columns
                .iter()
                .filter(|column| !matches!(column.as_str(), "unread_message_count" | "blob"))
                .map(|column| format!("'{column}', {column}"))
                .collect();
            let statement = format!("SELECT json_object({}) FROM {table}", columns.join(", "));
            let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
                .fetch_all(&pool)
                .await
                .unwrap();
            let rows = rows.iter().map(|row| row.get::<String, _>(0)).collect();
            all.insert(table, rows);
        }
        pool.close().await;
        all
    }
}

/// Tables in which rows of a caller may name anybody or anything: what the caller said, or did with its own.
const LOGS: &[&str] = &[
    "change_log",
    "client_error_log",
    "webapp_errors",
    "user_tracking",
    "central_log",
    "outbox_head",
    "throttle",
];

/// Tables in which a new row may be about somebody else's account: whom the caller writes to, or lets into its own.
const ABOUT_OTHERS: &[&str] = &["message_recipients", "project_members"];

impl World {
    /// Whether a row that is new is in a place of others, or about somebody else where that cannot be.
    fn is_intruding(&self, table: &str, row: &str) -> bool {
        let names = |column: &str, ids: &BTreeSet<String>| {
            ids.iter()
                .any(|id| row.contains(&format!("\"{column}\":\"{id}\"")))
        };
        // Whoever asks to be let in has something there.
        let asks = table == "project_join_requests" && row.contains(&self.caller.to_string());
        let is_there = names("project_id", &self.places) || names("organization_id", &self.places);
        let is_about = names("account_id", &self.foreign) && !ABOUT_OTHERS.contains(&table);
        (is_there && !asks) || is_about
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sequence_of_calls_touches_what_is_not_the_callers() {
    let (mut done, mut calls) = (BTreeSet::new(), 0);
    for seed in 0..SEQUENCES {
        let world = World::new(seed).await;
        let before = world.rows().await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut made = Vec::new();
        for _ in 0..CALLS {
            let (function, args) = world.call(&mut random);
            calls += 1;
            let request = json!({"name": function.name, "args": args});
            made.push(request.to_string());
            let request = serde_json::from_value(request).unwrap();
            let caller = dialtone_hub::caller::Caller::Account(world.caller);
            if let Ok(answer) = world.site.api().call(caller, request).await {
                assert!(
                    !answer.to_string().contains(MARK),
                    "seed {seed}: {} shows {answer}",
                    made.last().unwrap()
                );
                done.insert(function.name);
            }
        }
        unharmed(&world, seed, &before, &world.rows().await, &made);
    }
    // The calls are not all refused, or nothing was tried.
    assert!(
        done.len() > 20,
        "{} functions in {calls} calls: {done:?}",
        done.len()
    );
}

fn unharmed(
    world: &World,
    seed: u64,
    before: &BTreeMap<String, BTreeSet<String>>,
    after: &BTreeMap<String, BTreeSet<String>>,
    made: &[String],
) {
    let others = world.foreign.union(&world.places);
    let is_foreign = |row: &str| others.clone().any(|id| row.contains(id.as_str()));
    let caller = world.caller.to_string();
    for (table, rows) in before {
        for row in rows.difference(&after[table]) {
            // What is the caller's, or that of somebody whom it shares something with, it may change.
            let is_harm = is_foreign(row) && !row.contains(&caller);
            assert!(
                !is_harm,
                "seed {seed}: {table} had {row}\n{}",
                made.join("\n")
            );
        }
        for row in after[table].difference(rows) {
            let is_harm = world.is_intruding(table, row);
            assert!(
                !is_harm,
                "seed {seed}: {table} has {row}\n{}",
                made.join("\n")
            );
        }
    }
}

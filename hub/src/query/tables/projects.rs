//! Projects, and what is written down about them.

use std::time::Duration;

use crate::query::rule::{Derived, Field, Get, Kind, Rows, Set, Table, Who, Write};

const TITLE: Kind = Kind::Text(1_024);

const TEXT: Kind = Kind::Text(64 << 10);

const PATH: Kind = Kind::Text(4_096);

const OBJECT: Kind = Kind::Json(256 << 10);

/// A small picture as text of a `data:` address.
const AVATAR: Kind = Kind::Text(32 << 10);

const DAY: Duration = Duration::from_hours(24);

const MEMBERS: Set = Set {
    who: Who::AccountOrProject,
    rows: &[Rows::Member("project_id")],
    insert: false,
    update: true,
    delete: false,
    owner: false,
};

/// The caller's projects. Secrets, and what a project may use, are not here.
pub(super) const PROJECTS: Table = Table {
    name: "projects",
    real: "projects",
    view: None,
    key: &["project_id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("title", TITLE, Write::Value),
        Field::both("description", TEXT, Write::Value),
        Field::read("name", TITLE),
        Field::both("color", Kind::Text(64), Write::Value),
        Field::both("compute_image", TITLE, Write::Value),
        Field::both("env", OBJECT, Write::Value),
        Field::both("avatar_image_tiny", AVATAR, Write::Value),
        Field::both(
            "users",
            Kind::Derived(Derived::ProjectUsers),
            Write::OwnMembership,
        ),
        Field::read("last_active", Kind::Derived(Derived::ProjectLastActive)),
        Field::read("deleted", Kind::Bool),
        Field::read("manage_users_owner_only", Kind::Bool),
        Field::read("sandbox", Kind::Bool),
        Field::read("course", OBJECT),
        Field::read("settings", OBJECT),
        Field::read("site_license", OBJECT),
        Field::read("run_quota", OBJECT),
        Field::read("state", OBJECT).column("state_json"),
        Field::read("status", OBJECT),
        Field::read("action_request", OBJECT),
        Field::read("created", Kind::Time),
        Field::read("last_edited", Kind::Time),
        Field::read("last_started", Kind::Time),
        Field::read("last_backup", Kind::Time),
        Field::read("ephemeral", Kind::Int),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Member("project_id")],
        limit: 1_000,
        order: Some("-last_edited"),
    }),
    set: Some(MEMBERS),
};

/// Any project, for administrators of the site.
pub(super) const ADMIN: Table = Table {
    name: "projects_admin",
    real: "projects",
    view: None,
    key: &["project_id"],
    fields: &[
        Field::read("project_id", Kind::Uuid),
        Field::read("title", TITLE),
        Field::read("description", TEXT),
        Field::read("name", TITLE),
        Field::read("users", Kind::Derived(Derived::ProjectUsers)),
        Field::read("last_active", Kind::Derived(Derived::ProjectLastActive)),
        Field::read("deleted", Kind::Bool),
        Field::read("settings", OBJECT),
        Field::read("run_quota", OBJECT),
        Field::read("state", OBJECT).column("state_json"),
        Field::read("status", OBJECT),
        Field::read("created", Kind::Time),
        Field::read("last_edited", Kind::Time),
        Field::read("last_started", Kind::Time),
        Field::read("host", OBJECT),
        Field::read("notes", TEXT),
    ],
    get: Some(Get {
        who: Who::Admin,
        rows: &[Rows::Named("project_id")],
        limit: 100,
        order: None,
    }),
    set: None,
};

/// What only owners may change.
pub(super) const OWNER: Table = Table {
    name: "projects_owner",
    real: "projects",
    view: None,
    key: &["project_id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("course", OBJECT, Write::Value),
        Field::both("name", TITLE, Write::Username),
        Field::both("manage_users_owner_only", Kind::Bool, Write::Value),
        Field::both("sandbox", Kind::Bool, Write::Value),
    ],
    get: None,
    set: Some(Set {
        who: Who::Account,
        owner: true,
        ..MEMBERS
    }),
};

/// What happened in the caller's projects.
pub(super) const LOG: Table = Table {
    name: "project_log",
    real: "project_log",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Uuid, Write::Key),
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("account_id", Kind::Uuid, Write::Account),
        Field::both("time", Kind::Time, Write::Now),
        Field::both("event", Kind::Json(64 << 10), Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[
            Rows::Member("project_id"),
            Rows::Within("time", DAY.saturating_mul(60)),
        ],
        limit: 1_000,
        order: Some("-time"),
    }),
    // Entries of others stay as they are.
    set: Some(Set {
        who: Who::Account,
        rows: &[Rows::Member("project_id"), Rows::Own("account_id")],
        insert: true,
        ..MEMBERS
    }),
};

/// Tokens that let their bearers into a project.
pub(super) const INVITE_TOKENS: Table = Table {
    name: "project_invite_tokens",
    real: "project_invite_tokens",
    view: None,
    key: &["token"],
    fields: &[
        Field::both("token", Kind::Text(128), Write::SecretKey),
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("created", Kind::Time, Write::Created),
        Field::both("expires", Kind::Time, Write::Value),
        Field::both("usage_limit", Kind::Int, Write::Value),
        Field::read("counter", Kind::Int),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Member("project_id")],
        limit: 1_000,
        order: Some("-created"),
    }),
    set: Some(Set {
        who: Who::Account,
        insert: true,
        ..MEMBERS
    }),
};

/// Who used which file of the caller's projects lately.
pub(super) const FILE_USE: Table = Table {
    name: "file_use",
    real: "file_use",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("path", PATH, Write::Value),
        Field::both("id", Kind::Text(40), Write::PathHash),
        Field::both("users", OBJECT, Write::Merge),
        Field::both("last_edited", Kind::Time, Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[
            Rows::Member("project_id"),
            Rows::Within("last_edited", DAY.saturating_mul(21)),
        ],
        limit: 200,
        order: Some("-last_edited"),
    }),
    set: Some(Set {
        insert: true,
        ..MEMBERS
    }),
};

//! What members of a project share beside the project itself.

use std::time::Duration;

use crate::query::rule::{Field, Get, Kind, Rows, Set, Table, Who, Write};

const NAME: Kind = Kind::Text(1_024);

const PATH: Kind = Kind::Text(4_096);

const OBJECT: Kind = Kind::Json(256 << 10);

const DAY: Duration = Duration::from_hours(24);

const MEMBERS: Set = Set {
    who: Who::Account,
    rows: &[Rows::Member("project_id")],
    insert: true,
    update: true,
    delete: false,
    owner: false,
};

/// Large pictures of projects, one by one.
pub(super) const AVATARS: Table = Table {
    name: "project_avatar_images",
    real: "projects",
    view: None,
    key: &["project_id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("avatar_image_full", Kind::Text(512 << 10), Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Named("project_id"), Rows::Member("project_id")],
        limit: 10,
        order: None,
    }),
    set: Some(Set {
        insert: false,
        ..MEMBERS
    }),
};

/// What the caller has said to be let into projects: one request for each. It ends when somebody lets them in.
pub(super) const INVITE_REQUESTS: Table = Table {
    name: "project_invite_requests",
    real: "project_join_requests",
    view: None,
    key: &["project_id", "account_id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Key),
        Field::both("account_id", Kind::Uuid, Write::Account),
        Field::both("message", NAME, Write::Value),
        Field::both("time", Kind::Time, Write::Created),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        limit: 1_000,
        order: Some("-time"),
    }),
    set: Some(Set {
        rows: &[Rows::Own("account_id")],
        delete: true,
        ..MEMBERS
    }),
};

/// Who would like to be let into projects of the caller.
pub(super) const JOIN_REQUESTS: Table = Table {
    name: "project_join_requests",
    real: "project_join_requests",
    view: None,
    key: &["project_id", "account_id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("account_id", Kind::Uuid, Write::Key),
        Field::read("message", NAME),
        Field::read("time", Kind::Time),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Member("project_id")],
        limit: 1_000,
        order: Some("-time"),
    }),
    set: Some(Set {
        insert: false,
        update: false,
        delete: true,
        ..MEMBERS
    }),
};

/// Who was named in files of the caller's projects lately, and by whom.
pub(super) const MENTIONS: Table = Table {
    name: "mentions",
    real: "mentions",
    view: None,
    key: &["time", "project_id", "path", "target"],
    fields: &[
        Field::both("time", Kind::Time, Write::Key),
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("path", PATH, Write::Key),
        Field::both("target", Kind::Uuid, Write::Key),
        Field::both("source", Kind::Uuid, Write::Maker),
        Field::both("description", NAME, Write::Value),
        Field::both("fragment_id", NAME, Write::Value),
        Field::both("priority", Kind::Int, Write::Value),
        Field::both("users", OBJECT, Write::Merge),
        Field::read("action", NAME),
        Field::read("error", NAME),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[
            Rows::Member("project_id"),
            Rows::Within("time", DAY.saturating_mul(45)),
        ],
        limit: 500,
        order: Some("-time"),
    }),
    set: Some(MEMBERS),
};

/// What projects say is in their folders.
pub(super) const LISTINGS: Table = Table {
    name: "listings",
    real: "listings",
    view: None,
    key: &["project_id", "path", "compute_server_id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("path", PATH, Write::Key),
        Field::both("compute_server_id", Kind::Int, Write::Key),
        Field::both("time", Kind::Time, Write::Value),
        Field::both("interest", Kind::Time, Write::Value),
        Field::both("listing", Kind::Json(1 << 20), Write::Value),
        Field::both("missing", Kind::Int, Write::Value),
        Field::both("error", NAME, Write::Value),
        Field::both("deleted", OBJECT, Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Member("project_id")],
        limit: 1_000,
        order: None,
    }),
    set: Some(Set {
        who: Who::Project,
        delete: true,
        ..MEMBERS
    }),
};

//! What projects show to everybody.

use crate::query::rule::{Constant, Field, Get, Kind, Rows, Set, Table, Who, Write};

const NAME: Kind = Kind::Text(1_024);

const TEXT: Kind = Kind::Text(64 << 10);

const PATH: Kind = Kind::Text(4_096);

const MEMBERS: Set = Set {
    who: Who::AccountOrProject,
    rows: &[Rows::Member("project_id")],
    insert: true,
    update: true,
    delete: false,
    owner: false,
};

/// Files of the caller's projects. The name of the host and the licence that a file comes with are not set here.
pub(super) const PATHS: Table = Table {
    name: "public_paths",
    real: "public_paths",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("project_id", Kind::Uuid, Write::Project),
        Field::both("path", PATH, Write::Value),
        Field::both("id", Kind::Text(40), Write::PathHash),
        Field::both("name", NAME, Write::Username),
        Field::both("description", TEXT, Write::Value),
        Field::both("disabled", Kind::Bool, Write::Value),
        Field::both("unlisted", Kind::Bool, Write::Value),
        Field::both("authenticated", Kind::Bool, Write::Value),
        Field::both("license", NAME, Write::Value),
        Field::both("created", Kind::Time, Write::Created),
        Field::both("last_edited", Kind::Time, Write::Value),
        Field::both("last_saved", Kind::Time, Write::Value),
        Field::both("cross_origin_isolation", Kind::Bool, Write::Value),
        Field::both("compute_image", NAME, Write::Value),
        Field::both("image", NAME, Write::Value),
        Field::both("redirect", NAME, Write::Value),
        Field::both("jupyter_api", Kind::Bool, Write::Value),
        Field::read("counter", Kind::Int),
        Field::read("vhost", NAME),
        Field::read("url", NAME),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Member("project_id")],
        limit: 1_000,
        order: Some("-last_edited"),
    }),
    set: Some(MEMBERS),
};

const SHOWN: &[Field] = &[
    Field::read("id", Kind::Text(40)),
    Field::read("project_id", Kind::Uuid),
    Field::read("path", PATH),
    Field::read("name", NAME),
    Field::read("description", TEXT),
    Field::read("license", NAME),
    Field::read("created", Kind::Time),
    Field::read("last_edited", Kind::Time),
    Field::read("last_saved", Kind::Time),
    Field::read("counter", Kind::Int),
    Field::read("authenticated", Kind::Bool),
    Field::read("compute_image", NAME),
    Field::read("url", NAME),
    Field::read("image", NAME),
    Field::read("redirect", NAME),
    Field::read("jupyter_api", Kind::Bool),
];

/// A file that is shown, for whoever knows its number; those that are not listed as well.
pub(super) const PATHS_BY_ID: Table = Table {
    name: "public_paths_by_id",
    real: "public_paths",
    view: None,
    key: &["id"],
    fields: SHOWN,
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[
            Rows::Named("id"),
            Rows::Is("disabled", Constant::Bool(false)),
        ],
        limit: 100,
        order: None,
    }),
    set: None,
};

/// All files, for administrators of the site.
pub(super) const ALL_PATHS: Table = Table {
    name: "all_public_paths",
    real: "public_paths",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Text(40), Write::Key),
        Field::read("project_id", Kind::Uuid),
        Field::read("path", PATH),
        Field::both("name", NAME, Write::Username),
        Field::both("description", TEXT, Write::Value),
        Field::both("disabled", Kind::Bool, Write::Value),
        Field::both("unlisted", Kind::Bool, Write::Value),
        Field::both("vhost", NAME, Write::Value),
        Field::read("last_edited", Kind::Time),
        Field::read("counter", Kind::Int),
    ],
    get: Some(Get {
        who: Who::Admin,
        rows: &[],
        limit: 1_000,
        order: Some("-last_edited"),
    }),
    set: Some(Set {
        who: Who::Admin,
        rows: &[],
        insert: false,
        ..MEMBERS
    }),
};

/// Projects that show something.
pub(super) const PROJECTS: Table = Table {
    name: "public_projects",
    real: "projects",
    view: Some("public_projects"),
    key: &["project_id"],
    fields: &[
        Field::read("project_id", Kind::Uuid),
        Field::read("title", NAME),
        Field::read("description", TEXT),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Named("project_id")],
        limit: 100,
        order: None,
    }),
    set: None,
};

/// Files that the caller likes.
pub(super) const STARS: Table = Table {
    name: "public_path_stars",
    real: "public_path_stars",
    view: None,
    key: &["public_path_id", "account_id"],
    fields: &[
        Field::both("public_path_id", Kind::Text(40), Write::Key),
        Field::both("account_id", Kind::Uuid, Write::Account),
        Field::both("time", Kind::Time, Write::Now),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        limit: 1_000,
        order: Some("-time"),
    }),
    set: Some(Set {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        delete: true,
        ..MEMBERS
    }),
};

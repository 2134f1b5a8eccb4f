//! What the site tells everybody, and what the caller has asked of models.

use std::time::Duration;

use crate::query::rule::{Constant, Field, Get, Kind, Rows, Set, Table, Who, Write};

const NAME: Kind = Kind::Text(1_024);

const TEXT: Kind = Kind::Text(256 << 10);

const OBJECT: Kind = Kind::Json(256 << 10);

const HOUR: Duration = Duration::from_hours(1);

const ADMINS: Set = Set {
    who: Who::Admin,
    rows: &[],
    insert: true,
    update: true,
    delete: true,
    owner: false,
};

/// News of the last three months.
pub(super) const NEWS: Table = Table {
    name: "news",
    real: "news",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Int, Write::Key),
        Field::both("date", Kind::Time, Write::Value),
        Field::both("title", NAME, Write::Value),
        Field::both("text", TEXT, Write::Value),
        Field::both("tags", OBJECT, Write::Value),
        Field::both("url", NAME, Write::Value),
        Field::both("channel", NAME, Write::Value),
        Field::both("hide", Kind::Bool, Write::Value),
        Field::both("until", Kind::Time, Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[
            Rows::Within("date", HOUR.saturating_mul(24 * 92)),
            Rows::Is("hide", Constant::Bool(false)),
        ],
        limit: 100,
        order: Some("-date"),
    }),
    set: Some(ADMINS),
};

/// What everybody is to know now.
pub(super) const NOTIFICATIONS: Table = Table {
    name: "system_notifications",
    real: "system_notifications",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Uuid, Write::Key),
        Field::both("time", Kind::Time, Write::Value),
        Field::both("text", TEXT, Write::Value),
        Field::both("priority", Kind::Text(16), Write::Value),
        Field::both("done", Kind::Bool, Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Within("time", HOUR)],
        limit: 100,
        order: Some("-time"),
    }),
    set: Some(ADMINS),
};

/// With which software projects run.
pub(super) const COMPUTE_IMAGES: Table = Table {
    name: "compute_images",
    real: "compute_images",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Text(254), Write::Key),
        Field::both("src", NAME, Write::Value),
        Field::both("type", NAME, Write::Value),
        Field::both("display", NAME, Write::Value),
        Field::both("url", NAME, Write::Value),
        Field::both("desc", TEXT, Write::Value).column("descr"),
        Field::both("path", NAME, Write::Value),
        Field::both("disabled", Kind::Bool, Write::Value),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[],
        limit: 1_000,
        order: Some("id"),
    }),
    set: Some(ADMINS),
};

/// What the caller has asked of language models. Whoever wants it forgotten says when.
pub(super) const MODEL_LOG: Table = Table {
    name: "openai_chatgpt_log",
    real: "openai_chatgpt_log",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Uuid, Write::Key),
        Field::both("account_id", Kind::Uuid, Write::Account),
        Field::read("time", Kind::Time),
        Field::read("project_id", Kind::Uuid),
        Field::read("path", NAME),
        Field::read("system", TEXT),
        Field::read("input", TEXT),
        Field::read("history", OBJECT),
        Field::read("output", TEXT),
        Field::read("model", NAME),
        Field::read("tag", NAME),
        Field::read("prompt_tokens", Kind::Int),
        Field::read("total_tokens", Kind::Int),
        // What is used in an hour is counted here, so that nothing may leave sooner.
        Field::both("expire", Kind::Time, Write::NotBefore(HOUR)),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        limit: 500,
        order: Some("-time"),
    }),
    set: Some(Set {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        insert: false,
        delete: false,
        ..ADMINS
    }),
};

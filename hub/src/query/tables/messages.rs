//! Messages that the caller has. They are sent by `messages.send`.

use crate::query::rule::{Constant, Field, Get, Kind, Rows, Set, Table, Who, Write};

const FIELDS: &[Field] = &[
    Field::both("id", Kind::Int, Write::Key).column("message_id"),
    Field::both("account_id", Kind::Uuid, Write::Account),
    Field::read("sent", Kind::Time),
    Field::read("from_id", Kind::Uuid),
    Field::read("subject", Kind::Text(1_024)),
    Field::read("body", Kind::Text(256 << 10)),
    Field::read("thread_id", Kind::Int),
    Field::both("read", Kind::Bool, Write::Value),
    Field::both("saved", Kind::Bool, Write::Value),
    Field::both("starred", Kind::Bool, Write::Value),
    Field::both("liked", Kind::Bool, Write::Value),
    Field::both("deleted", Kind::Bool, Write::Value),
    Field::both("expire", Kind::Bool, Write::Value).column("expired"),
];

/// What one does with a message, and nothing of the message itself.
const FLAGS: Set = Set {
    who: Who::Account,
    rows: &[Rows::Own("account_id")],
    insert: false,
    update: true,
    delete: false,
    owner: false,
};

/// Those that the caller got.
pub(super) const MESSAGES: Table = Table {
    name: "messages",
    real: "message_recipients",
    view: Some("message_views"),
    key: &["message_id", "account_id"],
    fields: FIELDS,
    get: Some(Get {
        who: Who::Account,
        rows: &[
            Rows::Own("account_id"),
            Rows::Is("received", Constant::Bool(true)),
        ],
        limit: 500,
        order: Some("-id"),
    }),
    set: Some(FLAGS),
};

/// Those that the caller sent.
pub(super) const SENT: Table = Table {
    name: "sent_messages",
    real: "message_recipients",
    view: Some("message_views"),
    key: &["message_id", "account_id"],
    fields: FIELDS,
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Own("account_id"), Rows::Own("from_id")],
        limit: 500,
        order: Some("-id"),
    }),
    set: Some(FLAGS),
};

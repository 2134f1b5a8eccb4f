//! What the caller has paid and used, and licences.

use crate::query::rule::{Field, Get, Kind, Rows, Set, Table, Who, Write};

const NAME: Kind = Kind::Text(1_024);

const TEXT: Kind = Kind::Text(64 << 10);

const OBJECT: Kind = Kind::Json(256 << 10);

const fn own(column: &'static [Rows]) -> Get {
    Get {
        who: Who::Account,
        rows: column,
        limit: 1_000,
        order: None,
    }
}

/// What was paid and used, in millionths of a dollar.
pub(super) const PURCHASES: Table = Table {
    name: "purchases",
    real: "purchases",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Int),
        Field::read("time", Kind::Time),
        Field::read("account_id", Kind::Uuid),
        Field::read("cost", Kind::Int),
        Field::read("pending", Kind::Bool),
        Field::read("cost_per_hour", Kind::Int),
        Field::read("cost_so_far", Kind::Int),
        Field::read("period_start", Kind::Time),
        Field::read("period_end", Kind::Time),
        Field::read("invoice_id", NAME),
        Field::read("project_id", Kind::Uuid),
        Field::read("service", NAME),
        Field::read("description", OBJECT),
        Field::read("tag", NAME),
        Field::read("day_statement_id", Kind::Int),
        Field::read("month_statement_id", Kind::Int),
    ],
    get: Some(own(&[Rows::Own("account_id")])),
    set: None,
};

/// How much of what may be used in a month.
pub(super) const QUOTAS: Table = Table {
    name: "purchase_quotas",
    real: "purchase_quotas",
    view: None,
    key: &["account_id", "service"],
    fields: &[
        Field::read("account_id", Kind::Uuid),
        Field::read("service", NAME),
        Field::read("value", Kind::Int),
    ],
    get: Some(own(&[Rows::Own("account_id")])),
    set: None,
};

/// What was paid and used in a day or a month.
pub(super) const STATEMENTS: Table = Table {
    name: "statements",
    real: "statements",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Int),
        Field::read("interval", NAME).column("interval_"),
        Field::read("account_id", Kind::Uuid),
        Field::read("time", Kind::Time),
        Field::read("balance", Kind::Int),
        Field::read("total_charges", Kind::Int),
        Field::read("num_charges", Kind::Int),
        Field::read("total_credits", Kind::Int),
        Field::read("num_credits", Kind::Int),
        Field::read("paid_purchase_id", Kind::Int),
    ],
    get: Some(own(&[Rows::Own("account_id")])),
    set: None,
};

/// What is paid again and again.
pub(super) const SUBSCRIPTIONS: Table = Table {
    name: "subscriptions",
    real: "subscriptions",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Int),
        Field::read("account_id", Kind::Uuid),
        Field::read("created", Kind::Time),
        Field::read("cost", Kind::Int),
        Field::read("interval", NAME).column("interval_"),
        Field::read("current_period_start", Kind::Time),
        Field::read("current_period_end", Kind::Time),
        Field::read("latest_purchase_id", Kind::Int),
        Field::read("status", NAME),
        Field::read("canceled_at", Kind::Time),
        Field::read("metadata", OBJECT),
    ],
    get: Some(own(&[Rows::Own("account_id")])),
    set: None,
};

/// Vouchers that the caller has made.
pub(super) const VOUCHERS: Table = Table {
    name: "vouchers",
    real: "vouchers",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Int),
        Field::read("when_pay", NAME),
        Field::read("created_by", Kind::Uuid),
        Field::read("created", Kind::Time),
        Field::read("title", NAME),
        Field::read("active", Kind::Time),
        Field::read("expire", Kind::Time),
        Field::read("cancel_by", Kind::Time),
        Field::read("count", Kind::Int),
        Field::read("cost", Kind::Int),
        Field::read("tax", Kind::Int),
    ],
    get: Some(own(&[Rows::Own("created_by")])),
    set: None,
};

/// All licences, for administrators of the site.
pub(super) const LICENCES: Table = Table {
    name: "site_licenses",
    real: "site_licenses",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Uuid, Write::Key),
        Field::both("title", NAME, Write::Value),
        Field::both("description", TEXT, Write::Value),
        Field::both("info", OBJECT, Write::Value),
        Field::both("activates", Kind::Time, Write::Value),
        Field::both("expires", Kind::Time, Write::Value),
        Field::both("created", Kind::Time, Write::Created),
        Field::read("last_used", Kind::Time),
        Field::both("managers", OBJECT, Write::Value),
        Field::both("quota", OBJECT, Write::Value),
        Field::both("upgrades", OBJECT, Write::Value),
        Field::both("run_limit", Kind::Int, Write::Value),
    ],
    get: Some(Get {
        who: Who::Admin,
        ..own(&[])
    }),
    set: Some(Set {
        who: Who::Admin,
        rows: &[],
        insert: true,
        update: true,
        delete: true,
        owner: false,
    }),
};

/// Licences that the caller looks after.
pub(super) const LICENCES_MANAGED: Table = Table {
    name: "manager_site_licenses",
    real: "site_licenses",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Uuid, Write::Key),
        Field::both("title", NAME, Write::Value),
        Field::both("description", TEXT, Write::Value),
        Field::both("managers", OBJECT, Write::Value),
        Field::read("info", OBJECT),
        Field::read("activates", Kind::Time),
        Field::read("expires", Kind::Time),
        Field::read("created", Kind::Time),
        Field::read("last_used", Kind::Time),
        Field::read("quota", OBJECT),
        Field::read("upgrades", OBJECT),
        Field::read("run_limit", Kind::Int),
    ],
    get: Some(own(&[Rows::Listed("managers")])),
    set: Some(Set {
        who: Who::Account,
        rows: &[Rows::Listed("managers")],
        insert: false,
        update: true,
        delete: false,
        owner: false,
    }),
};

/// What everybody may know of a licence whose number they have.
pub(super) const LICENCES_PUBLIC: Table = Table {
    name: "site_license_public_info",
    real: "site_licenses",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Uuid),
        Field::read("title", NAME),
        Field::read("activates", Kind::Time),
        Field::read("expires", Kind::Time),
        Field::read("quota", OBJECT),
        Field::read("upgrades", OBJECT),
        Field::read("run_limit", Kind::Int),
    ],
    get: Some(own(&[Rows::Named("id")])),
    set: None,
};

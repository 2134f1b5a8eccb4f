//! People: oneself, and what others may know.

use crate::query::rule::{Constant, Derived, Field, Get, Kind, Rows, Set, Table, Who, Write};

const NAME: Kind = Kind::Text(254);

/// Most bytes of one of the settings of an account.
const SETTINGS: Kind = Kind::Json(256 << 10);

/// The caller's own account. What decides about rights (groups, bans, hashes of passwords) is not here.
pub(super) const ACCOUNTS: Table = Table {
    name: "accounts",
    real: "accounts",
    view: None,
    key: &["account_id"],
    fields: &[
        Field::both("account_id", Kind::Uuid, Write::Account),
        Field::read("email_address", NAME),
        Field::read("email_address_verified", SETTINGS),
        Field::read("email_address_problem", SETTINGS),
        Field::both("first_name", NAME, Write::Value),
        Field::both("last_name", NAME, Write::Value),
        Field::both("name", NAME, Write::Username),
        Field::read("org", NAME),
        Field::read("groups", SETTINGS),
        Field::both("unlisted", Kind::Bool, Write::Value),
        Field::both("profile", SETTINGS, Write::Merge),
        Field::both("editor_settings", SETTINGS, Write::Merge),
        Field::both("other_settings", SETTINGS, Write::Merge),
        Field::both("terminal", SETTINGS, Write::Merge),
        Field::both("autosave", Kind::Int, Write::Value),
        Field::both("font_size", Kind::Int, Write::Value),
        Field::both("evaluate_key", NAME, Write::Value),
        Field::both("ssh_keys", SETTINGS, Write::Merge),
        Field::both("tags", SETTINGS, Write::Value),
        Field::both("tours", SETTINGS, Write::Value),
        Field::both("sign_up_usage_intent", Kind::Text(1_024), Write::Value),
        Field::both("email_daily_statements", Kind::Bool, Write::Value),
        Field::read("created", Kind::Time),
        Field::read("last_active", Kind::Time),
        Field::read("ephemeral", Kind::Int),
        Field::read("customize", SETTINGS),
        Field::read("balance", Kind::Int),
        Field::read("min_balance", Kind::Int),
        Field::read("unread_message_count", Kind::Int),
        Field::read("passports", Kind::Derived(Derived::AccountPassports)),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        limit: 1,
        order: None,
    }),
    set: Some(Set {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        insert: false,
        update: true,
        delete: false,
        owner: false,
    }),
};

/// Pictures of people, by their identifiers.
pub(super) const PROFILES: Table = Table {
    name: "account_profiles",
    real: "accounts",
    view: None,
    key: &["account_id"],
    fields: &[
        Field::read("account_id", Kind::Uuid),
        Field::read("profile", SETTINGS),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[
            Rows::Named("account_id"),
            Rows::Is("deleted", Constant::Bool(false)),
        ],
        limit: 100,
        order: None,
    }),
    set: None,
};

/// Those with whom one shares a project.
pub(super) const COLLABORATORS: Table = Table {
    name: "collaborators",
    real: "accounts",
    view: None,
    key: &["account_id"],
    fields: &[
        Field::read("account_id", Kind::Uuid),
        Field::read("first_name", NAME),
        Field::read("last_name", NAME),
        Field::read("name", NAME),
        Field::read("last_active", Kind::Time),
        Field::read("profile", SETTINGS),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[
            Rows::SharesProject("account_id"),
            Rows::Is("deleted", Constant::Bool(false)),
        ],
        limit: 1_000,
        order: None,
    }),
    set: None,
};

/// Those who are in a project of the caller's.
pub(super) const COLLABORATORS_ONE_PROJECT: Table = Table {
    name: "collaborators_one_project",
    real: "project_members",
    view: Some("project_collaborators"),
    key: &["project_id", "account_id"],
    fields: &[
        Field::read("project_id", Kind::Uuid),
        Field::read("account_id", Kind::Uuid),
        Field::read("group", NAME).column("grp"),
        Field::read("first_name", NAME),
        Field::read("last_name", NAME),
        Field::read("name", NAME),
        Field::read("last_active", Kind::Time),
        Field::read("profile", SETTINGS),
    ],
    get: Some(Get {
        who: Who::AccountOrProject,
        rows: &[Rows::Named("project_id"), Rows::Member("project_id")],
        limit: 1_000,
        order: None,
    }),
    set: None,
};

/// The organization that the caller is in. It is changed by functions that know who may.
pub(super) const ORGANIZATIONS: Table = Table {
    name: "organizations",
    real: "organizations",
    view: Some("organization_views"),
    key: &["organization_id"],
    fields: &[
        Field::read("organization_id", Kind::Uuid),
        Field::read("name", NAME),
        Field::read("title", Kind::Text(1_024)),
        Field::read("description", Kind::Text(256 << 10)),
        Field::read("link", Kind::Text(1_024)),
        Field::read("email_address", NAME),
        Field::read("profile", SETTINGS),
        Field::read("created", Kind::Time),
        Field::read("is_admin", Kind::Bool),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Own("account_id")],
        limit: 10,
        order: Some("name"),
    }),
    set: None,
};

/// Most bytes of a list of accounts.
const ACCOUNTS_OF_GROUP: Kind = Kind::Json(64 << 10);

/// Groups that the caller looks after.
pub(super) const GROUPS: Table = Table {
    name: "groups",
    real: "account_groups",
    view: None,
    key: &["group_id"],
    fields: &[
        Field::both("group_id", Kind::Uuid, Write::Key),
        Field::both("owner_account_ids", ACCOUNTS_OF_GROUP, Write::Value),
        Field::both("member_account_ids", ACCOUNTS_OF_GROUP, Write::Value),
        Field::read("billing_account_id", Kind::Uuid),
        Field::both("title", NAME, Write::Value),
        Field::both("color", Kind::Text(64), Write::Value),
    ],
    get: Some(Get {
        who: Who::Account,
        rows: &[Rows::Listed("owner_account_ids")],
        limit: 1_000,
        order: Some("title"),
    }),
    set: Some(Set {
        who: Who::Account,
        rows: &[Rows::Listed("owner_account_ids")],
        insert: false,
        update: true,
        delete: true,
        owner: false,
    }),
};

/// A new group, which whoever makes it looks after.
pub(super) const CREATE_GROUP: Table = Table {
    name: "create_group",
    real: "account_groups",
    view: None,
    key: &["group_id"],
    fields: &[
        Field::both("group_id", Kind::Uuid, Write::Key),
        Field::both("owner_account_ids", ACCOUNTS_OF_GROUP, Write::Maker),
        Field::both("title", NAME, Write::Value),
        Field::both("color", Kind::Text(64), Write::Value),
    ],
    get: None,
    set: Some(Set {
        who: Who::Account,
        rows: &[],
        insert: true,
        update: false,
        delete: false,
        owner: false,
    }),
};

//! The site, for its administrators.

use crate::query::rule::{Constant, Field, Get, Kind, Rows, Set, Table, Who, Write};

/// Settings that no query reads or writes: whoever has one of them is the site, or spends its money.
pub(super) const SECRETS: &[&str] = &[
    "conat_password",
    "openai_api_key",
    "google_vertexai_key",
    "mistral_api_key",
    "anthropic_api_key",
    "xai_api_key",
    "zai_api_key",
    "ollama_configuration",
    "custom_openai_configuration",
    "jupyter_gateway_token",
    "salesloft_api_key",
    "stripe_secret_key",
    "stripe_webhook_secret",
    "re_captcha_v3_secret_key",
    "zendesk_token",
    "github_token",
    "sendgrid_key",
    "email_smtp_password",
    "password_reset_smtp_password",
    "hyperstack_api_key",
    "google_cloud_service_account_json",
    "google_cloud_bigquery_billing_service_account_json",
    "compute_servers_cloudflare_api_key",
];

const ADMINS: Set = Set {
    who: Who::Admin,
    rows: &[],
    insert: true,
    update: true,
    delete: true,
    owner: false,
};

/// The settings of the site. Those of the environment are not changed here.
pub(super) const SETTINGS: Table = Table {
    name: "site_settings",
    real: "server_settings",
    view: None,
    key: &["name"],
    fields: &[
        Field::both("name", Kind::Text(128), Write::Key),
        Field::both("value", Kind::Text(256 << 10), Write::Setting),
        Field::read("readonly", Kind::Bool),
    ],
    get: Some(Get {
        who: Who::Admin,
        rows: &[Rows::NoneOf("name", SECRETS)],
        limit: 1_000,
        order: Some("name"),
    }),
    set: Some(Set {
        rows: &[
            Rows::NoneOf("name", SECRETS),
            Rows::Is("readonly", Constant::Bool(false)),
        ],
        ..ADMINS
    }),
};

/// Tokens with which one may sign up.
pub(super) const REGISTRATION_TOKENS: Table = Table {
    name: "registration_tokens",
    real: "registration_tokens",
    view: None,
    key: &["token"],
    fields: &[
        Field::both("token", Kind::Text(256), Write::Key),
        Field::both("descr", Kind::Text(1_024), Write::Value),
        Field::read("counter", Kind::Int),
        Field::both("limit", Kind::Int, Write::Value).column("limit_"),
        Field::both("expires", Kind::Time, Write::Value),
        Field::both("disabled", Kind::Bool, Write::Value),
        Field::both("ephemeral", Kind::Int, Write::Value),
        Field::both("customize", Kind::Json(16 << 10), Write::Value),
    ],
    get: Some(Get {
        who: Who::Admin,
        rows: &[],
        limit: 1_000,
        order: Some("token"),
    }),
    set: Some(ADMINS),
};

/// What happened on the site. Browsers note what they saw; nobody changes what was noted.
pub(super) const CENTRAL_LOG: Table = Table {
    name: "central_log",
    real: "central_log",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Uuid, Write::Key),
        Field::both("event", Kind::Text(128), Write::Prefixed("webapp-")),
        Field::both("value", Kind::Json(64 << 10), Write::Value),
        Field::both("time", Kind::Time, Write::Now),
    ],
    get: Some(Get {
        who: Who::Admin,
        rows: &[],
        limit: 1_000,
        order: Some("-time"),
    }),
    set: Some(Set {
        who: Who::Account,
        update: false,
        delete: false,
        ..ADMINS
    }),
};

const NAME: Kind = Kind::Text(1_024);

const VALUE: Kind = Kind::Json(256 << 10);

/// For administrators, the last first.
const LATEST: Get = Get {
    who: Who::Admin,
    rows: &[],
    limit: 1_000,
    order: Some("-time"),
};

/// Errors of clients' programs.
pub(super) const CLIENT_ERROR_LOG: Table = Table {
    name: "client_error_log",
    real: "client_error_log",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Uuid),
        Field::read("time", Kind::Time),
        Field::read("event", NAME),
        Field::read("error", Kind::Text(256 << 10)),
        Field::read("account_id", Kind::Uuid),
        Field::read("project_id", Kind::Uuid),
        Field::read("expire", Kind::Time),
    ],
    get: Some(LATEST),
    set: None,
};

/// Errors of browsers.
pub(super) const WEBAPP_ERRORS: Table = Table {
    name: "webapp_errors",
    real: "webapp_errors",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Uuid),
        Field::read("time", Kind::Time),
        Field::read("name", NAME),
        Field::read("value", VALUE),
        Field::read("account_id", Kind::Uuid),
        Field::read("project_id", Kind::Uuid),
        Field::read("expire", Kind::Time),
    ],
    get: Some(LATEST),
    set: None,
};

/// What people did, where the site wants to know it.
pub(super) const USER_TRACKING: Table = Table {
    name: "user_tracking",
    real: "user_tracking",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Uuid),
        Field::read("account_id", Kind::Uuid),
        Field::read("time", Kind::Time),
        Field::read("event", NAME),
        Field::read("value", VALUE),
        Field::read("expire", Kind::Time),
    ],
    get: Some(LATEST),
    set: None,
};

/// From where people came.
pub(super) const ANALYTICS: Table = Table {
    name: "analytics",
    real: "analytics",
    view: None,
    key: &["token"],
    fields: &[
        Field::read("token", Kind::Uuid),
        Field::read("data", VALUE),
        Field::read("data_time", Kind::Time),
        Field::read("account_id", Kind::Uuid),
        Field::read("account_id_time", Kind::Time),
        Field::read("expire", Kind::Time),
    ],
    get: Some(Get {
        order: Some("-data_time"),
        ..LATEST
    }),
    set: None,
};

/// Who opened which file.
pub(super) const FILE_ACCESS_LOG: Table = Table {
    name: "file_access_log",
    real: "file_access_log",
    view: None,
    key: &["id"],
    fields: &[
        Field::read("id", Kind::Uuid),
        Field::read("project_id", Kind::Uuid),
        Field::read("account_id", Kind::Uuid),
        Field::read("filename", Kind::Text(4_096)),
        Field::read("time", Kind::Time),
        Field::read("expire", Kind::Time),
    ],
    get: Some(LATEST),
    set: None,
};

/// How the site looks under other names.
pub(super) const WHITELABELING: Table = Table {
    name: "whitelabeling",
    real: "whitelabeling",
    view: None,
    key: &["id"],
    fields: &[
        Field::both("id", Kind::Text(254), Write::Key),
        Field::both("theme", VALUE, Write::Value),
        Field::both("settings", VALUE, Write::Value),
    ],
    get: Some(Get {
        order: Some("id"),
        ..LATEST
    }),
    set: Some(ADMINS),
};

/// Other ways of signing in. Their secrets are written here and never read.
pub(super) const PASSPORT_SETTINGS: Table = Table {
    name: "passport_settings",
    real: "passport_settings",
    view: None,
    key: &["strategy"],
    fields: &[
        Field::both("strategy", Kind::Text(80), Write::Key),
        Field::hidden("conf", VALUE),
        Field::both("info", VALUE, Write::Value),
    ],
    get: Some(Get {
        order: Some("strategy"),
        ..LATEST
    }),
    set: Some(ADMINS),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{self, Kind as Setting};

    #[test]
    fn every_secret_setting_is_kept_from_queries() {
        for definition in settings::definitions() {
            let is_secret = definition.kind == Setting::Secret;
            assert!(
                !is_secret || SECRETS.contains(&definition.name),
                "{}",
                definition.name
            );
            assert!(
                !definition.public || !SECRETS.contains(&definition.name),
                "{}",
                definition.name
            );
        }
    }
}

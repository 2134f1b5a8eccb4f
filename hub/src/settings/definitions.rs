//! The settings that there are: their names, defaults and values. Names and defaults are those that clients of CoCalc
//! know.

use super::{Definition, Kind};

const YES: &str = "yes";
const NO: &str = "no";

const fn public(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition {
        name,
        kind,
        default,
        public: true,
    }
}

const fn private(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition {
        name,
        kind,
        default,
        public: false,
    }
}

const fn text(name: &'static str, default: &'static str) -> Definition {
    public(name, Kind::Text, default)
}

const fn flag(name: &'static str, default: &'static str) -> Definition {
    public(name, Kind::YesNo, default)
}

const fn count(name: &'static str, max: i64, default: &'static str) -> Definition {
    public(name, Kind::Integer { min: 0, max }, default)
}

const fn secret(name: &'static str) -> Definition {
    private(name, Kind::Secret, "")
}

const fn private_text(name: &'static str, default: &'static str) -> Definition {
    private(name, Kind::Text, default)
}

const MAX: i64 = i32::MAX as i64;

/// All of them.
pub(super) const ALL: &[Definition] = &[
    // What the site is called and how it looks.
    text("dns", ""),
    flag("theming", YES),
    text("site_name", "Dialtone"),
    text("site_description", "Collaborative computing"),
    public("help_email", Kind::Email, ""),
    text("terms_of_service_url", ""),
    text("terms_of_service", ""),
    text("organization_name", ""),
    public("organization_email", Kind::Email, ""),
    text("organization_url", ""),
    text("logo_square", ""),
    text("logo_rectangular", ""),
    text("splash_image", ""),
    text("index_info_html", ""),
    text("index_tagline", ""),
    text("imprint", ""),
    text("policies", ""),
    text("support", ""),
    text("support_video_call", ""),
    flag("cookie_banner_enabled", NO),
    text("cookie_banner_text", ""),
    public("i18n", Kind::List, ""),
    flag("landing_pages", NO),
    text("google_analytics", ""),
    public("iframe_comm_hosts", Kind::List, ""),
    // Who may come in.
    text("account_creation_email_instructions", "Create an account"),
    flag("account_creation_redirect_enabled", NO),
    text("account_creation_redirect_message", ""),
    text("account_creation_redirect_url", ""),
    text("account_creation_redirect_link_text", ""),
    flag("account_creation_redirect_allow_legacy", YES),
    text("account_creation_redirect_legacy_button_text", ""),
    flag("sign_in_banner_enabled", NO),
    text("sign_in_banner_message", ""),
    text("sign_in_banner_url", ""),
    text("sign_in_banner_link_text", ""),
    flag("email_enabled", NO),
    flag("verify_emails", NO),
    flag("email_signup", YES),
    flag("anonymous_signup", NO),
    flag("anonymous_signup_licensed_shares", NO),
    flag("strict_collaborator_management", NO),
    public(
        "samesite_remember_me",
        Kind::OneOf(&["strict", "lax", "none"]),
        "strict",
    ),
    flag("insecure_test_mode", NO),
    flag("user_tracking", NO),
    // Which clients are new enough.
    count("version_min_project", MAX, "0"),
    count("version_min_compute_server", MAX, "0"),
    count("version_min_browser", MAX, "0"),
    count("version_recommended_browser", MAX, "0"),
    count("version_compute_server_min_project", MAX, "0"),
    // Projects and their limits.
    flag("disable_project_creation", NO),
    flag("commercial", NO),
    count("max_trial_projects", MAX, "0"),
    public("nonfree_countries", Kind::List, ""),
    count("limit_free_project_uptime", MAX, "0"),
    flag("require_license_to_create_project", NO),
    count("unlicensed_project_collaborator_limit", MAX, "0"),
    count("unlicensed_project_timetravel_limit", MAX, "0"),
    flag("datastore", YES),
    public("default_quotas", Kind::Json, "{}"),
    public("max_upgrades", Kind::Json, "{}"),
    flag("ssh_gateway", NO),
    text("ssh_gateway_dns", ""),
    text("ssh_gateway_fingerprint", ""),
    flag("share_server", NO),
    flag("sandbox_projects_enabled", NO),
    text("sandbox_project_id", ""),
    count("new_project_pool", 1000, "0"),
    flag("jupyter_api_enabled", NO),
    flag("compute_servers_enabled", NO),
    flag("cloud_filesystems_enabled", NO),
    // Language models.
    flag("openai_enabled", NO),
    flag("google_vertexai_enabled", NO),
    flag("mistral_enabled", NO),
    flag("anthropic_enabled", NO),
    flag("ollama_enabled", NO),
    flag("custom_openai_enabled", NO),
    flag("xai_enabled", NO),
    flag("zai_enabled", NO),
    public("selectable_llms", Kind::List, ""),
    text("default_llm", ""),
    flag("user_defined_llm", NO),
    count("llm_default_quota", MAX, "10"),
    flag("neural_search_enabled", NO),
    // What only administrators see.
    private_text("conat_server", ""),
    secret("conat_password"),
    private("pii_retention", Kind::Text, "never"),
    private("analytics_cookie", Kind::YesNo, NO),
    private("prometheus_metrics", Kind::YesNo, NO),
    secret("openai_api_key"),
    secret("google_vertexai_key"),
    secret("mistral_api_key"),
    secret("anthropic_api_key"),
    secret("xai_api_key"),
    secret("zai_api_key"),
    private("ollama_configuration", Kind::Json, "{}"),
    private("custom_openai_configuration", Kind::Json, "{}"),
    private_text("jupyter_account_id", ""),
    private_text("jupyter_gateway_url", ""),
    secret("jupyter_gateway_token"),
    private(
        "jupyter_project_pool_size",
        Kind::Integer { min: 0, max: 1000 },
        "3",
    ),
    private_text("re_captcha_v3_publishable_key", ""),
    secret("re_captcha_v3_secret_key"),
    private(
        "email_backend",
        Kind::OneOf(&["", "none", "smtp", "file"]),
        "",
    ),
    private_text("email_smtp_server", ""),
    private("email_smtp_from", Kind::Email, ""),
    private_text("email_smtp_login", ""),
    secret("email_smtp_password"),
    private(
        "email_smtp_port",
        Kind::Integer {
            min: 1,
            max: 65_535,
        },
        "465",
    ),
    private("email_smtp_secure", Kind::TrueFalse, "true"),
    private(
        "email_smtp_tls",
        Kind::OneOf(&["", "implicit", "starttls", "opportunistic", "none"]),
        "",
    ),
    private_text("email_smtp_certificates", ""),
    private(
        "password_reset_override",
        Kind::OneOf(&["default", "smtp"]),
        "default",
    ),
    private_text("password_reset_smtp_server", ""),
    private("password_reset_smtp_from", Kind::Email, ""),
    private_text("password_reset_smtp_login", ""),
    secret("password_reset_smtp_password"),
    private(
        "password_reset_smtp_port",
        Kind::Integer {
            min: 1,
            max: 65_535,
        },
        "465",
    ),
    private("password_reset_smtp_secure", Kind::TrueFalse, "true"),
    private(
        "password_reset_smtp_tls",
        Kind::OneOf(&["", "implicit", "starttls", "opportunistic", "none"]),
        "",
    ),
    private_text("password_reset_smtp_certificates", ""),
    private_text("support_account_id", ""),
];

//! `system`: the site itself, and accounts.

use crate::api::function::Wrapper::{AuthFirst, NoAuth, RequireAccount};
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, IDS_MAX, Shape, TEXT_LEN_MAX, TITLE_LEN_MAX};
use crate::auth::token::TOKEN_LEN_MAX;

/// Longest name of an event, as in the original.
const EVENT_LEN_MAX: usize = 80;

/// Most bytes of what belongs to an event.
const VALUE_LEN_MAX: usize = 64 << 10;

const OPTIONS: &str = "options";

const NOTHING: &[Field] = &[Field::optional(OPTIONS, Shape::Object(&[]))];

const USER: &[Field] = &[Field::required(
    OPTIONS,
    Shape::Object(&[Field::required("user_account_id", Shape::Id)]),
)];

const WEBAPP_ERROR: Shape = Shape::Object(&[
    Field::optional("name", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("message", Shape::Text(TEXT_LEN_MAX)),
    Field::optional("comment", Shape::Text(TEXT_LEN_MAX)),
    Field::optional("stacktrace", Shape::Text(TEXT_LEN_MAX)),
    Field::optional("file", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("path", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("lineNumber", Shape::Int(0, 1 << 31)),
    Field::optional("columnNumber", Shape::Int(0, 1 << 31)),
    Field::optional("severity", Shape::Text(EVENT_LEN_MAX)),
    Field::optional("browser", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("mobile", Shape::Bool),
    Field::optional("responsive", Shape::Bool),
    Field::optional("user_agent", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("smc_version", Shape::Text(EVENT_LEN_MAX)),
    Field::optional("build_date", Shape::Text(EVENT_LEN_MAX)),
    Field::optional("smc_git_rev", Shape::Text(EVENT_LEN_MAX)),
    Field::optional("uptime", Shape::Text(EVENT_LEN_MAX)),
    Field::optional("start_time", Shape::Time),
]);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "system.describe",
        NoAuth,
        &[Field::optional("name", Shape::Text(TITLE_LEN_MAX))],
        &[],
        "Lists the functions with their arguments, or describes one of them.",
    ),
    Function::new(
        "system.getCustomize",
        NoAuth,
        &[Field::optional(
            "fields",
            Shape::List(&Shape::Text(EVENT_LEN_MAX), 256),
        )],
        &[],
        "Returns the public settings of the site, or those that are named.",
    ),
    Function::new(
        "system.ping",
        NoAuth,
        &[],
        &[],
        "Returns the time of the hub.",
    ),
    Function::new(
        "system.test",
        AuthFirst,
        NOTHING,
        &[],
        "Says who the caller is, by which a key is tested.",
    ),
    Function::new(
        "system.terminate",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[Field::required(
                "service",
                Shape::OneOf(&["changefeeds", "persist", "api"]),
            )]),
        )],
        &[Rule::Account, Rule::Admin],
        "Ends a service of the hub that gets the call.",
    ),
    Function::new(
        "system.userTracking",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("event", Shape::Text(EVENT_LEN_MAX)),
                Field::optional("value", Shape::Any(VALUE_LEN_MAX)),
            ]),
        )],
        &[Rule::Account],
        "Notes something that the caller did, where the site wants to know it.",
    ),
    Function::new(
        "system.logClientError",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("event", Shape::Text(EVENT_LEN_MAX)),
                Field::required("error", Shape::Text(TEXT_LEN_MAX)),
            ]),
        )],
        &[],
        "Notes an error of the caller's program.",
    ),
    Function::new(
        "system.webappError",
        AuthFirst,
        &[Field::required(OPTIONS, WEBAPP_ERROR)],
        &[],
        "Notes an error of the caller's browser.",
    ),
    Function::new(
        "system.manageApiKeys",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("action", Shape::OneOf(&["get", "create", "delete", "edit"])),
                Field::optional("project_id", Shape::Id),
                Field::optional("name", Shape::Text(crate::auth::api_key::NAME_LEN_MAX)),
                Field::optional("expire", Shape::Time),
                Field::optional("id", Shape::Int(0, (1 << 31) - 1)),
            ]),
        )],
        &[Rule::Account, Rule::Member("project_id")],
        "Lists, makes, changes or deletes keys of the caller's account or of a project.",
    ),
    Function::new(
        "system.generateUserAuthToken",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("user_account_id", Shape::Id),
                Field::optional(
                    "password",
                    Shape::Text(crate::auth::password::PASSWORD_LEN_MAX),
                ),
            ]),
        )],
        &[Rule::Account],
        "Makes a token with which one signs in as an account once: for administrators, or with its password.",
    ),
    Function::new(
        "system.revokeUserAuthToken",
        NoAuth,
        &[Field::required("authToken", Shape::Text(TOKEN_LEN_MAX))],
        &[],
        "Ends a token; whoever has it may.",
    ),
    Function::new(
        "system.userSearch",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("query", Shape::Text(TITLE_LEN_MAX)),
                Field::optional("limit", Shape::Int(1, 2_500)),
                Field::optional("admin", Shape::Bool),
                Field::optional("only_email", Shape::Bool),
            ]),
        )],
        &[Rule::Account, Rule::AdminIf("admin")],
        "Finds accounts by name, address or identifier.",
    ),
    Function::new(
        "system.getNames",
        RequireAccount,
        &[Field::required(
            "account_ids",
            Shape::List(&Shape::Id, IDS_MAX),
        )],
        &[],
        "Returns names and pictures of accounts.",
    ),
    Function::new(
        "system.adminResetPasswordLink",
        AuthFirst,
        USER,
        &[Rule::Account, Rule::Admin],
        "Makes a link with which the owner of an account sets a new password.",
    ),
    Function::new(
        "system.sendEmailVerification",
        AuthFirst,
        &[Field::optional(
            OPTIONS,
            Shape::Object(&[Field::optional("only_verify", Shape::Bool)]),
        )],
        &[Rule::Account],
        "Sends the letter that verifies the caller's address.",
    ),
    Function::new(
        "system.deletePassport",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("strategy", Shape::Text(EVENT_LEN_MAX)),
                Field::required("id", Shape::Text(TITLE_LEN_MAX)),
            ]),
        )],
        &[Rule::Account],
        "Unlinks another way of signing in from the caller's account.",
    ),
    Function::new(
        "system.adminSalesloftSync",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[Field::required(
                "account_ids",
                Shape::List(&Shape::Id, IDS_MAX),
            )]),
        )],
        &[Rule::Account, Rule::Admin],
        "Sends what is known of accounts to the site's customer management.",
    ),
    Function::new(
        "system.userSalesloftSync",
        AuthFirst,
        NOTHING,
        &[Rule::Account],
        "Sends what is known of the caller's account to the site's customer management.",
    ),
];

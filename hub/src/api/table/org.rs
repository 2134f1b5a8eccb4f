//! `org`: organizations. Their administrators are known by name, so that handlers decide where that is what matters.

use crate::api::function::Wrapper::AuthFirst;
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, Shape, TEXT_LEN_MAX, TITLE_LEN_MAX};
use crate::auth::password::PASSWORD_LEN_MAX;
use crate::auth::token::TOKEN_LEN_MAX;

/// Longest name of an organization, as in the original.
const NAME_LEN_MAX: usize = 39;

const OPTIONS: &str = "options";

const NAME: Field = Field::required("name", Shape::Text(NAME_LEN_MAX));

const USER: Field = Field::required("user", Shape::IdOrEmail);

const BY_NAME: &[Field] = &[Field::required(OPTIONS, Shape::Object(&[NAME]))];

const BY_NAME_AND_USER: &[Field] = &[Field::required(OPTIONS, Shape::Object(&[NAME, USER]))];

const ACCOUNT: &[Rule] = &[Rule::Account];

const ADMIN: &[Rule] = &[Rule::Account, Rule::Admin];

const SET: Shape = Shape::Object(&[
    NAME,
    Field::optional("title", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("description", Shape::Text(TEXT_LEN_MAX)),
    Field::optional("link", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("email_address", Shape::Text(254)),
]);

const CREATE_USER: Shape = Shape::Object(&[
    NAME,
    Field::required("email", Shape::Text(254)),
    Field::required("firstName", Shape::Text(TITLE_LEN_MAX)),
    Field::required("lastName", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("password", Shape::Text(PASSWORD_LEN_MAX)),
]);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "org.getAll",
        AuthFirst,
        &[Field::optional(OPTIONS, Shape::Object(&[]))],
        ADMIN,
        "Lists all organizations.",
    ),
    Function::new(
        "org.create",
        AuthFirst,
        BY_NAME,
        ADMIN,
        "Makes an organization, and returns its identifier.",
    ),
    Function::new(
        "org.get",
        AuthFirst,
        BY_NAME,
        ACCOUNT,
        "Returns what is known of an organization; for its administrators.",
    ),
    Function::new(
        "org.set",
        AuthFirst,
        &[Field::required(OPTIONS, SET)],
        ACCOUNT,
        "Changes what is known of an organization; for its administrators.",
    ),
    Function::new(
        "org.addAdmin",
        AuthFirst,
        BY_NAME_AND_USER,
        ADMIN,
        "Makes an account an administrator of an organization.",
    ),
    Function::new(
        "org.addUser",
        AuthFirst,
        BY_NAME_AND_USER,
        ADMIN,
        "Makes an account a member of an organization.",
    ),
    Function::new(
        "org.createUser",
        AuthFirst,
        &[Field::required(OPTIONS, CREATE_USER)],
        ACCOUNT,
        "Makes an account in an organization; for its administrators.",
    ),
    Function::new(
        "org.removeUser",
        AuthFirst,
        BY_NAME_AND_USER,
        ACCOUNT,
        "Removes a member from an organization; for its administrators.",
    ),
    Function::new(
        "org.removeAdmin",
        AuthFirst,
        BY_NAME_AND_USER,
        ACCOUNT,
        "Makes an administrator of an organization a member; for its administrators.",
    ),
    Function::new(
        "org.createToken",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[USER, Field::optional("expire", Shape::Time)]),
        )],
        ACCOUNT,
        "Makes a token with which one signs in as a member once; for administrators of the member's organization.",
    ),
    Function::new(
        "org.expireToken",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[Field::required("token", Shape::Text(TOKEN_LEN_MAX))]),
        )],
        ACCOUNT,
        "Ends a token; whoever has it may.",
    ),
    Function::new(
        "org.getUsers",
        AuthFirst,
        BY_NAME,
        ACCOUNT,
        "Lists the members of an organization; for its administrators.",
    ),
    Function::new(
        "org.message",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                NAME,
                Field::required("subject", Shape::Text(TITLE_LEN_MAX)),
                Field::required("body", Shape::Text(TEXT_LEN_MAX)),
            ]),
        )],
        ACCOUNT,
        "Writes to all members of an organization; for its administrators.",
    ),
];

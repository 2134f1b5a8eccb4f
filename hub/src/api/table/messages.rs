//! `messages`: letters between accounts.

use crate::api::function::Wrapper::AuthFirst;
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, Shape, TEXT_LEN_MAX, TITLE_LEN_MAX};

/// Most receivers of a message.
const RECEIVERS_MAX: usize = 100;

const OPTIONS: &str = "options";

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "messages.send",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("to_ids", Shape::List(&Shape::IdOrEmail, RECEIVERS_MAX)),
                Field::required("subject", Shape::Text(TITLE_LEN_MAX)),
                Field::required("body", Shape::Text(TEXT_LEN_MAX)),
                Field::optional("reply_id", Shape::Int(0, 1 << 53)),
            ]),
        )],
        &[Rule::Account],
        "Sends a message, and returns its number.",
    ),
    Function::new(
        "messages.get",
        AuthFirst,
        &[Field::optional(
            OPTIONS,
            Shape::Object(&[
                Field::optional(
                    "type",
                    Shape::OneOf(&["received", "sent", "new", "starred"]),
                ),
                Field::optional("limit", Shape::Int(1, 500)),
                Field::optional("offset", Shape::Int(0, 1 << 31)),
                Field::optional("cutoff", Shape::Time),
            ]),
        )],
        &[Rule::Account],
        "Lists messages of the caller.",
    ),
];

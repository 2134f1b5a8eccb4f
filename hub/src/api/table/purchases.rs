//! `purchases`: what the caller has to spend.

use crate::api::function::Wrapper::AuthFirst;
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, Shape};

const NOTHING: &[Field] = &[Field::optional("options", Shape::Object(&[]))];

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "purchases.getBalance",
        AuthFirst,
        NOTHING,
        &[Rule::Account],
        "Returns what the caller's account has left, in dollars.",
    ),
    Function::new(
        "purchases.getMinBalance",
        AuthFirst,
        NOTHING,
        &[Rule::Account],
        "Returns how far below nothing that may go, in dollars.",
    ),
];

//! `jupyter`: running pieces of code that leave nothing behind.

use crate::api::function::Wrapper::AuthFirst;
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, PATH_LEN_MAX, Shape, TEXT_LEN_MAX, TITLE_LEN_MAX};

const OPTIONS: &str = "options";

const EXECUTE: Shape = Shape::Object(&[
    Field::optional("input", Shape::Text(TEXT_LEN_MAX)),
    Field::optional("kernel", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("history", Shape::List(&Shape::Text(TEXT_LEN_MAX), 1_000)),
    Field::optional("hash", Shape::Text(64)),
    Field::optional("tag", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("project_id", Shape::Id),
    Field::optional("path", Shape::Text(PATH_LEN_MAX)),
    Field::optional("noCache", Shape::Bool),
]);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "jupyter.kernels",
        AuthFirst,
        &[Field::optional(
            OPTIONS,
            Shape::Object(&[Field::optional("project_id", Shape::Id)]),
        )],
        &[Rule::Member("project_id")],
        "Lists the kernels of a project, or of the public pool.",
    ),
    Function::new(
        "jupyter.execute",
        AuthFirst,
        &[Field::required(OPTIONS, EXECUTE)],
        &[Rule::Member("project_id")],
        "Runs code after some other code, and returns its output.",
    ),
];

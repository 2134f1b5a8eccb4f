//! `sync`: documents that several people edit.

use crate::api::function::Wrapper::AuthFirst;
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, PATH_LEN_MAX, Shape};

pub(super) const FUNCTIONS: &[Function] = &[Function::new(
    "sync.history",
    AuthFirst,
    &[Field::required(
        "options",
        Shape::Object(&[
            Field::required("project_id", Shape::Id),
            Field::required("path", Shape::Text(PATH_LEN_MAX)),
            Field::optional("start_seq", Shape::Int(0, 1 << 53)),
            Field::optional("end_seq", Shape::Int(0, 1 << 53)),
        ]),
    )],
    &[Rule::Account, Rule::Member("project_id")],
    "Returns the changes of a document of a project of the caller.",
)];

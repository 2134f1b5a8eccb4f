//! `db`: queries, and what is noted about the use of files.

use crate::api::function::Wrapper::{AuthFirst, RequireAccount};
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, IDS_MAX, PATH_LEN_MAX, Shape};
use crate::query::{OPTIONS_LEN_MAX, QUERY_LEN_MAX};

const OPTIONS: &str = "options";

const FILE_USE_TIMES: Shape = Shape::Object(&[
    Field::required("project_id", Shape::Id),
    Field::required("path", Shape::Text(PATH_LEN_MAX)),
    Field::optional("target_account_id", Shape::Id),
    Field::optional("limit", Shape::Int(1, 10_000)),
    Field::optional("access_times", Shape::Bool),
    Field::optional("edit_times", Shape::Bool),
]);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "db.userQuery",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("query", Shape::Any(QUERY_LEN_MAX)),
                Field::optional("options", Shape::Any(OPTIONS_LEN_MAX)),
            ]),
        )],
        &[],
        "Reads or writes rows, as far as the rules of each table let the caller.",
    ),
    Function::new(
        "db.touch",
        AuthFirst,
        &[Field::optional(
            OPTIONS,
            Shape::Object(&[
                Field::optional("project_id", Shape::Id),
                Field::optional("path", Shape::Text(PATH_LEN_MAX)),
                Field::optional(
                    "action",
                    Shape::OneOf(&[
                        "edit", "read", "open", "seen", "chat", "chatseen", "syncdoc", "close",
                    ]),
                ),
            ]),
        )],
        &[Rule::Account, Rule::Member("project_id")],
        "Notes that the caller, a project or a file is active.",
    ),
    Function::new(
        "db.getLegacyTimeTravelInfo",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[
                Field::required("project_id", Shape::Id),
                Field::required("path", Shape::Text(PATH_LEN_MAX)),
            ]),
        )],
        &[Rule::Account, Rule::Member("project_id")],
        "Returns where the history of a file from before streams is kept.",
    ),
    Function::new(
        "db.getLegacyTimeTravelPatches",
        AuthFirst,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[Field::required("uuid", Shape::Id)]),
        )],
        &[Rule::Account],
        "Returns such a history; whoever knows its identifier may read it.",
    ),
    Function::new(
        "db.fileUseTimes",
        AuthFirst,
        &[Field::required(OPTIONS, FILE_USE_TIMES)],
        &[Rule::Account, Rule::Member("project_id")],
        "Returns when somebody used a file of a project of the caller.",
    ),
    Function::new(
        "db.removeBlobTtls",
        RequireAccount,
        &[Field::required(
            OPTIONS,
            Shape::Object(&[Field::required("uuids", Shape::List(&Shape::Id, IDS_MAX))]),
        )],
        &[],
        "Lets blobs be kept that would be deleted after a time.",
    ),
];

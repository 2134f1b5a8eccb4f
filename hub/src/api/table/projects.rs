//! `projects`: making, running and sharing them.

use std::time::Duration;

use crate::api::function::Wrapper::AuthFirstRequireAccount;
use crate::api::function::{Function, Rule};
use crate::api::shape::{Field, IDS_MAX, PATH_LEN_MAX, Shape, TEXT_LEN_MAX, TITLE_LEN_MAX};

/// Starting a project may take as long as its machine takes to come up.
const START_MAX: Duration = Duration::from_mins(5);

/// Copying takes as long as there is to copy.
const COPY_MAX: Duration = Duration::from_mins(30);

/// Longest list of licences, as text with commas.
const LICENSES_LEN_MAX: usize = 4_096;

const OPTIONS: &str = "options";

const PROJECT: &[Field] = &[Field::required(
    OPTIONS,
    Shape::Object(&[Field::required("project_id", Shape::Id)]),
)];

const MEMBER: &[Rule] = &[Rule::Member("project_id")];

const MEMBER_OF_OPTS: &[Rule] = &[Rule::Member("opts.project_id")];

/// One that is about members has its options in a field `opts`, in which `account_id` is whom it is about.
macro_rules! with_opts {
    ($($field:expr),* $(,)?) => {
        &[Field::required(
            OPTIONS,
            Shape::Object(&[Field::required("opts", Shape::Object(&[$($field),*]))]),
        )]
    };
}

const CREATE: Shape = Shape::Object(&[
    Field::optional("title", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("description", Shape::Text(TEXT_LEN_MAX)),
    Field::optional("image", Shape::Text(TITLE_LEN_MAX)),
    Field::optional("license", Shape::Text(LICENSES_LEN_MAX)),
    Field::optional("public_path_id", Shape::Text(40)),
    Field::optional("noPool", Shape::Bool),
    Field::optional("start", Shape::Bool),
    Field::optional("project_id", Shape::Id),
    Field::optional("ephemeral", Shape::Int(60_000, 1 << 40)),
    Field::optional(
        "customize",
        Shape::Object(&[
            Field::optional("disableInternet", Shape::Bool),
            Field::optional("license", Shape::Text(LICENSES_LEN_MAX)),
        ]),
    ),
]);

const COPY: Shape = Shape::Object(&[
    Field::required("src_project_id", Shape::Id),
    Field::required("src_path", Shape::Text(PATH_LEN_MAX)),
    Field::optional("target_project_id", Shape::Id),
    Field::optional("target_path", Shape::Text(PATH_LEN_MAX)),
    Field::optional("overwrite_newer", Shape::Bool),
    Field::optional("delete_missing", Shape::Bool),
    Field::optional("backup", Shape::Bool),
    Field::optional("timeout", Shape::Int(1, 1_800)),
    Field::optional("bwlimit", Shape::Int(1, 1 << 31)),
    Field::optional("exclude", Shape::List(&Shape::Text(PATH_LEN_MAX), 100)),
    Field::optional("debug_delay_ms", Shape::Int(0, 60_000)),
]);

const QUOTAS: Shape = Shape::Object(&[
    Field::required("project_id", Shape::Id),
    Field::optional("memory", Shape::Number),
    Field::optional("memory_request", Shape::Number),
    Field::optional("cpu_shares", Shape::Number),
    Field::optional("cores", Shape::Number),
    Field::optional("disk_quota", Shape::Number),
    Field::optional("mintime", Shape::Number),
    Field::optional("network", Shape::Number),
    Field::optional("member_host", Shape::Number),
    Field::optional("always_running", Shape::Number),
]);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "projects.createProject",
        AuthFirstRequireAccount,
        &[Field::optional(OPTIONS, CREATE)],
        &[Rule::AdminIf("project_id")],
        "Makes a project whose owner is the caller, and returns its identifier.",
    )
    .deadline_max(START_MAX),
    Function::new(
        "projects.copyPathBetweenProjects",
        AuthFirstRequireAccount,
        &[Field::required(OPTIONS, COPY)],
        &[
            Rule::Member("src_project_id"),
            Rule::Member("target_project_id"),
        ],
        "Copies a file or folder from one project to another, or within one.",
    )
    .deadline_max(COPY_MAX),
    Function::new(
        "projects.removeCollaborator",
        AuthFirstRequireAccount,
        with_opts![
            Field::required("account_id", Shape::Id),
            Field::required("project_id", Shape::Id),
        ],
        MEMBER_OF_OPTS,
        "Removes a collaborator from a project.",
    ),
    Function::new(
        "projects.addCollaborator",
        AuthFirstRequireAccount,
        with_opts![
            Field::optional("project_id", Shape::OneOrList(&Shape::Id, IDS_MAX)),
            Field::required("account_id", Shape::OneOrList(&Shape::Id, IDS_MAX)),
            Field::optional(
                "token_id",
                Shape::OneOrList(&Shape::Text(TITLE_LEN_MAX), IDS_MAX)
            ),
        ],
        &[],
        "Adds accounts to projects: members add others, and a token lets its bearer in.",
    ),
    Function::new(
        "projects.inviteCollaborator",
        AuthFirstRequireAccount,
        with_opts![
            Field::required("account_id", Shape::Id),
            Field::required("project_id", Shape::Id),
            Field::optional("title", Shape::Text(TITLE_LEN_MAX)),
            Field::optional("link2proj", Shape::Text(PATH_LEN_MAX)),
            Field::optional("replyto", Shape::Text(TITLE_LEN_MAX)),
            Field::optional("replyto_name", Shape::Text(TITLE_LEN_MAX)),
            Field::optional("email", Shape::Text(TEXT_LEN_MAX)),
            Field::optional("subject", Shape::Text(TITLE_LEN_MAX)),
        ],
        MEMBER_OF_OPTS,
        "Adds an account to a project and writes to its owner.",
    ),
    Function::new(
        "projects.inviteCollaboratorWithoutAccount",
        AuthFirstRequireAccount,
        with_opts![
            Field::required("project_id", Shape::Id),
            Field::required("to", Shape::Text(1_024)),
            Field::required("email", Shape::Text(TEXT_LEN_MAX)),
            Field::optional("title", Shape::Text(TITLE_LEN_MAX)),
            Field::optional("link2proj", Shape::Text(PATH_LEN_MAX)),
            Field::optional("replyto", Shape::Text(TITLE_LEN_MAX)),
            Field::optional("replyto_name", Shape::Text(TITLE_LEN_MAX)),
            Field::optional("subject", Shape::Text(TITLE_LEN_MAX)),
        ],
        MEMBER_OF_OPTS,
        "Invites people by their addresses, who are added when they sign up.",
    ),
    Function::new(
        "projects.changeUserType",
        AuthFirstRequireAccount,
        with_opts![
            Field::required("project_id", Shape::Id),
            Field::required("target_account_id", Shape::Id),
            Field::required("new_group", Shape::OneOf(&["owner", "collaborator"])),
        ],
        MEMBER_OF_OPTS,
        "Makes a member owner or collaborator; for owners.",
    ),
    Function::new(
        "projects.setQuotas",
        AuthFirstRequireAccount,
        &[Field::required(OPTIONS, QUOTAS)],
        &[Rule::Admin],
        "Sets what a project may use.",
    ),
    Function::new(
        "projects.start",
        AuthFirstRequireAccount,
        PROJECT,
        MEMBER,
        "Starts a project, and waits until it runs.",
    )
    .deadline_max(START_MAX),
    Function::new(
        "projects.stop",
        AuthFirstRequireAccount,
        PROJECT,
        MEMBER,
        "Stops a project, and waits until it has ended.",
    )
    .deadline_max(START_MAX),
    Function::new(
        "projects.deleteProject",
        AuthFirstRequireAccount,
        PROJECT,
        &[Rule::MemberOrAdmin("project_id")],
        "Stops a project and marks it as deleted.",
    )
    .deadline_max(START_MAX),
    Function::new(
        "projects.touch",
        AuthFirstRequireAccount,
        PROJECT,
        MEMBER,
        "Notes that a project is used, and starts it.",
    ),
    Function::new(
        "projects.state",
        AuthFirstRequireAccount,
        PROJECT,
        MEMBER,
        "Returns the state of a project.",
    ),
    Function::new(
        "projects.status",
        AuthFirstRequireAccount,
        PROJECT,
        MEMBER,
        "Returns what a running project says about itself.",
    ),
];

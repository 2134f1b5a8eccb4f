//! The tables that clients see, and who may do what with them.

use super::rule::Table;

mod accounts;
mod projects;
mod site;

/// All of them.
pub const TABLES: &[Table] = &[
    accounts::ACCOUNTS,
    accounts::PROFILES,
    accounts::COLLABORATORS,
    projects::PROJECTS,
    projects::ADMIN,
    projects::OWNER,
    projects::LOG,
    projects::INVITE_TOKENS,
    projects::FILE_USE,
    site::SETTINGS,
    site::REGISTRATION_TOKENS,
    site::CENTRAL_LOG,
];

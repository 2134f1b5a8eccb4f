//! The tables that clients see, and who may do what with them.

use super::rule::Table;

mod accounts;
mod messages;
mod money;
mod projects;
mod public;
mod shared;
mod site;
mod told;

/// All of them.
pub const TABLES: &[Table] = &[
    accounts::ACCOUNTS,
    accounts::PROFILES,
    accounts::COLLABORATORS,
    accounts::COLLABORATORS_ONE_PROJECT,
    accounts::ORGANIZATIONS,
    accounts::GROUPS,
    accounts::CREATE_GROUP,
    projects::PROJECTS,
    projects::ADMIN,
    projects::OWNER,
    projects::LOG,
    projects::INVITE_TOKENS,
    projects::FILE_USE,
    shared::AVATARS,
    shared::INVITE_REQUESTS,
    shared::JOIN_REQUESTS,
    shared::MENTIONS,
    shared::LISTINGS,
    public::PATHS,
    public::PATHS_BY_ID,
    public::ALL_PATHS,
    public::PROJECTS,
    public::STARS,
    messages::MESSAGES,
    messages::SENT,
    money::PURCHASES,
    money::QUOTAS,
    money::STATEMENTS,
    money::SUBSCRIPTIONS,
    money::VOUCHERS,
    money::LICENCES,
    money::LICENCES_MANAGED,
    money::LICENCES_PUBLIC,
    told::NEWS,
    told::NOTIFICATIONS,
    told::COMPUTE_IMAGES,
    told::MODEL_LOG,
    site::SETTINGS,
    site::REGISTRATION_TOKENS,
    site::CENTRAL_LOG,
    site::CLIENT_ERROR_LOG,
    site::WEBAPP_ERRORS,
    site::USER_TRACKING,
    site::ANALYTICS,
    site::FILE_ACCESS_LOG,
    site::WHITELABELING,
    site::PASSPORT_SETTINGS,
];

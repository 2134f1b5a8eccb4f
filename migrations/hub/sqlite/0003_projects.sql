-- Projects, who is in them, and what is written down about them.

CREATE TABLE projects (
    project_id TEXT PRIMARY KEY,
    title TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT '',
    name TEXT,
    color TEXT,
    created INTEGER NOT NULL,
    created_by TEXT,
    last_edited INTEGER,
    last_started INTEGER,
    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    manage_users_owner_only INTEGER NOT NULL DEFAULT 0 CHECK (manage_users_owner_only IN (0, 1)),
    compute_image TEXT,
    env TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(env)),
    sandbox INTEGER NOT NULL DEFAULT 0 CHECK (sandbox IN (0, 1)),
    course TEXT CHECK (json_valid(course)),
    invite TEXT CHECK (json_valid(invite)),
    invite_requests TEXT CHECK (json_valid(invite_requests)),
    settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(settings)),
    site_license TEXT CHECK (json_valid(site_license)),
    run_quota TEXT CHECK (json_valid(run_quota)),
    pay_as_you_go_quotas TEXT CHECK (json_valid(pay_as_you_go_quotas)),
    addons TEXT CHECK (json_valid(addons)),
    state TEXT CHECK (state IN ('archived', 'unarchiving', 'archiving', 'closed', 'opening', 'opened', 'closing',
        'starting', 'running', 'stopping', 'pending')),
    state_json TEXT CHECK (json_valid(state_json)),
    state_time INTEGER,
    status TEXT CHECK (json_valid(status)),
    -- Of the transition that has written the state; an older one writes nothing any more.
    generation INTEGER NOT NULL DEFAULT 0,
    action_request TEXT CHECK (json_valid(action_request)),
    secret_token TEXT,
    ephemeral INTEGER,
    host TEXT CHECK (json_valid(host)),
    storage TEXT CHECK (json_valid(storage)),
    last_backup INTEGER,
    notes TEXT,
    avatar_image_tiny TEXT,
    avatar_image_full TEXT,
    lti_id TEXT CHECK (json_valid(lti_id)),
    lti_data TEXT CHECK (json_valid(lti_data))
) STRICT;
CREATE INDEX projects_last_edited ON projects (last_edited);
CREATE INDEX projects_created ON projects (created);
CREATE INDEX projects_deleted ON projects (deleted) WHERE deleted;
CREATE INDEX projects_state ON projects (state);
CREATE INDEX projects_ephemeral ON projects (created) WHERE ephemeral IS NOT NULL;

CREATE TABLE project_members (
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    account_id TEXT NOT NULL REFERENCES accounts (account_id) ON DELETE CASCADE,
    grp TEXT NOT NULL CHECK (grp IN ('owner', 'collaborator')),
    hide INTEGER NOT NULL DEFAULT 0 CHECK (hide IN (0, 1)),
    ssh_keys TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(ssh_keys)),
    upgrades TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(upgrades)),
    last_active INTEGER,
    joined INTEGER NOT NULL,
    PRIMARY KEY (project_id, account_id)
) STRICT;
CREATE INDEX project_members_account_id ON project_members (account_id);

CREATE TABLE project_log (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    account_id TEXT,
    time INTEGER NOT NULL,
    event TEXT NOT NULL CHECK (json_valid(event))
) STRICT;
CREATE INDEX project_log_project_id ON project_log (project_id, time);
CREATE INDEX project_log_account_id ON project_log (account_id, time);

CREATE TABLE project_invite_tokens (
    token TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    created INTEGER NOT NULL,
    expires INTEGER,
    usage_limit INTEGER,
    counter INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX project_invite_tokens_project_id ON project_invite_tokens (project_id);

-- The id is the SHA-1 of project and path.
CREATE TABLE file_use (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    users TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(users)),
    last_edited INTEGER
) STRICT;
CREATE INDEX file_use_project_id ON file_use (project_id, last_edited);

CREATE TABLE file_access_log (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (project_id) ON DELETE CASCADE,
    account_id TEXT NOT NULL,
    filename TEXT NOT NULL,
    time INTEGER NOT NULL,
    expire INTEGER
) STRICT;
CREATE INDEX file_access_log_project_id ON file_access_log (project_id, filename, account_id, time);
CREATE INDEX file_access_log_expire ON file_access_log (expire) WHERE expire IS NOT NULL;

-- What is kept where `store` says; small ones stand here.
CREATE TABLE blobs (
    id TEXT PRIMARY KEY,
    project_id TEXT,
    account_id TEXT,
    created INTEGER NOT NULL,
    last_active INTEGER,
    count INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL,
    compress TEXT,
    expire INTEGER,
    store TEXT,
    blob BLOB
) STRICT;
CREATE INDEX blobs_expire ON blobs (expire) WHERE expire IS NOT NULL;
CREATE INDEX blobs_project_id ON blobs (project_id) WHERE project_id IS NOT NULL;

-- Stars that people gave to files before these were kept in streams.
CREATE TABLE bookmarks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL,
    project_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    path TEXT,
    stars TEXT NOT NULL CHECK (json_valid(stars)),
    last_edited INTEGER
) STRICT;
CREATE INDEX bookmarks_type ON bookmarks (type, id);

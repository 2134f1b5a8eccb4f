-- What every part of the hub stands on. Times are milliseconds since 1970 in UTC, identifiers lower-case UUIDs.

-- The last number that the log of changes has given, and the last that was trimmed from it.
CREATE TABLE outbox_head (
    one INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    seq INTEGER NOT NULL DEFAULT 0,
    trimmed INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO outbox_head (seq) VALUES (0);

-- What was changed, without its content: who wants that reads the row, with the rights of the reader.
CREATE TABLE change_log (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    tbl TEXT NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
    pk TEXT NOT NULL CHECK (json_valid(pk)),
    fields TEXT NOT NULL CHECK (json_valid(fields)),
    project_id TEXT,
    account_id TEXT
) STRICT;
CREATE INDEX change_log_time ON change_log (time);
CREATE INDEX change_log_project_id ON change_log (project_id, seq) WHERE project_id IS NOT NULL;
CREATE INDEX change_log_account_id ON change_log (account_id, seq) WHERE account_id IS NOT NULL;

-- Who may do what only one may do. A row stays when its lease is over, so that the generation never goes back.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT,
    generation INTEGER NOT NULL,
    expires INTEGER
) STRICT;

-- How far each migration of data has come; `cursor` is where its next batch begins.
CREATE TABLE background_migrations (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('running', 'finished')),
    cursor TEXT CHECK (json_valid(cursor)),
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    started_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;

-- Items that a migration could not move. They are tried again and leave this table when they are done.
CREATE TABLE migration_failures (
    name TEXT NOT NULL REFERENCES background_migrations (name) ON DELETE CASCADE,
    key TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 1,
    time INTEGER NOT NULL,
    PRIMARY KEY (name, key)
) STRICT;
CREATE INDEX migration_failures_time ON migration_failures (name, time);

-- How often something was tried since the window began; shared by all hubs.
CREATE TABLE throttle (
    key TEXT PRIMARY KEY,
    window_start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX throttle_expire ON throttle (expire);

CREATE TABLE server_settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    -- Set by the environment of the hubs; not to be changed by administrators.
    readonly INTEGER NOT NULL DEFAULT 0 CHECK (readonly IN (0, 1))
) STRICT;

CREATE TABLE hub_servers (
    host TEXT PRIMARY KEY,
    port INTEGER NOT NULL,
    clients INTEGER NOT NULL DEFAULT 0,
    version TEXT NOT NULL,
    started INTEGER NOT NULL,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX hub_servers_expire ON hub_servers (expire);

CREATE TABLE central_log (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)),
    expire INTEGER
) STRICT;
CREATE INDEX central_log_time ON central_log (time);
CREATE INDEX central_log_event ON central_log (event, time);
CREATE INDEX central_log_expire ON central_log (expire) WHERE expire IS NOT NULL;

-- What every part of the hub stands on. Times are the clock of this database alone, to the millisecond.

-- The last number that the log of changes has given, and the last that was trimmed from it. Whoever changes anything
-- holds this row from its last statement to its commit, so that numbers become visible in their order and without gaps.
CREATE TABLE outbox_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL DEFAULT 0,
    trimmed bigint NOT NULL DEFAULT 0
);
INSERT INTO outbox_head (seq) VALUES (0);

-- What was changed, without its content: who wants that reads the row, with the rights of the reader.
CREATE TABLE change_log (
    seq bigint PRIMARY KEY,
    time timestamptz NOT NULL,
    tbl text NOT NULL,
    op text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
    pk jsonb NOT NULL,
    fields jsonb NOT NULL,
    project_id uuid,
    account_id uuid
);
CREATE INDEX change_log_time ON change_log (time);
CREATE INDEX change_log_project_id ON change_log (project_id, seq) WHERE project_id IS NOT NULL;
CREATE INDEX change_log_account_id ON change_log (account_id, seq) WHERE account_id IS NOT NULL;

-- Who may do what only one may do. A row stays when its lease is over, so that the generation never goes back.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text,
    generation bigint NOT NULL,
    expires timestamptz
);

-- How far each migration of data has come; `cursor` is where its next batch begins.
CREATE TABLE background_migrations (
    name text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('running', 'finished')),
    cursor jsonb,
    done bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    last_error text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz
);

-- Items that a migration could not move. They are tried again and leave this table when they are done.
CREATE TABLE migration_failures (
    name text NOT NULL REFERENCES background_migrations (name) ON DELETE CASCADE,
    key text NOT NULL,
    error text NOT NULL,
    attempts bigint NOT NULL DEFAULT 1,
    time timestamptz NOT NULL,
    PRIMARY KEY (name, key)
);
CREATE INDEX migration_failures_time ON migration_failures (name, time);

-- How often something was tried since the window began; shared by all hubs.
CREATE TABLE throttle (
    key text PRIMARY KEY,
    window_start timestamptz NOT NULL,
    count bigint NOT NULL,
    expire timestamptz NOT NULL
);
CREATE INDEX throttle_expire ON throttle (expire);

CREATE TABLE server_settings (
    name text PRIMARY KEY,
    value text NOT NULL,
    -- Set by the environment of the hubs; not to be changed by administrators.
    readonly boolean NOT NULL DEFAULT false
);

CREATE TABLE hub_servers (
    host text PRIMARY KEY,
    port bigint NOT NULL,
    clients bigint NOT NULL DEFAULT 0,
    version text NOT NULL,
    started timestamptz NOT NULL,
    expire timestamptz NOT NULL
);
CREATE INDEX hub_servers_expire ON hub_servers (expire);

CREATE TABLE central_log (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    event text NOT NULL,
    value jsonb NOT NULL,
    expire timestamptz
);
CREATE INDEX central_log_time ON central_log (time);
CREATE INDEX central_log_event ON central_log (event, time);
CREATE INDEX central_log_expire ON central_log (expire) WHERE expire IS NOT NULL;

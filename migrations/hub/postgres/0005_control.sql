-- Running projects: what was ordered, who carries it out, and what was started.

CREATE TABLE project_control (
    project_id uuid PRIMARY KEY REFERENCES projects (project_id) ON DELETE CASCADE,
    -- The number of the last order, and what it says.
    ordered bigint NOT NULL DEFAULT 0,
    verb text CHECK (verb IN ('start', 'stop', 'restart')),
    -- Why, if nobody asked for it.
    reason text,
    ordered_at timestamptz,
    -- The number of the last order that was carried out, what it said and what became of it.
    done bigint NOT NULL DEFAULT 0,
    done_verb text CHECK (done_verb IN ('start', 'stop', 'restart')),
    error_kind text CHECK (error_kind IN ('failed', 'late')),
    error text,
    -- Who carries out the order; the generation counts how often that was taken.
    holder text,
    generation bigint NOT NULL DEFAULT 0,
    expires timestamptz,
    -- The machine that has its files; any, if there is none.
    host text,
    -- What was started, with a number of its own.
    run_id uuid,
    run jsonb,
    -- Whether it waits for somebody to whom it is given.
    pool boolean NOT NULL DEFAULT false
);
CREATE INDEX project_control_pending ON project_control (ordered_at) WHERE ordered > done;
CREATE INDEX project_control_host ON project_control (host) WHERE run_id IS NOT NULL;
CREATE INDEX project_control_pool ON project_control (project_id) WHERE pool;

-- Users of the system, one for each project on each machine. A number is given once and stays, also when the project is
-- gone: files that it left behind must not become those of another one.
CREATE TABLE project_users (
    host text NOT NULL,
    uid bigint NOT NULL,
    project_id uuid NOT NULL,
    PRIMARY KEY (host, uid)
);
CREATE UNIQUE INDEX project_users_project_id ON project_users (project_id, host);

-- Files to be copied, and those that were.
CREATE TABLE copy_paths (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    source_project_id uuid NOT NULL,
    source_path text NOT NULL,
    target_project_id uuid NOT NULL,
    target_path text NOT NULL,
    exclude jsonb NOT NULL DEFAULT '[]',
    overwrite_newer boolean NOT NULL DEFAULT false,
    delete_missing boolean NOT NULL DEFAULT false,
    backup boolean NOT NULL DEFAULT false,
    bwlimit bigint,
    timeout bigint,
    scheduled timestamptz,
    started timestamptz,
    finished timestamptz,
    error text,
    holder text,
    generation bigint NOT NULL DEFAULT 0,
    lease_expires timestamptz,
    expire timestamptz
);
CREATE INDEX copy_paths_pending ON copy_paths (time) WHERE finished IS NULL;
CREATE INDEX copy_paths_expire ON copy_paths (expire) WHERE expire IS NOT NULL;

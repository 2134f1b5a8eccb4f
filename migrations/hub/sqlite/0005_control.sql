-- Running projects: what was ordered, who carries it out, and what was started.

CREATE TABLE project_control (
    project_id TEXT PRIMARY KEY REFERENCES projects (project_id) ON DELETE CASCADE,
    -- The number of the last order, and what it says.
    ordered INTEGER NOT NULL DEFAULT 0,
    verb TEXT CHECK (verb IN ('start', 'stop', 'restart')),
    -- Why, if nobody asked for it.
    reason TEXT,
    ordered_at INTEGER,
    -- The number of the last order that was carried out, what it said and what became of it.
    done INTEGER NOT NULL DEFAULT 0,
    done_verb TEXT CHECK (done_verb IN ('start', 'stop', 'restart')),
    error_kind TEXT CHECK (error_kind IN ('failed', 'late')),
    error TEXT,
    -- Who carries out the order; the generation counts how often that was taken.
    holder TEXT,
    generation INTEGER NOT NULL DEFAULT 0,
    expires INTEGER,
    -- The machine that has its files; any, if there is none.
    host TEXT,
    -- What was started, with a number of its own.
    run_id TEXT,
    run TEXT CHECK (json_valid(run)),
    -- Whether it waits for somebody to whom it is given.
    pool INTEGER NOT NULL DEFAULT 0 CHECK (pool IN (0, 1))
) STRICT;
CREATE INDEX project_control_pending ON project_control (ordered_at) WHERE ordered > done;
CREATE INDEX project_control_host ON project_control (host) WHERE run_id IS NOT NULL;
CREATE INDEX project_control_pool ON project_control (project_id) WHERE pool = 1;

-- Users of the system, one for each project on each machine. A number is given once and stays, also when the project is
-- gone: files that it left behind must not become those of another one.
CREATE TABLE project_users (
    host TEXT NOT NULL,
    uid INTEGER NOT NULL,
    project_id TEXT NOT NULL,
    PRIMARY KEY (host, uid)
) STRICT;
CREATE UNIQUE INDEX project_users_project_id ON project_users (project_id, host);

-- Files to be copied, and those that were.
CREATE TABLE copy_paths (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    source_project_id TEXT NOT NULL,
    source_path TEXT NOT NULL,
    target_project_id TEXT NOT NULL,
    target_path TEXT NOT NULL,
    exclude TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(exclude)),
    overwrite_newer INTEGER NOT NULL DEFAULT 0 CHECK (overwrite_newer IN (0, 1)),
    delete_missing INTEGER NOT NULL DEFAULT 0 CHECK (delete_missing IN (0, 1)),
    backup INTEGER NOT NULL DEFAULT 0 CHECK (backup IN (0, 1)),
    bwlimit INTEGER,
    timeout INTEGER,
    scheduled INTEGER,
    started INTEGER,
    finished INTEGER,
    error TEXT,
    holder TEXT,
    generation INTEGER NOT NULL DEFAULT 0,
    lease_expires INTEGER,
    expire INTEGER
) STRICT;
CREATE INDEX copy_paths_pending ON copy_paths (time) WHERE finished IS NULL;
CREATE INDEX copy_paths_expire ON copy_paths (expire) WHERE expire IS NOT NULL;

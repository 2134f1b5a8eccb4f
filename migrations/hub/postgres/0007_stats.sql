-- How large the site is and how much is done on it, every now and then. What stands in a column is JSON that clients know.
CREATE TABLE stats (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    accounts bigint NOT NULL,
    projects bigint NOT NULL,
    accounts_created jsonb NOT NULL,
    accounts_active jsonb NOT NULL,
    projects_created jsonb NOT NULL,
    projects_edited jsonb NOT NULL,
    files_opened jsonb NOT NULL,
    running_projects jsonb NOT NULL,
    hub_servers jsonb NOT NULL
);
CREATE INDEX stats_time ON stats (time);

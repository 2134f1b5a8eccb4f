-- How large the site is and how much is done on it, every now and then. What stands in a column is JSON that clients know.
CREATE TABLE stats (
    id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    accounts INTEGER NOT NULL,
    projects INTEGER NOT NULL,
    accounts_created TEXT NOT NULL CHECK (json_valid(accounts_created)),
    accounts_active TEXT NOT NULL CHECK (json_valid(accounts_active)),
    projects_created TEXT NOT NULL CHECK (json_valid(projects_created)),
    projects_edited TEXT NOT NULL CHECK (json_valid(projects_edited)),
    files_opened TEXT NOT NULL CHECK (json_valid(files_opened)),
    running_projects TEXT NOT NULL CHECK (json_valid(running_projects)),
    hub_servers TEXT NOT NULL CHECK (json_valid(hub_servers))
) STRICT;
CREATE INDEX stats_time ON stats (time);

-- Which nodes are there, and since which view of them. Times are the clock of this database alone.

-- One row: the number of the view, which grows whenever a node comes or goes.
CREATE TABLE view (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    number bigint NOT NULL DEFAULT 1
);
INSERT INTO view DEFAULT VALUES;

CREATE TABLE node (
    name text COLLATE "C" PRIMARY KEY,
    -- Another one each time that a node takes a lease, so that a name cannot be in two places.
    session bigint NOT NULL,
    expires timestamptz NOT NULL,
    -- The view that the node acts on.
    seen bigint NOT NULL
);

CREATE SEQUENCE session;

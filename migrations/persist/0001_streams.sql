-- Durable streams. Everything is in the schema `dialtone_persist`; numbers are below 2^53, times are milliseconds since
-- 1970. What the columns mean is said by `persist/src/core/commit.rs`; the database knows no more than that.

CREATE TABLE stream (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- SHA-256 of the name, because names of 4,000 bytes do not fit into an index.
    digest bytea NOT NULL UNIQUE,
    name text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    created bigint NOT NULL,
    restoring boolean NOT NULL,
    -- Not jsonb, which refuses some texts.
    config json NOT NULL,
    duplicate_window bigint NOT NULL,
    messages bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    last_seq bigint NOT NULL DEFAULT 0,
    last_time bigint NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    -- Rows of `removal` up to this revision are gone; the last number that was given by then.
    horizon bigint NOT NULL DEFAULT 0,
    horizon_seq bigint NOT NULL DEFAULT 0,
    -- Commits with a lower number are refused.
    fence bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX stream_order ON stream (left(name, 512));

CREATE TABLE record (
    stream bigint NOT NULL,
    seq bigint NOT NULL,
    revision bigint NOT NULL,
    time bigint NOT NULL,
    size bigint NOT NULL,
    encoding smallint NOT NULL,
    ttl bigint,
    -- Texts as bytes, because a text of the database cannot have a zero character.
    key bytea,
    message_id bytea,
    headers bytea,
    payload bytea NOT NULL,
    -- CRC-32C over all of the above but the stream.
    checksum bigint NOT NULL,
    PRIMARY KEY (stream, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- Changes that were not appends; `removed` is empty for a change of the description.
CREATE TABLE removal (
    stream bigint NOT NULL,
    revision bigint NOT NULL,
    last_seq bigint NOT NULL,
    removed bytea,
    PRIMARY KEY (stream, revision)
);

-- Message ids outlive their records.
CREATE TABLE message_id (
    stream bigint NOT NULL,
    seq bigint NOT NULL,
    revision bigint NOT NULL,
    time bigint NOT NULL,
    id bytea NOT NULL,
    PRIMARY KEY (stream, seq)
);

-- The last snapshot of a consumer and what happened to it since, in the order of the parts.
CREATE TABLE consumer (
    stream bigint NOT NULL,
    name bytea NOT NULL,
    part bigint GENERATED ALWAYS AS IDENTITY,
    state bytea NOT NULL,
    PRIMARY KEY (stream, name, part)
);

-- Streams that were deleted and whose rows are being freed.
CREATE TABLE dropped (
    stream bigint PRIMARY KEY
);

-- A connection that writes counts its transactions here, so that it can find out whether one that it lost was committed.
CREATE TABLE lane (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number bigint NOT NULL DEFAULT 0,
    touched timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

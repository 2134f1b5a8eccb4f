-- Letters that wait to be sent. Who sends one claims it by moving `due` ahead and counting the attempt.
CREATE TABLE letters (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    to_address text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    created timestamptz NOT NULL,
    -- NULL when it was given up; it is kept for a while, with the reason.
    due timestamptz,
    attempts bigint NOT NULL DEFAULT 0,
    last_error text,
    expire timestamptz NOT NULL
);
CREATE INDEX letters_due ON letters (due) WHERE due IS NOT NULL;
CREATE INDEX letters_expire ON letters (expire);

-- Letters that wait to be sent. Who sends one claims it by moving `due` ahead and counting the attempt.
CREATE TABLE letters (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    to_address TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- NULL when it was given up; it is kept for a while, with the reason.
    due INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    expire INTEGER NOT NULL
) STRICT;
CREATE INDEX letters_due ON letters (due) WHERE due IS NOT NULL;
CREATE INDEX letters_expire ON letters (expire);

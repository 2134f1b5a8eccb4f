-- When something of a stream is over next by its lifetime, or a little before; NULL where nothing will be. A stream that
-- nobody uses is found by it. What was written before this column was there gets one with its next commit.
ALTER TABLE stream ADD COLUMN due bigint;
CREATE INDEX stream_due ON stream (due) WHERE due IS NOT NULL;

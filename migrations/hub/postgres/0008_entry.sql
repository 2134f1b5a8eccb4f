-- Counting what was opened looks at all projects, and at the last days alone.
CREATE INDEX project_log_time ON project_log (time);

-- What the tables, windows, rules and positions mean, as JSON: one row.
CREATE TABLE sw_definitions (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  definitions TEXT    NOT NULL,
  updated_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX sw_ranges_gaps ON sw_ranges (topic) WHERE kind = 'gap';

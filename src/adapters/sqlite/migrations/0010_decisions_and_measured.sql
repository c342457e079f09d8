-- What was decided of records behind the newest checkpoint: which are dead letters that were never processed, and which
-- are too far ahead of their log timestamp. Whoever reads them again decides nothing anew. A checkpoint removes what it
-- covers.
CREATE TABLE sw_decisions (
  sink         TEXT    NOT NULL,
  topic        TEXT    NOT NULL,
  partition    INTEGER NOT NULL,
  log          INTEGER NOT NULL,
  first_offset INTEGER NOT NULL,
  next_offset  INTEGER NOT NULL,
  kind         TEXT    NOT NULL,  -- dead | ahead
  PRIMARY KEY (sink, topic, partition, log, first_offset)
) STRICT, WITHOUT ROWID;

-- Decisions of earlier versions were not kept.
ALTER TABLE sw_positions ADD COLUMN decided_from INTEGER NOT NULL DEFAULT 0;  -- decisions from here on are known
UPDATE sw_positions SET decided_from = next_offset;

-- Records with a measure: what a mean is divided by. Earlier versions counted all records.
ALTER TABLE sw_minutes ADD COLUMN measured INTEGER NOT NULL DEFAULT 0;
UPDATE sw_minutes SET measured = count;

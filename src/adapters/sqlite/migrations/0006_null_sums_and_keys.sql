-- A sum that a float cannot hold is null, for good: infinity and minus infinity would add up to nothing that can be stored.
CREATE TABLE sw_minutes_new (
  stream    TEXT    NOT NULL,
  minute    INTEGER NOT NULL,
  partition INTEGER NOT NULL,
  count     INTEGER NOT NULL,
  sum       REAL,                -- null: beyond the range of a float
  anomalies INTEGER NOT NULL,
  PRIMARY KEY (stream, minute, partition)
) STRICT, WITHOUT ROWID;
INSERT INTO sw_minutes_new SELECT stream, minute, partition, count,
  CASE WHEN abs(sum) <= 1.7976931348623157e308 THEN sum END, anomalies FROM sw_minutes;
DROP TABLE sw_minutes;
ALTER TABLE sw_minutes_new RENAME TO sw_minutes;

-- A record without a key has none; the empty text is a key.
CREATE TABLE alerts_new (
  id         INTEGER PRIMARY KEY,
  alert_id   TEXT    NOT NULL,
  n          INTEGER NOT NULL,
  rule       TEXT    NOT NULL,
  stream     TEXT    NOT NULL,
  "key"      TEXT,
  severity   TEXT    NOT NULL,
  state      TEXT    NOT NULL,       -- firing | resolved
  message    TEXT    NOT NULL,
  record     TEXT    NOT NULL,       -- JSON of the record that caused the transition
  event_time INTEGER NOT NULL,
  topic      TEXT    NOT NULL,
  partition  INTEGER NOT NULL,
  "offset"   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  latest     INTEGER NOT NULL,       -- 1 for the newest transition of an alert
  undeliverable TEXT,
  UNIQUE (alert_id, n)
) STRICT;
INSERT INTO alerts_new SELECT id, alert_id, n, rule, stream, "key", severity, state, message, record, event_time, topic,
  partition, "offset", created_at, latest, undeliverable FROM alerts;
DROP TABLE alerts;
ALTER TABLE alerts_new RENAME TO alerts;
CREATE INDEX alerts_latest ON alerts (latest, id);
CREATE INDEX alerts_state ON alerts (state, id) WHERE latest = 1;
CREATE INDEX alerts_rule ON alerts (rule, id) WHERE latest = 1;
CREATE INDEX alerts_severity ON alerts (severity, id) WHERE latest = 1;

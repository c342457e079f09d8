-- Streamward's own tables. Stream and window tables are generated from the configuration.
-- Times are milliseconds since 1970 (UTC).

-- A topic that was deleted and created again is another log: its rows must not collide with the old ones.
CREATE TABLE sw_logs (
  topic      TEXT    NOT NULL,
  log        INTEGER NOT NULL,
  cluster_id TEXT    NOT NULL,
  topic_id   TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (topic, log)
) STRICT, WITHOUT ROWID;

-- The position protocol: a batch commits only where epoch and next_offset are what its lane believes.
CREATE TABLE sw_positions (
  sink          TEXT    NOT NULL,
  topic         TEXT    NOT NULL,
  partition     INTEGER NOT NULL,
  log           INTEGER NOT NULL,
  epoch         INTEGER NOT NULL,
  next_offset   INTEGER NOT NULL,
  first_offset  INTEGER NOT NULL,  -- position at which this sink began
  retained_from INTEGER NOT NULL,  -- rows below were removed by retention
  outbox_seq    INTEGER NOT NULL DEFAULT 0,
  stored        INTEGER NOT NULL DEFAULT 0,
  dead          INTEGER NOT NULL DEFAULT 0,
  filtered      INTEGER NOT NULL DEFAULT 0,
  updated_at    INTEGER NOT NULL,
  PRIMARY KEY (sink, topic, partition)
) STRICT, WITHOUT ROWID;

-- Offset ranges [first_offset, next_offset) that a filter step removed, or that a gap skipped.
CREATE TABLE sw_ranges (
  sink         TEXT    NOT NULL,
  topic        TEXT    NOT NULL,
  partition    INTEGER NOT NULL,
  log          INTEGER NOT NULL,
  kind         TEXT    NOT NULL,  -- filtered | gap
  first_offset INTEGER NOT NULL,
  next_offset  INTEGER NOT NULL,
  PRIMARY KEY (sink, topic, partition, log, kind, first_offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE sw_checkpoints (
  sink        TEXT    NOT NULL,
  topic       TEXT    NOT NULL,
  partition   INTEGER NOT NULL,
  chunk       TEXT    NOT NULL,
  log         INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,  -- the state covers every record below
  bytes       BLOB    NOT NULL,
  updated_at  INTEGER NOT NULL,
  PRIMARY KEY (sink, topic, partition, chunk)
) STRICT, WITHOUT ROWID;

-- Facts that follow SQL to other places; seq is dense per (sink, topic, partition) and in commit order.
CREATE TABLE sw_outbox (
  sink       TEXT    NOT NULL,
  topic      TEXT    NOT NULL,
  partition  INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  kind       TEXT    NOT NULL,  -- alert | dead_letter
  fact       INTEGER NOT NULL,  -- rowid of the alert or dead letter
  PRIMARY KEY (sink, topic, partition, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
  id               INTEGER PRIMARY KEY,
  sink             TEXT    NOT NULL,
  topic            TEXT    NOT NULL,
  partition        INTEGER NOT NULL,
  log              INTEGER NOT NULL,
  "offset"         INTEGER NOT NULL,
  stage            TEXT    NOT NULL,
  class            TEXT    NOT NULL,
  reason           TEXT    NOT NULL,
  state            TEXT    NOT NULL DEFAULT 'dead',
  "key"            BLOB,
  value            BLOB,
  headers          BLOB    NOT NULL,  -- JSON array of {name, value} with base64 texts
  log_timestamp    INTEGER NOT NULL,
  created_at       INTEGER NOT NULL,
  undeliverable    TEXT,
  UNIQUE (sink, topic, log, partition, "offset", stage)
) STRICT;
CREATE INDEX dead_letters_topic ON dead_letters (topic, id);
CREATE INDEX dead_letters_class ON dead_letters (class, id);

CREATE TABLE alerts (
  id         INTEGER PRIMARY KEY,
  alert_id   TEXT    NOT NULL,
  n          INTEGER NOT NULL,
  rule       TEXT    NOT NULL,
  stream     TEXT    NOT NULL,
  "key"      TEXT    NOT NULL,
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
CREATE INDEX alerts_latest ON alerts (latest, id);
CREATE INDEX alerts_state ON alerts (state, id) WHERE latest = 1;
CREATE INDEX alerts_rule ON alerts (rule, id) WHERE latest = 1;
CREATE INDEX alerts_severity ON alerts (severity, id) WHERE latest = 1;

CREATE TABLE sw_late (
  sink            TEXT    NOT NULL,
  window          TEXT    NOT NULL,
  topic           TEXT    NOT NULL,
  partition       INTEGER NOT NULL,
  log             INTEGER NOT NULL,
  "offset"        INTEGER NOT NULL,
  event_time      INTEGER NOT NULL,
  window_start    INTEGER NOT NULL,
  watermark       INTEGER NOT NULL,
  created_at      INTEGER NOT NULL,
  PRIMARY KEY (sink, window, topic, log, partition, "offset")
) STRICT, WITHOUT ROWID;

-- Minute aggregates by event time, so that no route scans rows.
CREATE TABLE sw_minutes (
  stream    TEXT    NOT NULL,
  minute    INTEGER NOT NULL,
  partition INTEGER NOT NULL,
  count     INTEGER NOT NULL,
  sum       REAL    NOT NULL,
  anomalies INTEGER NOT NULL,
  PRIMARY KEY (stream, minute, partition)
) STRICT, WITHOUT ROWID;

-- The minute of the newest event time of each key of a stream.
CREATE TABLE sw_keys (
  stream    TEXT    NOT NULL,
  "key"     TEXT    NOT NULL,
  last_seen INTEGER NOT NULL,
  PRIMARY KEY (stream, "key")
) STRICT, WITHOUT ROWID;
CREATE INDEX sw_keys_last_seen ON sw_keys (stream, last_seen);

CREATE TABLE sw_audit (
  id         INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  who        TEXT    NOT NULL,
  action     TEXT    NOT NULL,
  target     TEXT    NOT NULL,
  detail     TEXT    NOT NULL
) STRICT;

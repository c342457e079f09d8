-- Streamward's own tables. Stream and window tables are generated from the configuration.

-- A topic that was deleted and created again is another log: its rows must not collide with the old ones.
CREATE TABLE sw_logs (
  topic      text        NOT NULL,
  log        bigint      NOT NULL,
  cluster_id text        NOT NULL,
  topic_id   text        NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (topic, log)
);

-- The position protocol: a batch commits only where epoch and next_offset are what its lane believes. The newest log of a
-- partition has the highest epoch.
CREATE TABLE sw_positions (
  sink          text        NOT NULL,
  topic         text        NOT NULL,
  partition     integer     NOT NULL,
  log           bigint      NOT NULL,
  epoch         bigint      NOT NULL,
  next_offset   bigint      NOT NULL,
  first_offset  bigint      NOT NULL,            -- position at which this sink began
  retained_from bigint      NOT NULL,            -- rows below were removed by retention
  stored        bigint      NOT NULL DEFAULT 0,
  dead          bigint      NOT NULL DEFAULT 0,
  filtered      bigint      NOT NULL DEFAULT 0,
  ahead         bigint      NOT NULL DEFAULT 0,  -- too far ahead of their log timestamp
  late          bigint      NOT NULL DEFAULT 0,  -- too late for a window, once per window
  "full"        bigint      NOT NULL DEFAULT 0,  -- no room in a window's state, once per window
  decided_from  bigint      NOT NULL DEFAULT 0,  -- decisions from here on are known
  newest_event  timestamptz NOT NULL,            -- that moved the watermark; -infinity before any
  updated_at    timestamptz NOT NULL,
  PRIMARY KEY (sink, topic, partition, log)
) WITH (fillfactor = 50);

-- No two owners have the same epoch, also if they are the first of a partition at the same time.
CREATE SEQUENCE sw_epochs;

-- Offset ranges [first_offset, next_offset) without rows.
CREATE TABLE sw_ranges (
  sink         text        NOT NULL,
  topic        text        NOT NULL,
  partition    integer     NOT NULL,
  log          bigint      NOT NULL,
  kind         text        NOT NULL,  -- filtered | removed | gap
  first_offset bigint      NOT NULL,
  next_offset  bigint      NOT NULL,
  stored_at    timestamptz NOT NULL,  -- when the last record was passed over
  PRIMARY KEY (sink, topic, partition, log, kind, first_offset)
);
CREATE INDEX sw_ranges_gaps ON sw_ranges (topic) WHERE kind = 'gap';

CREATE TABLE sw_checkpoints (
  sink        text        NOT NULL,
  topic       text        NOT NULL,
  partition   integer     NOT NULL,
  chunk       text        NOT NULL,
  log         bigint      NOT NULL,
  next_offset bigint      NOT NULL,  -- the state covers every record below
  bytes       bytea       NOT NULL,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (sink, topic, partition, chunk)
);

-- What was decided of records behind the newest checkpoint; a checkpoint removes what it covers.
CREATE TABLE sw_decisions (
  sink         text    NOT NULL,
  topic        text    NOT NULL,
  partition    integer NOT NULL,
  log          bigint  NOT NULL,
  first_offset bigint  NOT NULL,
  next_offset  bigint  NOT NULL,
  kind         text    NOT NULL,  -- dead | ahead
  PRIMARY KEY (sink, topic, partition, log, first_offset)
);

-- Facts that follow to other places, in the order of their numbers, which is that of the commits.
CREATE TABLE sw_outbox (
  kind text   NOT NULL,  -- alert | dead_letter
  sink text   NOT NULL,
  fact bigint NOT NULL,  -- id of the alert's transition or of the dead letter
  PRIMARY KEY (kind, sink, fact)
);

-- Numbers of facts are given once, also after retention has removed the newest; and how many bytes the facts hold.
CREATE TABLE sw_facts (
  kind    text   PRIMARY KEY,  -- alert | dead_letter | late
  next_id bigint NOT NULL,
  bytes   bigint NOT NULL      -- about: texts and bytes, and a constant for each fact
) WITH (fillfactor = 50);
INSERT INTO sw_facts VALUES ('alert', 1, 0), ('dead_letter', 1, 0), ('late', 1, 0);

CREATE TABLE dead_letters (
  id            bigint      PRIMARY KEY,
  sink          text        NOT NULL,
  topic         text        NOT NULL,
  partition     integer     NOT NULL,
  log           bigint      NOT NULL,
  "offset"      bigint      NOT NULL,
  stage         text        NOT NULL,
  class         text        NOT NULL,
  reason        text        NOT NULL,
  state         text        NOT NULL DEFAULT 'dead',
  "key"         bytea,
  value         bytea,
  headers       bytea       NOT NULL,  -- JSON array of {name, value} with base64 texts
  log_timestamp timestamptz NOT NULL,
  created_at    timestamptz NOT NULL,
  undeliverable text,
  UNIQUE (sink, topic, log, partition, "offset", stage)
);
CREATE INDEX dead_letters_topic ON dead_letters (topic, id);
CREATE INDEX dead_letters_class ON dead_letters (class, id);
CREATE INDEX dead_letters_place ON dead_letters (topic, partition, "offset", id);

CREATE TABLE alerts (
  id            bigint      PRIMARY KEY,
  alert_id      text        NOT NULL,
  n             bigint      NOT NULL,
  rule          text        NOT NULL,
  stream        text        NOT NULL,
  "key"         text,                  -- a record without a key has none; the empty text is a key
  severity      text        NOT NULL,
  state         text        NOT NULL,  -- firing | resolved
  message       text        NOT NULL,
  record        text        NOT NULL,  -- JSON of the record that caused the transition
  event_time    timestamptz NOT NULL,
  topic         text        NOT NULL,
  partition     integer     NOT NULL,
  "offset"      bigint      NOT NULL,
  created_at    timestamptz NOT NULL,
  latest        boolean     NOT NULL,  -- whether it is the newest transition of its alert
  undeliverable text,
  sink          text        NOT NULL,
  log           bigint      NOT NULL,
  opened        bigint      NOT NULL,  -- id of the alert's first transition: its place in lists
  UNIQUE (alert_id, n)
);
CREATE INDEX alerts_latest ON alerts (opened) WHERE latest;
CREATE INDEX alerts_state ON alerts (state, opened) WHERE latest;
CREATE INDEX alerts_rule ON alerts (rule, opened) WHERE latest;
CREATE INDEX alerts_severity ON alerts (severity, opened) WHERE latest;
CREATE INDEX alerts_resolved ON alerts (created_at) WHERE latest AND state = 'resolved';

CREATE TABLE sw_late (
  sink         text        NOT NULL,
  "window"     text        NOT NULL,
  topic        text        NOT NULL,
  partition    integer     NOT NULL,
  log          bigint      NOT NULL,
  "offset"     bigint      NOT NULL,
  event_time   timestamptz NOT NULL,
  window_start timestamptz NOT NULL,
  watermark    timestamptz NOT NULL,
  created_at   timestamptz NOT NULL,
  why          text        NOT NULL,  -- late | ahead | full | begun
  PRIMARY KEY (sink, "window", topic, log, partition, "offset")
);
CREATE INDEX sw_late_created_at ON sw_late (created_at);

-- Minute aggregates by event time, so that no route scans rows.
CREATE TABLE sw_minutes (
  stream    text             NOT NULL,
  minute    timestamptz      NOT NULL,
  partition integer          NOT NULL,
  count     bigint           NOT NULL,
  sum       double precision,           -- null: beyond the range of a float
  anomalies bigint           NOT NULL,
  measured  bigint           NOT NULL,  -- records with a measure
  PRIMARY KEY (stream, minute, partition)
) WITH (fillfactor = 70);

-- The minute of the newest event time of each key of a stream.
CREATE TABLE sw_keys (
  stream    text        NOT NULL,
  "key"     text        NOT NULL,
  last_seen timestamptz NOT NULL,
  PRIMARY KEY (stream, "key")
) WITH (fillfactor = 70);
CREATE INDEX sw_keys_last_seen ON sw_keys (stream, last_seen);

CREATE TABLE sw_audit (
  id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     timestamptz NOT NULL,
  who    text        NOT NULL,
  action text        NOT NULL,
  target text        NOT NULL,
  detail text        NOT NULL
);

-- What the tables, windows, rules and positions mean, as JSON: one row.
CREATE TABLE sw_definitions (
  id          integer     PRIMARY KEY CHECK (id = 1),
  definitions jsonb       NOT NULL,
  updated_at  timestamptz NOT NULL
);

-- A topic that is made anew, or read from another cluster, has positions of its own; those of its earlier logs stay.
-- The newest of a partition has the highest epoch.
CREATE TABLE sw_positions_by_log (
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
  PRIMARY KEY (sink, topic, partition, log)
) STRICT, WITHOUT ROWID;
INSERT INTO sw_positions_by_log SELECT sink, topic, partition, log, epoch, next_offset, first_offset, retained_from,
  outbox_seq, stored, dead, filtered, updated_at FROM sw_positions;

-- seq is dense per (sink, topic, partition, log) and in commit order.
CREATE TABLE sw_outbox_by_log (
  sink       TEXT    NOT NULL,
  topic      TEXT    NOT NULL,
  partition  INTEGER NOT NULL,
  log        INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  kind       TEXT    NOT NULL,  -- alert | dead_letter
  fact       INTEGER NOT NULL,  -- rowid of the alert or dead letter
  PRIMARY KEY (sink, topic, partition, log, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO sw_outbox_by_log SELECT o.sink, o.topic, o.partition, coalesce(p.log, 0), o.seq, o.kind, o.fact
  FROM sw_outbox o LEFT JOIN sw_positions p
  ON p.sink = o.sink AND p.topic = o.topic AND p.partition = o.partition;

DROP TABLE sw_positions;
ALTER TABLE sw_positions_by_log RENAME TO sw_positions;
DROP TABLE sw_outbox;
ALTER TABLE sw_outbox_by_log RENAME TO sw_outbox;

-- Numbers of facts are given once, also after retention has removed the newest; and how many bytes the facts hold.
CREATE TABLE sw_facts (
  kind    TEXT    PRIMARY KEY NOT NULL,  -- alert | dead_letter | late
  next_id INTEGER NOT NULL,
  bytes   INTEGER NOT NULL               -- about: texts and bytes, and a constant for each fact
) STRICT, WITHOUT ROWID;
INSERT INTO sw_facts SELECT 'alert', coalesce(max(id), 0) + 1,
  coalesce(sum(octet_length(message) + octet_length(record) + 400), 0) FROM alerts;
INSERT INTO sw_facts SELECT 'dead_letter', coalesce(max(id), 0) + 1,
  coalesce(sum(coalesce(octet_length("key"), 0) + coalesce(octet_length(value), 0) + octet_length(headers)
    + octet_length(reason) + 250), 0) FROM dead_letters;
INSERT INTO sw_facts SELECT 'late', 1, count(*) * 120 FROM sw_late;

-- An alert is of a pipeline and of a log of its topic, and has a place in lists: the number of its first transition.
ALTER TABLE alerts ADD COLUMN sink   TEXT    NOT NULL DEFAULT '';
ALTER TABLE alerts ADD COLUMN log    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE alerts ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
UPDATE alerts SET
  sink = coalesce((SELECT p.sink FROM sw_positions p WHERE p.topic = alerts.topic ORDER BY p.updated_at DESC LIMIT 1), ''),
  log = coalesce((SELECT max(l.log) FROM sw_logs l WHERE l.topic = alerts.topic AND l.created_at <= alerts.created_at), 0),
  opened = (SELECT min(first.id) FROM alerts first WHERE first.alert_id = alerts.alert_id);
DROP INDEX alerts_latest;
DROP INDEX alerts_state;
DROP INDEX alerts_rule;
DROP INDEX alerts_severity;
CREATE INDEX alerts_latest ON alerts (opened) WHERE latest = 1;
CREATE INDEX alerts_state ON alerts (state, opened) WHERE latest = 1;
CREATE INDEX alerts_rule ON alerts (rule, opened) WHERE latest = 1;
CREATE INDEX alerts_severity ON alerts (severity, opened) WHERE latest = 1;
-- Retention removes alerts by the time at which they were resolved.
CREATE INDEX alerts_resolved ON alerts (created_at) WHERE latest = 1 AND state = 'resolved';

-- Facts ascend in commit order, so their numbers are the order of the outbox; each pipeline has a part of its own.
CREATE TABLE sw_outbox_new (
  kind TEXT    NOT NULL,  -- alert | dead_letter
  sink TEXT    NOT NULL,
  fact INTEGER NOT NULL,  -- id of the alert's transition or of the dead letter
  PRIMARY KEY (kind, sink, fact)
) STRICT, WITHOUT ROWID;
INSERT INTO sw_outbox_new SELECT DISTINCT o.kind, coalesce(a.sink, o.sink), o.fact FROM sw_outbox o
  LEFT JOIN alerts a ON o.kind = 'alert' AND a.id = o.fact;
DROP TABLE sw_outbox;
ALTER TABLE sw_outbox_new RENAME TO sw_outbox;
ALTER TABLE sw_positions DROP COLUMN outbox_seq;

-- When the last record of a range was passed over: ranges leave by age as rows do.
ALTER TABLE sw_ranges ADD COLUMN stored_at INTEGER NOT NULL DEFAULT 0;
UPDATE sw_ranges SET stored_at = unixepoch() * 1000;

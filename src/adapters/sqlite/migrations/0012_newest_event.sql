-- Newest event time that moved the partition's watermark, in milliseconds since 1970; the least of all integers before
-- any. Null where an earlier version stored the records: the stream's keys tell then.
ALTER TABLE sw_positions ADD COLUMN newest_event INTEGER;

-- Records of each partition that do not count, in totals since the start.
ALTER TABLE sw_positions ADD COLUMN ahead INTEGER NOT NULL DEFAULT 0;  -- too far ahead of their log timestamp
ALTER TABLE sw_positions ADD COLUMN late INTEGER NOT NULL DEFAULT 0;   -- too late for a window, once per window
ALTER TABLE sw_positions ADD COLUMN "full" INTEGER NOT NULL DEFAULT 0; -- no room in a window's state, once per window

-- Earlier versions took event times far ahead for the present: such a key was seen, but not later than now.
UPDATE sw_keys SET last_seen = unixepoch() * 1000 WHERE last_seen > unixepoch() * 1000;

-- Why a window did not take a record: late | ahead | full.
ALTER TABLE sw_late ADD COLUMN why TEXT NOT NULL DEFAULT 'late';

-- Retention removes late notes by age.
CREATE INDEX sw_late_created_at ON sw_late (created_at);

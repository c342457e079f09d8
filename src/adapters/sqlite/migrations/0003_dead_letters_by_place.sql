-- The dead letter of one record, from the exit that names its place.
CREATE INDEX dead_letters_place ON dead_letters (topic, partition, "offset", id);

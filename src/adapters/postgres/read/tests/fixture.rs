//! A database with 20,000 sensor readings and a few of everything else, in daily partitions.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use streamward_core::{
    schema::Kind,
    table::{Column, StreamTable, WindowTable},
};

use crate::adapters::postgres::{
    read::{PostgresReads, session},
    settings::PostgresSettings,
};

/// Event time of reading 0, in milliseconds since 1970 (UTC): 2025-01-01T00:00:00Z.
pub const START_MS: i64 = 1_735_689_600_000;
/// Readings; reading `i` is at `START_MS + 100 * i`, of sensor `i % 10`, an anomaly if `i % 20 == 0`.
pub const READINGS: i64 = 20_000;

pub struct Fixture {
    pub reads: PostgresReads,
    pub writer: PgConnection,
    settings: PostgresSettings,
    database: String,
}

fn column(name: &str, kind: Kind) -> Column {
    Column { name: name.to_owned(), path: name.to_owned(), kind, nullable: false }
}

pub fn sensors() -> StreamTable {
    StreamTable {
        stream: "sensors".into(),
        topic: "sensor-readings".into(),
        table: "sensor_readings".to_owned(),
        columns: vec![
            column("sensor_id", Kind::String),
            column("sensor_type", Kind::Enum(vec!["temperature".into(), "humidity".into()])),
            column("value", Kind::Double),
            column("timestamp", Kind::Timestamp),
            column("location", Kind::String),
            column("anomaly", Kind::Boolean),
            Column { path: "metadata.battery_level".to_owned(), ..column("battery_level", Kind::Int) },
            column("signal_strength", Kind::Int),
        ],
        key: 0,
        event_time: 3,
        max_ahead_ms: 600_000,
        measure: Some(2),
        anomaly: Some(5),
        indexes: vec![0, 1],
    }
}

pub fn series() -> StreamTable {
    StreamTable {
        stream: "series".into(),
        topic: "series-readings".into(),
        table: "series_readings".to_owned(),
        columns: vec![
            column("series", Kind::String),
            column("timestamp", Kind::Timestamp),
            Column { nullable: true, ..column("value", Kind::Double) },
        ],
        key: 0,
        event_time: 1,
        max_ahead_ms: 600_000,
        measure: Some(2),
        anomaly: None,
        indexes: vec![0],
    }
}

pub fn window() -> WindowTable {
    WindowTable {
        window: "aggregated_metrics".into(),
        stream: "sensors".into(),
        group: vec![column("sensor_id", Kind::String)],
        values: vec![column("avg_value", Kind::Double), column("count", Kind::Long)],
    }
}

/// The database that the server's address leads to.
async fn server() -> PgConnection {
    PgConnection::connect(&url()).await.expect("a server")
}

fn url() -> String {
    std::env::var("STREAMWARD_POSTGRES").expect("STREAMWARD_POSTGRES: the URL of a server, with its password")
}

impl Fixture {
    pub async fn new() -> Self {
        let database = format!("read_{}", uuid::Uuid::new_v4().simple());
        server().await.execute(AssertSqlSafe(format!("CREATE DATABASE {database}"))).await.expect("a new database");
        let (server, _) =
            url().rsplit_once('/').map(|(server, name)| (server.to_owned(), name.to_owned())).expect("a URL");
        let settings = PostgresSettings::of(&format!("{server}/{database}"), None, 4).expect("a URL");
        let mut writer = PgConnection::connect_with(&settings.options("tests")).await.expect("the database is there");
        for sql in [include_str!("../../migrations/0001_streamward.sql"), TABLES_SQL] {
            writer.execute(AssertSqlSafe(sql)).await.expect("valid statements");
        }
        for sql in [READINGS_SQL, WINDOWS_SQL, ALERTS_SQL, DEAD_LETTERS_SQL, SUMMARIES_SQL] {
            writer.execute(AssertSqlSafe(sql)).await.expect("valid statements");
        }
        let reads = PostgresReads::open(&settings, vec![sensors(), series()], vec![window()]).await;
        Self { reads: reads.expect("the database is there"), writer, settings, database }
    }

    /// Reads through one connection whose statements have that long.
    pub async fn reopen(&self, timeout: std::time::Duration) -> PostgresReads {
        let options = session(self.settings.options("tests"), timeout);
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options);
        PostgresReads {
            pool: pool.await.expect("the database is there"),
            streams: vec![sensors(), series()],
            windows: vec![window()],
            timeout: super::super::READ_TIMEOUT,
        }
    }

    pub async fn write(&mut self, sql: &str) {
        self.writer.execute(AssertSqlSafe(sql)).await.expect("a valid statement");
    }

    /// Removes the database, unless autovacuum is in it.
    pub async fn drop(self) {
        self.reads.pool.close().await;
        self.writer.close().await.expect("an open connection");
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.database);
        let _ = server().await.execute(AssertSqlSafe(sql)).await;
    }
}

const TABLES_SQL: &str = "
CREATE FUNCTION ms(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$ SELECT timestamptz 'epoch' + ms * interval '1 millisecond' $$;
CREATE TABLE sensor_readings (id bigint NOT NULL, sensor_id text NOT NULL, sensor_type text NOT NULL,
  value double precision NOT NULL, timestamp timestamptz NOT NULL, location text NOT NULL, anomaly boolean NOT NULL,
  battery_level integer NOT NULL, signal_strength integer NOT NULL, stored_at timestamptz NOT NULL
) PARTITION BY RANGE (stored_at);
CREATE INDEX ON sensor_readings (timestamp, id);
CREATE INDEX ON sensor_readings (sensor_id, timestamp, id);
CREATE INDEX ON sensor_readings (sensor_type, timestamp, id);
CREATE INDEX ON sensor_readings (timestamp, id) WHERE anomaly;
CREATE INDEX ON sensor_readings USING brin (stored_at, id);
CREATE TABLE series_readings (id bigint NOT NULL, series text NOT NULL, timestamp timestamptz NOT NULL,
  value double precision, stored_at timestamptz NOT NULL) PARTITION BY RANGE (stored_at);
CREATE INDEX ON series_readings (timestamp, id);
CREATE INDEX ON series_readings (series, timestamp, id);
DO $$ BEGIN FOR part IN 0..7 LOOP
  EXECUTE format('CREATE TABLE sensor_readings_%s PARTITION OF sensor_readings FOR VALUES FROM (%L) TO (%L)', part,
    timestamptz '2025-01-01Z' + part * interval '5 minutes', timestamptz '2025-01-01Z' + (part + 1) * interval '5 minutes');
END LOOP; END $$;
CREATE TABLE aggregated_metrics (sw_row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  window_start timestamptz NOT NULL, window_end timestamptz NOT NULL, sensor_id text, avg_value double precision,
  count bigint, revision bigint NOT NULL, log bigint NOT NULL, \"partition\" integer NOT NULL,
  created_at timestamptz NOT NULL, sw_overflow text);
CREATE INDEX ON aggregated_metrics (window_start);
CREATE INDEX ON aggregated_metrics (created_at)";

const READINGS_SQL: &str = "
INSERT INTO sensor_readings (id, sensor_id, sensor_type, value, timestamp, location, anomaly,
                             battery_level, signal_strength, stored_at)
SELECT ((i % 4)::bigint << 42) | (i / 4), 'sensor_00' || i % 10,
       CASE (i / 10) % 2 WHEN 0 THEN 'temperature' ELSE 'humidity' END,
       i % 100, ms(1735689600000 + 100 * i), 'zone_' || (i % 5), i % 20 = 0, 50, -40,
       ms(1735689600000 + 100 * i + 20)
FROM generate_series(0, 19999) AS n (i)";

const WINDOWS_SQL: &str = "
INSERT INTO aggregated_metrics (window_start, window_end, sensor_id, avg_value, count, revision,
                                log, \"partition\", created_at)
SELECT ms(1735689600000 + 60000 * (i / 10)), ms(1735689660000 + 60000 * (i / 10)),
       'sensor_00' || i % 10, i, 60, 0, 0, i % 4, ms(1735689670000 + 60000 * (i / 10))
FROM generate_series(0, 199) AS n (i)";

const ALERTS_SQL: &str = "
INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, message, record,
                    event_time, topic, partition, \"offset\", created_at, latest, sink, log, opened)
SELECT i + 1, 'a' || (i / 2), i % 2, 'rule_' || (i / 2 % 3), 'sensors', 'sensor_001',
       CASE i / 2 % 2 WHEN 0 THEN 'critical' ELSE 'warning' END,
       CASE i % 2 WHEN 0 THEN 'firing' ELSE 'resolved' END, 'too hot', '{\"value\": 81.5}',
       ms(1735689600000 + i), 'sensor-readings', 0, i, ms(1735689600000 + i), i % 2 = 1 OR i = 38,
       'sensors', 0, i / 2 * 2 + 1
FROM generate_series(0, 39) AS n (i) WHERE i <> 39";

const DEAD_LETTERS_SQL: &str = "
INSERT INTO dead_letters (id, sink, topic, partition, log, \"offset\", stage, class, reason, \"key\",
                          value, headers, log_timestamp, created_at)
SELECT i + 1, 'sensors', CASE i % 3 WHEN 0 THEN 'series-readings' ELSE 'sensor-readings' END, 0, 0, i,
       'decode', CASE i % 2 WHEN 0 THEN 'decode' ELSE 'contract' END, 'not JSON', 'k'::bytea,
       CASE i WHEN 7 THEN convert_to(repeat('x', 10000), 'UTF8') WHEN 8 THEN NULL ELSE '{'::bytea END,
       '[{\"name\":\"trace\",\"value\":\"AQ==\"}]'::bytea, ms(1735689600000), ms(1735689600001)
FROM generate_series(0, 29) AS n (i)";

const SUMMARIES_SQL: &str = "
INSERT INTO sw_minutes (stream, minute, partition, count, sum, anomalies, measured)
SELECT 'sensors', date_trunc('minute', timestamp), (id >> 42) & 4095, COUNT(*), SUM(value), COUNT(*) FILTER (WHERE anomaly), COUNT(value)
FROM sensor_readings GROUP BY 2, 3;
INSERT INTO sw_keys (stream, \"key\", last_seen)
SELECT 'sensors', sensor_id, MAX(timestamp) FROM sensor_readings GROUP BY sensor_id;
UPDATE sw_keys SET last_seen = ms(1735689600000) WHERE \"key\" = 'sensor_009';
INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from,
                          stored, dead, filtered, updated_at, newest_event)
SELECT 'sensors', 'sensor-readings', p, 0, 1, 5000, 0, 0, 5000, p, 0, ms(1735691600000), 'epoch'
FROM (SELECT 0 AS p UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) AS partitions";

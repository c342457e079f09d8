//! A SQLite file with 20,000 sensor readings and a few of everything else.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use streamward_core::{
    schema::Kind,
    table::{Column, Layout, StreamTable, WindowTable},
};
use tempfile::TempDir;

use crate::adapters::sqlite::{
    SqlStore, SqliteSettings,
    read::{ReadSettings, SqliteReads},
};

/// Event time of reading 0, in milliseconds since 1970 (UTC): 2025-01-01T00:00:00Z.
pub const START_MS: i64 = 1_735_689_600_000;
/// Readings; reading `i` is at `START_MS + 100 * i`, of sensor `i % 10`, an anomaly if `i % 20 == 0`.
pub const READINGS: i64 = 20_000;

pub struct Fixture {
    pub reads: SqliteReads,
    pub writer: SqliteConnection,
    file: PathBuf,
    _folder: TempDir,
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

impl Fixture {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let file = folder.path().join("streamward.db");
        let layout = Layout { streams: vec![sensors(), series()], windows: vec![window()], ..Layout::default() };
        SqlStore::open(&file, &SqliteSettings::default(), layout).await.expect("a new file");
        let writer = SqliteConnectOptions::new().filename(&file).connect().await.expect("the file is there");
        let mut fixture =
            Self { reads: Self::open(&file, ReadSettings::default()).await, writer, file, _folder: folder };
        for sql in [READINGS_SQL, WINDOWS_SQL, ALERTS_SQL, DEAD_LETTERS_SQL, SUMMARIES_SQL] {
            fixture.write(sql).await;
        }
        fixture
    }

    async fn open(file: &std::path::Path, settings: ReadSettings) -> SqliteReads {
        SqliteReads::open(file, vec![sensors(), series()], vec![window()], settings).await.expect("the file is there")
    }

    pub async fn reopen(&self, settings: ReadSettings) -> SqliteReads {
        Self::open(&self.file, settings).await
    }

    pub async fn write(&mut self, sql: &str) {
        self.writer.execute(AssertSqlSafe(sql)).await.expect("a valid statement");
    }
}

const READINGS_SQL: &str = "
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999)
INSERT INTO sensor_readings (id, sensor_id, sensor_type, value, timestamp, location, anomaly,
                             battery_level, signal_strength, stored_at)
SELECT ((i % 4) << 42) | (i / 4), printf('sensor_%03d', i % 10),
       CASE (i / 10) % 2 WHEN 0 THEN 'temperature' ELSE 'humidity' END,
       i % 100, 1735689600000 + 100 * i, 'zone_' || (i % 5), i % 20 = 0, 50, -40,
       1735689600000 + 100 * i + 20
FROM n";

const WINDOWS_SQL: &str = "
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199)
INSERT INTO aggregated_metrics (window_start, window_end, sensor_id, avg_value, count, revision,
                                log, \"partition\", created_at)
SELECT 1735689600000 + 60000 * (i / 10), 1735689660000 + 60000 * (i / 10),
       printf('sensor_%03d', i % 10), i, 60, 0, 0, i % 4, 1735689670000 + 60000 * (i / 10)
FROM n";

const ALERTS_SQL: &str = "
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39)
INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, message, record,
                    event_time, topic, partition, \"offset\", created_at, latest, sink, log, opened)
SELECT i + 1, 'a' || (i / 2), i % 2, 'rule_' || (i / 2 % 3), 'sensors', 'sensor_001',
       CASE i / 2 % 2 WHEN 0 THEN 'critical' ELSE 'warning' END,
       CASE i % 2 WHEN 0 THEN 'firing' ELSE 'resolved' END, 'too hot', '{\"value\": 81.5}',
       1735689600000 + i, 'sensor-readings', 0, i, 1735689600000 + i, i % 2 = 1 OR i = 38,
       'sensors', 0, i / 2 * 2 + 1
FROM n WHERE i <> 39";

const DEAD_LETTERS_SQL: &str = "
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29)
INSERT INTO dead_letters (id, sink, topic, partition, log, \"offset\", stage, class, reason, \"key\",
                          value, headers, log_timestamp, created_at)
SELECT i + 1, 'sensors', CASE i % 3 WHEN 0 THEN 'series-readings' ELSE 'sensor-readings' END, 0, 0, i,
       'decode', CASE i % 2 WHEN 0 THEN 'decode' ELSE 'contract' END, 'not JSON', CAST('k' AS BLOB),
       CASE i WHEN 7 THEN zeroblob(10000) WHEN 8 THEN NULL ELSE CAST('{' AS BLOB) END,
       CAST('[{\"name\":\"trace\",\"value\":\"AQ==\"}]' AS BLOB), 1735689600000, 1735689600001
FROM n";

const SUMMARIES_SQL: &str = "
INSERT INTO sw_minutes (stream, minute, partition, count, sum, anomalies, measured)
SELECT 'sensors', timestamp / 60000 * 60000, (id >> 42) & 4095, COUNT(*), SUM(value), SUM(anomaly), COUNT(value)
FROM sensor_readings GROUP BY 2, 3;
INSERT INTO sw_keys (stream, \"key\", last_seen)
SELECT 'sensors', sensor_id, MAX(timestamp) FROM sensor_readings GROUP BY sensor_id;
UPDATE sw_keys SET last_seen = 1735689600000 WHERE \"key\" = 'sensor_009';
INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from,
                          stored, dead, filtered, updated_at)
SELECT 'sensors', 'sensor-readings', p, 0, 1, 5000, 0, 0, 5000, p, 0, 1735691600000
FROM (SELECT 0 AS p UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)";

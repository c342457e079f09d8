//! A database that is made for one test, with the product's own tables, a stream `orders` and its window `minutes`.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use streamward_core::{
    schema::Kind,
    table::{Column, Layout, StreamTable, WindowTable, row_id},
};

use super::{moment::Moment, settings::PostgresSettings};

const OWN: &str = include_str!("migrations/0001_streamward.sql");
const TABLES: &str = "CREATE TABLE orders (id bigint NOT NULL, name text, at timestamptz, stored_at timestamptz NOT NULL) \
     PARTITION BY RANGE (stored_at); CREATE INDEX orders_at ON orders (at, id); \
     CREATE TABLE minutes (sw_row bigint GENERATED ALWAYS AS IDENTITY, window_start timestamptz NOT NULL, \
     created_at timestamptz NOT NULL, n text); CREATE INDEX minutes_created_at ON minutes (created_at)";

/// A database of its own.
pub struct Scratch {
    pub settings: PostgresSettings,
    pub connection: PgConnection,
}

/// Runs a test in a database of that name, which is dropped at its end.
pub async fn with_database(name: &str, test: impl AsyncFnOnce(&mut Scratch)) {
    let url = std::env::var("STREAMWARD_POSTGRES").expect("STREAMWARD_POSTGRES");
    let mut server = PgConnection::connect(&url).await.unwrap();
    let name = format!("keep_{name}");
    let (drop, create) = (format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}"));
    for sql in [drop.clone(), create] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
    }
    let (place, _) = url.rsplit_once('/').unwrap();
    let settings = PostgresSettings::of(&format!("{place}/{name}"), None, 1).unwrap();
    let connection = PgConnection::connect_with(&settings.options("test")).await.unwrap();
    let mut scratch = Scratch { settings, connection };
    let tested = AssertUnwindSafe(async {
        scratch.run(OWN).await;
        test(&mut scratch).await;
    });
    let tested = tested.catch_unwind().await;
    std::mem::drop(scratch);
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
    if let Err(panic) = tested {
        std::panic::resume_unwind(panic);
    }
}

impl Scratch {
    pub async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await.unwrap();
    }

    pub async fn texts(&mut self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection).await.unwrap()
    }

    pub async fn count(&mut self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT ({sql})::bigint"));
        sqlx::query_scalar(sql).fetch_one(&mut self.connection).await.unwrap()
    }

    /// Another connection.
    pub async fn another(&self) -> PgConnection {
        PgConnection::connect_with(&self.settings.options("another")).await.unwrap()
    }

    /// Makes the tables of the layout, with partitions for the day before yesterday, yesterday and the present.
    pub async fn make_tables(&mut self) {
        self.run(TABLES).await;
        for (name, from, to) in [("d2", 2, 1), ("d1", 1, 0), ("d0", 0, -2)] {
            let bound = |days: i32| {
                format!("(date_trunc('day', now() AT TIME ZONE 'UTC') - interval '{days} days') AT TIME ZONE 'UTC'")
            };
            let sql = format!(
                "DO $$ BEGIN EXECUTE format('CREATE TABLE orders_{name} PARTITION OF orders FOR VALUES FROM (%L) TO (%L)', {}, {}); END $$",
                bound(from),
                bound(to)
            );
            self.run(&sql).await;
        }
    }

    /// Stores rows of partition 0 of a log, from an offset on, as if it had been some time ago; and moves its position.
    pub async fn store(&mut self, log: i64, offsets: std::ops::Range<i64>, ago: Duration) {
        let at = Moment(crate::clock::now_ms() - i64::try_from(ago.as_millis()).unwrap());
        sqlx::query("INSERT INTO orders SELECT id, 'n' || id, now(), $3 FROM generate_series($1::bigint, $2) AS r(id)")
            .bind(row_id(log, 0, offsets.start))
            .bind(row_id(log, 0, offsets.end - 1))
            .bind(at)
            .execute(&mut self.connection)
            .await
            .unwrap();
        self.position(log, offsets.end).await;
    }

    /// Puts the position of partition 0 of a log at an offset.
    pub async fn position(&mut self, log: i64, offset: i64) {
        sqlx::query(
            "INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from, \
             newest_event, updated_at) VALUES ('orders', 'orders', 0, $1, $1 + 1, $2, 0, 0, '-infinity', now()) \
             ON CONFLICT (sink, topic, partition, log) DO UPDATE SET next_offset = excluded.next_offset",
        )
        .bind(log)
        .bind(offset)
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    /// Stores dead letters of partition 0 with values of a length, announced or not.
    pub async fn letters(&mut self, offsets: std::ops::Range<i64>, bytes: i32, waits: bool) {
        sqlx::query(
            "WITH taken AS (UPDATE sw_facts SET next_id = next_id + $2 - $1, bytes = bytes + ($2 - $1) * (250 + 2 + $3 + 3) \
             WHERE kind = 'dead_letter' RETURNING next_id - ($2 - $1) AS first), \
             stored AS (INSERT INTO dead_letters SELECT first + o - $1, 'orders', 'orders', 0, 0, o, 'decode', 'decode', 'bad', \
             'dead', NULL, (SELECT string_agg(decode(md5(o || '-' || i), 'hex'), '') FROM generate_series(0, $3 / 16) AS p(i)), '[]', now(), now(), NULL \
             FROM taken, generate_series($1::bigint, $2 - 1) AS s(o) RETURNING id) \
             INSERT INTO sw_outbox SELECT 'dead_letter', 'orders', id FROM stored WHERE $4",
        )
        .bind(offsets.start)
        .bind(offsets.end)
        .bind(bytes)
        .bind(waits)
        .execute(&mut self.connection)
        .await
        .unwrap();
    }

    /// Stores a transition of an alert of the rule `hot` of partition 0 of a log, which is its newest.
    pub async fn alert(&mut self, alert_id: &str, (n, state): (i64, &str), log: i64) {
        self.run("UPDATE alerts SET latest = false WHERE alert_id = 'ID'".replace("ID", alert_id).as_str()).await;
        sqlx::query(
            "WITH taken AS (UPDATE sw_facts SET next_id = next_id + 1, bytes = bytes + 400 + 3 + 2 WHERE kind = 'alert' \
             RETURNING next_id - 1 AS id), \
             stored AS (INSERT INTO alerts SELECT id, $1, $2, 'hot', 'orders', 'k', 'warning', $3, 'hot', '{}', now(), 'orders', \
             0, 7, now(), true, NULL, 'orders', $4, coalesce((SELECT min(opened) FROM alerts WHERE alert_id = $1), id) \
             FROM taken RETURNING id) \
             INSERT INTO sw_outbox SELECT 'alert', 'orders', id FROM stored",
        )
        .bind(alert_id)
        .bind(n)
        .bind(state)
        .bind(log)
        .execute(&mut self.connection)
        .await
        .unwrap();
    }
}

/// The stream `orders` with its window `minutes`, read by a pipeline of the same name with the rule `hot`.
pub fn layout() -> Layout {
    let column = |name: &str, kind| Column { name: name.to_owned(), path: name.to_owned(), kind, nullable: true };
    let stream = StreamTable {
        stream: "orders".into(),
        topic: "orders".into(),
        table: "orders".to_owned(),
        columns: vec![column("name", Kind::String), column("at", Kind::Timestamp)],
        key: 0,
        event_time: 1,
        max_ahead_ms: 0,
        measure: None,
        anomaly: None,
        indexes: Vec::new(),
    };
    let values = vec![column("n", Kind::String)];
    let window = WindowTable { window: "minutes".into(), stream: "orders".into(), group: Vec::new(), values };
    Layout {
        streams: vec![stream],
        windows: vec![window],
        sinks: vec![("orders".into(), "orders".into())],
        rules: vec![("orders".into(), "hot".into())],
        ..Layout::default()
    }
}

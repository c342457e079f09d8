//! Reads of `streamward.db`, past everything that Streamward says about it.

use std::path::PathBuf;

use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{
    kafka::Acked,
    wait::{self, is},
};

/// The database file; every read opens it anew.
pub struct Database(PathBuf);

impl Database {
    pub fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// All rows of a query.
    pub async fn rows(&self, sql: &str) -> Vec<SqliteRow> {
        let options = SqliteConnectOptions::new().filename(&self.0).busy_timeout(wait::PATIENCE);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one number that a query answers.
    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::Row::get(&self.rows(sql).await[0], 0)
    }

    /// Rows of a table.
    pub async fn count(&self, table: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {table}")).await
    }

    /// Position of a pipeline in each partition of its topic, by partition.
    pub async fn positions(&self, pipeline: &str) -> Vec<i64> {
        let rows = self
            .rows(&format!(
                "SELECT next_offset FROM sw_positions WHERE sink = '{pipeline}' \
                 AND log = (SELECT max(log) FROM sw_positions WHERE sink = '{pipeline}') ORDER BY \"partition\""
            ))
            .await;
        rows.iter().map(|row| sqlx::Row::get(row, 0)).collect()
    }

    /// Waits until a pipeline's positions are behind the last acknowledged record of each partition, exactly.
    pub async fn wait_for_all(&self, pipeline: &str, acked: &[Acked]) {
        self.wait_for_places(pipeline, acked.iter().map(|record| (record.partition, record.offset))).await;
    }

    /// The same for partitions and offsets.
    pub async fn wait_for_places(&self, pipeline: &str, places: impl Iterator<Item = (i32, i64)>) {
        let mut ends = vec![0; self.positions(pipeline).await.len()];
        for (partition, offset) in places {
            let end = &mut ends[usize::try_from(partition).unwrap()];
            *end = (*end).max(offset + 1);
        }
        wait::until("every acknowledged record is processed", async || is(self.positions(pipeline).await, &ends)).await;
    }
}

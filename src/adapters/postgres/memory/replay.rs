//! Partitions whose checkpoint is older than their position: the server was killed, or it still runs.
//!
//! What lies in between is read again. A rule that is new says nothing of it; and where somebody allows other settings,
//! nothing is read again, and windows and rules begin at the position.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row, postgres::PgRow};
use streamward_core::{
    definition::Definitions,
    output::StateChunk,
    partition::{WATERMARK, begin_at},
    steps::rule::rule_from,
};
use streamward_pipeline::store::StoreError;

use super::{Moment, store_error};
use crate::{adapters::postgres::orphans, clock::now_ms};

/// The newest log of each partition of the pipeline's topic.
const BEHIND: &str = "SELECT p.topic, p.partition, p.log, p.next_offset, coalesce(c.next_offset, p.first_offset), c.bytes \
     FROM sw_positions p LEFT JOIN sw_checkpoints c ON c.sink = p.sink AND c.topic = p.topic \
     AND c.partition = p.partition AND c.log = p.log AND c.chunk = $1 \
     WHERE p.sink = $2 AND p.topic = $3 AND p.next_offset > coalesce(c.next_offset, p.first_offset) \
     AND p.epoch = (SELECT max(epoch) FROM sw_positions n \
                    WHERE n.sink = p.sink AND n.topic = p.topic AND n.partition = p.partition) \
     ORDER BY p.partition";

/// A partition that is behind.
struct Behind {
    topic: String,
    partition: i32,
    log: i64,
    position: i64,
    covered: i64,
    watermark: Option<StateChunk>,
}

/// Records that each pipeline has stored since its checkpoints.
pub(super) async fn behind(
    connection: &mut PgConnection,
    definitions: &Definitions,
) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let mut all = BTreeMap::new();
    for (pipeline, defined) in &definitions.pipelines {
        let Some(stream) = definitions.streams.get(&defined.stream) else { continue };
        let behind = partitions(connection, (pipeline, &stream.topic)).await?;
        let records: i64 = behind.iter().map(|partition| partition.position - partition.covered).sum();
        all.insert(pipeline.clone(), u64::try_from(records).unwrap_or(0));
    }
    Ok(all)
}

/// Makes rules that are new begin at the position: what happened below is over, and nobody was told of it.
pub(super) async fn begin_new_rules(
    connection: &mut PgConnection,
    before: &Definitions,
    now: &Definitions,
) -> Result<(), sqlx::Error> {
    for (pipeline, rule) in before.new_rules(now) {
        let Some(stream) = before.streams.get(&now.pipelines[&pipeline].stream) else { continue };
        for partition in partitions(connection, (&pipeline, &stream.topic)).await? {
            partition.begin_rule(connection, &pipeline, &rule).await?;
        }
    }
    Ok(())
}

/// Makes a rule begin at the position of a partition, if that is behind; within a transaction that holds the position.
///
/// # Errors
/// Of the database.
pub async fn begin_rule(
    connection: &mut PgConnection,
    (pipeline, topic, partition): (&str, &str, i32),
    rule: &str,
) -> Result<(), sqlx::Error> {
    let behind = partitions(connection, (pipeline, topic)).await?;
    match behind.iter().find(|behind| behind.partition == partition) {
        Some(behind) => behind.begin_rule(connection, pipeline, rule).await,
        None => Ok(()),
    }
}

impl Behind {
    async fn begin_rule(&self, connection: &mut PgConnection, pipeline: &str, rule: &str) -> Result<(), sqlx::Error> {
        keep(connection, pipeline, self, (self.covered, &rule_from(rule, self.position))).await
    }
}

/// Makes the windows and rules of a pipeline begin at its positions. Its alerts that fire are resolved.
pub(super) async fn begin_anew(
    connection: &mut PgConnection,
    before: &Definitions,
    pipeline: &str,
) -> Result<(), StoreError> {
    let defined = before.pipelines.get(pipeline).and_then(|defined| before.streams.get(&defined.stream));
    let Some(stream) = defined else { return Ok(()) };
    let behind = partitions(connection, (pipeline, &stream.topic)).await.map_err(store_error)?;
    for partition in behind {
        let start = begin_at(partition.position, partition.watermark.as_ref())
            .map_err(|error| StoreError::Protocol(error.to_string()))?;
        sqlx::query("DELETE FROM sw_checkpoints WHERE sink = $1 AND topic = $2 AND partition = $3")
            .bind(pipeline)
            .bind(&partition.topic)
            .bind(partition.partition)
            .execute(&mut *connection)
            .await
            .map_err(store_error)?;
        keep(connection, pipeline, &partition, (partition.position, &start)).await.map_err(store_error)?;
        tracing::warn!(
            pipeline,
            topic = partition.topic,
            partition = partition.partition,
            records = partition.position - partition.covered,
            "windows and rules begin anew at the position: records since the checkpoint are not read again"
        );
    }
    orphans::resolve_of(connection, pipeline).await.map_err(store_error)
}

async fn partitions(
    connection: &mut PgConnection,
    (pipeline, topic): (&str, &str),
) -> Result<Vec<Behind>, sqlx::Error> {
    let rows = sqlx::query(BEHIND).bind(WATERMARK).bind(pipeline).bind(topic).fetch_all(connection).await?;
    let behind = |row: &PgRow| {
        let bytes: Option<Vec<u8>> = row.try_get(5)?;
        Ok(Behind {
            topic: row.try_get(0)?,
            partition: row.try_get(1)?,
            log: row.try_get(2)?,
            position: row.try_get(3)?,
            covered: row.try_get(4)?,
            watermark: bytes.map(|bytes| StateChunk { name: WATERMARK.into(), bytes }),
        })
    };
    rows.iter().map(behind).collect()
}

/// Writes one chunk of a partition's checkpoint. State of an earlier log makes room.
async fn keep(
    connection: &mut PgConnection,
    pipeline: &str,
    partition: &Behind,
    (covered, chunk): (i64, &StateChunk),
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sw_checkpoints WHERE sink = $1 AND topic = $2 AND partition = $3 AND log <> $4")
        .bind(pipeline)
        .bind(&partition.topic)
        .bind(partition.partition)
        .bind(partition.log)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO sw_checkpoints (sink, topic, partition, chunk, log, next_offset, bytes, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (sink, topic, partition, chunk) DO UPDATE SET \
         log = excluded.log, next_offset = excluded.next_offset, bytes = excluded.bytes, updated_at = excluded.updated_at",
    )
    .bind(pipeline)
    .bind(&partition.topic)
    .bind(partition.partition)
    .bind(&*chunk.name)
    .bind(partition.log)
    .bind(covered)
    .bind(chunk.bytes.as_slice())
    .bind(Moment(now_ms()))
    .execute(connection)
    .await
    .map(drop)
}

//! Partitions whose checkpoint is older than their position: the server was killed, or it still runs.
//!
//! What lies in between is read again. A rule that is new says nothing of it; and where somebody allows other settings,
//! nothing is read again, and windows and rules begin at the position.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use streamward_core::{
    definition::Definitions,
    output::StateChunk,
    partition::{WATERMARK, begin_at},
    steps::rule::rule_from,
};

use super::{super::orphans, WriteError};
use crate::clock::now_ms;

/// The newest log of each partition of the pipeline's topic.
const BEHIND: &str = "SELECT p.topic, p.\"partition\", p.log, p.next_offset, coalesce(c.next_offset, p.first_offset), c.bytes \
     FROM sw_positions p LEFT JOIN sw_checkpoints c ON c.sink = p.sink AND c.topic = p.topic \
     AND c.\"partition\" = p.\"partition\" AND c.log = p.log AND c.chunk = ?1 \
     WHERE p.sink = ?2 AND p.topic = ?3 AND p.next_offset > coalesce(c.next_offset, p.first_offset) \
     AND p.epoch = (SELECT max(epoch) FROM sw_positions n \
                    WHERE n.sink = p.sink AND n.topic = p.topic AND n.\"partition\" = p.\"partition\")";

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
pub(super) fn behind(
    connection: &Connection,
    definitions: &Definitions,
) -> Result<BTreeMap<String, u64>, rusqlite::Error> {
    let mut all = BTreeMap::new();
    for (pipeline, defined) in &definitions.pipelines {
        let Some(stream) = definitions.streams.get(&defined.stream) else { continue };
        let behind = partitions(connection, (pipeline, &stream.topic))?;
        let records: i64 = behind.iter().map(|partition| partition.position - partition.covered).sum();
        all.insert(pipeline.clone(), u64::try_from(records).unwrap_or(0));
    }
    Ok(all)
}

/// Makes rules that are new begin at the position: what happened below is over, and nobody was told of it.
pub(super) fn begin_new_rules(
    connection: &Connection,
    before: &Definitions,
    now: &Definitions,
) -> Result<(), WriteError> {
    for (pipeline, rule) in before.new_rules(now) {
        let Some(stream) = before.streams.get(&now.pipelines[&pipeline].stream) else { continue };
        for partition in partitions(connection, (&pipeline, &stream.topic))? {
            partition.begin_rule(connection, &pipeline, &rule)?;
        }
    }
    Ok(())
}

/// Makes a rule begin at the position of a partition, if that is behind.
pub(in crate::adapters::sqlite) fn begin_rule(
    connection: &Connection,
    (pipeline, topic, partition): (&str, &str, i32),
    rule: &str,
) -> Result<(), rusqlite::Error> {
    let behind = partitions(connection, (pipeline, topic))?;
    let found = behind.iter().find(|behind| behind.partition == partition);
    found.map_or(Ok(()), |behind| behind.begin_rule(connection, pipeline, rule))
}

impl Behind {
    fn begin_rule(&self, connection: &Connection, pipeline: &str, rule: &str) -> Result<(), rusqlite::Error> {
        keep(connection, pipeline, self, (self.covered, &rule_from(rule, self.position)))
    }
}

/// Makes the windows and rules of a pipeline begin at its positions. Its alerts that fire are resolved.
pub(super) fn begin_anew(connection: &Connection, before: &Definitions, pipeline: &str) -> Result<(), WriteError> {
    let defined = before.pipelines.get(pipeline).and_then(|defined| before.streams.get(&defined.stream));
    let Some(stream) = defined else { return Ok(()) };
    for partition in partitions(connection, (pipeline, &stream.topic))? {
        let start = begin_at(partition.position, partition.watermark.as_ref())
            .map_err(|error| WriteError::Protocol(error.to_string()))?;
        connection.execute(
            "DELETE FROM sw_checkpoints WHERE sink = ? AND topic = ? AND \"partition\" = ?",
            params![pipeline, partition.topic, partition.partition],
        )?;
        keep(connection, pipeline, &partition, (partition.position, &start))?;
        tracing::warn!(
            pipeline,
            topic = partition.topic,
            partition = partition.partition,
            records = partition.position - partition.covered,
            "windows and rules begin anew at the position: records since the checkpoint are not read again"
        );
    }
    orphans::resolve_of(connection, pipeline)?;
    Ok(())
}

fn partitions(connection: &Connection, (pipeline, topic): (&str, &str)) -> Result<Vec<Behind>, rusqlite::Error> {
    let mut select = connection.prepare_cached(BEHIND)?;
    let behind = select.query_map(params![WATERMARK, pipeline, topic], |row| {
        let bytes: Option<Vec<u8>> = row.get(5)?;
        Ok(Behind {
            topic: row.get(0)?,
            partition: row.get(1)?,
            log: row.get(2)?,
            position: row.get(3)?,
            covered: row.get(4)?,
            watermark: bytes.map(|bytes| StateChunk { name: WATERMARK.into(), bytes }),
        })
    })?;
    behind.collect()
}

/// Writes one chunk of a partition's checkpoint. State of an earlier log makes room.
fn keep(
    connection: &Connection,
    pipeline: &str,
    partition: &Behind,
    (covered, chunk): (i64, &StateChunk),
) -> Result<(), rusqlite::Error> {
    connection.execute(
        "DELETE FROM sw_checkpoints WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log <> ?",
        params![pipeline, partition.topic, partition.partition, partition.log],
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO sw_checkpoints (sink, topic, \"partition\", chunk, log, next_offset, bytes, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            pipeline,
            partition.topic,
            partition.partition,
            &*chunk.name,
            partition.log,
            covered,
            chunk.bytes,
            now_ms()
        ],
    )?;
    Ok(())
}

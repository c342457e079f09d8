//! The position protocol: rows, windows, alerts, dead letters, state and position in one transaction.
//!
//! The positions of all partitions concerned are held first, in the order of their keys; outputs are compared with them
//! one after the other, and what does not follow is left out. Each kind of effect is one statement for all outputs. A
//! transaction that the database refuses is done again with each output apart ([`super::apart`]). What a commit came to
//! that had no answer is told by the positions at the next attempt.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sqlx::{AssertSqlSafe, PgConnection};
use streamward_core::table::StreamTable;
use streamward_pipeline::store::{Outcome, PartitionKey, Pending};

use super::{
    PostgresStore,
    connection::WriteError,
    ddl,
    facts::{self, OfStream},
    fault::{Fault, fault_of},
    moment::Moment,
    names::quoted,
    positions::{self, Positions},
    rows::{Origin, Part, RowBuffer, arrays, unfit},
    summaries,
};
use crate::{
    adapters::{refused, seen::SeenKeys},
    clock::now_ms,
};

const REFUSED_ROWS: &str = "SELECT count(*) FROM dead_letters WHERE topic = $1 AND partition = $2 AND \"offset\" >= $3 \
     AND \"offset\" < $4 AND sink = $5 AND log = $6 AND stage = $7";

const CHUNKS: &str = "INSERT INTO sw_checkpoints AS c (sink, topic, partition, log, next_offset, updated_at, chunk, bytes) \
     SELECT $1, $2, $3, $4, $5, $6, * FROM unnest($7::text[], $8::bytea[]) ON CONFLICT (sink, topic, partition, chunk) \
     DO UPDATE SET log = excluded.log, next_offset = excluded.next_offset, bytes = excluded.bytes, \
     updated_at = excluded.updated_at";
const COVERED: &str = "UPDATE sw_checkpoints SET next_offset = $5 WHERE sink = $1 AND topic = $2 AND partition = $3 \
     AND log = $4 AND next_offset <> $5";
const FORGOTTEN: &str = "DELETE FROM sw_decisions WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 \
     AND first_offset < $5";

/// Outcomes, and whether the outbox grew.
pub type Done = (Vec<Outcome>, bool);

impl PostgresStore {
    /// Commits outputs in one transaction; see `SinkStore::commit`.
    pub(super) async fn commit_on(
        &self,
        connection: &mut PgConnection,
        pending: &[Arc<Pending>],
    ) -> Result<Done, WriteError> {
        let mut seen = self.seen.lock().await;
        let now_ms = now_ms();
        self.ensure_days(connection, now_ms).await?;
        seen.forget();
        let done = match self.commit_together(connection, &mut seen, (pending, now_ms)).await {
            Err(error) if !may_pass(&error) => {
                execute(connection, "ROLLBACK").await?;
                seen.forget();
                // Somebody may have dropped the day.
                *self.day.lock().await = None;
                self.ensure_days(connection, now_ms).await?;
                self.commit_apart(connection, &mut seen, (pending, now_ms)).await?
            }
            done => done?,
        };
        execute(connection, "COMMIT").await?;
        seen.keep();
        Ok(done)
    }

    async fn commit_together(
        &self,
        connection: &mut PgConnection,
        seen: &mut SeenKeys,
        (pending, now_ms): (&[Arc<Pending>], i64),
    ) -> Result<Done, WriteError> {
        execute(connection, "BEGIN").await?;
        let mut positions = Positions::hold(connection, pending.iter().map(|pending| &**pending)).await?;
        let mut outcomes = Vec::with_capacity(pending.len());
        let mut accepted: Vec<&Pending> = Vec::with_capacity(pending.len());
        for one in pending {
            let outcome = positions.judge(one);
            if outcome == Outcome::Committed {
                positions.pass(one);
                accepted.push(one);
            }
            outcomes.push(outcome);
        }
        count_refused(connection, pending, &mut outcomes).await?;
        if accepted.is_empty() {
            return Ok((outcomes, false));
        }
        let mut rows: BTreeMap<&str, Vec<Part<'_>>> = BTreeMap::new();
        for one in &accepted {
            let output = &one.output;
            if let Some((_, why)) = unfit(&output.rows, 0..output.offsets.len())? {
                return Err(WriteError::Protocol(why));
            }
            if !output.offsets.is_empty() {
                let part = (&output.rows, &*output.offsets, 0..output.offsets.len(), origin(one, now_ms));
                rows.entry(self.stream_of(&one.key.sink)?).or_default().push(part);
            }
        }
        for (stream, parts) in rows {
            insert(connection, self.table_of(stream)?, &parts, now_ms).await?;
        }
        let grew = self.write_beside_rows(connection, seen, (&accepted, &positions), now_ms).await?;
        Ok((outcomes, grew))
    }

    /// Writes everything but the rows of outputs, and moves their positions; says whether the outbox grew.
    pub(super) async fn write_beside_rows(
        &self,
        connection: &mut PgConnection,
        seen: &mut SeenKeys,
        (outputs, positions): (&[&Pending], &Positions),
        now_ms: i64,
    ) -> Result<bool, WriteError> {
        let of_stream = outputs.iter().map(|one| Ok((*one, self.stream_of(&one.key.sink)?)));
        let of_stream: Vec<OfStream<'_>> = of_stream.collect::<Result<_, WriteError>>()?;
        self.windows.store(connection, outputs, now_ms).await?;
        summaries::store(connection, &of_stream, seen).await?;
        for of_log in by_log(outputs) {
            facts::places(connection, &of_log, now_ms).await?;
            checkpoint(connection, &of_log, positions, now_ms).await?;
        }
        // The rows of `sw_facts` are taken in one order: alert, dead letter, late.
        let alerts = facts::alerts(connection, &of_stream, positions, now_ms).await?;
        let letters = facts::dead_letters(connection, &of_stream, now_ms).await?;
        facts::late(connection, &of_stream, now_ms).await?;
        positions::advance(connection, outputs, now_ms).await?;
        Ok(alerts || letters)
    }

    pub(super) fn stream_of(&self, sink: &str) -> Result<&str, WriteError> {
        let found = self.layout.sinks.iter().find(|(name, _)| **name == *sink);
        let stream = found.map(|(_, stream)| &**stream);
        stream.ok_or_else(|| WriteError::Protocol(format!("no sink named {sink}")))
    }

    pub(super) fn table_of(&self, stream: &str) -> Result<&StreamTable, WriteError> {
        let table = self.layout.streams.iter().find(|table| *table.stream == *stream);
        table.ok_or_else(|| WriteError::Protocol(format!("no table for stream {stream}")))
    }

    /// Makes the partitions of the present day, once. What is wrong with a table is told by the rows for it.
    async fn ensure_days(&self, connection: &mut PgConnection, now_ms: i64) -> Result<(), sqlx::Error> {
        let day = ddl::day_of(now_ms);
        let mut known = self.day.lock().await;
        if *known == Some(day) {
            return Ok(());
        }
        let mut are_all_there = true;
        for table in &self.layout.streams {
            match ddl::ensure_day(connection, &table.table, day).await {
                Err(error) if fault_of(&error) == Fault::Moment => return Err(error),
                Err(_) => are_all_there = false,
                Ok(_) => {}
            }
        }
        *known = are_all_there.then_some(day);
        Ok(())
    }
}

/// Whether the moment is at fault: the same commit may succeed later.
pub(super) fn may_pass(error: &WriteError) -> bool {
    matches!(error, WriteError::Sql(error) if fault_of(error) == Fault::Moment)
}

pub(super) async fn execute(connection: &mut PgConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sql).execute(connection).await.map(drop)
}

pub(super) fn origin(pending: &Pending, now_ms: i64) -> Origin {
    Origin { log: pending.log, partition: pending.key.partition, stored_at_ms: now_ms }
}

/// Rows from which on COPY is worth its messages. The last one is short and waits for an acknowledgement of the rows, since
/// the client leaves Nagle's algorithm on: that is 40 ms where nothing else is under way.
const MANY: usize = 4_096;

/// Stores rows in the partition of the present day.
pub(super) async fn insert(
    connection: &mut PgConnection,
    table: &StreamTable,
    parts: &[Part<'_>],
    now_ms: i64,
) -> Result<(), WriteError> {
    let names: String = table.columns.iter().map(|column| format!("{}, ", quoted(&column.name))).collect();
    let day = quoted(&ddl::partition_of(&table.table, ddl::day_of(now_ms)));
    let count: usize = parts.iter().map(|(_, _, rows, _)| rows.len()).sum();
    let stored = if count < MANY {
        let arrays = arrays(parts)?;
        let types = ["bigint".into()].into_iter().chain(table.columns.iter().map(|column| ddl::sql_type(&column.kind)));
        let types: Vec<String> = types.zip(1..).map(|(sql_type, place)| format!("${place}::{sql_type}[]")).collect();
        let sql = format!(
            "INSERT INTO {day} (id, {names}stored_at) SELECT *, ${}::timestamptz FROM unnest({})",
            arrays.len() + 1,
            types.join(", ")
        );
        let query = arrays.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, array| query.bind(array));
        query.bind(Moment(now_ms)).execute(connection).await?.rows_affected()
    } else {
        let mut buffer = RowBuffer::new();
        for (batch, offsets, rows, origin) in parts {
            buffer.push((batch, offsets), rows.clone(), *origin)?;
        }
        let copy = format!("COPY {day} (id, {names}stored_at) FROM STDIN (FORMAT binary)");
        let mut copying = connection.copy_in_raw(&copy).await?;
        copying.send(buffer.finish()).await?;
        copying.finish().await?
    };
    if stored == count as u64 { Ok(()) } else { Err(WriteError::LeftOut) }
}

/// The outputs of each partition's log, in their order.
fn by_log<'a>(outputs: &[&'a Pending]) -> Vec<Vec<&'a Pending>> {
    let mut places: HashMap<(&PartitionKey, i64), usize> = HashMap::new();
    let mut logs: Vec<Vec<&Pending>> = Vec::new();
    for one in outputs {
        let place = *places.entry((&one.key, one.log)).or_insert(logs.len());
        if place == logs.len() {
            logs.push(Vec::new());
        }
        logs[place].push(one);
    }
    logs
}

/// Adds to the outcomes of what was committed before how many rows were refused then.
pub(super) async fn count_refused(
    connection: &mut PgConnection,
    pending: &[Arc<Pending>],
    outcomes: &mut [Outcome],
) -> Result<(), sqlx::Error> {
    for (one, outcome) in pending.iter().zip(outcomes) {
        if *outcome != Outcome::AlreadyCommitted {
            continue;
        }
        let refused: i64 = sqlx::query_scalar(REFUSED_ROWS)
            .bind(&*one.key.topic)
            .bind(one.key.partition)
            .bind(one.output.start)
            .bind(one.output.end)
            .bind(&*one.key.sink)
            .bind(one.log)
            .bind(refused::STAGE)
            .fetch_one(&mut *connection)
            .await?;
        if let Some(refused) = u64::try_from(refused).ok().filter(|refused| *refused > 0) {
            *outcome = Outcome::CommittedWithout(refused);
        }
    }
    Ok(())
}

/// Stores the newest bytes of each state chunk, and forgets decisions that they cover.
async fn checkpoint(
    connection: &mut PgConnection,
    outputs: &[&Pending],
    positions: &Positions,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let with_state = outputs.iter().rev().find(|one| !one.output.checkpoint.is_empty());
    // A late output of an earlier log must not touch the state of the newer one.
    let Some(newest) = with_state.filter(|one| !positions.is_superseded(one)) else { return Ok(()) };
    let chunks = outputs.iter().flat_map(|one| &one.output.checkpoint);
    let chunks: BTreeMap<&str, &[u8]> = chunks.map(|chunk| (&*chunk.name, chunk.bytes.as_slice())).collect();
    let (key, end) = (&newest.key, newest.output.end);
    let of_log = |sql: &'static str| {
        sqlx::query(sql).bind(&*key.sink).bind(&*key.topic).bind(key.partition).bind(newest.log).bind(end)
    };
    of_log(CHUNKS)
        .bind(Moment(now_ms))
        .bind(chunks.keys().copied().collect::<Vec<_>>())
        .bind(chunks.values().copied().collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    of_log(COVERED).execute(&mut *connection).await?;
    of_log(FORGOTTEN).execute(connection).await.map(drop)
}

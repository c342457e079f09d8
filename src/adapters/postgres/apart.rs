//! A transaction that the database has refused, done again with each output apart.
//!
//! A row that the database does not take (a constraint or trigger that somebody added, a value that it has no place for)
//! becomes a dead letter, in the same transaction: the rows of the output are halved, behind savepoints, until the refused
//! ones stand alone. An output that cannot be stored for any other reason is refused, and with it what
//! follows in its partition; the other partitions go on.

use std::{collections::HashMap, sync::Arc};

use sqlx::PgConnection;
use streamward_core::table::StreamTable;
use streamward_pipeline::store::{Outcome, PartitionKey, Pending};

use super::{
    PostgresStore,
    commit::{Done, count_refused, execute, insert, may_pass, origin},
    connection::{LEFT_OUT, WriteError},
    fault::{Fault, fault_of, words},
    positions::Positions,
    rows::unfit,
};
use crate::adapters::{
    refused::{bounded, without},
    seen::SeenKeys,
};

impl PostgresStore {
    /// As a commit does, output by output; the transaction is open afterwards.
    pub(super) async fn commit_apart(
        &self,
        connection: &mut PgConnection,
        seen: &mut SeenKeys,
        (pending, now_ms): (&[Arc<Pending>], i64),
    ) -> Result<Done, WriteError> {
        execute(connection, "BEGIN").await?;
        let mut positions = Positions::hold(connection, pending.iter().map(|pending| &**pending)).await?;
        let mut refused: HashMap<(PartitionKey, i64), Arc<str>> = HashMap::new();
        let (mut outcomes, mut grew) = (Vec::with_capacity(pending.len()), false);
        for one in pending {
            let outcome = positions.judge(one);
            let place = (one.key.clone(), one.epoch);
            let outcome = match (outcome, refused.get(&place)) {
                (Outcome::Stale, Some(why)) => Outcome::Refused(why.clone()),
                (Outcome::Committed, _) => {
                    let mark = seen.mark();
                    execute(connection, "SAVEPOINT output").await?;
                    match self.write_apart(connection, seen, (one, &positions), now_ms).await {
                        Ok((has_facts, without)) => {
                            execute(connection, "RELEASE output").await?;
                            grew |= has_facts;
                            positions.pass(one);
                            if without == 0 { Outcome::Committed } else { Outcome::CommittedWithout(without) }
                        }
                        Err(error) if may_pass(&error) => return Err(error),
                        Err(error) => {
                            let why: Arc<str> = reason(&error).into();
                            execute(connection, "ROLLBACK TO output; RELEASE output").await?;
                            seen.back_to(mark);
                            refused.insert(place, why.clone());
                            Outcome::Refused(why)
                        }
                    }
                }
                (outcome, _) => outcome,
            };
            outcomes.push(outcome);
        }
        count_refused(connection, pending, &mut outcomes).await?;
        Ok((outcomes, grew))
    }

    /// Writes one output; says whether the outbox grew, and how many rows were refused.
    async fn write_apart(
        &self,
        connection: &mut PgConnection,
        seen: &mut SeenKeys,
        (pending, positions): (&Pending, &Positions),
        now_ms: i64,
    ) -> Result<(bool, u64), WriteError> {
        let table = self.table_of(self.stream_of(&pending.key.sink)?)?;
        let refused = rows_apart(connection, table, pending, now_ms).await?;
        if refused.is_empty() {
            let grew = self.write_beside_rows(connection, seen, (&[pending], positions), now_ms).await?;
            return Ok((grew, 0));
        }
        let rest = Pending {
            key: pending.key.clone(),
            epoch: pending.epoch,
            log: pending.log,
            output: without(table, pending, &refused).map_err(WriteError::Protocol)?,
            beside: pending.beside.clone(),
            raw: None,
        };
        let grew = self.write_beside_rows(connection, seen, (&[&rest], positions), now_ms).await?;
        Ok((grew, refused.len() as u64))
    }
}

/// Stores the rows of an output that the database takes; the others, ascending, with its reasons.
///
/// Rows go in runs: one that is refused is tried again by halves until the refused row stands alone, and runs grow again
/// behind it. So a row among good ones costs some attempts, and one among bad ones a single one.
async fn rows_apart(
    connection: &mut PgConnection,
    table: &StreamTable,
    pending: &Pending,
    now_ms: i64,
) -> Result<Vec<(usize, String)>, WriteError> {
    let (output, mut refused) = (&pending.output, Vec::new());
    let (mut next, rows) = (0, output.offsets.len());
    let mut run = rows;
    execute(connection, "SAVEPOINT record").await?;
    while next < rows {
        let mut end = (next + run).min(rows);
        if let Some((row, why)) = unfit(&output.rows, next..end)? {
            if row == next {
                refused.push((row, why));
                next += 1;
                continue;
            }
            end = row;
        }
        let part = (&output.rows, &*output.offsets, next..end, origin(pending, now_ms));
        match insert(connection, table, &[part], now_ms).await {
            Ok(()) => {
                execute(connection, "RELEASE record; SAVEPOINT record").await?;
                next = end;
                run = run.saturating_mul(2);
            }
            Err(error) if is_of_a_row(&error) => {
                execute(connection, "ROLLBACK TO record").await?;
                if end - next == 1 {
                    refused.push((next, bounded(reason(&error))));
                    next = end;
                } else {
                    run = (end - next) / 2;
                }
            }
            Err(error) => return Err(error),
        }
    }
    execute(connection, "RELEASE record").await?;
    Ok(refused)
}

fn is_of_a_row(error: &WriteError) -> bool {
    match error {
        WriteError::Sql(error) => fault_of(error) == Fault::Row,
        WriteError::LeftOut => true,
        WriteError::Protocol(_) => false,
    }
}

fn reason(error: &WriteError) -> String {
    match error {
        WriteError::LeftOut => LEFT_OUT.to_owned(),
        WriteError::Sql(error) => words(error),
        WriteError::Protocol(why) => why.clone(),
    }
}

//! A transaction that the database has refused, done again with each output and each row apart.
//!
//! A row that the database does not take (a constraint, trigger or unique index that somebody added, a text too long)
//! becomes a dead letter, in the same transaction. An output that cannot be stored for any other reason, such as a row id
//! that exists already, is refused, and with it what follows in its partition; the other partitions go on.
//!
//! A savepoint around each row costs about as much as the row, so the work grows with the rows, whatever number of them
//! is refused: halving the batch again and again would insert a row up to twelve times. Only a trigger that rolls the
//! whole transaction back (`RAISE(ROLLBACK)`) makes it begin again: its rows are then looked for one by one, each in a
//! transaction of its own, and what that does not find costs one of [`MAX_ROLLBACKS`] attempts.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rusqlite::Connection;
use streamward_core::table::{StreamTable, row_id};
use streamward_pipeline::store::{Outcome, PartitionKey, Pending};

use super::{
    Shared, WriteError, Writer, begin,
    commit::{Run, accept, count_refused, run_of},
    ddl::quoted,
    insert::Origin,
};
use crate::adapters::{
    refused::{bounded, without},
    seen::SeenKeys,
};

/// Attempts that may end because a row rolled the whole transaction back; the partition of the next such row is refused.
const MAX_ROLLBACKS: usize = 64;

/// What was found out in attempts that the database rolled back as a whole.
#[derive(Default)]
struct Known {
    /// Reasons by output and row.
    rows: BTreeMap<(usize, usize), String>,
    /// Reasons by partition and epoch.
    refused: HashMap<(PartitionKey, i64), Arc<str>>,
    rollbacks: usize,
}

/// Why an attempt ended early.
enum Ended {
    /// The database rolled the transaction back; what caused it is known now.
    Again,
    Failed(WriteError),
}

impl<E: Into<WriteError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Outcomes, and whether the outbox grew.
type Done = (Vec<Outcome>, bool);

impl Shared {
    /// As a commit does, output by output and row by row.
    pub(super) fn commit_apart(&self, writer: &mut Writer, pending: &[Arc<Pending>]) -> Result<Done, WriteError> {
        let Writer { connection, seen } = writer;
        let mut known = Known::default();
        loop {
            seen.forget();
            let transaction = begin(connection)?;
            match self.attempt(&transaction, seen, pending, &mut known) {
                Ok(done) => {
                    transaction.commit()?;
                    seen.keep();
                    return Ok(done);
                }
                Err(Ended::Again) => {
                    drop(transaction);
                    known.rollbacks += 1;
                    if known.rollbacks == 1 {
                        self.find_rollbacks(connection, pending, &mut known)?;
                    }
                }
                Err(Ended::Failed(error)) => return Err(error),
            }
        }
    }

    fn attempt(
        &self,
        connection: &Connection,
        seen: &mut SeenKeys,
        pending: &[Arc<Pending>],
        known: &mut Known,
    ) -> Result<Done, Ended> {
        let mut outcomes = vec![Outcome::Stale; pending.len()];
        let mut outbox_grew = false;
        for (index, pending) in pending.iter().enumerate() {
            let run = run_of(index, pending);
            let accepted = accept(connection, &run, &mut outcomes)?;
            count_refused(connection, &run, &mut outcomes)?;
            let place = (run.key.clone(), run.epoch);
            if let Some(why) = known.refused.get(&place).filter(|_| outcomes[index] == Outcome::Stale) {
                outcomes[index] = Outcome::Refused(why.clone());
                continue;
            }
            if accepted.is_empty() {
                continue;
            }
            let mark = seen.mark();
            connection.prepare_cached("SAVEPOINT output")?.execute([])?;
            match self.write_apart(connection, seen, &run, known) {
                Ok((grew, refused)) => {
                    connection.prepare_cached("RELEASE output")?.execute([])?;
                    outbox_grew |= grew;
                    outcomes[index] =
                        if refused == 0 { Outcome::Committed } else { Outcome::CommittedWithout(refused) };
                }
                Err(Ended::Again) => return Err(Ended::Again),
                Err(Ended::Failed(error)) if error.may_pass() => return Err(Ended::Failed(error)),
                Err(Ended::Failed(error)) => {
                    let why: Arc<str> = error.to_string().into();
                    known.refused.insert(place, why.clone());
                    if connection.is_autocommit() {
                        return Err(Ended::Again);
                    }
                    connection.execute_batch("ROLLBACK TO output; RELEASE output")?;
                    seen.back_to(mark);
                    outcomes[index] = Outcome::Refused(why);
                }
            }
        }
        Ok((outcomes, outbox_grew))
    }

    /// Writes one output; says whether the outbox grew, and how many rows were refused.
    fn write_apart(
        &self,
        connection: &Connection,
        seen: &mut SeenKeys,
        run: &Run<'_>,
        known: &mut Known,
    ) -> Result<(bool, u64), Ended> {
        let [(index, pending)] = run.members[..] else { return Ok((false, 0)) };
        let stream = self.stream_of(&run.key.sink)?;
        let table = self.layout.streams.iter().find(|table| table.stream == stream);
        let table = table.ok_or_else(|| WriteError::Protocol(format!("no table for stream {stream}")))?;
        let refused = self.rows_apart(connection, table, (run, index, pending), known)?;
        let origin = run.origin();
        if refused.is_empty() {
            return Ok((self.write_beside_rows(connection, (seen, &stream, origin), run, &run.members)?, 0));
        }
        let output = without(table, pending, &refused).map_err(WriteError::Protocol)?;
        let count = refused.len() as u64;
        let rest = Pending {
            key: pending.key.clone(),
            epoch: pending.epoch,
            log: pending.log,
            output,
            beside: pending.beside.clone(),
            raw: None,
        };
        Ok((self.write_beside_rows(connection, (seen, &stream, origin), run, &[(index, &rest)])?, count))
    }

    /// Inserts the rows of an output that the database takes; the others, with its reasons.
    fn rows_apart(
        &self,
        connection: &Connection,
        table: &StreamTable,
        (run, index, pending): (&Run<'_>, usize, &Pending),
        known: &mut Known,
    ) -> Result<Vec<(usize, String)>, Ended> {
        let output = &pending.output;
        let mut refused = Vec::new();
        if output.offsets.is_empty() {
            return Ok(refused);
        }
        // A statement that cannot even be prepared says nothing about a row.
        drop(connection.prepare(self.inserts.row_text(&table.stream)?)?);
        let origin = run.origin();
        let mut insert = self.inserts.row_insert(connection, &table.stream, (&output.rows, origin))?;
        for (row, offset) in output.offsets.iter().enumerate() {
            if let Some(why) = known.rows.get(&(index, row)) {
                refused.push((row, why.clone()));
                continue;
            }
            connection.prepare_cached("SAVEPOINT record")?.execute([])?;
            if let Err(error) = insert.row(row, *offset) {
                if !is_of_the_row(&error) {
                    return Err(error.into());
                }
                if connection.is_autocommit() {
                    if known.rollbacks >= MAX_ROLLBACKS {
                        return Err(error.into());
                    }
                    known.rows.insert((index, row), bounded(error.to_string()));
                    return Err(Ended::Again);
                }
                connection.prepare_cached("ROLLBACK TO record")?.execute([])?;
                if exists(connection, table, origin, *offset)? {
                    return Err(WriteError::Protocol(format!("the row of offset {offset} exists already")).into());
                }
                refused.push((row, bounded(error.to_string())));
            }
            connection.prepare_cached("RELEASE record")?.execute([])?;
        }
        Ok(refused)
    }

    /// Finds the rows that roll a transaction back even if they are alone in it.
    fn find_rollbacks(
        &self,
        connection: &mut Connection,
        pending: &[Arc<Pending>],
        known: &mut Known,
    ) -> Result<(), WriteError> {
        for (index, pending) in pending.iter().enumerate() {
            let (run, output) = (run_of(index, pending), &pending.output);
            let Ok(stream) = self.stream_of(&run.key.sink) else { continue };
            for (row, offset) in output.offsets.iter().enumerate() {
                let transaction = begin(connection)?;
                let insert = self.inserts.row_insert(&transaction, &stream, (&output.rows, run.origin()));
                let Ok(mut insert) = insert else { break };
                let inserted = insert.row(row, *offset);
                drop(insert);
                if let Err(error) = inserted.as_ref().map_err(WriteError::to_string)
                    && transaction.is_autocommit()
                {
                    known.rows.insert((index, row), bounded(error));
                }
            }
        }
        Ok(())
    }
}

/// Whether the row's data is at fault, and not the moment or our own SQL.
fn is_of_the_row(error: &WriteError) -> bool {
    use rusqlite::ffi::ErrorCode;
    match error {
        WriteError::LeftOut => true,
        WriteError::Protocol(_) | WriteError::Gone(_) => false,
        WriteError::Sql(error) => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::Unknown)
        ),
    }
}

/// Whether the table has the row of an offset.
fn exists(connection: &Connection, table: &StreamTable, origin: Origin, offset: i64) -> Result<bool, rusqlite::Error> {
    connection.prepare_cached(&format!("SELECT 1 FROM {} WHERE id = ?", quoted(&table.table)))?.exists([row_id(
        origin.log,
        origin.partition,
        offset,
    )])
}

//! The position protocol: rows, windows, alerts, dead letters, state and position in one transaction.
//!
//! Outputs of one partition that follow each other are checked and moved as one run: first start to last end. A run
//! whose stored epoch or position differs writes nothing; other runs of the same transaction go on. A transaction that
//! the database refuses is done again with each output and row apart ([`super::apart`]).

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};
use streamward_core::{
    output::{Missed, Output},
    stats::MinuteDelta,
};
use streamward_pipeline::store::{InputRange, Outcome, PartitionKey, Pending, StoreError};

use super::{Shared, SqlStore, WriteError, Writer, begin, facts::Facts, insert::Origin};
use crate::{
    adapters::{refused::STAGE, seen::SeenKeys, unjudged},
    clock::now_ms,
};

/// Consecutive outputs of one partition within one transaction.
pub(super) struct Run<'a> {
    pub key: &'a PartitionKey,
    pub epoch: i64,
    log: i64,
    /// The present, one for all runs of a transaction.
    stored_at_ms: i64,
    pub members: Vec<(usize, &'a Pending)>,
}

impl SqlStore {
    /// Commits `pending` in one transaction; see `SinkStore::commit`.
    pub(super) async fn commit_outputs(&self, pending: &[Arc<Pending>]) -> Result<Vec<Outcome>, StoreError> {
        let pending = pending.to_vec();
        let (outcomes, outbox_grew) = self.write(move |shared, writer| shared.commit(writer, &pending)).await?;
        if outbox_grew {
            self.announce_changes();
        }
        Ok(outcomes)
    }
}

impl Shared {
    /// What became of each output, and whether the outbox grew.
    fn commit(&self, writer: &mut Writer, pending: &[Arc<Pending>]) -> Result<(Vec<Outcome>, bool), WriteError> {
        match self.commit_together(writer, pending) {
            Err(error) if !error.may_pass() => self.commit_apart(writer, pending),
            done => done,
        }
    }

    fn commit_together(
        &self,
        writer: &mut Writer,
        pending: &[Arc<Pending>],
    ) -> Result<(Vec<Outcome>, bool), WriteError> {
        let mut outcomes = vec![Outcome::Stale; pending.len()];
        let mut outbox_grew = false;
        let Writer { connection, seen } = writer;
        seen.forget();
        let transaction = begin(connection)?;
        for run in runs(pending) {
            let accepted = accept(&transaction, &run, &mut outcomes)?;
            count_refused(&transaction, &run, &mut outcomes)?;
            if accepted.is_empty() {
                continue;
            }
            outbox_grew |= self.write_run(&transaction, seen, &run, &accepted)?;
            for (index, _) in &accepted {
                outcomes[*index] = Outcome::Committed;
            }
        }
        transaction.commit()?;
        seen.keep();
        Ok((outcomes, outbox_grew))
    }

    /// Writes the accepted outputs of a run; says whether the outbox grew.
    fn write_run(
        &self,
        connection: &Connection,
        seen: &mut SeenKeys,
        run: &Run<'_>,
        accepted: &[(usize, &Pending)],
    ) -> Result<bool, WriteError> {
        let stream = self.stream_of(&run.key.sink)?;
        let origin = run.origin();
        for (_, pending) in accepted {
            let output = &pending.output;
            self.inserts.rows(connection, &stream, (&output.rows, &output.offsets), origin)?;
        }
        self.write_beside_rows(connection, (seen, &stream, origin), run, accepted)
    }

    /// Writes everything but the rows of the accepted outputs of a run; says whether the outbox grew.
    pub(super) fn write_beside_rows(
        &self,
        connection: &Connection,
        (seen, stream, origin): (&mut SeenKeys, &Arc<str>, Origin),
        run: &Run<'_>,
        accepted: &[(usize, &Pending)],
    ) -> Result<bool, WriteError> {
        let mut facts = Facts::new(connection, run.key, stream, origin);
        let mut totals = Totals::default();
        for (_, pending) in accepted {
            let output = &pending.output;
            totals.add(output);
            self.inserts.windows(connection, &output.windows, origin)?;
            facts.write(output)?;
        }
        summaries(connection, stream, seen, run, accepted)?;
        checkpoints(connection, run, accepted, origin.stored_at_ms)?;
        if !facts.fired().is_empty() && is_superseded(connection, run)? {
            facts.resolve_fired(&unjudged::other_log(&run.key.topic))?;
        }
        let to_announce = facts.close()?;
        advance(connection, run, accepted, (&totals, origin.stored_at_ms))?;
        Ok(to_announce)
    }

    pub(super) fn stream_of(&self, sink: &str) -> Result<Arc<str>, WriteError> {
        let found = self.layout.sinks.iter().find(|(name, _)| **name == *sink);
        found.map(|(_, stream)| stream.clone()).ok_or_else(|| WriteError::Protocol(format!("no sink named {sink}")))
    }
}

impl Run<'_> {
    pub(super) fn origin(&self) -> Origin {
        Origin { log: self.log, partition: self.key.partition, stored_at_ms: self.stored_at_ms }
    }
}

/// The run of one output alone.
pub(super) fn run_of(index: usize, pending: &Pending) -> Run<'_> {
    let (key, epoch, log) = (&pending.key, pending.epoch, pending.log);
    Run { key, epoch, log, stored_at_ms: now_ms(), members: vec![(index, pending)] }
}

/// The runs of a transaction. Where an output covers several partitions, each output is one, in their order.
fn runs(pending: &[Arc<Pending>]) -> Vec<Run<'_>> {
    if pending.iter().any(|pending| !pending.beside.is_empty()) {
        return pending.iter().enumerate().map(|(index, pending)| run_of(index, pending)).collect();
    }
    let (mut runs, stored_at_ms): (Vec<Run<'_>>, _) = (Vec::new(), now_ms());
    let mut places: HashMap<(&PartitionKey, i64), usize> = HashMap::new();
    for (index, pending) in pending.iter().enumerate() {
        let place = *places.entry((&pending.key, pending.epoch)).or_insert(runs.len());
        if place == runs.len() {
            let (key, epoch, log) = (&pending.key, pending.epoch, pending.log);
            runs.push(Run { key, epoch, log, stored_at_ms, members: Vec::new() });
        }
        runs[place].members.push((index, pending.as_ref()));
    }
    runs
}

/// Whether the partition's newest owner reads another log: what was on its way for this one is still stored, but no record
/// will resolve its alerts.
fn is_superseded(connection: &Connection, run: &Run<'_>) -> Result<bool, rusqlite::Error> {
    let key = run.key;
    connection
        .prepare_cached("SELECT 1 FROM sw_positions WHERE sink = ? AND topic = ? AND \"partition\" = ? AND epoch > ?")?
        .exists(params![key.sink, key.topic, key.partition, run.epoch])
}

/// Takes the members that continue the stored position, and marks those that it has passed.
pub(super) fn accept<'a>(
    connection: &Connection,
    run: &Run<'a>,
    outcomes: &mut [Outcome],
) -> Result<Vec<(usize, &'a Pending)>, rusqlite::Error> {
    let stored = stored_position(connection, (run.key, run.log))?;
    let Some((_, mut position)) = stored.filter(|(epoch, _)| *epoch == run.epoch) else { return Ok(Vec::new()) };
    let mut accepted = Vec::with_capacity(run.members.len());
    for &(index, pending) in &run.members {
        if pending.output.start == position {
            if begins_at_stored_positions(connection, &pending.beside)? {
                position = pending.output.end;
                accepted.push((index, pending));
            }
        } else if pending.output.end <= position {
            outcomes[index] = Outcome::AlreadyCommitted;
        }
    }
    Ok(accepted)
}

fn begins_at_stored_positions(connection: &Connection, ranges: &[InputRange]) -> Result<bool, rusqlite::Error> {
    for range in ranges {
        let stored = stored_position(connection, (&range.key, range.log))?;
        if stored != Some((range.epoch, range.offsets.start)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds to the outcomes of what was committed before how many rows were refused then.
pub(super) fn count_refused(
    connection: &Connection,
    run: &Run<'_>,
    outcomes: &mut [Outcome],
) -> Result<(), rusqlite::Error> {
    for (index, pending) in &run.members {
        if outcomes[*index] != Outcome::AlreadyCommitted {
            continue;
        }
        let (key, output) = (run.key, &pending.output);
        let refused: i64 = connection
            .prepare_cached(
                "SELECT count(*) FROM dead_letters WHERE topic = ? AND \"partition\" = ? AND \"offset\" >= ? \
                 AND \"offset\" < ? AND sink = ? AND log = ? AND stage = ?",
            )?
            .query_row(
                params![key.topic, key.partition, output.start, output.end, key.sink, run.log, STAGE],
                |row| row.get(0),
            )?;
        if let Some(refused) = u64::try_from(refused).ok().filter(|refused| *refused > 0) {
            outcomes[*index] = Outcome::CommittedWithout(refused);
        }
    }
    Ok(())
}

/// Epoch and next offset of a partition in a log.
fn stored_position(
    connection: &Connection,
    (key, log): (&PartitionKey, i64),
) -> Result<Option<(i64, i64)>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT epoch, next_offset FROM sw_positions WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ?",
        )?
        .query_row(params![key.sink, key.topic, key.partition, log], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

#[derive(Default)]
struct Totals {
    stored: i64,
    dead: i64,
    filtered: i64,
    ahead: i64,
    late: i64,
    full: i64,
}

impl Totals {
    fn add(&mut self, output: &Output) {
        self.stored += output.offsets.len() as i64;
        self.dead += output.dead.len() as i64;
        self.filtered += output.filtered_records();
        self.ahead += output.ahead.len() as i64;
        self.late += (output.missed_records(Missed::Late) + output.missed_records(Missed::Begun)) as i64;
        self.full += output.missed_records(Missed::Full) as i64;
    }
}

/// Adds the minute aggregates and the keys' newest event times of all outputs.
fn summaries(
    connection: &Connection,
    stream: &Arc<str>,
    stored: &mut SeenKeys,
    run: &Run<'_>,
    accepted: &[(usize, &Pending)],
) -> Result<(), rusqlite::Error> {
    let mut minutes: HashMap<i64, MinuteDelta> = HashMap::new();
    let mut seen: HashMap<&str, i64> = HashMap::new();
    for (_, pending) in accepted {
        for delta in &pending.output.minutes {
            minutes.entry(delta.minute_ms).or_insert_with(|| MinuteDelta::new(delta.minute_ms)).add(delta);
        }
        for (key, last_seen) in &pending.output.seen {
            let last = seen.entry(key.as_str()).or_insert(*last_seen);
            *last = (*last).max(*last_seen);
        }
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO sw_minutes (stream, minute, \"partition\", count, sum, anomalies, measured) \
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count, \
         measured = measured + excluded.measured, \
         sum = CASE WHEN abs(sum + excluded.sum) <= 1.7976931348623157e308 THEN sum + excluded.sum END, \
         anomalies = anomalies + excluded.anomalies",
    )?;
    for minute in minutes.into_values() {
        // What a float cannot hold is null, and what is added to it as well.
        let sum = minute.sum.is_finite().then_some(minute.sum);
        let MinuteDelta { minute_ms, count, anomalies, measured, .. } = minute;
        insert.execute(params![stream, minute_ms, run.key.partition, count, sum, anomalies, measured])?;
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO sw_keys VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET \
         last_seen = max(last_seen, excluded.last_seen)",
    )?;
    for (key, last_seen) in seen {
        if let Some(minute) = stored.advance(stream, key, last_seen) {
            insert.execute(params![stream, key, minute])?;
        }
    }
    Ok(())
}

/// Stores the newest bytes of each state chunk, and forgets decisions that they cover.
fn checkpoints(
    connection: &Connection,
    run: &Run<'_>,
    accepted: &[(usize, &Pending)],
    now_ms: i64,
) -> Result<(), rusqlite::Error> {
    let key = run.key;
    let outputs = accepted.iter().map(|(_, pending)| &pending.output);
    let mut with_state = outputs.filter(|output| !output.checkpoint.is_empty()).peekable();
    // A late output of an earlier log must not touch the state of the newer one.
    if with_state.peek().is_none() || is_superseded(connection, run)? {
        return Ok(());
    }
    for output in with_state {
        let mut replace =
            connection.prepare_cached("INSERT OR REPLACE INTO sw_checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
        for chunk in &output.checkpoint {
            let place = params![
                key.sink,
                key.topic,
                key.partition,
                chunk.name,
                run.log,
                output.end,
                chunk.bytes.as_slice(),
                now_ms
            ];
            replace.execute(place)?;
        }
        connection
            .prepare_cached(
                "UPDATE sw_checkpoints SET next_offset = ? WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ?",
            )?
            .execute(params![output.end, key.sink, key.topic, key.partition, run.log])?;
        connection
            .prepare_cached(
                "DELETE FROM sw_decisions WHERE sink = ? AND topic = ? AND \"partition\" = ? AND log = ? \
                 AND first_offset < ?",
            )?
            .execute(params![key.sink, key.topic, key.partition, run.log, output.end])?;
    }
    Ok(())
}

/// Moves the position, last of all.
fn advance(
    connection: &Connection,
    run: &Run<'_>,
    accepted: &[(usize, &Pending)],
    (totals, now_ms): (&Totals, i64),
) -> Result<(), WriteError> {
    let (first, last) = (accepted[0].1, accepted[accepted.len() - 1].1);
    let key = run.key;
    let moved = connection
        .prepare_cached(
            "UPDATE sw_positions SET next_offset = ?1, stored = stored + ?2, dead = dead + ?3, \
             filtered = filtered + ?4, ahead = ahead + ?5, late = late + ?6, \"full\" = \"full\" + ?7, \
             newest_event = max(coalesce(newest_event, ?8), ?8), updated_at = ?9 \
             WHERE sink = ?10 AND topic = ?11 AND \"partition\" = ?12 AND log = ?13 AND epoch = ?14 AND next_offset = ?15",
        )?
        .execute(params![
            last.output.end,
            totals.stored,
            totals.dead,
            totals.filtered,
            totals.ahead,
            totals.late,
            totals.full,
            accepted.iter().map(|(_, pending)| pending.output.newest_event_ms).max(),
            now_ms,
            key.sink,
            key.topic,
            key.partition,
            run.log,
            run.epoch,
            first.output.start
        ])?;
    if moved == 0 {
        return Err(has_moved());
    }
    accepted
        .iter()
        .flat_map(|(_, pending)| &pending.beside)
        .try_for_each(|range| move_beside(connection, range, now_ms))
}

fn move_beside(connection: &Connection, range: &InputRange, now_ms: i64) -> Result<(), WriteError> {
    let InputRange { key, epoch, log, offsets } = range;
    let moved = connection
        .prepare_cached(
            "UPDATE sw_positions SET next_offset = ?, updated_at = ? WHERE sink = ? AND topic = ? AND \"partition\" = ? \
             AND log = ? AND epoch = ? AND next_offset = ?",
        )?
        .execute(params![offsets.end, now_ms, key.sink, key.topic, key.partition, log, epoch, offsets.start])?;
    if moved == 0 { Err(has_moved()) } else { Ok(()) }
}

fn has_moved() -> WriteError {
    WriteError::Protocol("the position moved inside its own transaction".to_owned())
}

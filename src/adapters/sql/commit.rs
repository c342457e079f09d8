//! The position protocol: rows, windows, alerts, dead letters, state and position in one transaction.
//!
//! Outputs of one partition that follow each other are checked and moved as one run: first start to last end. A run
//! whose stored epoch or position differs writes nothing; other runs of the same transaction go on.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sqlx::{Row, SqliteConnection};
use streamward_core::output::{DeadLetter, WindowRow};
use streamward_pipeline::store::{Outcome, PartitionKey, Pending, StoreError};

use super::{
    SqlStore, Writer,
    insert::{Inserts, Rows},
    seen::SeenKeys,
    store_error,
};

/// Milliseconds since 1970 by the wall clock.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Consecutive outputs of one partition within one transaction.
struct Run<'a> {
    key: &'a PartitionKey,
    epoch: i64,
    log: i64,
    members: Vec<(usize, &'a Pending)>,
}

impl SqlStore {
    /// Commits `pending` in one transaction; see `SinkStore::commit`.
    pub(super) async fn commit_outputs(&self, pending: &[Arc<Pending>]) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = vec![Outcome::Stale; pending.len()];
        let mut writer = self.writer().await?;
        writer.begin().await?;
        let mut outbox_grew = false;
        for run in runs(pending) {
            let position = stored_position(&mut writer.connection, run.key).await?;
            let accepted = accept(&run, position, &mut outcomes);
            if accepted.is_empty() {
                continue;
            }
            outbox_grew |= self.write(&mut writer, &run, &accepted).await?;
            for (index, _) in &accepted {
                outcomes[*index] = Outcome::Committed;
            }
        }
        writer.end().await?;
        drop(writer);
        if outbox_grew {
            for changed in &self.changed {
                changed.notify_one();
            }
        }
        Ok(outcomes)
    }

    /// Writes the accepted outputs of a run; says whether the outbox grew.
    async fn write(
        &self,
        writer: &mut Writer,
        run: &Run<'_>,
        accepted: &[(usize, &Pending)],
    ) -> Result<bool, StoreError> {
        let now = now_ms();
        let stream = self.stream_of(&run.key.sink)?;
        let mut totals = Totals::default();
        let Writer { connection, seen, .. } = writer;
        let mut facts = Facts { connection, key: run.key, log: run.log, now, outbox: Vec::new() };
        for (_, pending) in accepted {
            let output = &pending.output;
            totals.stored += i64::try_from(output.offsets.len()).unwrap_or(i64::MAX);
            totals.dead += i64::try_from(output.dead.len()).unwrap_or(i64::MAX);
            totals.filtered += output.filtered_records();
            let rows = Rows {
                batch: &output.rows,
                offsets: &output.offsets,
                log: run.log,
                partition: run.key.partition,
                stored_at_ms: now,
            };
            self.inserts.rows(facts.connection, &stream, rows).await?;
            self.windows(&mut facts, &output.windows).await?;
            facts.dead_letters(&output.dead).await?;
            facts.alerts(&stream, &output.alerts).await?;
            facts.late(&output.late).await?;
            facts.filtered(&output.filtered).await?;
        }
        facts.summaries(&self.inserts, (&stream, seen), accepted).await?;
        facts.checkpoints(accepted).await?;
        let outbox_grew = !facts.outbox.is_empty();
        facts.advance(run, accepted, &totals).await?;
        Ok(outbox_grew)
    }

    fn stream_of(&self, sink: &str) -> Result<Arc<str>, StoreError> {
        let found = self.layout.sinks.iter().find(|(name, _)| **name == *sink);
        found.map(|(_, stream)| stream.clone()).ok_or_else(|| StoreError::Protocol(format!("no sink named {sink}")))
    }

    async fn windows(&self, facts: &mut Facts<'_>, rows: &[WindowRow]) -> Result<(), StoreError> {
        for rows in rows.chunk_by(|left, right| left.window == right.window) {
            let statement = self.inserts.window(&rows[0].window)?;
            let (log, partition, now) = (facts.log, facts.key.partition, facts.now);
            statement
                .run(facts.connection, rows.len(), |row, bound| {
                    let row = &rows[row];
                    bound.add(row.start_ms);
                    bound.add(row.end_ms);
                    for value in row.group.iter().chain(&row.values) {
                        bound.scalar(value);
                    }
                    bound.add(row.revision);
                    bound.add(log);
                    bound.add(partition);
                    bound.add(now);
                })
                .await?;
        }
        Ok(())
    }
}

impl SqlStore {
    /// Notes who did what to which actor.
    ///
    /// # Errors
    /// If the database is busy or gone.
    pub async fn audit(&self, who: &str, action: &str, target: &str) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let sql = "INSERT INTO sw_audit (at, who, action, target, detail) VALUES (?, ?, ?, ?, '')";
        let insert = sqlx::query(sql).bind(now_ms()).bind(who).bind(action).bind(target);
        insert.execute(&mut writer.connection).await.map(|_| ()).map_err(store_error)
    }
}

fn runs(pending: &[Arc<Pending>]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut places: HashMap<(&PartitionKey, i64), usize> = HashMap::new();
    for (index, pending) in pending.iter().enumerate() {
        let place = *places.entry((&pending.key, pending.epoch)).or_insert(runs.len());
        if place == runs.len() {
            runs.push(Run { key: &pending.key, epoch: pending.epoch, log: pending.log, members: Vec::new() });
        }
        runs[place].members.push((index, pending.as_ref()));
    }
    runs
}

/// Takes the members that continue the stored position, and marks those that it has passed.
fn accept<'a>(run: &Run<'a>, stored: Option<(i64, i64)>, outcomes: &mut [Outcome]) -> Vec<(usize, &'a Pending)> {
    let Some((_, mut position)) = stored.filter(|(epoch, _)| *epoch == run.epoch) else { return Vec::new() };
    let mut accepted = Vec::with_capacity(run.members.len());
    for &(index, pending) in &run.members {
        if pending.output.start == position {
            position = pending.output.end;
            accepted.push((index, pending));
        } else if pending.output.end <= position {
            outcomes[index] = Outcome::AlreadyCommitted;
        }
    }
    accepted
}

async fn stored_position(
    connection: &mut SqliteConnection,
    key: &PartitionKey,
) -> Result<Option<(i64, i64)>, StoreError> {
    let row =
        sqlx::query("SELECT epoch, next_offset FROM sw_positions WHERE sink = ? AND topic = ? AND \"partition\" = ?")
            .bind(key.sink.clone())
            .bind(key.topic.clone())
            .bind(key.partition)
            .fetch_optional(connection)
            .await
            .map_err(store_error)?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

#[derive(Default)]
struct Totals {
    stored: i64,
    dead: i64,
    filtered: i64,
}

/// Writes everything of one run but its rows and windows.
struct Facts<'a> {
    connection: &'a mut SqliteConnection,
    key: &'a PartitionKey,
    log: i64,
    now: i64,
    /// Kind and row id of the facts that follow SQL to other places.
    outbox: Vec<(&'static str, i64)>,
}

impl Facts<'_> {
    async fn dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        for letter in letters {
            let class = serde_json::to_value(letter.class).ok();
            let row = sqlx::query(
                "INSERT INTO dead_letters (sink, topic, \"partition\", log, \"offset\", stage, class, reason, \"key\", \
                 value, headers, log_timestamp, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                 RETURNING id",
            )
            .bind(self.key.sink.clone())
            .bind(self.key.topic.clone())
            .bind(self.key.partition)
            .bind(self.log)
            .bind(letter.offset)
            .bind(letter.stage.as_str())
            .bind(class.as_ref().and_then(|class| class.as_str()))
            .bind(letter.reason.as_str())
            .bind(letter.key.as_deref())
            .bind(letter.value.as_deref())
            .bind(headers_json(&letter.headers))
            .bind(letter.log_timestamp_ms)
            .bind(self.now)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(store_error)?;
            self.outbox.push(("dead_letter", row.get(0)));
        }
        Ok(())
    }

    async fn alerts(
        &mut self,
        stream: &Arc<str>,
        alerts: &[streamward_core::output::AlertTransition],
    ) -> Result<(), StoreError> {
        for alert in alerts {
            sqlx::query("UPDATE alerts SET latest = 0 WHERE alert_id = ? AND latest = 1")
                .bind(alert.alert_id.as_str())
                .execute(&mut *self.connection)
                .await
                .map_err(store_error)?;
            let state = serde_json::to_value(alert.state).ok();
            let row = sqlx::query(
                "INSERT INTO alerts (alert_id, n, rule, stream, \"key\", severity, state, message, record, event_time, \
                 topic, \"partition\", \"offset\", created_at, latest) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) RETURNING id",
            )
            .bind(alert.alert_id.as_str())
            .bind(alert.n)
            .bind(alert.rule.clone())
            .bind(stream.clone())
            .bind(alert.key.as_str())
            .bind(alert.severity.clone())
            .bind(state.as_ref().and_then(|state| state.as_str()))
            .bind(alert.message.as_str())
            .bind(alert.record.to_string())
            .bind(alert.event_time_ms)
            .bind(self.key.topic.clone())
            .bind(self.key.partition)
            .bind(alert.offset)
            .bind(self.now)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(store_error)?;
            self.outbox.push(("alert", row.get(0)));
        }
        Ok(())
    }

    async fn late(&mut self, late: &[streamward_core::output::LateRecord]) -> Result<(), StoreError> {
        for record in late {
            sqlx::query("INSERT INTO sw_late VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
                .bind(self.key.sink.clone())
                .bind(record.window.clone())
                .bind(self.key.topic.clone())
                .bind(self.key.partition)
                .bind(self.log)
                .bind(record.offset)
                .bind(record.event_time_ms)
                .bind(record.window_start_ms)
                .bind(record.watermark_ms)
                .bind(self.now)
                .execute(&mut *self.connection)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    /// Stores filtered ranges; a range that continues the one before it extends that one.
    async fn filtered(&mut self, ranges: &[std::ops::Range<i64>]) -> Result<(), StoreError> {
        for range in ranges {
            sqlx::query("INSERT INTO sw_ranges VALUES (?, ?, ?, ?, 'filtered', ?, ?)")
                .bind(self.key.sink.clone())
                .bind(self.key.topic.clone())
                .bind(self.key.partition)
                .bind(self.log)
                .bind(range.start)
                .bind(range.end)
                .execute(&mut *self.connection)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    /// Adds the minute aggregates and the keys' newest event times of all outputs.
    async fn summaries(
        &mut self,
        inserts: &Inserts,
        (stream, stored): (&Arc<str>, &mut SeenKeys),
        accepted: &[(usize, &Pending)],
    ) -> Result<(), StoreError> {
        let mut minutes: HashMap<i64, (i64, f64, i64)> = HashMap::new();
        let mut seen: HashMap<&str, i64> = HashMap::new();
        for (_, pending) in accepted {
            for delta in &pending.output.minutes {
                let minute = minutes.entry(delta.minute_ms).or_default();
                *minute = (minute.0 + delta.count, minute.1 + delta.sum, minute.2 + delta.anomalies);
            }
            for (key, last_seen) in &pending.output.seen {
                let last = seen.entry(key.as_str()).or_insert(*last_seen);
                *last = (*last).max(*last_seen);
            }
        }
        let minutes: Vec<_> = minutes.into_iter().collect();
        let partition = self.key.partition;
        inserts
            .minutes
            .run(self.connection, minutes.len(), |row, bound| {
                let (minute, (count, sum, anomalies)) = minutes[row];
                bound.add(stream.clone());
                bound.add(minute);
                bound.add(partition);
                bound.add(count);
                bound.add(sum);
                bound.add(anomalies);
            })
            .await?;
        let moved = |(key, last_seen)| stored.advance(stream, key, last_seen).map(|minute| (key, minute));
        let seen: Vec<(&str, i64)> = seen.into_iter().filter_map(moved).collect();
        inserts
            .keys
            .run(self.connection, seen.len(), |row, bound| {
                bound.add(stream.clone());
                bound.add(Arc::<str>::from(seen[row].0));
                bound.add(seen[row].1);
            })
            .await
    }

    /// Stores the newest bytes of each state chunk.
    async fn checkpoints(&mut self, accepted: &[(usize, &Pending)]) -> Result<(), StoreError> {
        for (_, pending) in accepted {
            for chunk in &pending.output.checkpoint {
                sqlx::query("INSERT OR REPLACE INTO sw_checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
                    .bind(self.key.sink.clone())
                    .bind(self.key.topic.clone())
                    .bind(self.key.partition)
                    .bind(chunk.name.clone())
                    .bind(self.log)
                    .bind(pending.output.end)
                    .bind(chunk.bytes.as_slice())
                    .bind(self.now)
                    .execute(&mut *self.connection)
                    .await
                    .map_err(store_error)?;
            }
            if !pending.output.checkpoint.is_empty() {
                sqlx::query(
                    "UPDATE sw_checkpoints SET next_offset = ? WHERE sink = ? AND topic = ? AND \"partition\" = ?",
                )
                .bind(pending.output.end)
                .bind(self.key.sink.clone())
                .bind(self.key.topic.clone())
                .bind(self.key.partition)
                .execute(&mut *self.connection)
                .await
                .map_err(store_error)?;
            }
        }
        Ok(())
    }

    /// Moves the position, last of all, and appends the outbox entries under it.
    async fn advance(self, run: &Run<'_>, accepted: &[(usize, &Pending)], totals: &Totals) -> Result<(), StoreError> {
        let (first, last) = (accepted[0].1, accepted[accepted.len() - 1].1);
        let entries = i64::try_from(self.outbox.len()).unwrap_or(i64::MAX);
        let row = sqlx::query(
            "UPDATE sw_positions SET next_offset = ?, outbox_seq = outbox_seq + ?, stored = stored + ?, \
             dead = dead + ?, filtered = filtered + ?, updated_at = ? \
             WHERE sink = ? AND topic = ? AND \"partition\" = ? AND epoch = ? AND next_offset = ? \
             RETURNING outbox_seq",
        )
        .bind(last.output.end)
        .bind(entries)
        .bind(totals.stored)
        .bind(totals.dead)
        .bind(totals.filtered)
        .bind(self.now)
        .bind(self.key.sink.clone())
        .bind(self.key.topic.clone())
        .bind(self.key.partition)
        .bind(run.epoch)
        .bind(first.output.start)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(store_error)?;
        let row = row.ok_or_else(|| StoreError::Protocol("the position moved inside its own transaction".into()))?;
        let first_seq = row.get::<i64, _>(0) - entries;
        for (seq, (kind, fact)) in (first_seq..).zip(&self.outbox) {
            sqlx::query("INSERT INTO sw_outbox VALUES (?, ?, ?, ?, ?, ?)")
                .bind(self.key.sink.clone())
                .bind(self.key.topic.clone())
                .bind(self.key.partition)
                .bind(seq)
                .bind(*kind)
                .bind(*fact)
                .execute(&mut *self.connection)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }
}

/// Headers as a JSON array of `{name, value}`, names and values in base64 so that no byte is lost.
fn headers_json(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    let list: Vec<serde_json::Value> = headers
        .iter()
        .map(|(name, value)| {
            serde_json::json!({ "name": STANDARD.encode(name), "value": value.as_ref().map(|value| STANDARD.encode(value)) })
        })
        .collect();
    serde_json::Value::Array(list).to_string().into_bytes()
}

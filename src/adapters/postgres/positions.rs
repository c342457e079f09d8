//! Stored positions of the partitions that a transaction concerns: held, compared and moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgConnection;
use streamward_core::output::{Missed, Output};
use streamward_pipeline::store::{Outcome, PartitionKey, Pending};

use super::{connection::WriteError, moment::Moment};

/// All logs of the partitions that are concerned, in the order in which every process takes them.
const HOLD: &str = "SELECT p.sink, p.topic, p.partition, p.log, p.epoch, p.next_offset FROM sw_positions p \
     WHERE (p.sink, p.topic, p.partition) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::integer[])) \
     ORDER BY p.sink, p.topic, p.partition, p.log FOR UPDATE";

const ADVANCE: &str = "UPDATE sw_positions p SET next_offset = n.next_offset, stored = p.stored + n.stored, \
     dead = p.dead + n.dead, filtered = p.filtered + n.filtered, ahead = p.ahead + n.ahead, late = p.late + n.late, \
     \"full\" = p.\"full\" + n.\"full\", newest_event = greatest(p.newest_event, n.newest_event), updated_at = $15 \
     FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::timestamptz[]) \
     AS n(sink, topic, partition, log, epoch, start, next_offset, stored, dead, filtered, ahead, late, \"full\", newest_event) \
     WHERE p.sink = n.sink AND p.topic = n.topic AND p.partition = n.partition AND p.log = n.log \
     AND p.epoch = n.epoch AND p.next_offset = n.start";

/// A partition's log.
type LogKey = (PartitionKey, i64);

/// Where a partition's log stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    epoch: i64,
    next_offset: i64,
}

/// The positions, as the transaction has moved them so far.
#[derive(Debug, Default)]
pub struct Positions {
    places: HashMap<LogKey, Place>,
    newest_epoch: HashMap<PartitionKey, i64>,
}

impl Positions {
    /// Reads the positions that outputs concern, and holds them until the transaction ends.
    ///
    /// # Errors
    /// Of the database.
    pub async fn hold<'a>(
        connection: &mut PgConnection,
        pending: impl Iterator<Item = &'a Pending> + Clone,
    ) -> Result<Self, sqlx::Error> {
        let beside = pending.clone().flat_map(|pending| pending.beside.iter().map(|range| &range.key));
        let keys = pending.map(|pending| &pending.key).chain(beside);
        let keys: BTreeSet<(&str, &str, i32)> = keys.map(|key| (&*key.sink, &*key.topic, key.partition)).collect();
        let rows: Vec<(String, String, i32, i64, i64, i64)> = sqlx::query_as(HOLD)
            .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        let mut positions = Self::default();
        for (sink, topic, partition, log, epoch, next_offset) in rows {
            let key = PartitionKey { sink: sink.into(), topic: topic.into(), partition };
            let newest = positions.newest_epoch.entry(key.clone()).or_insert(epoch);
            *newest = (*newest).max(epoch);
            positions.places.insert((key, log), Place { epoch, next_offset });
        }
        Ok(positions)
    }

    /// What would become of an output that is the next of its partition.
    #[must_use]
    pub fn judge(&self, pending: &Pending) -> Outcome {
        let own = self.places.get(&(pending.key.clone(), pending.log)).filter(|own| own.epoch == pending.epoch);
        let Some(own) = own else { return Outcome::Stale };
        if pending.output.start != own.next_offset {
            let is_behind = pending.output.end <= own.next_offset;
            return if is_behind { Outcome::AlreadyCommitted } else { Outcome::Stale };
        }
        let begins = pending.beside.iter().all(|range| {
            let place = self.places.get(&(range.key.clone(), range.log));
            place.is_some_and(|place| (place.epoch, place.next_offset) == (range.epoch, range.offsets.start))
        });
        if begins { Outcome::Committed } else { Outcome::Stale }
    }

    /// Moves behind an output that was judged to be the next.
    pub fn pass(&mut self, pending: &Pending) {
        let own = (pending.key.clone(), pending.log, pending.output.end);
        let beside = pending.beside.iter().map(|range| (range.key.clone(), range.log, range.offsets.end));
        for (key, log, end) in [own].into_iter().chain(beside) {
            if let Some(place) = self.places.get_mut(&(key, log)) {
                place.next_offset = end;
            }
        }
    }

    /// Whether the partition's newest owner reads another log: what was on its way for this one is still stored, but no
    /// record will resolve its alerts.
    #[must_use]
    pub fn is_superseded(&self, pending: &Pending) -> bool {
        self.newest_epoch.get(&pending.key).is_some_and(|newest| *newest > pending.epoch)
    }
}

/// How far a partition's log moves, and what is counted there.
#[derive(Debug, Default)]
struct Move {
    epoch: i64,
    start: i64,
    end: i64,
    stored: i64,
    dead: i64,
    filtered: i64,
    ahead: i64,
    late: i64,
    full: i64,
    newest_event_ms: i64,
}

impl Move {
    fn of(epoch: i64, start: i64) -> Self {
        Self { epoch, start, end: start, newest_event_ms: i64::MIN, ..Self::default() }
    }

    fn add(&mut self, output: &Output) {
        let count = |records: usize| i64::try_from(records).unwrap_or(i64::MAX);
        let missed = |why| i64::try_from(output.missed_records(why)).unwrap_or(i64::MAX);
        self.stored += count(output.offsets.len());
        self.dead += count(output.dead.len());
        self.filtered += output.filtered_records();
        self.ahead += count(output.ahead.len());
        self.late += missed(Missed::Late) + missed(Missed::Begun);
        self.full += missed(Missed::Full);
        self.newest_event_ms = self.newest_event_ms.max(output.newest_event_ms);
    }
}

/// Moves the stored positions behind outputs, last of all.
///
/// # Errors
/// If a position has moved inside its own transaction.
pub async fn advance(connection: &mut PgConnection, outputs: &[&Pending], now_ms: i64) -> Result<(), WriteError> {
    let mut moves: BTreeMap<(&str, &str, i32, i64), Move> = BTreeMap::new();
    for pending in outputs {
        let (key, output) = (&pending.key, &pending.output);
        let place = (&*key.sink, &*key.topic, key.partition, pending.log);
        let own = moves.entry(place).or_insert_with(|| Move::of(pending.epoch, output.start));
        own.end = output.end;
        own.add(output);
        for range in &pending.beside {
            let place = (&*range.key.sink, &*range.key.topic, range.key.partition, range.log);
            moves.entry(place).or_insert_with(|| Move::of(range.epoch, range.offsets.start)).end = range.offsets.end;
        }
    }
    let column = |figure: fn(&Move) -> i64| moves.values().map(figure).collect::<Vec<_>>();
    let moved = sqlx::query(ADVANCE)
        .bind(moves.keys().map(|key| key.0).collect::<Vec<_>>())
        .bind(moves.keys().map(|key| key.1).collect::<Vec<_>>())
        .bind(moves.keys().map(|key| key.2).collect::<Vec<_>>())
        .bind(moves.keys().map(|key| key.3).collect::<Vec<_>>())
        .bind(column(|one| one.epoch))
        .bind(column(|one| one.start))
        .bind(column(|one| one.end))
        .bind(column(|one| one.stored))
        .bind(column(|one| one.dead))
        .bind(column(|one| one.filtered))
        .bind(column(|one| one.ahead))
        .bind(column(|one| one.late))
        .bind(column(|one| one.full))
        .bind(moves.values().map(|one| Moment(one.newest_event_ms)).collect::<Vec<_>>())
        .bind(Moment(now_ms))
        .execute(connection)
        .await?;
    if moved.rows_affected() == moves.len() as u64 {
        return Ok(());
    }
    Err(WriteError::Protocol("the position moved inside its own transaction".to_owned()))
}

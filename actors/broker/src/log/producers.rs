//! What one partition knows of its idempotent and transactional producers.
//!
//! Invariants: per producer at most [`REMEMBERED_BATCHES`] batches are kept (the number of requests
//! a client may have in flight); sequences of one epoch follow each other without a gap; an open
//! transaction is known by its first offset; no more than [`MAX_IDLE_PRODUCERS`] are kept without one. State is rebuilt from the log and its snapshots, it is
//! never the only copy. Rules: KIP-98 and Kafka's `ProducerAppendInfo`.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::batch::{BatchHeader, Marker, advance_sequence};
use crate::error::{Code, KResult};

/// Batches per producer whose repetition is recognised.
pub(crate) const REMEMBERED_BATCHES: usize = 5;
/// Producers without an open transaction whose batches are remembered; of more the longest unused is forgotten.
const MAX_IDLE_PRODUCERS: usize = 10_000;
/// A producer that wrote nothing for this long is forgotten.
pub(crate) const PRODUCER_EXPIRY_MS: i64 = 24 * 3_600 * 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    append_time_ms: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    recent: VecDeque<Remembered>,
    last_used_ms: i64,
    open_since_offset: Option<i64>,
    #[serde(default)]
    last_marker_offset: Option<i64>,
}

impl Producer {
    /// Offset of its last batch or marker.
    fn last_offset(&self) -> Option<i64> {
        self.recent.back().map(|r| r.base_offset).max(self.last_marker_offset)
    }
}

/// A producer as administrators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ActiveProducer {
    pub id: i64,
    pub epoch: i16,
    pub last_sequence: Option<i32>,
    pub last_used_ms: i64,
    pub open_since_offset: Option<i64>,
    /// Whether a transaction of it has ended here.
    pub has_marker: bool,
}

/// A transaction whose records a reader of committed data must skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AbortedTxn {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of the abort marker.
    pub last_offset: i64,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// Written before: answer with what was answered then.
    Duplicate {
        base_offset: i64,
        append_time_ms: i64,
    },
}

/// All producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
    /// First offsets of the open transactions.
    #[serde(skip)]
    open: BTreeSet<i64>,
}

/// Producers as they are written.
#[derive(Deserialize)]
struct Stored {
    by_id: HashMap<i64, Producer>,
}

impl From<Stored> for Producers {
    fn from(Stored { by_id }: Stored) -> Self {
        let open = by_id.values().filter_map(|p| p.open_since_offset).collect();
        Self { by_id, open }
    }
}

impl Producers {
    /// Judges a batch before it is written.
    ///
    /// # Errors
    /// `InvalidProducerEpoch` for a producer that a newer one replaced, `OutOfOrderSequenceNumber`
    /// for a gap.
    pub fn check(&self, header: &BatchHeader) -> KResult<Verdict> {
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return first_of_epoch(header);
        }
        let same =
            |r: &&Remembered| r.first_sequence == header.base_sequence && r.last_sequence == header.last_sequence();
        if let Some(known) = producer.recent.iter().find(same) {
            return Ok(Verdict::Duplicate { base_offset: known.base_offset, append_time_ms: known.append_time_ms });
        }
        match producer.recent.back() {
            Some(last) if header.base_sequence != advance_sequence(last.last_sequence, 1) => {
                Err(Code::OutOfOrderSequenceNumber)
            }
            Some(_) => Ok(Verdict::Append),
            None => first_of_epoch(header),
        }
    }

    /// Remembers a data batch that was written at `now_ms`; `append_time_ms` is what its producer
    /// was told.
    pub fn note_batch(&mut self, header: &BatchHeader, append_time_ms: i64, now_ms: i64) {
        self.make_room_for(header.producer_id);
        let producer = self.by_id.entry(header.producer_id).or_default();
        if header.producer_epoch != producer.epoch {
            producer.recent.clear();
            producer.epoch = header.producer_epoch;
        }
        if producer.recent.len() == REMEMBERED_BATCHES {
            producer.recent.pop_front();
        }
        producer.recent.push_back(Remembered {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            append_time_ms,
        });
        producer.last_used_ms = producer.last_used_ms.max(now_ms);
        if header.is_transactional() {
            self.open.insert(*producer.open_since_offset.get_or_insert(header.base_offset));
        }
    }

    /// Remembers a marker that was written; the aborted transaction it ends, if it is one.
    pub fn note_marker(&mut self, header: &BatchHeader, kind: Marker, now_ms: i64) -> Option<AbortedTxn> {
        self.make_room_for(header.producer_id);
        let producer = self.by_id.entry(header.producer_id).or_default();
        if header.producer_epoch > producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.recent.clear();
        }
        producer.last_used_ms = producer.last_used_ms.max(now_ms);
        producer.last_marker_offset = Some(header.base_offset);
        let first_offset = producer.open_since_offset.take()?;
        self.open.remove(&first_offset);
        match kind {
            Marker::Commit => None,
            Marker::Abort => {
                Some(AbortedTxn { producer_id: header.producer_id, first_offset, last_offset: header.base_offset })
            }
        }
    }

    /// All producers that are remembered.
    pub fn active(&self) -> Vec<ActiveProducer> {
        let view = |(&id, p): (&i64, &Producer)| ActiveProducer {
            id,
            epoch: p.epoch,
            last_sequence: p.recent.back().map(|r| r.last_sequence),
            last_used_ms: p.last_used_ms,
            open_since_offset: p.open_since_offset,
            has_marker: p.last_marker_offset.is_some(),
        };
        self.by_id.iter().map(view).collect()
    }

    /// Offsets of the batches that tell each producer's last sequence and epoch.
    pub fn newest_batches(&self) -> HashSet<i64> {
        let newest = |p: &Producer| [p.recent.back().map(|r| r.base_offset), p.last_marker_offset];
        self.by_id.values().flat_map(newest).flatten().collect()
    }

    /// The newest epoch of a producer.
    pub fn epoch(&self, producer_id: i64) -> Option<i16> {
        self.by_id.get(&producer_id).map(|p| p.epoch)
    }

    /// Whether a producer has an open transaction here.
    pub fn is_open(&self, producer_id: i64) -> bool {
        self.by_id.get(&producer_id).is_some_and(|p| p.open_since_offset.is_some())
    }

    /// Offset of the last marker of a producer.
    pub fn last_marker_offset(&self, producer_id: i64) -> Option<i64> {
        self.by_id.get(&producer_id)?.last_marker_offset
    }

    /// Producers with an open transaction, and their epochs.
    pub fn open(&self) -> Vec<(i64, i16)> {
        self.by_id.iter().filter(|(_, p)| p.open_since_offset.is_some()).map(|(&id, p)| (id, p.epoch)).collect()
    }

    /// First offset of the oldest open transaction.
    pub fn first_open_offset(&self) -> Option<i64> {
        self.open.first().copied()
    }

    /// Forgets the longest unused producer without an open transaction if there are as many as may be.
    fn make_room_for(&mut self, new_id: i64) {
        let is_full = self.by_id.len() - self.open.len() >= MAX_IDLE_PRODUCERS;
        if !is_full || self.by_id.contains_key(&new_id) {
            return;
        }
        let idle = self.by_id.iter().filter(|(_, p)| p.open_since_offset.is_none());
        if let Some((&id, _)) = idle.min_by_key(|(_, p)| p.last_offset()) {
            self.by_id.remove(&id);
        }
    }

    /// Forgets producers without an open transaction that wrote nothing for a day.
    pub fn expire(&mut self, now_ms: i64) {
        self.by_id.retain(|_, p| p.open_since_offset.is_some() || p.last_used_ms > now_ms - PRODUCER_EXPIRY_MS);
    }
}

fn first_of_epoch(header: &BatchHeader) -> KResult<Verdict> {
    if header.base_sequence == 0 { Ok(Verdict::Append) } else { Err(Code::OutOfOrderSequenceNumber) }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{Producer as P, batch};
    use super::*;

    fn header(epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        let producer = P { id: 9, epoch, sequence };
        BatchHeader::parse(&batch(count, 1, producer)).unwrap()
    }

    fn written(producers: &mut Producers, mut h: BatchHeader, base_offset: i64) {
        h.base_offset = base_offset;
        producers.note_batch(&h, -1, 0);
    }

    #[test]
    fn a_repeated_batch_is_answered_with_its_first_offset() {
        let mut p = Producers::default();
        written(&mut p, header(0, 0, 10), 100);
        written(&mut p, header(0, 10, 5), 110);
        let verdict = p.check(&header(0, 0, 10)).unwrap();
        assert_eq!(verdict, Verdict::Duplicate { base_offset: 100, append_time_ms: -1 });
    }

    #[test]
    fn a_gap_in_the_sequence_is_refused() {
        let mut p = Producers::default();
        written(&mut p, header(0, 0, 10), 0);
        assert_eq!(p.check(&header(0, 10, 1)), Ok(Verdict::Append));
        assert_eq!(p.check(&header(0, 11, 1)), Err(Code::OutOfOrderSequenceNumber));
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero() {
        let mut p = Producers::default();
        written(&mut p, header(3, 0, 1), 0);
        assert_eq!(p.check(&header(2, 1, 1)), Err(Code::InvalidProducerEpoch));
        assert_eq!(p.check(&header(4, 1, 1)), Err(Code::OutOfOrderSequenceNumber));
        assert_eq!(p.check(&header(4, 0, 1)), Ok(Verdict::Append));
    }

    #[test]
    fn a_batch_of_a_new_epoch_is_no_repetition_of_one_of_the_epoch_before() {
        let mut p = Producers::default();
        written(&mut p, header(3, 0, 1), 0);
        written(&mut p, header(3, 1, 1), 1);
        written(&mut p, header(4, 0, 1), 2);
        assert_eq!(p.check(&header(4, 1, 1)), Ok(Verdict::Append));
        let marker = header(5, 0, 1);
        p.note_marker(&marker, Marker::Abort, 0);
        assert_eq!(p.check(&header(5, 1, 1)), Err(Code::OutOfOrderSequenceNumber), "the first of its epoch is missing");
        assert_eq!(p.check(&header(5, 0, 1)), Ok(Verdict::Append));
    }

    #[test]
    fn compaction_keeps_the_newest_batch_and_the_newest_marker_of_each_producer() {
        let mut p = Producers::default();
        written(&mut p, header(3, 0, 1), 4);
        written(&mut p, header(3, 1, 1), 5);
        let marker = BatchHeader { base_offset: 6, ..header(3, 0, 1) };
        p.note_marker(&marker, Marker::Commit, 0);
        assert_eq!(p.newest_batches(), HashSet::from([5, 6]));
    }

    #[test]
    fn only_the_last_five_batches_are_remembered() {
        let mut p = Producers::default();
        for i in 0..6 {
            written(&mut p, header(0, i, 1), i64::from(i));
        }
        assert_eq!(p.check(&header(0, 0, 1)), Err(Code::OutOfOrderSequenceNumber));
        assert!(matches!(p.check(&header(0, 1, 1)), Ok(Verdict::Duplicate { base_offset: 1, .. })));
    }

    #[test]
    fn the_longest_unused_of_too_many_producers_is_forgotten() {
        let mut p = Producers::default();
        let producer = |id| BatchHeader::parse(&batch(1, 1, P { id, epoch: 0, sequence: 0 })).unwrap();
        let max = i64::try_from(MAX_IDLE_PRODUCERS).unwrap();
        let mut open = batch(1, 1, P { id: max + 9, epoch: 0, sequence: 0 });
        open[22] |= 0x10;
        written(&mut p, BatchHeader::parse(&open).unwrap(), 0);
        for id in 0..=max {
            written(&mut p, producer(id), id + 1);
        }
        assert_eq!(p.by_id.len(), MAX_IDLE_PRODUCERS + 1);
        assert!(p.is_open(max + 9) && !p.by_id.contains_key(&0) && p.by_id.contains_key(&1));
    }

    #[test]
    fn a_marker_is_a_use_too_and_makes_room_as_a_batch_does() {
        let mut p = Producers::default();
        let of = |id, base_offset| {
            let header = BatchHeader::parse(&batch(1, 1, P { id, epoch: 0, sequence: 0 })).unwrap();
            BatchHeader { base_offset, ..header }
        };
        let max = i64::try_from(MAX_IDLE_PRODUCERS).unwrap();
        for id in 0..max {
            p.note_batch(&of(id, id), -1, 0);
        }
        p.note_marker(&of(0, max), Marker::Commit, 0);
        assert_eq!(p.by_id.len(), MAX_IDLE_PRODUCERS);
        p.note_marker(&of(max, max + 1), Marker::Commit, 0);
        assert_eq!(p.by_id.len(), MAX_IDLE_PRODUCERS);
        assert!(p.by_id.contains_key(&0) && !p.by_id.contains_key(&1), "the marker was its last use");
    }

    #[test]
    fn a_producer_that_is_known_takes_the_room_of_no_other() {
        let mut p = Producers::default();
        let of = |id| BatchHeader::parse(&batch(1, 1, P { id, epoch: 0, sequence: 0 })).unwrap();
        let max = i64::try_from(MAX_IDLE_PRODUCERS).unwrap();
        for id in 0..max {
            written(&mut p, of(id), id);
        }
        written(&mut p, of(max - 1), max);
        assert_eq!((p.by_id.len(), p.by_id.contains_key(&0)), (MAX_IDLE_PRODUCERS, true));
    }

    #[test]
    fn idle_producers_are_forgotten() {
        let mut p = Producers::default();
        written(&mut p, header(0, 0, 1), 0);
        p.expire(PRODUCER_EXPIRY_MS - 1);
        assert_eq!(p.by_id.len(), 1);
        p.expire(PRODUCER_EXPIRY_MS);
        assert!(p.by_id.is_empty());
    }

    /// A header of a transactional batch of one record, with the marker's or the batch's offset.
    fn transactional(id: i64, epoch: i16, base_offset: i64) -> BatchHeader {
        let mut bytes = batch(1, 1, P { id, epoch, sequence: 0 });
        bytes[22] |= 0x10;
        BatchHeader { base_offset, ..BatchHeader::parse(&bytes).unwrap() }
    }

    #[test]
    fn a_repetition_is_told_the_time_that_was_told_and_is_one_only_with_the_same_records() {
        let mut p = Producers::default();
        p.note_batch(&BatchHeader { base_offset: 7, ..header(0, 0, 10) }, 55, 60);
        let told = Verdict::Duplicate { base_offset: 7, append_time_ms: 55 };
        assert_eq!(p.check(&header(0, 0, 10)), Ok(told));
        assert_eq!(p.check(&header(0, 0, 9)), Err(Code::OutOfOrderSequenceNumber));
        assert_eq!(p.check(&header(0, 1, 9)), Err(Code::OutOfOrderSequenceNumber));
    }

    #[test]
    fn the_stable_offset_is_that_of_the_oldest_open_transaction() {
        let mut p = Producers::default();
        for (id, offset) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
            p.note_batch(&transactional(id, 0, offset), -1, 0);
        }
        assert_eq!(p.first_open_offset(), Some(10), "a transaction is as old as its first record");
        let aborted = p.note_marker(&transactional(1, 0, 50), Marker::Abort, 0);
        assert_eq!(aborted, Some(AbortedTxn { producer_id: 1, first_offset: 10, last_offset: 50 }));
        assert_eq!((p.first_open_offset(), p.is_open(1), p.is_open(2)), (Some(20), false, true));
        assert_eq!(p.note_marker(&transactional(2, 0, 60), Marker::Commit, 0), None);
        assert_eq!(p.first_open_offset(), Some(40));
        assert_eq!(p.note_marker(&transactional(2, 0, 70), Marker::Abort, 0), None, "none is open");
        assert_eq!(p.open(), [(3, 0)]);
        assert_eq!((p.last_marker_offset(2), p.last_marker_offset(3)), (Some(70), None));
    }

    #[test]
    fn a_marker_of_an_older_epoch_takes_nothing_from_the_newer_one() {
        let mut p = Producers::default();
        written(&mut p, header(3, 0, 1), 4);
        p.note_marker(&BatchHeader { base_offset: 5, ..header(2, 0, 1) }, Marker::Abort, 0);
        assert_eq!(p.epoch(9), Some(3));
        assert_eq!(p.check(&header(3, 1, 1)), Ok(Verdict::Append));
        p.note_marker(&BatchHeader { base_offset: 6, ..header(3, 0, 1) }, Marker::Commit, 0);
        assert_eq!(p.check(&header(3, 1, 1)), Ok(Verdict::Append), "sequences go on behind a marker");
        p.note_marker(&BatchHeader { base_offset: 7, ..header(4, 0, 1) }, Marker::Abort, 0);
        assert_eq!(p.epoch(9), Some(4));
        assert_eq!(p.check(&header(3, 1, 1)), Err(Code::InvalidProducerEpoch));
    }

    #[test]
    fn a_snapshot_keeps_everything_that_is_known_of_the_producers() {
        let mut p = Producers::default();
        p.note_batch(&transactional(1, 2, 10), 5, 6);
        p.note_batch(&transactional(2, 0, 11), -1, 7);
        p.note_marker(&transactional(2, 0, 12), Marker::Abort, 8);
        let read: Producers = serde_json::from_slice(&serde_json::to_vec(&p).unwrap()).unwrap();
        assert_eq!(read, p);
        assert_eq!((read.first_open_offset(), read.last_marker_offset(2)), (Some(10), Some(12)));
    }

    #[test]
    fn a_producer_is_as_idle_as_its_last_batch_or_marker_and_never_while_its_transaction_is_open() {
        let mut p = Producers::default();
        p.note_batch(&transactional(1, 0, 1), -1, 0);
        p.note_batch(&transactional(2, 0, 2), -1, 100);
        p.note_batch(&transactional(3, 0, 3), -1, 100);
        p.note_marker(&transactional(2, 0, 4), Marker::Commit, 200);
        p.note_marker(&transactional(3, 0, 5), Marker::Commit, 50);
        let left = |p: &Producers| p.by_id.keys().copied().collect::<BTreeSet<_>>();
        p.expire(PRODUCER_EXPIRY_MS + 99);
        assert_eq!(left(&p), BTreeSet::from([1, 2, 3]));
        p.expire(PRODUCER_EXPIRY_MS + 100);
        assert_eq!(left(&p), BTreeSet::from([1, 2]));
        p.expire(PRODUCER_EXPIRY_MS + 200);
        assert_eq!(left(&p), BTreeSet::from([1]));
    }

    #[test]
    fn administrators_see_each_producer_as_it_is() {
        let mut p = Producers::default();
        p.note_batch(&transactional(1, 2, 10), -1, 6);
        p.note_marker(&BatchHeader { base_offset: 12, ..header(4, 0, 1) }, Marker::Abort, 8);
        let mut seen = p.active();
        seen.sort_by_key(|producer| producer.id);
        let open = ActiveProducer {
            id: 1,
            epoch: 2,
            last_sequence: Some(0),
            last_used_ms: 6,
            open_since_offset: Some(10),
            has_marker: false,
        };
        let ended = ActiveProducer {
            id: 9,
            epoch: 4,
            last_sequence: None,
            last_used_ms: 8,
            open_since_offset: None,
            has_marker: true,
        };
        assert_eq!(seen, [open, ended]);
    }
}

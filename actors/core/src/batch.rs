//! Raw Kafka records in one contiguous buffer: what a source gathered in one poll round for one partition.
//!
//! A batch owns one byte arena; a record is a set of ranges into it, so that gathering a batch allocates per batch and
//! never per record. Offsets ascend strictly; they need not be dense (compaction and transaction markers leave holes).

use std::{ops::Range, sync::Arc};

/// Records of one partition in log order.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Topic that the records were read from.
    pub topic: Arc<str>,
    /// Partition that the records were read from.
    pub partition: i32,
    /// When the first record was read whose log timestamp is its producer's word, in milliseconds since 1970 (UTC); none
    /// where the broker's clock wrote all of them.
    pub read_at_ms: Option<i64>,
    arena: Vec<u8>,
    records: Vec<Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    offset: i64,
    log_timestamp_ms: i64,
    key: Option<Range<u32>>,
    value: Option<Range<u32>>,
    headers: Vec<(Range<u32>, Option<Range<u32>>)>,
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    arena: &'a [u8],
    slot: &'a Slot,
}

impl RawBatch {
    /// An empty batch with room for `bytes` bytes of keys, values and headers.
    #[must_use]
    pub fn with_capacity(topic: Arc<str>, partition: i32, bytes: usize) -> Self {
        Self { topic, partition, read_at_ms: None, arena: Vec::with_capacity(bytes), records: Vec::new() }
    }

    /// Appends one record; headers follow with [`RawBatch::push_header`].
    pub fn push(&mut self, offset: i64, log_timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        debug_assert!(self.records.last().is_none_or(|last| last.offset < offset), "offsets ascend");
        let key = key.map(|bytes| self.store(bytes));
        let value = value.map(|bytes| self.store(bytes));
        self.records.push(Slot { offset, log_timestamp_ms, key, value, headers: Vec::new() });
    }

    /// Appends a header to the record pushed last. Without a record it does nothing.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = self.store(name);
        let value = value.map(|bytes| self.store(bytes));
        if let Some(record) = self.records.last_mut() {
            record.headers.push((name, value));
        }
    }

    fn store(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = u32::try_from(self.arena.len()).expect("a batch stays below 4 GiB: sources bound it");
        self.arena.extend_from_slice(bytes);
        let end = u32::try_from(self.arena.len()).expect("a batch stays below 4 GiB: sources bound it");
        start..end
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of keys, values and headers held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of memory that the batch takes: what its records hold and where they hold it.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.arena.capacity() + self.records.capacity() * size_of::<Slot>()
    }

    /// The record at `index` (not an offset).
    ///
    /// # Panics
    /// If `index >= len()`.
    #[must_use]
    pub fn get(&self, index: usize) -> RawRecord<'_> {
        RawRecord { arena: &self.arena, slot: &self.records[index] }
    }

    /// The record at an offset, if the batch has it.
    #[must_use]
    pub fn at_offset(&self, offset: i64) -> Option<RawRecord<'_>> {
        self.records.binary_search_by_key(&offset, |slot| slot.offset).ok().map(|index| self.get(index))
    }

    /// The records in log order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RawRecord<'_>> {
        self.records.iter().map(|slot| RawRecord { arena: &self.arena, slot })
    }

    /// Offset of the first record.
    #[must_use]
    pub fn first_offset(&self) -> Option<i64> {
        self.records.first().map(|slot| slot.offset)
    }

    /// Position after this batch: the last offset + 1.
    #[must_use]
    pub fn next_offset(&self) -> Option<i64> {
        self.records.last().map(|slot| slot.offset + 1)
    }
}

impl<'a> RawRecord<'a> {
    /// Offset in the partition's log.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.slot.offset
    }

    /// The timestamp that the log has for the record, in milliseconds since 1970 (UTC): the broker's or, as Kafka has it
    /// unless the topic says otherwise, the producer's, which may say anything; −1 where there is none.
    #[must_use]
    pub fn log_timestamp_ms(&self) -> i64 {
        self.slot.log_timestamp_ms
    }

    /// Key bytes, if the record has a key.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.slot.key.clone().map(|range| self.slice(range))
    }

    /// Value bytes; `None` is a null value (a tombstone).
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.slot.value.clone().map(|range| self.slice(range))
    }

    /// Headers in their order; a header's value may be null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let arena = self.arena;
        let cut = move |range: &Range<u32>| &arena[range.start as usize..range.end as usize];
        self.slot.headers.iter().map(move |(name, value)| (cut(name), value.as_ref().map(cut)))
    }

    fn slice(&self, range: Range<u32>) -> &'a [u8] {
        &self.arena[range.start as usize..range.end as usize]
    }
}

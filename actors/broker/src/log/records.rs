//! The records inside a batch: walked, checked, searched by time, and put together again without some.
//!
//! One parser reads records for everybody in the broker. It is as strict as the strictest of the readers that clients
//! use, so that a batch that it walked to the end is the same records for each of them: Kafka's `DefaultRecord`,
//! librdkafka's `rdkafka_msgset_reader.c`. A record that is kept is copied as its producer wrote it.

use std::borrow::Cow;

use super::batch::{BASE_TIMESTAMP_AT, BatchHeader, CRC_START, DELETE_HORIZON, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use super::codec::{Codec, Unopened};
use super::varint::{self, Varint};
use crate::error::{Code, KResult};

const NO_TIMESTAMP: i64 = -1;

/// One record, as far as the broker looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    attributes: u8,
    pub timestamp_delta: i64,
    pub offset_delta: i64,
    pub key: Option<&'a [u8]>,
    /// A record without a value deletes its key in a compacted topic.
    pub is_tombstone: bool,
    /// From the key's length to the end.
    body: &'a [u8],
}

/// The records of an opened batch, their offsets ascending within the batch; the last is the last of the bytes.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    left: i32,
    next_delta: i64,
    last_offset_delta: i64,
}

impl<'a> Records<'a> {
    /// Walks what [`open`] returned.
    pub fn of(header: &BatchHeader, opened: &'a [u8]) -> Self {
        Self {
            rest: opened,
            left: header.record_count,
            next_delta: 0,
            last_offset_delta: i64::from(header.last_offset_delta),
        }
    }

    fn step(&mut self) -> Option<RawRecord<'a>> {
        let record = next_record(&mut self.rest)?;
        let is_in_order = (self.next_delta..=self.last_offset_delta).contains(&record.offset_delta);
        let is_complete = self.left > 0 || self.rest.is_empty();
        self.next_delta = record.offset_delta + 1;
        (is_in_order && is_complete).then_some(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = KResult<RawRecord<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = self.step();
        if record.is_none() {
            self.left = 0;
        }
        Some(record.ok_or(Code::InvalidRecord))
    }
}

/// The bytes of a batch's records before compression.
///
/// # Errors
/// `UnsupportedCompressionType`, `InvalidRecord` for bytes that are not what the header says.
pub(crate) fn open<'a>(header: &BatchHeader, batch: &'a [u8]) -> KResult<Cow<'a, [u8]>> {
    let codec = Codec::numbered(header.codec()).ok_or(Code::UnsupportedCompressionType)?;
    if header.record_count == 0 {
        return Ok(Cow::Borrowed(&[]));
    }
    codec.open(&batch[HEADER_BYTES..]).map_err(|_| Code::InvalidRecord)
}

/// What a walk over all records of a batch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `i64::MAX` where no record has a time.
    pub min_timestamp_ms: i64,
    /// -1 where all times are below.
    pub max_timestamp_ms: i64,
    /// Bytes of the records before compression.
    pub opened_bytes: usize,
    /// Whether a record has no key.
    pub has_null_key: bool,
}

impl Facts {
    const NONE: Self =
        Self { min_timestamp_ms: i64::MAX, max_timestamp_ms: NO_TIMESTAMP, opened_bytes: 0, has_null_key: false };
}

/// Opens a batch and walks all of its records once; nothing is kept or copied of an uncompressed one.
///
/// # Errors
/// `UnsupportedCompressionType`; `MessageTooLarge` for more than `limit` bytes of compressed records when opened;
/// `InvalidTimestamp` for a time beyond 64 bits; `InvalidRecord` for anything that is not the records that the header
/// tells of.
pub(crate) fn check(header: &BatchHeader, batch: &[u8], limit: usize) -> KResult<Facts> {
    let codec = Codec::numbered(header.codec()).ok_or(Code::UnsupportedCompressionType)?;
    let records = batch.get(HEADER_BYTES..).ok_or(Code::InvalidRecord)?;
    if header.record_count == 0 {
        // What compaction left: no records, so no stream of a codec either.
        return if records.is_empty() { Ok(Facts::NONE) } else { Err(Code::InvalidRecord) };
    }
    if header.record_count < 0 {
        return Err(Code::InvalidRecord);
    }
    let walked = codec.with_opened(records, limit, |opened| walk(header, opened));
    walked.map_err(|unopened| match unopened {
        Unopened::Damaged => Code::InvalidRecord,
        Unopened::TooMuch => Code::MessageTooLarge,
    })?
}

fn walk(header: &BatchHeader, opened: &[u8]) -> KResult<Facts> {
    let mut facts = Facts { opened_bytes: opened.len(), ..Facts::NONE };
    for record in Records::of(header, opened) {
        let record = record?;
        let time_ms = header.base_timestamp_ms.checked_add(record.timestamp_delta).ok_or(Code::InvalidTimestamp)?;
        if time_ms != NO_TIMESTAMP {
            facts.min_timestamp_ms = facts.min_timestamp_ms.min(time_ms);
        }
        facts.max_timestamp_ms = facts.max_timestamp_ms.max(time_ms);
        facts.has_null_key |= record.key.is_none();
    }
    Ok(facts)
}

/// The first record at or after a time, as offset delta and timestamp; of a batch that cannot be
/// opened its end stands for all.
pub(crate) fn record_at_or_after(batch: &[u8], timestamp_ms: i64) -> (i64, i64) {
    let Some(header) = BatchHeader::parse(batch) else {
        return (0, timestamp_ms);
    };
    let whole_batch = (0, header.max_timestamp_ms);
    let Ok(opened) = open(&header, batch) else {
        return whole_batch;
    };
    let base_ms = header.base_timestamp_ms;
    for record in Records::of(&header, &opened).map_while(Result::ok) {
        let found_ms = if header.has_log_append_time() {
            header.max_timestamp_ms
        } else {
            base_ms.saturating_add(record.timestamp_delta)
        };
        if found_ms >= timestamp_ms {
            return (record.offset_delta, found_ms);
        }
    }
    whole_batch
}

/// A batch in the place of `batch` with only some of its records; offsets and sequences stay. With
/// `horizon_ms` the batch says when its tombstones, or its marker, may go (KIP-534).
///
/// # Errors
/// `UnsupportedCompressionType`, `UnknownServerError` when the codec fails.
pub(crate) fn rebuild(batch: &[u8], kept: &[RawRecord<'_>], horizon_ms: Option<i64>) -> KResult<Vec<u8>> {
    let header = BatchHeader::parse(batch).ok_or(Code::CorruptMessage)?;
    let codec = Codec::numbered(header.codec()).ok_or(Code::UnsupportedCompressionType)?;
    let base_ms = horizon_ms.unwrap_or(header.base_timestamp_ms);
    let mut records = Vec::new();
    let mut newest_ms = NO_TIMESTAMP;
    for record in kept {
        let timestamp_ms = header.base_timestamp_ms.saturating_add(record.timestamp_delta);
        newest_ms = newest_ms.max(timestamp_ms);
        record.encode(timestamp_ms.saturating_sub(base_ms), &mut records);
    }
    if header.has_log_append_time() && !kept.is_empty() {
        newest_ms = header.max_timestamp_ms;
    }
    let mut out = batch[..HEADER_BYTES].to_vec();
    if !kept.is_empty() {
        out.extend(codec.close(records).map_err(|_| Code::UnknownServerError)?);
    }
    let length = i32::try_from(out.len() - LENGTH_PREFIX_BYTES).map_err(|_| Code::MessageTooLarge)?;
    let count = i32::try_from(kept.len()).map_err(|_| Code::InvalidRecord)?;
    let horizon = if horizon_ms.is_some() { DELETE_HORIZON } else { 0 };
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[CRC_START..CRC_START + 2].copy_from_slice(&(header.attributes | horizon).to_be_bytes());
    out[BASE_TIMESTAMP_AT..BASE_TIMESTAMP_AT + 8].copy_from_slice(&base_ms.to_be_bytes());
    out[35..43].copy_from_slice(&newest_ms.to_be_bytes());
    out[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC_START..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(out)
}

impl RawRecord<'_> {
    fn encode(&self, timestamp_delta: i64, out: &mut Vec<u8>) {
        let (time, offset) = (Varint::of(timestamp_delta), Varint::of(self.offset_delta));
        let length = 1 + time.bytes().len() + offset.bytes().len() + self.body.len();
        out.extend_from_slice(Varint::of(i64::try_from(length).unwrap_or(i64::MAX)).bytes());
        out.push(self.attributes);
        out.extend_from_slice(time.bytes());
        out.extend_from_slice(offset.bytes());
        out.extend_from_slice(self.body);
    }
}

/// The first record; `records` moves behind it.
fn next_record<'a>(records: &mut &'a [u8]) -> Option<RawRecord<'a>> {
    let length = usize::try_from(varint::int(records)?).ok()?;
    let (mut record, rest) = records.split_at_checked(length)?;
    *records = rest;
    let (&attributes, fields) = record.split_first()?;
    record = fields;
    let timestamp_delta = varint::long(&mut record)?;
    let offset_delta = i64::from(varint::int(&mut record)?);
    let body = record;
    let key = nullable(&mut record)?;
    let is_tombstone = nullable(&mut record)?.is_none();
    let headers = varint::int(&mut record)?;
    if headers != 0 {
        skip_headers(&mut record, headers)?;
    }
    record.is_empty().then_some(RawRecord { attributes, timestamp_delta, offset_delta, key, is_tombstone, body })
}

/// Moves behind a record's headers, each a name, of any bytes, and a value.
fn skip_headers(record: &mut &[u8], count: i32) -> Option<()> {
    /// A length for the name, and one for the value.
    const LEAST_BYTES: usize = 2;
    let count = usize::try_from(count).ok().filter(|count| *count <= record.len() / LEAST_BYTES)?;
    for _ in 0..count {
        nullable(record)??;
        nullable(record)?;
    }
    Some(())
}

/// Bytes behind their length, -1 for null.
fn nullable<'a>(record: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    const NULL: i32 = -1;
    let length = varint::int(record)?;
    if length == NULL {
        return Some(None);
    }
    let (bytes, rest) = record.split_at_checked(usize::try_from(length).ok()?)?;
    *record = rest;
    Some(Some(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::batch::tests::{NO_PRODUCER, Producer, batch_of};
    use super::super::codec::MAX_OPENED_BYTES;
    use super::*;

    /// Records with text keys and values, at 10, 20, 30 … ms.
    pub(crate) fn keyed(records: &[(Option<&str>, Option<&str>)], codec: Codec, producer: Producer) -> Vec<u8> {
        let mut body = Vec::new();
        for (n, (key, value)) in (0_i64..).zip(records) {
            let mut tail = Vec::new();
            for field in [key, value] {
                let length = field.map_or(-1, |f| i64::try_from(f.len()).unwrap());
                tail.extend_from_slice(Varint::of(length).bytes());
                tail.extend_from_slice(field.unwrap_or("").as_bytes());
            }
            tail.push(0);
            let record = RawRecord {
                attributes: 0,
                timestamp_delta: n * 10,
                offset_delta: n,
                key: None,
                is_tombstone: false,
                body: &tail,
            };
            record.encode(n * 10, &mut body);
        }
        let count = i32::try_from(records.len()).unwrap();
        let times = (10, i64::from(count) * 10);
        batch_of(count, times, producer, (codec as i16, &codec.close(body).unwrap()))
    }

    fn parsed(batch: &[u8]) -> (BatchHeader, Vec<(i64, String)>) {
        let header = BatchHeader::parse(batch).unwrap();
        let opened = open(&header, batch).unwrap();
        let records = Records::of(&header, &opened).map(|r| {
            let r = r.unwrap();
            (r.offset_delta, String::from_utf8(r.key.unwrap().to_vec()).unwrap())
        });
        let records = records.collect();
        (header, records)
    }

    const ABC: [(Option<&str>, Option<&str>); 3] = [(Some("a"), Some("1")), (Some("b"), None), (Some("c"), Some("3"))];

    #[test]
    fn a_batch_without_some_records_keeps_offsets_and_times_in_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = keyed(&ABC, codec, NO_PRODUCER);
            let header = BatchHeader::parse(&batch).unwrap();
            let opened = open(&header, &batch).unwrap();
            let kept: Vec<_> = Records::of(&header, &opened).map(Result::unwrap).filter(|r| r.is_tombstone).collect();
            let rebuilt = rebuild(&batch, &kept, Some(5_000)).unwrap();
            let (header, records) = parsed(&rebuilt);
            assert_eq!(records, [(1, "b".to_owned())]);
            assert_eq!((header.record_count, header.last_offset_delta), (1, 2));
            assert_eq!((header.horizon_ms(), header.max_timestamp_ms), (Some(5_000), 20));
            assert_eq!(record_at_or_after(&rebuilt, 0), (1, 20), "times survive the horizon");
            assert_eq!(crc32c::crc32c(&rebuilt[CRC_START..]), header.crc);
        }
    }

    #[test]
    fn a_batch_may_be_left_without_records() {
        let rebuilt = rebuild(&keyed(&ABC, Codec::Zstd, NO_PRODUCER), &[], None).unwrap();
        let (header, records) = parsed(&rebuilt);
        assert!(records.is_empty());
        assert_eq!((header.total_bytes, header.last_offset(), header.max_timestamp_ms), (HEADER_BYTES, 2, -1));
    }

    #[test]
    fn a_record_is_found_by_time_in_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = keyed(&ABC, codec, NO_PRODUCER);
            assert_eq!(record_at_or_after(&batch, 11), (1, 20), "{codec:?}");
        }
    }

    #[test]
    fn a_negative_count_of_records_is_refused() {
        let batch = keyed(&ABC, Codec::None, NO_PRODUCER);
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.record_count = -3;
        assert_eq!(check(&header, &batch, MAX_OPENED_BYTES), Err(Code::InvalidRecord));
    }

    #[test]
    fn a_record_with_an_offset_outside_its_batch_is_refused() {
        let batch = keyed(&ABC, Codec::None, NO_PRODUCER);
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.last_offset_delta = 1;
        assert_eq!(check(&header, &batch, MAX_OPENED_BYTES), Err(Code::InvalidRecord));
    }

    proptest::proptest! {
        #[test]
        fn any_records_are_walked_without_a_panic(bytes in proptest::collection::vec(0_u8.., 0..200), count in 0..50) {
            let mut header = BatchHeader::parse(&keyed(&ABC, Codec::None, NO_PRODUCER)).unwrap();
            header.record_count = count;
            for record in Records::of(&header, &bytes) {
                let _ = record;
            }
        }
    }
}

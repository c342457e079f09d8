//! The records inside a batch: walked, searched by time, and put together again without some.
//!
//! Only what the broker needs is read: times, offsets, keys and whether there is a value. A record
//! that is kept is copied as its producer wrote it.

use std::borrow::Cow;

use super::batch::{BASE_TIMESTAMP_AT, BatchHeader, CRC_START, DELETE_HORIZON, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use super::codec::Codec;
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

/// The records of an opened batch in order, each with an offset that the batch has.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    left: i32,
    last_offset_delta: i64,
}

impl<'a> Records<'a> {
    /// Walks what [`open`] returned.
    pub fn of(header: &BatchHeader, opened: &'a [u8]) -> Self {
        Self { rest: opened, left: header.record_count, last_offset_delta: i64::from(header.last_offset_delta) }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = KResult<RawRecord<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let is_inside = |record: &RawRecord<'_>| (0..=self.last_offset_delta).contains(&record.offset_delta);
        let record = next_record(&mut self.rest).filter(is_inside);
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

/// Checks a batch for a compacted topic: each record needs a key (KIP-135).
///
/// # Errors
/// As [`open`]; `InvalidRecord` for a record without a key.
pub(crate) fn check_keys(header: &BatchHeader, batch: &[u8]) -> KResult<()> {
    let opened = open(header, batch)?;
    for record in Records::of(header, &opened) {
        if record?.key.is_none() {
            return Err(Code::InvalidRecord);
        }
    }
    Ok(())
}

/// The smallest time of a batch's records.
///
/// # Errors
/// As [`open`].
pub(crate) fn oldest_ms(header: &BatchHeader, batch: &[u8]) -> KResult<i64> {
    let opened = open(header, batch)?;
    let mut oldest_ms = header.base_timestamp_ms;
    for record in Records::of(header, &opened) {
        oldest_ms = oldest_ms.min(header.base_timestamp_ms.saturating_add(record?.timestamp_delta));
    }
    Ok(oldest_ms)
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
    let length = usize::try_from(varint(records)?).ok()?;
    let (mut record, rest) = records.split_at_checked(length)?;
    *records = rest;
    let (&attributes, fields) = record.split_first()?;
    record = fields;
    let timestamp_delta = varint(&mut record)?;
    let offset_delta = varint(&mut record)?;
    let body = record;
    let key = nullable(&mut record)?;
    let is_tombstone = nullable(&mut record)?.is_none();
    Some(RawRecord { attributes, timestamp_delta, offset_delta, key, is_tombstone, body })
}

/// Bytes behind their length, -1 for null.
fn nullable<'a>(record: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(record)?;
    if length < 0 {
        return Some(None);
    }
    let (bytes, rest) = record.split_at_checked(usize::try_from(length).ok()?)?;
    *record = rest;
    Some(Some(bytes))
}

/// A zigzag varint of up to 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    None
}

/// An encoded zigzag varint.
struct Varint {
    encoded: [u8; 10],
    len: usize,
}

impl Varint {
    fn of(value: i64) -> Self {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut varint = Self { encoded: [0; 10], len: 0 };
        loop {
            let low = u8::try_from(rest & 0x7f).unwrap_or(0);
            rest >>= 7;
            varint.encoded[varint.len] = if rest == 0 { low } else { low | 0x80 };
            varint.len += 1;
            if rest == 0 {
                return varint;
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.encoded[..self.len]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::batch::tests::{NO_PRODUCER, Producer, batch_of};
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
    fn a_compacted_topic_needs_keys() {
        let check = |records: &[_]| {
            let batch = keyed(records, Codec::Lz4, NO_PRODUCER);
            check_keys(&BatchHeader::parse(&batch).unwrap(), &batch)
        };
        assert_eq!(check(&ABC), Ok(()));
        assert_eq!(check(&[ABC[0], (None, Some("x"))]), Err(Code::InvalidRecord));
    }

    #[test]
    fn a_record_with_an_offset_outside_its_batch_is_refused() {
        let batch = keyed(&ABC, Codec::None, NO_PRODUCER);
        let mut header = BatchHeader::parse(&batch).unwrap();
        header.last_offset_delta = 1;
        assert_eq!(check_keys(&header, &batch), Err(Code::InvalidRecord));
    }

    #[test]
    fn varints_read_back() {
        for value in [0, 1, -1, 63, 64, -65, 8_192, i64::MAX, i64::MIN] {
            let varint_of = Varint::of(value);
            let mut bytes = varint_of.bytes();
            assert_eq!(varint(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
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

//! A batch as a producer sent it, opened and checked as a whole before the log sees it.
//!
//! A reader meets whatever the log holds, and client libraries trust it: one of them ends its process at a codec's stream
//! of nothing. So nothing is stored that is not exactly the records its header tells of. The codes are those of Kafka's
//! `LogValidator`, `DefaultRecordBatch` and `DefaultRecord`, except where those throw what has no code:
//!
//! | found | code |
//! |---|---|
//! | a length of the batch that is not that of the bytes, a wrong checksum | `CORRUPT_MESSAGE` |
//! | a second batch, format 0 or 1, a control batch, a delete horizon | `INVALID_RECORD` |
//! | a count of records below 1 or other than the offsets say, a producer without sequence | `INVALID_RECORD` |
//! | codec 5 to 7, zstd before Produce 7 | `UNSUPPORTED_COMPRESSION_TYPE` |
//! | a stream of the codec that is damaged, cut short, empty, nested, or followed by anything (Kafka: unknown error) | `INVALID_RECORD` |
//! | more records, or fewer, than the count; a record's length, a varint, a key, value or header beyond its place; a header whose name is missing; offsets other than 0, 1, 2 … | `INVALID_RECORD` |
//! | records that open to more than [`max_opened_bytes`] | `MESSAGE_TOO_LARGE`, at which Java's producer splits the batch |
//! | a time of 65 bits, the topic's own time claimed, a time beyond the topic's limits | `INVALID_TIMESTAMP` |
//! | a record without key for a compacted topic | `INVALID_RECORD` |
//!
//! `CORRUPT_MESSAGE` is for what the way may have damaged, since clients send it again; what was sent with a right
//! checksum would come again as it is. Attributes of records are not looked at, as no reader does. The largest time in
//! the header is taken from the records where it differs (librdkafka sends 0).

use super::batch::{BatchHeader, HEADER_BYTES, with_base_offset, with_max_timestamp};
use super::codec::MAX_OPENED_BYTES;
use super::records::{Facts, check};
use crate::error::{Code, KResult};

/// Opened records that any topic allows.
const MIN_OPENED_BYTES: usize = 1 << 20;
/// What the records of a batch may open to, as a multiple of the topic's `max.message.bytes`.
const OPENED_FACTOR: usize = 16;

/// What the compressed records of a batch may open to: never less than an uncompressed batch may have.
pub(crate) fn max_opened_bytes(max_message_bytes: usize) -> usize {
    let max = MAX_OPENED_BYTES.max(max_message_bytes);
    max_message_bytes.saturating_mul(OPENED_FACTOR).clamp(MIN_OPENED_BYTES, max)
}

/// One batch for the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Produced<'a> {
    /// As it will be stored, but for the offset.
    pub header: BatchHeader,
    pub facts: Facts,
    batch: &'a [u8],
    /// Whether the largest time was another one than that of the records.
    is_restated: bool,
}

impl<'a> Produced<'a> {
    /// Checks a batch for a topic whose messages have at most that many bytes.
    ///
    /// # Errors
    /// As the table above says.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn check(batch: &'a [u8], max_message_bytes: usize) -> KResult<Self> {
        Self::open(BatchHeader::check_produced(batch)?, batch, max_message_bytes)
    }

    /// Checks the records of a batch whose header is checked, for a topic whose messages have at most that many bytes.
    ///
    /// # Errors
    /// As the table above says.
    pub fn open(mut header: BatchHeader, batch: &'a [u8], max_message_bytes: usize) -> KResult<Self> {
        if batch.len() > max_message_bytes {
            return Err(Code::MessageTooLarge);
        }
        let facts = check(&header, batch, max_opened_bytes(max_message_bytes))?;
        let is_restated = header.max_timestamp_ms != facts.max_timestamp_ms;
        header.max_timestamp_ms = facts.max_timestamp_ms;
        Ok(Self { header, facts, batch, is_restated })
    }

    /// The header with the offset that the log gave it, and the records as they came.
    pub fn placed_at(&self, base_offset: i64) -> ([u8; HEADER_BYTES], &'a [u8]) {
        let records = &self.batch[HEADER_BYTES..];
        let mut header = with_base_offset(self.batch, base_offset);
        if self.is_restated {
            with_max_timestamp(&mut header, records, self.header.max_timestamp_ms);
        }
        (header, records)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{NO_PRODUCER, batch_of, seal};
    use super::super::codec::Codec;
    use super::super::records::tests::keyed;
    use super::*;

    const MAX_MESSAGE_BYTES: usize = 1 << 20;
    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    /// A record of key `k` and value `v` with one header, behind its length.
    const RECORD: [u8; 12] = [22, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 1];

    fn outcome(batch: &[u8]) -> KResult<Facts> {
        Produced::check(batch, MAX_MESSAGE_BYTES).map(|produced| produced.facts)
    }

    /// What becomes of a batch that says `count` around the given bytes as records, in each codec.
    fn outcomes(count: i32, records: &[u8]) -> [KResult<usize>; 5] {
        CODECS.map(|codec| {
            let closed = codec.close(records.to_vec()).unwrap();
            outcome(&batch_of(count, (5, 5), NO_PRODUCER, (codec as i16, &closed))).map(|facts| facts.opened_bytes)
        })
    }

    #[test]
    fn a_batch_of_real_records_is_taken_in_every_codec() {
        assert_eq!(outcomes(1, &RECORD), [Ok(RECORD.len()); 5]);
    }

    #[test]
    fn a_stream_of_nothing_is_refused_in_every_codec() {
        assert_eq!(outcomes(1, &[]), [Err(Code::InvalidRecord); 5]);
        for codec in 1..=4 {
            for body in [&[][..], &[0], &[0x1f, 0x8b], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"] {
                let batch = batch_of(1, (5, 5), NO_PRODUCER, (codec, body));
                assert_eq!(outcome(&batch), Err(Code::InvalidRecord), "codec {codec} of {body:?}");
            }
        }
    }

    #[test]
    fn a_count_other_than_the_records_is_refused() {
        let three = [record(0), record(1), record(2)].concat();
        assert_eq!(outcomes(3, &three), [Ok(three.len()); 5]);
        for count in [1, 2, 4] {
            assert_eq!(outcomes(count, &three), [Err(Code::InvalidRecord); 5], "{count}");
        }
    }

    /// [`RECORD`] at another offset of the batch.
    fn record(offset_delta: u8) -> [u8; 12] {
        let mut record = RECORD;
        record[3] = offset_delta * 2;
        record
    }

    #[test]
    fn offsets_other_than_one_after_the_other_are_refused() {
        for offsets in [[7, 7], [0, 0], [1, 0], [0, 2], [1, 2]] {
            assert_eq!(outcomes(2, &offsets.map(record).concat()), [Err(Code::InvalidRecord); 5], "{offsets:?}");
        }
    }

    #[test]
    fn a_record_that_does_not_fill_its_length_exactly_is_refused() {
        // The length first, then attributes, both deltas, key, value and headers.
        let broken: [&[u8]; 17] = [
            &[9, 0, 0, 0, 1, 1, 0],                               // length -5
            &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0],    // length 2^31 - 1
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 0, 0, 1, 1, 0], // length of six bytes
            &[0],                                                 // nothing behind the length
            &[10, 0, 0, 0, 1, 1],                                 // no count of headers
            &[14, 0, 0, 0, 1, 1, 0, 0],                           // a byte behind the headers
            &[12, 0, 0, 0, 1, 1, 5],                              // -3 headers
            &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],   // 2^31 - 1 headers
            &[14, 0, 0, 0, 1, 1, 2, 2],                           // a header that ends early
            &[16, 0, 0, 0, 1, 1, 2, 1, 1],                        // a header without name
            &[12, 0, 0, 0, 9, 1, 0],                              // key of -5 bytes
            &[12, 0, 0, 0, 40, 1, 0],                             // a key beyond the record
            &[12, 0, 0, 0, 1, 3, 0],                              // value of -2 bytes
            &[12, 0, 0, 0, 1, 40, 0],                             // a value beyond the record
            &[12, 0, 0, 1, 1, 1, 0],                              // offset -1
            &[20, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 1, 0],   // an offset of 33 bits
            &[12, 0, 0x80, 0x80, 0x80, 0x80, 0x80],               // a time without end
        ];
        for record in broken {
            assert_eq!(outcomes(1, record), [Err(Code::InvalidRecord); 5], "{record:?}");
        }
    }

    #[test]
    fn a_compressed_batch_inside_a_compressed_batch_is_refused() {
        for outer in &CODECS[1..] {
            for inner in &CODECS[1..] {
                let twice = outer.close(inner.close(RECORD.to_vec()).unwrap()).unwrap();
                let batch = batch_of(1, (5, 5), NO_PRODUCER, (*outer as i16, &twice));
                assert_eq!(outcome(&batch), Err(Code::InvalidRecord), "{inner:?} in {outer:?}");
            }
        }
    }

    #[test]
    fn records_that_open_to_too_much_are_too_large_in_every_codec() {
        for codec in &CODECS[1..] {
            let max = max_opened_bytes(MAX_MESSAGE_BYTES);
            let mut batch = batch_of(1, (5, 5), NO_PRODUCER, (*codec as i16, &codec.close(vec![0; max + 1]).unwrap()));
            assert_eq!(outcome(&batch), Err(Code::MessageTooLarge), "{codec:?}");
            batch.truncate(HEADER_BYTES);
            batch.extend(codec.close(vec![0; max]).unwrap());
            let length = i32::try_from(batch.len() - 12).unwrap();
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            seal(&mut batch);
            assert_eq!(outcome(&batch), Err(Code::InvalidRecord), "{codec:?} opens, and holds no record");
        }
    }

    #[test]
    fn equal_records_that_compress_hundredfold_are_taken() {
        let value = "v".repeat(1_000);
        let records: Vec<_> = (0..10_000).map(|_| (Some("k"), Some(&*value))).collect();
        let batch = keyed(&records, Codec::Zstd, NO_PRODUCER);
        let opened_bytes = outcome(&batch).unwrap().opened_bytes;
        assert!(opened_bytes > 10_000_000 && opened_bytes > batch.len() * 200, "{opened_bytes} of {}", batch.len());
    }

    #[test]
    fn a_batch_may_be_as_large_as_the_topic_allows_and_no_larger() {
        let batch = keyed(&[(Some("a"), None)], Codec::None, NO_PRODUCER);
        let outcome = |max_bytes| Produced::check(&batch, max_bytes).map(drop);
        assert_eq!([outcome(batch.len()), outcome(batch.len() - 1)], [Ok(()), Err(Code::MessageTooLarge)]);
    }

    #[test]
    fn the_largest_time_is_taken_from_the_records() {
        for (told, codec) in [(-1, Codec::None), (0, Codec::Zstd), (19, Codec::Gzip), (i64::MAX, Codec::None)] {
            let mut batch = keyed(&[(Some("a"), None), (Some("b"), None)], codec, NO_PRODUCER);
            batch[35..43].copy_from_slice(&i64::to_be_bytes(told));
            seal(&mut batch);
            let produced = Produced::check(&batch, MAX_MESSAGE_BYTES).unwrap();
            let (header, records) = produced.placed_at(7);
            let stored = [&header[..], records].concat();
            let header = BatchHeader::check_produced(&stored).unwrap();
            assert_eq!((header.base_offset, header.max_timestamp_ms), (7, 20), "told {told}");
        }
    }

    #[test]
    fn a_time_that_no_clock_has_is_refused() {
        let mut batch = keyed(&[(Some("a"), None), (Some("b"), None)], Codec::None, NO_PRODUCER);
        batch[27..35].copy_from_slice(&i64::to_be_bytes(i64::MAX));
        seal(&mut batch);
        assert_eq!(outcome(&batch), Err(Code::InvalidTimestamp));
    }

    #[test]
    fn the_oldest_time_and_a_missing_key_are_found() {
        let batch = keyed(&[(Some("a"), None), (None, Some("b"))], Codec::Lz4, NO_PRODUCER);
        let facts = outcome(&batch).unwrap();
        assert_eq!((facts.min_timestamp_ms, facts.has_null_key), (10, true));
        assert!(!outcome(&keyed(&[(Some(""), None)], Codec::Lz4, NO_PRODUCER)).unwrap().has_null_key);
    }
}

//! The 61-byte header of a record batch (message format v2, KIP-98): read, checked and patched.
//!
//! Nothing here looks behind the header except [`marker_kind`], which reads the control record of a
//! transaction marker; the records themselves are `records.rs`, what producers may send is `produced.rs`.

use crate::error::{Code, KResult};

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the part that the length field counts.
pub(crate) const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the part that the checksum covers begins.
pub(crate) const CRC_START: usize = 21;
const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// The base timestamp tells when tombstones or the marker of the batch may go (KIP-534).
pub(crate) const DELETE_HORIZON: i16 = 0x40;
/// Where the time is that the records' times count from.
pub(crate) const BASE_TIMESTAMP_AT: usize = 27;
/// The last codec that there is.
const ZSTD: i16 = 4;

/// The fields of a header that the broker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub base_offset: i64,
    /// Of the whole batch, header included.
    pub total_bytes: usize,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads a header; `None` when the bytes are too few or the length field is impossible.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(take(bytes, 8))).ok()?;
        let total_bytes = LENGTH_PREFIX_BYTES + length;
        if total_bytes < HEADER_BYTES {
            return None;
        }
        Some(Self {
            base_offset: i64::from_be_bytes(take(bytes, 0)),
            total_bytes,
            magic: i8::from_be_bytes(take(bytes, 16)),
            crc: u32::from_be_bytes(take(bytes, 17)),
            attributes: i16::from_be_bytes(take(bytes, CRC_START)),
            last_offset_delta: i32::from_be_bytes(take(bytes, 23)),
            base_timestamp_ms: i64::from_be_bytes(take(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp_ms: i64::from_be_bytes(take(bytes, 35)),
            producer_id: i64::from_be_bytes(take(bytes, 43)),
            producer_epoch: i16::from_be_bytes(take(bytes, 51)),
            base_sequence: i32::from_be_bytes(take(bytes, 53)),
            record_count: i32::from_be_bytes(take(bytes, 57)),
        })
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The sequence of the last record; sequences wrap after `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        advance_sequence(self.base_sequence, self.last_offset_delta)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Number of the compression.
    pub fn codec(&self) -> i16 {
        self.attributes & CODEC_MASK
    }

    pub fn is_zstd(&self) -> bool {
        self.codec() == ZSTD
    }

    /// When tombstones or the marker of a compacted batch may go.
    pub fn horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp_ms)
    }

    pub fn has_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Checks a batch that a producer sent.
    ///
    /// # Errors
    /// `CorruptMessage` for a wrong length or checksum, `UnsupportedCompressionType`, `InvalidTimestamp` for a time that
    /// claims to be the broker's, `InvalidRecord` for anything that is not the header of one data batch of format 2.
    pub fn check_produced(bytes: &[u8]) -> KResult<Self> {
        let header = Self::parse(bytes).ok_or(Code::CorruptMessage)?;
        if header.total_bytes > bytes.len() {
            return Err(Code::CorruptMessage);
        }
        if header.total_bytes < bytes.len() || header.magic != 2 {
            return Err(Code::InvalidRecord);
        }
        if crc32c::crc32c(&bytes[CRC_START..]) != header.crc {
            return Err(Code::CorruptMessage);
        }
        if header.codec() > ZSTD {
            return Err(Code::UnsupportedCompressionType);
        }
        if header.has_log_append_time() {
            return Err(Code::InvalidTimestamp);
        }
        let is_data = header.attributes & (CONTROL | DELETE_HORIZON) == 0;
        let counts_agree = header.record_count > 0 && header.last_offset_delta == header.record_count - 1;
        let sequence_valid = header.producer_id < 0 || (header.base_sequence >= 0 && header.producer_epoch >= 0);
        if is_data && counts_agree && sequence_valid { Ok(header) } else { Err(Code::InvalidRecord) }
    }
}

/// `sequence + by` in the circle 0..=`i32::MAX`.
pub(crate) fn advance_sequence(sequence: i32, by: i32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX);
    i32::try_from(sum).expect("masked to 31 bits")
}

/// The header with the offset the log gave it; its checksum does not cover the patched bytes.
pub(crate) fn with_base_offset(bytes: &[u8], base_offset: i64) -> [u8; HEADER_BYTES] {
    let mut header: [u8; HEADER_BYTES] = take(bytes, 0);
    header[0..8].copy_from_slice(&base_offset.to_be_bytes());
    header[12..16].copy_from_slice(&0_i32.to_be_bytes());
    header
}

/// A batch without records that stands for a range of offsets; `None` for a range that one batch cannot span.
pub(crate) fn empty(first_offset: i64, last_offset: i64) -> Option<(BatchHeader, [u8; HEADER_BYTES])> {
    let delta = i32::try_from(last_offset.checked_sub(first_offset)?).ok().filter(|delta| *delta >= 0)?;
    let mut batch = [0_u8; HEADER_BYTES];
    batch[0..8].copy_from_slice(&first_offset.to_be_bytes());
    let length = i32::try_from(HEADER_BYTES - LENGTH_PREFIX_BYTES).ok()?;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&delta.to_be_bytes());
    batch[BASE_TIMESTAMP_AT..43].copy_from_slice(&[0xff; 16]);
    // No producer, no sequence.
    batch[43..57].copy_from_slice(&[0xff; 14]);
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    BatchHeader::parse(&batch).map(|header| (header, batch))
}

/// Marks a header as stamped by the broker and renews its checksum over `records`.
pub(crate) fn stamp(header: &mut [u8; HEADER_BYTES], records: &[u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(take(header, CRC_START)) | LOG_APPEND_TIME;
    header[21..23].copy_from_slice(&attributes.to_be_bytes());
    with_max_timestamp(header, records, now_ms);
}

/// Gives a header another largest time and renews its checksum over `records`.
pub(crate) fn with_max_timestamp(header: &mut [u8; HEADER_BYTES], records: &[u8], max_timestamp_ms: i64) {
    header[35..43].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[CRC_START..]), records);
    header[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Commit,
    Abort,
}

/// The kind of a control batch, `None` when it is no transaction marker.
pub(crate) fn marker_kind(batch: &[u8]) -> Option<Marker> {
    const KEY_TYPE_AT: usize = HEADER_BYTES + 7;
    let kind = i16::from_be_bytes(take(batch.get(..KEY_TYPE_AT + 2)?, KEY_TYPE_AT));
    match kind {
        0 => Some(Marker::Abort),
        1 => Some(Marker::Commit),
        _ => None,
    }
}

/// A transaction marker as a batch of one control record.
pub(crate) fn marker(producer_id: i64, epoch: i16, kind: Marker, now_ms: i64) -> Vec<u8> {
    let kind_byte = match kind {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    // Varint length 16, attributes, two deltas, key of 4 bytes (version, type), value of 6 bytes.
    let record = [32, 0, 0, 0, 8, 0, 0, 0, kind_byte, 12, 0, 0, 0, 0, 0, 0, 0];
    let mut batch = vec![0_u8; HEADER_BYTES];
    batch.extend_from_slice(&record);
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).expect("a few dozen bytes");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&(TRANSACTIONAL | CONTROL).to_be_bytes());
    batch[27..35].copy_from_slice(&now_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::varint::Varint;
    use super::*;

    /// Sequence and producer of a test batch; `NO_PRODUCER` is not idempotent.
    #[derive(Clone, Copy)]
    pub(crate) struct Producer {
        pub id: i64,
        pub epoch: i16,
        pub sequence: i32,
    }

    pub(crate) const NO_PRODUCER: Producer = Producer { id: -1, epoch: -1, sequence: -1 };

    /// A batch of `count` records of 10 bytes each without keys, all of one time.
    pub(crate) fn batch(count: i32, timestamp_ms: i64, producer: Producer) -> Vec<u8> {
        let mut records = Vec::new();
        for offset_delta in 0..i64::from(count) {
            let offset = Varint::of(offset_delta);
            let value = vec![b'v'; 4 - offset.bytes().len()];
            let lengths = [18, 0, 0].iter().chain(offset.bytes());
            records.extend(lengths.chain(&[1, u8::try_from(value.len() * 2).unwrap()]));
            records.extend(value.iter().chain(&[0]));
        }
        batch_of(count, (timestamp_ms, timestamp_ms), producer, (0, &records))
    }

    /// A batch with its first and largest time around the given records, compressed as `codec` says.
    pub(crate) fn batch_of(
        count: i32,
        times: (i64, i64),
        producer: Producer,
        (codec, records): (i16, &[u8]),
    ) -> Vec<u8> {
        let mut b = vec![0_u8; HEADER_BYTES];
        b.extend_from_slice(records);
        let length = i32::try_from(b.len() - LENGTH_PREFIX_BYTES).unwrap();
        b[8..12].copy_from_slice(&length.to_be_bytes());
        b[16] = 2;
        b[21..23].copy_from_slice(&codec.to_be_bytes());
        b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        b[27..35].copy_from_slice(&times.0.to_be_bytes());
        b[35..43].copy_from_slice(&times.1.to_be_bytes());
        b[43..51].copy_from_slice(&producer.id.to_be_bytes());
        b[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
        b[53..57].copy_from_slice(&producer.sequence.to_be_bytes());
        b[57..61].copy_from_slice(&count.to_be_bytes());
        seal(&mut b);
        b
    }

    fn checksum(batch: &[u8]) -> u32 {
        crc32c::crc32c(&batch[CRC_START..])
    }

    /// Renews the checksum after a test changed a batch.
    pub(crate) fn seal(batch: &mut [u8]) {
        let crc = checksum(batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    #[test]
    fn a_valid_batch_passes_the_check() {
        let header = BatchHeader::check_produced(&batch(3, 99, NO_PRODUCER)).unwrap();
        assert_eq!((header.record_count, header.max_timestamp_ms), (3, 99));
        assert_eq!(header.last_offset(), 2);
    }

    #[test]
    fn a_flipped_bit_in_the_records_is_a_corrupt_message() {
        let mut b = batch(1, 0, NO_PRODUCER);
        b[HEADER_BYTES + 2] ^= 1;
        assert_eq!(BatchHeader::check_produced(&b), Err(Code::CorruptMessage));
    }

    #[test]
    fn a_second_batch_behind_the_first_is_refused() {
        let mut b = batch(1, 0, NO_PRODUCER);
        b.extend(batch(1, 0, NO_PRODUCER));
        assert_eq!(BatchHeader::check_produced(&b), Err(Code::InvalidRecord));
    }

    #[test]
    fn a_client_may_not_write_control_batches() {
        let marker = marker(1, 0, Marker::Commit, 5);
        assert_eq!(BatchHeader::check_produced(&marker), Err(Code::InvalidRecord));
    }

    #[test]
    fn attributes_that_no_client_may_set_are_refused() {
        for (attributes, code) in [(5, Code::UnsupportedCompressionType), (0x40, Code::InvalidRecord)] {
            let mut b = batch(1, 0, NO_PRODUCER);
            b[22] = attributes;
            seal(&mut b);
            assert_eq!(BatchHeader::check_produced(&b), Err(code));
        }
    }

    #[test]
    fn stamping_keeps_the_checksum_valid() {
        let b = batch(2, 10, NO_PRODUCER);
        let mut header = with_base_offset(&b, 1_000);
        stamp(&mut header, &b[HEADER_BYTES..], 77);
        let mut whole = header.to_vec();
        whole.extend_from_slice(&b[HEADER_BYTES..]);
        let parsed = BatchHeader::parse(&whole).unwrap();
        assert_eq!(checksum(&whole), parsed.crc);
        assert!(parsed.has_log_append_time());
        assert_eq!(BatchHeader::check_produced(&whole), Err(Code::InvalidTimestamp), "only the broker may say so");
        assert_eq!((parsed.base_offset, parsed.max_timestamp_ms), (1_000, 77));
    }

    #[test]
    fn markers_say_how_their_transaction_ended() {
        for kind in [Marker::Commit, Marker::Abort] {
            let bytes = marker(7, 1, kind, 5);
            let header = BatchHeader::parse(&bytes).unwrap();
            assert_eq!(checksum(&bytes), header.crc);
            assert_eq!(header.total_bytes, bytes.len());
            assert!(header.is_control() && header.is_transactional());
            assert_eq!(marker_kind(&bytes), Some(kind));
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(advance_sequence(i32::MAX, 1), 0);
        assert_eq!(advance_sequence(i32::MAX - 1, 3), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            let _ = BatchHeader::check_produced(&bytes);
            let _ = marker_kind(&bytes);
        }
    }
}

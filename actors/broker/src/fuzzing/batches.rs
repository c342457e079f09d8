//! Batches that are valid but for what the choices break: inside, with the checksum renewed around it.

use crate::log::batch::{BatchHeader, CRC_START, HEADER_BYTES, LENGTH_PREFIX_BYTES};
use crate::log::codec::Codec;
use crate::log::varint::Varint;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
/// Numbers that readers get wrong.
const ODD: [i64; 16] = [
    -1,
    0,
    1,
    2,
    -2,
    -5,
    7,
    127,
    128,
    i32::MAX as i64,
    i32::MIN as i64,
    i32::MAX as i64 + 1,
    i64::MAX,
    i64::MIN,
    1 << 40,
    300_000_000,
];
/// Bytes of the records of a batch that is made to open to much.
const BOMB_BYTES: usize = 20 << 20;

/// Numbers that decide, read from bytes; zeros behind their end.
#[derive(Debug)]
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) * 256 % bound.max(1) + usize::from(self.byte()) % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len()) % from.len();
        from[at]
    }

    fn odd(&mut self) -> i64 {
        self.pick(&ODD)
    }
}

/// The numbers of a record as they will be written.
struct Record {
    timestamp_delta: i64,
    offset_delta: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Number that is written in place of the right one, by its place.
    lie: Option<(usize, i64)>,
    /// Bytes behind the last field.
    junk: Vec<u8>,
    /// Bytes added to a length that would do with fewer.
    padding: usize,
}

/// Places of a record at which a number may be wrong.
const PLACES: usize = 9;

impl Record {
    fn number(&self, place: usize, right: i64) -> Vec<u8> {
        let value = self.lie.filter(|(at, _)| *at == place).map_or(right, |(_, wrong)| wrong);
        Varint::of(value).bytes().to_vec()
    }

    fn field(&self, place: usize, field: Option<&[u8]>, out: &mut Vec<u8>) {
        let length = field.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        out.extend(self.number(place, length));
        out.extend_from_slice(field.unwrap_or_default());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![u8::try_from(self.padding & 1).unwrap_or(0)];
        body.extend(self.number(1, self.timestamp_delta));
        body.extend(self.number(2, self.offset_delta));
        self.field(3, self.key.as_deref(), &mut body);
        self.field(4, self.value.as_deref(), &mut body);
        body.extend(self.number(5, i64::try_from(self.headers.len()).unwrap_or(i64::MAX)));
        for (name, value) in &self.headers {
            self.field(6, Some(name), &mut body);
            self.field(7, value.as_deref(), &mut body);
        }
        body.extend_from_slice(&self.junk);
        let mut length = self.number(0, i64::try_from(body.len()).unwrap_or(i64::MAX));
        if self.padding > 0
            && let Some(last) = length.last_mut()
        {
            *last |= 0x80;
            length.extend(std::iter::repeat_n(0x80, self.padding - 1));
            length.push(0);
        }
        out.extend(length);
        out.extend(body);
    }
}

fn record(choices: &mut Choices<'_>, offset_delta: i64) -> Record {
    let text = |choices: &mut Choices<'_>| {
        let length = choices.below(12);
        (0..length).map(|_| choices.byte()).collect::<Vec<u8>>()
    };
    // Mostly letters, as names have to be text.
    let name = |choices: &mut Choices<'_>| {
        let letter = |byte: u8| if byte < 252 { b'a' + byte % 26 } else { byte };
        text(choices).into_iter().map(letter).collect::<Vec<u8>>()
    };
    let optional = |choices: &mut Choices<'_>| (choices.byte() > 60).then(|| text(choices));
    let headers = choices.below(3);
    Record {
        timestamp_delta: i64::from(choices.byte()),
        offset_delta,
        key: optional(choices),
        value: optional(choices),
        headers: (0..headers).map(|_| (name(choices), optional(choices))).collect(),
        lie: None,
        junk: Vec::new(),
        padding: 0,
    }
}

/// What is done to the bytes of the records.
fn break_records(choices: &mut Choices<'_>, records: &mut [Record]) {
    let at = choices.below(records.len()) % records.len();
    let record = &mut records[at];
    match choices.below(4) {
        0 => record.lie = Some((choices.below(PLACES) % PLACES, choices.odd())),
        1 => record.junk = vec![choices.byte(); 1 + choices.below(4)],
        2 => record.padding = 1 + choices.below(11),
        _ => record.offset_delta = choices.odd(),
    }
}

fn break_bytes(choices: &mut Choices<'_>, bytes: &mut Vec<u8>) {
    let at = choices.below(bytes.len().max(1));
    match choices.below(5) {
        0 => bytes.truncate(at),
        1 => bytes.extend(std::iter::repeat_n(choices.byte(), 1 + choices.below(9))),
        2 => bytes.extend(bytes.clone()),
        3 => bytes.clear(),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (choices.byte() & 7);
            }
        }
    }
}

fn break_header(choices: &mut Choices<'_>, batch: &mut [u8]) {
    /// Fields behind the checksum: where each begins and its bytes.
    const FIELDS: [(usize, usize); 8] = [(21, 2), (23, 4), (27, 8), (35, 8), (43, 8), (51, 2), (53, 4), (57, 4)];
    let (start, length) = choices.pick(&FIELDS);
    let value = choices.odd().to_be_bytes();
    batch[start..start + length].copy_from_slice(&value[8 - length..]);
}

/// One batch for a producer to send; no bytes at all make the simplest valid one.
#[must_use]
pub fn mutant(choices: &[u8]) -> Vec<u8> {
    let mut choices = Choices(choices);
    let breakage = choices.below(10);
    let codec = choices.pick(&CODECS);
    let count = 1 + choices.below(6);
    let mut records: Vec<Record> = (0_i64..).take(count).map(|n| record(&mut choices, n)).collect();
    if breakage == 1 || breakage == 2 {
        break_records(&mut choices, &mut records);
    }
    let mut body = Vec::new();
    records.iter().for_each(|record| record.encode(&mut body));
    match breakage {
        3 => break_bytes(&mut choices, &mut body),
        4 if choices.byte() > 200 => body = vec![choices.byte(); BOMB_BYTES],
        4 => body = choices.pick(&CODECS).close(body).unwrap_or_default(),
        _ => {}
    }
    let mut body = codec.close(body).unwrap_or_default();
    if breakage == 5 || breakage == 6 {
        break_bytes(&mut choices, &mut body);
    }
    let attributes = if breakage == 7 { i16::from(choices.byte()) } else { codec as i16 };
    let count = i32::try_from(count).unwrap_or(0);
    let mut batch = header(attributes, count);
    if breakage == 8 || breakage == 9 {
        break_header(&mut choices, &mut batch);
    }
    batch.extend(body);
    seal(&mut batch);
    if choices.byte() > 250 {
        let at = choices.below(batch.len()) % batch.len();
        batch[at] ^= 1 << (choices.byte() & 7);
    }
    batch
}

/// A batch of records with a short key and a value of 100 bytes, compressed as the codec of that name does it.
///
/// # Panics
/// If there is no codec of that name.
#[must_use]
pub fn realistic(codec: &str, records: usize) -> Vec<u8> {
    let named = CODECS.into_iter().find(|known| format!("{known:?}").eq_ignore_ascii_case(codec));
    let codec = named.expect("the codec has a name that Kafka gives it");
    let mut body = Vec::new();
    for (n, offset_delta) in (0..records).zip(0_i64..) {
        let value: Vec<u8> = choices(n as u64).iter().take(100).map(|byte| b'a' + byte % 16).collect();
        let record = Record {
            timestamp_delta: offset_delta / 10,
            offset_delta,
            key: Some(format!("key-{}", n % 50).into_bytes()),
            value: Some(value),
            headers: Vec::new(),
            lie: None,
            junk: Vec::new(),
            padding: 0,
        };
        record.encode(&mut body);
    }
    let count = i32::try_from(records).unwrap_or(i32::MAX);
    let mut batch = header(codec as i16, count);
    batch.extend(codec.close(body).unwrap_or_default());
    seal(&mut batch);
    batch
}

/// A header of a producer without sequences.
fn header(attributes: i16, count: i32) -> Vec<u8> {
    let mut batch = vec![0_u8; HEADER_BYTES];
    batch[16] = 2;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&1_000_i64.to_be_bytes());
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch
}

/// Gives a batch its length and checksum.
pub(super) fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).unwrap_or(i32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Choices for [`mutant`] that are the same for the same number.
#[must_use]
pub fn choices(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..160).map(|_| next()).collect()
}

/// Number of records that another reader than the broker's finds in a batch, with the batch's count of them; none where
/// a header's name is no text: that reader knows no other names, and Kafka's own clients write and read bytes.
///
/// # Errors
/// What that reader says.
pub(super) fn read_elsewhere(batch: &[u8]) -> Result<Option<(usize, i32)>, String> {
    use kafka_protocol::records::{Compression, RecordBatchDecoder};
    let header = BatchHeader::parse(batch).ok_or("no header")?;
    let open = |bytes: &mut bytes::Bytes, compression: Compression| {
        let opened: std::io::Result<Vec<u8>> = match compression {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => read_all(flate2::read::MultiGzDecoder::new(&bytes[..])),
            Compression::Snappy => open_snappy(bytes),
            Compression::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(&bytes[..])),
            Compression::Zstd => zstd::stream::decode_all(&bytes[..]),
        };
        Ok(bytes::Bytes::from(opened?))
    };
    let mut bytes = bytes::Bytes::copy_from_slice(batch);
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(open));
    match set.map_err(|error| error.to_string()) {
        Ok(set) => Ok(Some((set.records.len(), header.record_count))),
        Err(why) if why.contains("utf-8") => Ok(None),
        Err(why) => Err(why),
    }
}

fn read_all(mut reader: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut opened = Vec::new();
    reader.read_to_end(&mut opened)?;
    Ok(opened)
}

fn open_snappy(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    const XERIAL_BYTES: usize = 16;
    if !bytes.starts_with(b"\x82SNAPPY\0") {
        return Ok(snap::raw::Decoder::new().decompress_vec(bytes)?);
    }
    let (mut opened, mut rest) = (Vec::new(), &bytes[XERIAL_BYTES..]);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, after) = after.split_at_checked(length).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        opened.extend(snap::raw::Decoder::new().decompress_vec(block)?);
        rest = after;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::produced::Produced;

    const SEEDS: u64 = 4_000;

    #[test]
    fn no_choices_make_a_valid_batch() {
        assert!(Produced::check(&mutant(&[]), 1 << 20).is_ok());
    }

    #[test]
    fn whatever_is_taken_is_read_the_same_elsewhere() {
        let (mut taken, mut refused) = (0, 0);
        for seed in 0..SEEDS {
            let batch = mutant(&choices(seed));
            match Produced::check(&batch, 1 << 20) {
                Ok(produced) => {
                    taken += 1;
                    if let Some((found, _)) = read_elsewhere(&batch).unwrap_or_else(|why| panic!("seed {seed}: {why}"))
                    {
                        assert_eq!(i32::try_from(found), Ok(produced.header.record_count), "seed {seed}");
                    }
                }
                Err(_) => refused += 1,
            }
        }
        assert!(taken > SEEDS / 10 && refused > SEEDS / 3, "{taken} taken, {refused} refused");
    }
}

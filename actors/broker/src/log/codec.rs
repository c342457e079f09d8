//! The compression of records inside a batch: opened with a bound, closed again with the same codec.
//!
//! Producers compress and consumers open; the broker looks inside only where it must, for compacted
//! topics and searches by time. Formats: KIP-98 (gzip, snappy in xerial framing, LZ4 frames), KIP-110
//! (zstd).

use std::borrow::Cow;
use std::io::{self, Read, Write};

/// Bytes that the records of one batch may take when opened.
pub(crate) const MAX_OPENED_BYTES: usize = 32 << 20;
const XERIAL_MAGIC: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// What Kafka's own producer takes (KIP-390).
const ZSTD_LEVEL: i32 = 3;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// By the number in a batch's attributes.
    pub fn numbered(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The records as they were before compression.
    ///
    /// # Errors
    /// `InvalidData` for bytes that the codec did not write, and for more than [`MAX_OPENED_BYTES`].
    pub fn open(self, records: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::None => Ok(Cow::Borrowed(records)),
            Self::Gzip => bounded(flate2::read::MultiGzDecoder::new(records)),
            Self::Snappy => open_snappy(records),
            Self::Lz4 => bounded(lz4_flex::frame::FrameDecoder::new(records)),
            Self::Zstd => bounded(zstd::stream::read::Decoder::with_buffer(records)?),
        }
    }

    /// Compresses records.
    ///
    /// # Errors
    /// What the codec says.
    pub fn close(self, records: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(records),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&records)?;
                encoder.finish()
            }
            Self::Snappy => close_snappy(&records),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(&records)?;
                encoder.finish().map_err(io::Error::other)
            }
            Self::Zstd => zstd::stream::encode_all(&records[..], ZSTD_LEVEL),
        }
    }
}

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a batch opens to more than the limit")
}

fn bounded<'a>(reader: impl Read) -> io::Result<Cow<'a, [u8]>> {
    let mut opened = Vec::new();
    reader.take(MAX_OPENED_BYTES as u64 + 1).read_to_end(&mut opened)?;
    if opened.len() > MAX_OPENED_BYTES { Err(too_much()) } else { Ok(Cow::Owned(opened)) }
}

/// Blocks in xerial framing, as Java writes them, or one bare block, as some clients do.
fn open_snappy<'a>(records: &[u8]) -> io::Result<Cow<'a, [u8]>> {
    let mut opened = Vec::new();
    let Some(mut rest) = records.strip_prefix(XERIAL_MAGIC) else {
        open_block(records, &mut opened)?;
        return Ok(Cow::Owned(opened));
    };
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, after) = after.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        open_block(block, &mut opened)?;
        rest = after;
    }
    Ok(Cow::Owned(opened))
}

fn open_block(block: &[u8], opened: &mut Vec<u8>) -> io::Result<()> {
    let length = snap::raw::decompress_len(block)?;
    let start = opened.len();
    if length > MAX_OPENED_BYTES - start {
        return Err(too_much());
    }
    opened.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut opened[start..])?;
    Ok(())
}

fn close_snappy(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut closed = XERIAL_MAGIC.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        closed.extend_from_slice(&length.to_be_bytes());
        closed.extend_from_slice(&block);
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    #[test]
    fn what_is_closed_opens_again() {
        let records: Vec<u8> = (0..200_000_u32).flat_map(|i| (i / 7).to_be_bytes()).collect();
        for codec in ALL {
            let closed = codec.close(records.clone()).unwrap();
            assert_eq!(codec.open(&closed).unwrap(), records, "{codec:?}");
        }
    }

    #[test]
    fn a_small_batch_that_opens_to_too_much_is_refused() {
        let huge = vec![0; MAX_OPENED_BYTES + 1];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let closed = codec.close(huge.clone()).unwrap();
            assert!(closed.len() < MAX_OPENED_BYTES / 10);
            assert!(codec.open(&closed).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn a_bare_snappy_block_is_opened() {
        let bare = snap::raw::Encoder::new().compress_vec(b"records").unwrap();
        assert_eq!(*Codec::Snappy.open(&bare).unwrap(), *b"records");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            for codec in ALL {
                let _ = codec.open(&bytes);
                let mut framed = XERIAL_MAGIC.to_vec();
                framed.extend_from_slice(&bytes);
                let _ = codec.open(&framed);
            }
        }
    }
}

//! The compression of records inside a batch: opened with a bound, closed again with the same codec.
//!
//! Producers compress and consumers open; the broker opens each batch once when it is produced. Formats: KIP-98 (gzip,
//! snappy in xerial framing, LZ4 frames), KIP-110 (zstd).
//!
//! A stream has to be one complete member or frame that ends where the batch ends. librdkafka reads the first gzip member
//! only and takes a shortened one for whole, and the Java client ends at the first LZ4 frame, so that anything else would
//! be another batch for each reader.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, Read, Write};

use zstd::zstd_safe;

/// Bytes that the records of one batch may take when opened, unless the topic allows larger messages.
pub(crate) const MAX_OPENED_BYTES: usize = 32 << 20;
/// A buffer that grew beyond this for one batch is given back.
const KEPT_BUFFER_BYTES: usize = 2 << 20;
/// Room for a zstd frame that does not tell its size, as a multiple of its own; quadrupled until it fits.
const FIRST_GUESS: usize = 8;
const XERIAL_MAGIC: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// Readers that open zstd as a stream, as the Java client does, refuse a larger window (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`).
const MAX_ZSTD_WINDOW_BYTES: u64 = 1 << 27;
/// What Kafka's own producer takes (KIP-390).
const ZSTD_LEVEL: i32 = 3;

/// Why records cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unopened {
    #[error("the compressed records are not one whole stream of their codec")]
    Damaged,
    #[error("the records open to more than the limit")]
    TooMuch,
}

impl From<io::Error> for Unopened {
    fn from(_: io::Error) -> Self {
        Self::Damaged
    }
}

impl From<snap::Error> for Unopened {
    fn from(_: snap::Error) -> Self {
        Self::Damaged
    }
}

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

    /// The records as they were before compression, of at most [`MAX_OPENED_BYTES`].
    ///
    /// # Errors
    /// As [`Self::open_into`].
    pub fn open(self, records: &[u8]) -> Result<Cow<'_, [u8]>, Unopened> {
        if self == Self::None {
            return Ok(Cow::Borrowed(records));
        }
        let mut opened = Vec::new();
        self.open_into(records, MAX_OPENED_BYTES, &mut opened)?;
        Ok(Cow::Owned(opened))
    }

    /// Has `read` look at the records as they were before compression, in a buffer that the thread keeps.
    ///
    /// # Errors
    /// As [`Self::open_into`].
    pub fn with_opened<T>(self, records: &[u8], limit: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Unopened> {
        thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        if self == Self::None {
            return Ok(read(records));
        }
        let mut buffer = BUFFER.take();
        let outcome = self.open_into(records, limit, &mut buffer).map(|()| read(&buffer));
        buffer.clear();
        buffer.shrink_to(KEPT_BUFFER_BYTES);
        BUFFER.set(buffer);
        outcome
    }

    /// Puts the records as they were before compression in the place of a buffer's content.
    ///
    /// # Errors
    /// `Damaged` for bytes that the codec did not write, `TooMuch` for more than `limit` bytes.
    fn open_into(self, records: &[u8], limit: usize, opened: &mut Vec<u8>) -> Result<(), Unopened> {
        opened.clear();
        match self {
            Self::None => {
                opened.extend_from_slice(records);
                Ok(())
            }
            Self::Gzip => {
                let mut decoder = flate2::bufread::GzDecoder::new(records);
                read_up_to(&mut decoder, limit, opened)?;
                if decoder.into_inner().is_empty() { Ok(()) } else { Err(Unopened::Damaged) }
            }
            Self::Snappy => open_snappy(records, limit, opened),
            Self::Lz4 => {
                // The decoder takes the end of its input for the end of the frame.
                if lz4_frame_bytes(records) != Some(records.len()) {
                    return Err(Unopened::Damaged);
                }
                read_up_to(lz4_flex::frame::FrameDecoder::new(records), limit, opened)
            }
            Self::Zstd => open_zstd(records, limit, opened),
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

fn read_up_to(reader: impl Read, limit: usize, opened: &mut Vec<u8>) -> Result<(), Unopened> {
    reader.take((limit as u64).saturating_add(1)).read_to_end(opened)?;
    if opened.len() > limit { Err(Unopened::TooMuch) } else { Ok(()) }
}

/// One frame, opened in one piece: unlike a stream it needs no window beside the result, and a frame names how large a
/// window it wants.
fn open_zstd(records: &[u8], limit: usize, opened: &mut Vec<u8>) -> Result<(), Unopened> {
    thread_local!(static CONTEXT: RefCell<zstd_safe::DCtx<'static>> = RefCell::new(zstd_safe::DCtx::create()));
    /// The code of the library for a buffer that is too small, negated.
    const NO_ROOM: usize = 0_usize.wrapping_sub(70);
    let is_one_frame = zstd_safe::find_frame_compressed_size(records) == Ok(records.len());
    if !is_one_frame || zstd_window_bytes(records).is_none_or(|window| window > MAX_ZSTD_WINDOW_BYTES) {
        return Err(Unopened::Damaged);
    }
    let told = zstd_safe::get_frame_content_size(records).map_err(|_| Unopened::Damaged)?;
    let told = told.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut room = told.unwrap_or_else(|| records.len().saturating_mul(FIRST_GUESS).min(limit));
    loop {
        if room > limit {
            return Err(Unopened::TooMuch);
        }
        opened.reserve(room.max(1));
        match CONTEXT.with_borrow_mut(|context| context.decompress(opened, records)) {
            Ok(bytes) if bytes > limit => return Err(Unopened::TooMuch),
            Ok(_) => return Ok(()),
            Err(NO_ROOM) if told.is_none() && room == limit => return Err(Unopened::TooMuch),
            Err(NO_ROOM) if told.is_none() => room = opened.capacity().saturating_mul(4).min(limit),
            Err(_) => return Err(Unopened::Damaged),
        }
    }
}

/// The window that a frame asks its readers for (RFC 8878, 3.1.1.1); 0 for one whose content is its window.
fn zstd_window_bytes(frame: &[u8]) -> Option<u64> {
    const IS_SINGLE_SEGMENT: u8 = 0x20;
    let (_magic, header) = frame.split_first_chunk::<4>()?;
    if header.first()? & IS_SINGLE_SEGMENT != 0 {
        return Some(0);
    }
    let descriptor = header.get(1)?;
    let base = 1_u64 << (10 + (descriptor >> 3));
    Some(base + base / 8 * u64::from(descriptor & 7))
}

/// Bytes of the LZ4 frame at the start, from the lengths in it; `None` if it does not end.
fn lz4_frame_bytes(frame: &[u8]) -> Option<usize> {
    const HAS_BLOCK_CHECKSUMS: u8 = 0x10;
    const HAS_CONTENT_SIZE: u8 = 0x08;
    const HAS_CONTENT_CHECKSUM: u8 = 0x04;
    const HAS_DICTIONARY: u8 = 0x01;
    const IS_UNCOMPRESSED: u32 = 1 << 31;
    let flags = *frame.strip_prefix(&LZ4_MAGIC)?.first()?;
    let with = |flag: u8, bytes: usize| if flags & flag == 0 { 0 } else { bytes };
    // Magic, flags, block size and the header's checksum.
    let mut at = 7 + with(HAS_CONTENT_SIZE, 8) + with(HAS_DICTIONARY, 4);
    loop {
        let block = u32::from_le_bytes(*frame.get(at..)?.first_chunk::<4>()?);
        at += 4;
        if block == 0 {
            let end = at + with(HAS_CONTENT_CHECKSUM, 4);
            return (end <= frame.len()).then_some(end);
        }
        at += usize::try_from(block & !IS_UNCOMPRESSED).ok()? + with(HAS_BLOCK_CHECKSUMS, 4);
    }
}

/// Blocks in xerial framing, as Java writes them, or one bare block, as some clients do.
fn open_snappy(records: &[u8], limit: usize, opened: &mut Vec<u8>) -> Result<(), Unopened> {
    let Some(mut rest) = records.strip_prefix(XERIAL_MAGIC) else {
        return open_block(records, limit, opened);
    };
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(Unopened::Damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, after) = after.split_at_checked(length).ok_or(Unopened::Damaged)?;
        open_block(block, limit, opened)?;
        rest = after;
    }
    Ok(())
}

fn open_block(block: &[u8], limit: usize, opened: &mut Vec<u8>) -> Result<(), Unopened> {
    let length = snap::raw::decompress_len(block)?;
    let start = opened.len();
    if length > limit - start {
        return Err(Unopened::TooMuch);
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
            assert_eq!(codec.open(&closed), Err(Unopened::TooMuch), "{codec:?}");
        }
    }

    #[test]
    fn a_stream_that_is_not_one_whole_member_is_refused() {
        let records = vec![b'r'; 300_000];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let whole = codec.close(records.clone()).unwrap();
            for cut in 1..whole.len().min(400) {
                let shortened = &whole[..whole.len() - cut];
                let is_other = codec.open(shortened).map_or(true, |opened| opened != records);
                assert!(is_other, "{codec:?} without its last {cut} bytes");
                if codec != Codec::Snappy {
                    assert_eq!(codec.open(shortened), Err(Unopened::Damaged), "{codec:?} without {cut}");
                }
            }
            for behind in [&b"junk"[..], &[0][..], &whole] {
                let longer = [&whole[..], behind].concat();
                assert_eq!(codec.open(&longer), Err(Unopened::Damaged), "{codec:?} and {} bytes", behind.len());
            }
        }
    }

    #[test]
    fn a_zstd_frame_that_does_not_tell_its_size_is_opened() {
        let records = vec![b'r'; 5_000_000];
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&records).unwrap();
        let closed = encoder.finish().unwrap();
        assert!(Codec::Zstd.open(&closed).unwrap() == records);
        let length = |limit| Codec::Zstd.with_opened(&closed, limit, <[u8]>::len);
        assert_eq!(length(records.len()), Ok(records.len()));
        assert_eq!(length(records.len() - 1), Err(Unopened::TooMuch));
    }

    #[test]
    fn a_zstd_frame_with_a_window_that_other_readers_refuse_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(b"records").unwrap();
        let mut closed = encoder.finish().unwrap();
        for (descriptor, is_taken) in [(17 << 3, true), (17 << 3 | 1, false), (18 << 3, false)] {
            closed[5] = descriptor;
            assert_eq!(Codec::Zstd.open(&closed).is_ok(), is_taken, "{descriptor}");
            assert_eq!(zstd::stream::decode_all(&closed[..]).is_ok(), is_taken, "another reader, {descriptor}");
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

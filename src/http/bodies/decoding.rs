//! Decoding of `Content-Encoding`, within a bound of the decoded bytes.

use std::io::{self, Write};

use actix_web::{
    http::header::{self, HeaderMap},
    web::Bytes,
};
use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::Refusal;

/// Decodes one body, piece by piece.
pub enum Decoding {
    Identity,
    Gzip(MultiGzDecoder<Bounded>),
    Deflate(ZlibDecoder<Bounded>),
}

/// Why a piece was not decoded.
pub enum DecodeFault {
    /// The decoded body is over its bound.
    TooLarge,
    /// The bytes are not in the encoding that was named.
    Damaged(io::Error),
}

/// Takes decoded bytes up to a bound.
#[derive(Default)]
pub struct Bounded {
    bytes: Vec<u8>,
    left: usize,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            self.is_over = true;
            return Err(io::Error::other("the decoded body is too large"));
        }
        self.left -= bytes.len();
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoding {
    /// What the headers name, for at most `limit` decoded bytes.
    ///
    /// # Errors
    /// If the encoding is not supported, or several are named.
    pub fn of(headers: &HeaderMap, limit: usize) -> Result<Self, Refusal> {
        let named: Vec<String> = headers
            .get_all(header::CONTENT_ENCODING)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty() && name != "identity")
            .collect();
        let bounded = || Bounded { left: limit, ..Bounded::default() };
        match named.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => Ok(Self::Identity),
            ["gzip" | "x-gzip"] => Ok(Self::Gzip(MultiGzDecoder::new(bounded()))),
            ["deflate"] => Ok(Self::Deflate(ZlibDecoder::new(bounded()))),
            _ => Err(Refusal::Encoding(named.join(", "))),
        }
    }

    /// The decoded bytes that a piece completes.
    ///
    /// # Errors
    /// If the body is too large or damaged.
    pub fn piece(&mut self, piece: Bytes) -> Result<Bytes, DecodeFault> {
        let written = match self {
            Self::Identity => return Ok(piece),
            Self::Gzip(decoder) => decoder.write_all(&piece).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(&piece).and_then(|()| decoder.flush()),
        };
        self.decoded(written)
    }

    /// The rest, once the last piece was decoded.
    ///
    /// # Errors
    /// If the body is too large or ends too early.
    pub fn end(&mut self) -> Result<Bytes, DecodeFault> {
        let written = match self {
            Self::Identity => return Ok(Bytes::new()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
        };
        self.decoded(written)
    }

    fn decoded(&mut self, written: io::Result<()>) -> Result<Bytes, DecodeFault> {
        let bounded = match self {
            Self::Identity => return Ok(Bytes::new()),
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
        };
        match written {
            Ok(()) => Ok(std::mem::take(&mut bounded.bytes).into()),
            Err(_) if bounded.is_over => Err(DecodeFault::TooLarge),
            Err(error) => Err(DecodeFault::Damaged(error)),
        }
    }
}

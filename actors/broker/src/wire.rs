//! Decoding requests and encoding responses, with lengths checked before memory is taken.
//!
//! The generated decoders reserve memory for as many elements as a message claims. [`Guard`] refuses
//! any claim that exceeds the bytes left, since every element takes at least one, and more elements than
//! a request that is small could have.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::buf::{ByteBuf, NotEnoughBytesError};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};

use crate::log::Records;

/// Bytes of a request before its header's first string.
const FIXED_HEADER_BYTES: usize = 8;
/// Reads of lengths and small numbers that one request may take: each element of an array takes at least one, and a few
/// bytes of a large request may be an element of a hundred.
const MAX_READS: usize = 1 << 20;
/// First version of request headers with compact lengths.
const FLEXIBLE_HEADER: i16 = 2;

/// A request that does not follow the protocol; its connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("malformed request: {0}")]
pub(crate) struct Malformed(String);

impl Malformed {
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// One request: its header, and the body not yet decoded.
#[derive(Debug)]
pub(crate) struct Frame {
    pub key: ApiKey,
    pub version: i16,
    pub client_id: String,
    correlation_id: i32,
    body: Bytes,
}

impl Frame {
    /// Reads the header of a request.
    ///
    /// # Errors
    /// An unknown API or a header that ends early.
    pub fn parse(mut bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.len() < FIXED_HEADER_BYTES {
            return Err(Malformed::new("no header"));
        }
        let (mut key, mut version) = (&bytes[..2], &bytes[2..4]);
        let (key, version) = (key.get_i16(), version.get_i16());
        let key = ApiKey::try_from(key).map_err(|()| Malformed(format!("API {key}")))?;
        let range = key.valid_versions();
        if version < 0 || (version > range.max && key != ApiKey::ApiVersions) {
            return Err(Malformed(format!("{key:?} version {version}")));
        }
        let header: RequestHeader = if version > range.max {
            RequestHeader::default().with_correlation_id((&bytes[4..8]).get_i32())
        } else {
            decode_request_header_from_buffer(&mut bytes).map_err(|e| Malformed(format!("header: {e}")))?
        };
        Ok(Self {
            key,
            version,
            client_id: header.client_id.map_or_else(String::new, |c| c.to_string()),
            correlation_id: header.correlation_id,
            body: bytes,
        })
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// A body that ends early or claims more elements than it can hold.
    pub fn decode<T: Decodable>(&self) -> Result<T, Malformed> {
        let failed = |reason: &dyn fmt::Display| Malformed(format!("{:?} v{}: {reason}", self.key, self.version));
        let is_flexible = self.key.request_header_version(self.version) >= FLEXIBLE_HEADER;
        if is_flexible {
            T::decode(&mut Guard::new(&self.body, Lengths::Compact), self.version).map_err(|error| failed(&error))
        } else {
            decode_fixed(&self.body, self.version).map_err(|Malformed(reason)| failed(&reason))
        }
    }

    /// Encodes a response with its length and header.
    ///
    /// # Errors
    /// A field that the version of the request cannot express.
    pub fn encode<T: Encodable>(&self, response: &T) -> Result<Answer, Malformed> {
        self.encode_as(response, self.version)
    }

    /// As [`Self::encode`], in another version than the request's.
    ///
    /// # Errors
    /// A field that the version cannot express.
    pub fn encode_as<T: Encodable>(&self, response: &T, version: i16) -> Result<Answer, Malformed> {
        let size = response.compute_size(version).map_err(|e| self.unencoded(version, e))?;
        let mut out = BytesMut::with_capacity(size + 16);
        out.put_i32(0);
        self.encode_header_as(&mut out, version)?;
        response.encode(&mut out, version).map_err(|e| self.unencoded(version, e))?;
        let length = i32::try_from(out.len() - 4).map_err(|e| Malformed(e.to_string()))?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Answer::of(vec![Records::Memory(out.freeze())]))
    }

    /// Encodes the header of the response.
    ///
    /// # Errors
    /// None that is known of.
    pub fn encode_header(&self, out: &mut BytesMut) -> Result<(), Malformed> {
        self.encode_header_as(out, self.version)
    }

    fn encode_header_as(&self, out: &mut BytesMut, version: i16) -> Result<(), Malformed> {
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        header.encode(out, self.key.response_header_version(version)).map_err(|e| self.unencoded(version, e))
    }

    /// Encodes a response, or a part of one, without length and header.
    ///
    /// # Errors
    /// A field that the version of the request cannot express.
    pub fn encode_body<T: Encodable>(&self, out: &mut BytesMut, part: &T) -> Result<(), Malformed> {
        part.encode(out, self.version).map_err(|e| self.unencoded(self.version, e))
    }

    fn unencoded(&self, version: i16, error: impl fmt::Display) -> Malformed {
        Malformed(format!("{:?} v{version} response: {error}", self.key))
    }
}

/// An encoded response, sent piece by piece: records that were not read come from their file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer(Vec<Records>);

impl Answer {
    pub fn of(pieces: Vec<Records>) -> Self {
        Self(pieces)
    }

    pub fn pieces(&self) -> &[Records] {
        &self.0
    }

    /// Bytes of all pieces.
    pub fn len(&self) -> usize {
        self.0.iter().map(Records::len).sum()
    }
}

/// Decodes a message whose lengths are 32-bit integers: the body of a request, or what a client has put into one.
///
/// # Errors
/// A message that ends early or claims more elements than it can hold.
pub(crate) fn decode_fixed<T: Decodable>(bytes: &Bytes, version: i16) -> Result<T, Malformed> {
    let guarded: Result<T, _> = T::decode(&mut Guard::new(bytes, Lengths::Fixed), version);
    guarded.and_then(|_| T::decode(&mut bytes.clone(), version)).map_err(|error| Malformed(error.to_string()))
}

/// A string of a response.
pub(crate) fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// How the lengths of arrays are written in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// As varints: a claim beyond the end is an error.
    Compact,
    /// As 32-bit integers, which other fields are too: all are lowered to one more than the bytes
    /// left, which makes an impossible array fail and is harmless as the result is thrown away.
    Fixed,
}

struct Guard {
    rest: Bytes,
    lengths: Lengths,
    reads_left: usize,
}

impl Guard {
    fn new(bytes: &Bytes, lengths: Lengths) -> Self {
        Self { rest: bytes.clone(), lengths, reads_left: MAX_READS }
    }

    /// The varint that begins at the front.
    fn peek_varint(&self) -> u64 {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(5).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn count_read(&mut self) -> Result<(), TryGetError> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or_else(|| self.refuse(usize::MAX))?;
        Ok(())
    }

    fn refuse(&self, requested: usize) -> TryGetError {
        TryGetError { requested, available: self.rest.len() }
    }
}

impl Buf for Guard {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.rest
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        self.count_read()?;
        if self.lengths == Lengths::Compact && self.rest.first().is_some_and(|b| *b >= 0x80) {
            let claimed = self.peek_varint();
            if claimed > self.rest.len() as u64 + 1 {
                return Err(self.refuse(usize::try_from(claimed).unwrap_or(usize::MAX)));
            }
        }
        self.rest.try_get_u8()
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.count_read()?;
        let value = self.rest.try_get_i32()?;
        match self.lengths {
            Lengths::Compact => Ok(value),
            Lengths::Fixed => {
                let limit = i32::try_from(self.rest.len()).unwrap_or(i32::MAX - 1) + 1;
                Ok(value.min(limit))
            }
        }
    }
}

impl ByteBuf for Guard {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.rest.split_to(size)
    }

    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
        if size > self.rest.len() {
            return Err(NotEnoughBytesError);
        }
        Ok(self.rest.split_to(size))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProduceRequest;

    use super::*;

    /// Produce of version 9 with so many empty topics.
    fn produce(topics: u32) -> Frame {
        let mut bytes = BytesMut::new();
        let version = 9;
        let header = RequestHeader::default().with_request_api_version(version);
        header.encode(&mut bytes, ApiKey::Produce.request_header_version(version)).unwrap();
        bytes.put_slice(&[0, 0, 1, 0, 0, 0, 9]);
        let mut count = topics + 1;
        while count >= 0x80 {
            bytes.put_u8(u8::try_from(count & 0x7f).unwrap() | 0x80);
            count >>= 7;
        }
        bytes.put_u8(u8::try_from(count).unwrap());
        (0..topics).for_each(|_| bytes.put_slice(&[1, 1, 0]));
        bytes.put_u8(0);
        Frame::parse(bytes.freeze()).unwrap()
    }

    #[test]
    fn a_large_request_cannot_have_millions_of_elements() {
        let decoded = |topics| produce(topics).decode::<ProduceRequest>().map(|request| request.topic_data.len());
        assert_eq!(decoded(100_000).unwrap(), 100_000);
        assert!(decoded(400_000).is_err());
    }
}

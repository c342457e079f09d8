//! A request to produce that is larger than one may be: read past without keeping its records, then refused partition by
//! partition, so that the producer is told why. One that is larger still, or that is not what it says, ends its
//! connection.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceResponse, TopicName};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::transport::Transport;
use super::{Connection, Ended, FIRST_BUFFER_BYTES, IDLE_LIMIT, LENGTH_END};
use crate::error::Code;
use crate::wire::{Answer, Frame, Malformed, text};

/// Largest request that is read past.
pub(super) const MAX_DRAINED_BYTES: usize = 256 << 20;
/// Partitions that such a request may name.
const MAX_PARTITIONS: usize = 1_000;
/// Longest text in it.
const MAX_TEXT_BYTES: usize = 32 << 10;
/// First version with compact lengths and tagged fields.
const FIRST_FLEXIBLE: i16 = 9;
const VERSIONS: std::ops::RangeInclusive<i16> = 3..=9;

/// What was in the request beside its records.
pub(super) struct Oversized {
    pub client_id: String,
    pub bytes: usize,
    /// None where the client wants none.
    pub answer: Option<Answer>,
}

/// Reads past the request at the start of a connection's buffer, whose length and API are there already.
///
/// # Errors
/// A request that does not follow the protocol, or names too many partitions; what the connection says.
pub(super) async fn drain<S: Transport>(connection: &mut Connection<S>) -> Result<Oversized, Ended> {
    let mut length = &connection.buffer[..LENGTH_END];
    let bytes = usize::try_from(length.get_i32()).map_err(|_| malformed())?;
    connection.buffer.advance(LENGTH_END);
    let mut skim = Skim { connection, left: bytes, is_flexible: false };
    let header = skim.header().await?;
    let frame = Frame::parse(header)?;
    skim.is_flexible = frame.version >= FIRST_FLEXIBLE;
    let acks = skim.body_start().await?;
    let response = skim.refuse_all().await?;
    let left = skim.left;
    skim.skip(left).await?;
    let answer = (acks != 0).then(|| frame.encode(&response)).transpose()?;
    Ok(Oversized { client_id: frame.client_id, bytes, answer })
}

fn malformed() -> Ended {
    Malformed::new("a request to produce that is too large and not what it says").into()
}

/// Reads single fields of a request and forgets them.
struct Skim<'a, S> {
    connection: &'a mut Connection<S>,
    /// Bytes of the request that are not read yet.
    left: usize,
    is_flexible: bool,
}

impl<S: Transport> Skim<'_, S> {
    async fn fill(&mut self) -> Result<(), Ended> {
        self.connection.buffer.reserve(FIRST_BUFFER_BYTES);
        match timeout(IDLE_LIMIT, self.connection.stream.read_buf(&mut self.connection.buffer)).await {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0)) | Err(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    async fn take(&mut self, bytes: usize) -> Result<BytesMut, Ended> {
        if bytes > self.left || bytes > MAX_TEXT_BYTES {
            return Err(malformed());
        }
        while self.connection.buffer.len() < bytes {
            self.fill().await?;
        }
        self.left -= bytes;
        Ok(self.connection.buffer.split_to(bytes))
    }

    async fn skip(&mut self, bytes: usize) -> Result<(), Ended> {
        let mut to_go = bytes;
        self.left = self.left.checked_sub(bytes).ok_or_else(malformed)?;
        loop {
            let here = to_go.min(self.connection.buffer.len());
            self.connection.buffer.advance(here);
            to_go -= here;
            if to_go == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn short(&mut self) -> Result<i16, Ended> {
        Ok(self.take(2).await?.get_i16())
    }

    async fn int(&mut self) -> Result<i32, Ended> {
        Ok(self.take(4).await?.get_i32())
    }

    async fn varint(&mut self) -> Result<u32, Ended> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.take(1).await?.get_u8();
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    /// A length, `None` for null.
    async fn length(&mut self, width: Width) -> Result<Option<usize>, Ended> {
        let length = match (self.is_flexible, width) {
            (true, _) => i64::from(self.varint().await?) - 1,
            (false, Width::Short) => i64::from(self.short().await?),
            (false, Width::Int) => i64::from(self.int().await?),
        };
        Ok(usize::try_from(length).ok())
    }

    async fn tags(&mut self) -> Result<(), Ended> {
        if self.is_flexible {
            for _ in 0..self.varint().await? {
                self.varint().await?;
                let bytes = usize::try_from(self.varint().await?).map_err(|_| malformed())?;
                self.skip(bytes).await?;
            }
        }
        Ok(())
    }

    /// The header as [`Frame::parse`] reads it; its tagged fields are left out.
    async fn header(&mut self) -> Result<Bytes, Ended> {
        let mut header = self.take(8).await?;
        let version = i16::from_be_bytes([header[2], header[3]]);
        if !VERSIONS.contains(&version) {
            return Err(malformed());
        }
        let length = self.take(2).await?;
        let bytes = usize::try_from(i16::from_be_bytes([length[0], length[1]])).unwrap_or(0);
        header.unsplit(length);
        header.unsplit(self.take(bytes).await?);
        if version >= FIRST_FLEXIBLE {
            self.is_flexible = true;
            self.tags().await?;
            header.extend_from_slice(&[0]);
        }
        Ok(header.freeze())
    }

    /// Reads up to the topics; the acknowledgements that are wanted.
    async fn body_start(&mut self) -> Result<i16, Ended> {
        if let Some(bytes) = self.length(Width::Short).await? {
            self.take(bytes).await?;
        }
        let acks = self.short().await?;
        self.int().await?;
        Ok(acks)
    }

    async fn refuse_all(&mut self) -> Result<ProduceResponse, Ended> {
        let (mut topics, mut seen) = (Vec::new(), 0);
        for _ in 0..self.length(Width::Int).await?.unwrap_or(0) {
            let bytes = self.length(Width::Short).await?.ok_or_else(malformed)?;
            let name = self.take(bytes).await?;
            let name = String::from_utf8(name.to_vec()).map_err(|_| malformed())?;
            let mut partitions = Vec::new();
            for _ in 0..self.length(Width::Int).await?.unwrap_or(0) {
                seen += 1;
                if seen > MAX_PARTITIONS {
                    return Err(malformed());
                }
                let index = self.int().await?;
                let records = self.length(Width::Int).await?.unwrap_or(0);
                self.skip(records).await?;
                self.tags().await?;
                partitions.push(refused(index));
            }
            self.tags().await?;
            seen += 1;
            let topic = TopicProduceResponse::default().with_name(TopicName(text(name)));
            topics.push(topic.with_partition_responses(partitions));
        }
        self.tags().await?;
        Ok(ProduceResponse::default().with_responses(topics))
    }
}

/// How many bytes a length has where lengths are not compact.
#[derive(Debug, Clone, Copy)]
enum Width {
    Short,
    Int,
}

fn refused(index: i32) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(Code::MessageTooLarge.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
}

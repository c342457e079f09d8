//! The protocol without a client library.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::support::{PATIENCE, Server};

/// A connection on which a test decides about every byte.
pub struct Raw<S = TcpStream>(pub S);

impl Raw {
    pub fn connect(server: &Server) -> Self {
        Self::connect_to(&server.address)
    }

    pub fn connect_to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Raw<S> {
    pub fn send<T: Encodable>(&mut self, key: ApiKey, version: i16, request: &T) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(1)
            .encode(&mut bytes, key.request_header_version(version))
            .unwrap();
        request.encode(&mut bytes, version).unwrap();
        let length = i32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.0.write_all(&bytes).unwrap();
    }

    /// The body of a response whose header has only a correlation id.
    pub fn receive(&mut self) -> Bytes {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut bytes).unwrap();
        let mut bytes = Bytes::from(bytes);
        bytes.advance(4);
        bytes
    }

    /// The body of a response whose header may have tagged fields, and has none.
    pub fn receive_flexible(&mut self) -> Bytes {
        let mut bytes = self.receive();
        assert_eq!(bytes.get_u8(), 0);
        bytes
    }

    /// The response to a request.
    pub fn ask<Q: Encodable, A: Decodable>(&mut self, key: ApiKey, version: i16, request: &Q) -> A {
        self.send(key, version, request);
        let is_flexible = key.response_header_version(version) > 0;
        let mut bytes = if is_flexible { self.receive_flexible() } else { self.receive() };
        A::decode(&mut bytes, version).unwrap()
    }

    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// An uncompressed batch of one record from an idempotent producer.
pub fn batch(epoch: i16, sequence: i32) -> Bytes {
    let mut b = vec![0_u8; 61];
    // Length 8, attributes, two deltas, no key, one byte of value, no headers.
    b.extend_from_slice(&[14, 0, 0, 0, 1, 2, b'x', 0]);
    let length = i32::try_from(b.len() - 12).unwrap();
    b[8..12].copy_from_slice(&length.to_be_bytes());
    b[16] = 2;
    b[43..51].copy_from_slice(&77_i64.to_be_bytes());
    b[51..53].copy_from_slice(&epoch.to_be_bytes());
    b[53..57].copy_from_slice(&sequence.to_be_bytes());
    b[57..61].copy_from_slice(&1_i32.to_be_bytes());
    let crc = crc32c::crc32c(&b[21..]);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b.into()
}

pub fn produce<S: Read + Write>(raw: &mut Raw<S>, records: Bytes) -> (i16, i64) {
    let partition = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![topic]);
    raw.send(ApiKey::Produce, 7, &request);
    let response = ProduceResponse::decode(&mut raw.receive(), 7).unwrap();
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

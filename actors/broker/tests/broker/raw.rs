//! A client that sends any request of the protocol, and any bytes.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::support::{PATIENCE, Server};

pub struct Raw(pub TcpStream);

impl Raw {
    pub fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

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

    fn frame(&mut self) -> Bytes {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut bytes).unwrap();
        bytes.into()
    }

    /// The body of a response whose header has only a correlation id.
    pub fn receive(&mut self) -> Bytes {
        let mut bytes = self.frame();
        bytes.advance(4);
        bytes
    }

    /// The response to a request.
    pub fn ask<Q: Encodable, A: Decodable>(&mut self, key: ApiKey, version: i16, request: &Q) -> A {
        self.send(key, version, request);
        let mut bytes = self.frame();
        ResponseHeader::decode(&mut bytes, key.response_header_version(version)).unwrap();
        A::decode(&mut bytes, version).unwrap()
    }

    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

//! Bodies on their way in: deadlines, room, encodings.

use std::io::{Read, Write};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::{
    decoding::{DecodeFault, Decoding},
    *,
};
use crate::http::{
    HttpSettings,
    tests::client::{Reply, Running},
};

const RECORDS: &str = "/api/v1/streams/sensors/records";
const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3_600);
const RECORD: &[u8] = br#"{"a": 1}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn post(server: &Running, encoding: &str, body: &[u8]) -> Reply {
    server.call_with("POST", RECORDS, &[("Content-Encoding", encoding)], body)
}

/// Sends a head and the beginning of a body, and keeps the connection.
fn begin(server: &Running, framing: &str, body: &[u8]) -> std::net::TcpStream {
    let mut stream = server.connect();
    let head = format!("POST {RECORDS} HTTP/1.1\r\nHost: {}\r\n{framing}\r\n\r\n", server.address);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// All that the server says until it closes the connection.
fn rest(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        // The connection may be reset while bytes of the body are under way.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection stays open");
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn the_server_that_is_shipped_has_these_deadlines_and_this_room() {
    let shipped = HttpSettings::default();
    assert_eq!((shipped.body_timeout, shipped.body_progress), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!(shipped.bodies_limit, 24 << 20);
}

#[test]
fn a_body_that_stops_is_answered_408_and_its_connection_ends() {
    let server = Running::with(HttpSettings { body_progress: SHORT, body_timeout: LONG, ..HttpSettings::default() });
    for (framing, body) in [
        ("Content-Length: 100", &b"["[..]),
        ("Content-Length: 100", b""),
        ("Transfer-Encoding: chunked", b"1\r\n[\r\n"),
    ] {
        let answer = rest(&mut begin(&server, framing, body));
        assert!(answer.starts_with("HTTP/1.1 408"), "{framing}: {answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("nosniff"), "{answer}");
    }
}

#[test]
fn a_body_that_trickles_is_answered_408_at_its_whole_deadline_and_its_connection_ends() {
    let server = Running::with(HttpSettings { body_progress: LONG, body_timeout: SHORT, ..HttpSettings::default() });
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut stream = begin(&server, framing, b"");
        let mut writer = stream.try_clone().unwrap();
        let piece: &[u8] = if framing.ends_with("chunked") { b"1\r\n \r\n" } else { b" " };
        #[expect(clippy::disallowed_methods, reason = "the client writes while it reads")]
        let trickle = std::thread::spawn(move || while writer.write_all(piece).is_ok() {});
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 408"), "{framing}: {answer}");
        trickle.join().unwrap();
    }
}

#[test]
fn a_body_that_nobody_reads_ends_its_connection() {
    let server = Running::start();
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut stream = server.connect();
        let head = format!("POST /nothing HTTP/1.1\r\nHost: {}\r\n{framing}\r\n\r\n", server.address);
        stream.write_all(head.as_bytes()).unwrap();
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 404"), "{framing}: {answer}");
    }
}

#[test]
fn bodies_together_hold_a_bounded_number_of_bytes_and_small_ones_always_pass() {
    let settings =
        HttpSettings { body_limit: 64 << 10, bodies_limit: 128 << 10, body_progress: LONG, ..HttpSettings::default() };
    let server = Running::with(settings);
    let large = [b' '; 60 << 10];
    let framing = format!("Content-Length: {}", large.len() + 1);
    let whole = [&large[..], RECORD].concat();
    let held = std::cell::RefCell::new(Vec::new());
    server.wait_until("the room is full", || {
        held.borrow_mut().push(begin(&server, &framing, &large));
        let refused = post(&server, "identity", &whole);
        let is_full = refused.status == 503;
        if is_full {
            assert_eq!(refused.header("retry-after"), Some("2"));
            assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        }
        is_full
    });
    assert_eq!(post(&server, "identity", RECORD).status, 202, "a small body needs no room");
    drop(held);
    server.wait_until("the room is free again", || post(&server, "identity", &whole).status == 202);
}

#[test]
fn encoded_bodies_are_decoded() {
    let server = Running::start();
    let many = format!("[{}]", vec![r#"{"a": 1}"#; 5_000].join(","));
    for body in [RECORD, many.as_bytes()] {
        for (encoding, encoded) in
            [("gzip", gzip(body)), ("X-GZIP", gzip(body)), ("deflate", zlib(body)), ("identity", body.to_vec())]
        {
            let reply = post(&server, encoding, &encoded);
            assert_eq!(reply.status, 202, "{encoding}: {}", reply.body);
        }
        assert_eq!(server.fake.asked(), format!("append sensors {}", if body == RECORD { 1 } else { 5_000 }));
    }
    let members = [gzip(b"{\"a\""), gzip(b": 1}")].concat();
    assert_eq!(post(&server, "gzip", &members).status, 202, "several members are one body (RFC 1952)");
}

#[test]
fn the_bound_of_a_body_is_that_of_its_decoded_bytes() {
    let server = Running::with(HttpSettings { body_limit: 1_000, ..HttpSettings::default() });
    let at = |length: usize| [&vec![b' '; length - RECORD.len()], RECORD].concat();
    for encode in [gzip, zlib] {
        let encoding = if encode(b"") == gzip(b"") { "gzip" } else { "deflate" };
        assert_eq!(post(&server, encoding, &encode(&at(1_000))).status, 202, "{encoding}");
        assert_eq!(post(&server, encoding, &encode(&at(1_001))).status, 413, "{encoding}");
        assert_eq!(post(&server, encoding, &encode(&vec![b' '; 20 << 20])).status, 413, "{encoding}");
    }
}

#[test]
fn a_body_is_decoded_no_further_than_its_bound() {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    let bomb = gzip(&vec![b' '; 20 << 20]);
    let mut decoding = Decoding::of(&headers, 1_000).unwrap_or_else(|_| panic!("gzip is supported"));
    assert!(matches!(decoding.piece(bomb.into()), Err(DecodeFault::TooLarge)));
}

#[test]
fn other_encodings_are_415_and_name_those_that_are_supported() {
    let server = Running::start();
    for encoding in ["br", "zstd", "gzip, gzip", "compress", "gzipped"] {
        let reply = post(&server, encoding, RECORD);
        assert_eq!(reply.status, 415, "{encoding}");
        assert_eq!(reply.header("accept-encoding"), Some("gzip, deflate, identity"));
        assert!(reply.body.contains("use gzip or deflate"), "{}", reply.body);
    }
    assert_eq!(server.fake.asked(), "", "nothing was appended");
}

#[test]
fn a_body_that_is_not_in_its_encoding_is_400() {
    let server = Running::start();
    let whole = gzip(RECORD);
    let flipped: Vec<u8> = whole.iter().rev().copied().collect();
    for body in [RECORD, &whole[..whole.len() - 4], &flipped, &[&whole[..], b"junk"].concat()] {
        let reply = post(&server, "gzip", body);
        assert_eq!(reply.status, 400, "{}", reply.body);
    }
    assert_eq!(server.fake.asked(), "", "nothing was appended");
}

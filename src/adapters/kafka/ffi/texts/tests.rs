use super::*;

type Named = (&'static [u8], Option<&'static [u8]>);

fn read(headers: &BorrowedHeaders) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut read = Vec::new();
    for_each_header(headers, &mut |name, value| read.push((name.to_vec(), value.map(<[u8]>::to_vec))));
    read
}

#[test]
fn headers_come_back_with_any_bytes_in_name_and_value() {
    let given: [Named; 9] = [
        (b"plain", Some(b"v")),
        (b"\xff\xfe", Some(b"\0\xff")),
        (b"before\0after", Some(b"v")),
        (b"\0", Some(b"")),
        (b"nothing\0behind", None),
        (b"", Some(b"v")),
        (b"", None),
        (b"plain", Some(b"again")),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", Some(b"\0\0\0\0")),
    ];
    let mut headers = OwnedHeaders::new();
    for (name, value) in given {
        add_header(&mut headers, name, value);
    }
    let expected: Vec<_> = given.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
    assert_eq!(read(headers.as_borrowed()), expected);
    assert_eq!(read(headers.as_borrowed().detach().as_borrowed()), expected, "a copy has the same");
}

#[test]
fn no_headers_are_no_headers() {
    assert_eq!(read(OwnedHeaders::new().as_borrowed()), []);
}

/// A new librdkafka must be looked at: names with a NUL would come back cut.
#[test]
fn the_layout_of_a_header_is_that_of_the_library_in_use() {
    // SAFETY: it takes nothing and reads a constant.
    assert_eq!(unsafe { rd_kafka_version() }, KNOWN_VERSION);
}

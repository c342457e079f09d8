//! A client that costs next to nothing, so that the broker is the limit: it sends a batch that was made before, again and
//! again, and of what it fetches it reads the batch headers alone.
//!
//! Produce version 3 and Fetch version 4 of the Kafka protocol, the oldest that brokers still serve.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut};

use super::cases::Taken;

const PRODUCE: (i16, i16) = (0, 3);
const FETCH: (i16, i16) = (1, 4);
/// Requests sent ahead of their responses, as idempotent producers do.
const IN_FLIGHT: usize = 5;
/// Bytes of one fetch, as librdkafka asks for.
const FETCH_BYTES: i32 = 1 << 20;
const WAIT_MS: i32 = 500;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a batch before its records.
const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of a batch that its length does not count.
const LENGTH_PREFIX_BYTES: usize = 12;

/// A connection for one partition.
pub struct RawClient {
    stream: TcpStream,
    topic: String,
    partition: i32,
    response: Vec<u8>,
}

/// A batch as it lies in the log.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u64,
}

impl RawClient {
    /// Connects to a broker.
    ///
    /// # Errors
    /// If it is not there.
    pub fn connect(address: &str, topic: &str, partition: i32) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, topic: topic.to_owned(), partition, response: Vec::new() })
    }

    /// Sends a batch as often as there is time for, `acks=all`.
    ///
    /// # Errors
    /// If the broker refuses it.
    pub fn produce(&mut self, batch: &Batch, until: Instant) -> io::Result<Taken> {
        let request = self.request(PRODUCE, |body| {
            body.put_i16(-1);
            body.put_i16(-1);
            body.put_i32(WAIT_MS);
            self.put_partition(body);
            put_bytes(body, &batch.bytes);
        });
        let begun = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < sent || Instant::now() < until {
            while sent < answered + IN_FLIGHT && Instant::now() < until {
                self.stream.write_all(&request)?;
                sent += 1;
            }
            if answered < sent {
                self.receive()?;
                self.produced()?;
                answered += 1;
            }
        }
        Ok((answered as u64 * batch.records, begun.elapsed()))
    }

    /// Reads the partition from its start, and from there again at its end, for as long as there is time.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn fetch(&mut self, until: Instant) -> io::Result<Taken> {
        let begun = Instant::now();
        let (mut records, mut offset) = (0, 0);
        while Instant::now() < until {
            self.ask(offset)?;
            let mut next = None;
            for batch in Batches(self.fetched()?) {
                records += u64::from((&batch[57..]).get_u32());
                next = Some((&batch[..]).get_i64() + i64::from((&batch[23..]).get_i32()) + 1);
            }
            offset = next.unwrap_or(0);
        }
        Ok((records, begun.elapsed()))
    }

    /// The partition's first batch.
    ///
    /// # Errors
    /// If there is none.
    pub fn first_batch(&mut self) -> io::Result<Batch> {
        self.ask(0)?;
        let first = Batches(self.fetched()?).next().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Batch { bytes: first.to_vec(), records: u64::from((&first[57..]).get_u32()) })
    }

    fn ask(&mut self, offset: i64) -> io::Result<()> {
        let request = self.request(FETCH, |body| {
            body.put_i32(-1);
            body.put_i32(WAIT_MS);
            body.put_i32(1);
            body.put_i32(FETCH_BYTES);
            body.put_i8(0);
            self.put_partition(body);
            body.put_i64(offset);
            body.put_i32(FETCH_BYTES);
        });
        self.stream.write_all(&request)?;
        self.receive()
    }

    fn request(&self, (key, version): (i16, i16), write_body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut request = vec![0; 4];
        request.put_i16(key);
        request.put_i16(version);
        request.put_i32(0);
        put_string(&mut request, "streamward-bench");
        write_body(&mut request);
        let length = u32::try_from(request.len() - 4).unwrap_or(u32::MAX);
        request[..4].copy_from_slice(&length.to_be_bytes());
        request
    }

    /// An array of one topic with an array of one partition.
    fn put_partition(&self, body: &mut Vec<u8>) {
        body.put_i32(1);
        put_string(body, &self.topic);
        body.put_i32(1);
        body.put_i32(self.partition);
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| io::ErrorKind::InvalidData)?;
        self.response.resize(length, 0);
        self.stream.read_exact(&mut self.response)
    }

    /// Looks for an error in the response to a produce request.
    fn produced(&self) -> io::Result<()> {
        let mut rest = &self.response[..];
        self.skip(&mut rest, 4)?;
        self.skip_to_error(&mut rest)
    }

    /// The records of the response to a fetch request.
    fn fetched(&self) -> io::Result<&[u8]> {
        let mut rest = &self.response[..];
        self.skip(&mut rest, 4 + 4)?;
        self.skip_to_error(&mut rest)?;
        self.skip(&mut rest, 8 + 8)?;
        let aborted = rest.try_get_i32().map_err(io::Error::other)?;
        self.skip(&mut rest, usize::try_from(aborted).unwrap_or(0) * 16)?;
        let length = rest.try_get_i32().map_err(io::Error::other)?;
        rest.get(..usize::try_from(length).unwrap_or(0)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads past the topic and the partition to behind the partition's error.
    fn skip_to_error(&self, rest: &mut &[u8]) -> io::Result<()> {
        self.skip(rest, 4 + 2 + self.topic.len() + 4 + 4)?;
        match rest.try_get_i16().map_err(io::Error::other)? {
            0 => Ok(()),
            code => Err(io::Error::other(format!("{}-{}: error {code}", self.topic, self.partition))),
        }
    }

    fn skip(&self, rest: &mut &[u8], bytes: usize) -> io::Result<()> {
        *rest = rest.get(bytes..).ok_or_else(|| io::Error::other(format!("{}: a short response", self.topic)))?;
        Ok(())
    }
}

/// The whole batches at the start of some bytes.
struct Batches<'a>(&'a [u8]);

impl<'a> Iterator for Batches<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.0.get(8..12)?.try_get_u32().ok()?;
        let (batch, rest) = self.0.split_at_checked(LENGTH_PREFIX_BYTES + usize::try_from(length).ok()?)?;
        self.0 = rest;
        (batch.len() >= BATCH_HEADER_BYTES).then_some(batch)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

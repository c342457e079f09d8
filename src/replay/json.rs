//! JSON: one object a line, or a list of objects.
//!
//! A bad line does not spoil the next one; in a list the end of a broken object cannot be found, so the file ends there.

use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::{Deserializer, Map, Value};

use super::error::ReadFault;
use super::ignored::Ignored;
use super::mapping::{Cell, Mapper, find};
use super::meter::Metered;
use super::{BYTE_ORDER_MARK, MAX_RECORD_BYTES, ReplayRecord};

/// Whether the first line that is not blank is an object of its own.
pub(super) fn is_one_record_a_line(probe: &[u8]) -> bool {
    let text = probe.strip_prefix(BYTE_ORDER_MARK).unwrap_or(probe).trim_ascii_start();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    serde_json::from_slice::<Map<String, Value>>(line).is_ok()
}

/// One object a line; blank lines are passed over.
#[derive(Debug)]
pub(super) struct Lines {
    input: BufReader<Metered>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(super) fn new(input: Metered) -> Self {
        Self { input: BufReader::new(input), line: Vec::new(), number: 0 }
    }

    pub(super) fn next(&mut self, mapper: &Mapper, ignored: &mut Ignored) -> Option<Result<ReplayRecord, ReadFault>> {
        loop {
            self.line.clear();
            let read = self.input.by_ref().take(MAX_RECORD_BYTES).read_until(b'\n', &mut self.line);
            let number = self.number + 1;
            match read {
                Ok(0) => return None,
                Ok(_) => self.number = number,
                Err(error) => {
                    return Some(Err(ReadFault::Broken { number, reason: error.to_string() }));
                }
            }
            if self.line.len() as u64 == MAX_RECORD_BYTES && self.line.last() != Some(&b'\n') {
                let reason = format!("is longer than {MAX_RECORD_BYTES} bytes; is it one object a line?");
                return Some(Err(ReadFault::Broken { number, reason }));
            }
            let text = match number {
                1 => self.line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.line),
                _ => &self.line,
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let record = match serde_json::from_slice::<Map<String, Value>>(text) {
                Ok(object) => map_object(&object, number, (mapper, ignored)),
                Err(error) => Err(ReadFault::BadRecord { number, reason: not_an_object(&error) }),
            };
            return Some(record);
        }
    }
}

/// A list of objects, or objects one after the other.
#[derive(Debug)]
pub(super) struct Values {
    input: LineCounter<BufReader<Metered>>,
    in_list: bool,
    begun: bool,
}

impl Values {
    pub(super) fn new(input: Metered) -> Self {
        let input = LineCounter { inner: BufReader::new(input), line: 1 };
        Self { input, in_list: false, begun: false }
    }

    pub(super) fn next(&mut self, mapper: &Mapper, ignored: &mut Ignored) -> Option<Result<ReplayRecord, ReadFault>> {
        loop {
            let peeked = self.input.peek();
            let number = self.input.line;
            let broken = |reason: String| Some(Err(ReadFault::Broken { number, reason }));
            let byte = match peeked {
                Ok(byte) => byte,
                Err(error) => return broken(error.to_string()),
            };
            match byte {
                None if self.in_list => {
                    return broken("the file ends within its list; is it cut off?".to_owned());
                }
                None => return None,
                Some(b'{') => {
                    self.begun = true;
                    let object = Map::deserialize(&mut Deserializer::from_reader(&mut self.input));
                    return match object {
                        Ok(object) => Some(map_object(&object, number, (mapper, ignored))),
                        Err(error) => broken(not_an_object(&error)),
                    };
                }
                Some(b'[') if !self.begun => (self.begun, self.in_list) = (true, true),
                Some(b']') if self.in_list => self.in_list = false,
                Some(b',') if self.in_list => {}
                Some(byte) if byte.is_ascii_whitespace() || BYTE_ORDER_MARK.contains(&byte) => {}
                Some(byte) => {
                    return broken(format!("expected an object, found `{}`", char::from(byte)));
                }
            }
            self.input.pass();
        }
    }
}

/// Counts the lines passed, from 1.
#[derive(Debug)]
struct LineCounter<R> {
    inner: R,
    line: u64,
}

impl<R: BufRead> LineCounter<R> {
    fn peek(&mut self) -> io::Result<Option<u8>> {
        self.inner.fill_buf().map(|buffer| buffer.first().copied())
    }

    /// Passes over the byte peeked at.
    fn pass(&mut self) {
        if matches!(self.inner.fill_buf(), Ok([b'\n', ..])) {
            self.line += 1;
        }
        self.inner.consume(1);
    }
}

impl<R: BufRead> Read for LineCounter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.line += buffer[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(count)
    }
}

fn map_object(
    object: &Map<String, Value>,
    number: u64,
    (mapper, ignored): (&Mapper, &mut Ignored),
) -> Result<ReplayRecord, ReadFault> {
    let record = mapper.record(number, |column| find(object, column).map(Cell::Json));
    if record.is_ok() {
        mapper.note_unused(object, ignored);
    }
    record.map_err(|reason| ReadFault::BadRecord { number, reason })
}

fn not_an_object(error: &serde_json::Error) -> String {
    format!("is not a JSON object: {error}")
}

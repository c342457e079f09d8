//! Recorded data as a stream of records: CSV, JSON lines, JSON lists and Avro files.
//!
//! What it is: readers with bounded memory that give one JSON object per record in the fields of the target stream, and
//! a [`Pacer`] that says when each is due. What it is not: it sends nothing and never waits; the caller produces.
//!
//! Invariants: records come in the order of the file; a bad record is an error that names its place and what to do, and
//! the next call goes on behind it, so the caller decides whether to stop or to count it; after an error that is not a
//! bad record nothing follows.
//!
//! Start at [`open`]. [`mapping`] turns cells into fields, [`time`] knows the notations of times, [`pacer`] the speed;
//! `csv`, `json` and `avro` are one reader each.

mod avro;
mod csv;
mod error;
mod ignored;
mod json;
mod mapping;
mod meter;
mod options;
mod pacer;
mod quotes;
#[cfg(test)]
mod tests;
mod time;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use error::ReadFault;
pub use error::{MappingError, Place, ReplayError};
pub use ignored::Ignored;
use mapping::Mapper;
use meter::{Meter, Metered};
pub use options::{ColumnMapping, FieldKind, Format, ReplayOptions, TargetField};
pub use pacer::{Paced, Pacer, ParsePaceError, ShiftTo, Speed};
pub use time::{TimeError, parse_time_ms, time_of_json_ms};

/// The longest record a file may hold, in bytes of the file.
pub const MAX_RECORD_BYTES: u64 = 1 << 20;
/// The longest block of records an Avro file may hold, in bytes of the file.
pub const MAX_BLOCK_BYTES: u64 = 16 << 20;
/// What some programs write at the beginning of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// How much of a file is looked at to guess its format and delimiter.
const PROBE_BYTES: u64 = 64 << 10;

/// One record of a file, in the fields of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayRecord {
    /// Milliseconds since the epoch.
    pub event_time_ms: i64,
    /// The value to send; its time field is epoch milliseconds.
    pub json: Map<String, Value>,
    /// The line where the record begins (CSV, JSON) or its number (Avro), from 1.
    pub number: u64,
    time_path: Arc<[String]>,
}

impl ReplayRecord {
    /// Gives the record another event time, in its JSON too.
    pub fn set_event_time(&mut self, event_time_ms: i64) {
        self.event_time_ms = event_time_ms;
        mapping::insert_at(&mut self.json, &self.time_path, Value::from(event_time_ms));
    }
}

/// The records of one file; see the module page.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    total_bytes: u64,
    meter: Arc<Meter>,
    mapper: Mapper,
    source: Source,
    ignored: Ignored,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    Csv(Box<csv::CsvSource>),
    Lines(json::Lines),
    Values(json::Values),
    Avro(Box<avro::AvroSource>),
}

/// Opens a file and checks that every required field of the stream has a source.
///
/// # Errors
/// The file cannot be read, its format is not known, or the mapping does not fit it. Never a bad record.
pub fn open(path: &Path, options: &ReplayOptions) -> Result<Replay, ReplayError> {
    let unreadable = |source| ReplayError::Open { path: path.to_owned(), source };
    let format = match options.format {
        Some(format) => format,
        None => Format::of_path(path).ok_or_else(|| ReplayError::UnknownFormat { path: path.to_owned() })?,
    };
    let mapper = Mapper::new(options)?;
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let refused = |reason: String| ReplayError::Unreadable { path: path.to_owned(), reason };
    if !metadata.is_file() {
        return Err(refused(
            "its beginning is read twice, which a pipe or a device does not allow; write it to a file first".to_owned(),
        ));
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let mut probe = Vec::new();
    file.by_ref().take(PROBE_BYTES).read_to_end(&mut probe).map_err(unreadable)?;
    // The parser of CSV would take a mark for the beginning of a bare cell; the readers of JSON pass over it.
    let begin = if format == Format::Csv && probe.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    file.seek(SeekFrom::Start(begin as u64)).map_err(unreadable)?;
    if probe.starts_with(&[0x1f, 0x8b]) {
        return Err(refused("is compressed with gzip; unpack it first".to_owned()));
    }
    let meter = Arc::new(Meter::new(match format {
        Format::Csv | Format::JsonLines | Format::Json => MAX_RECORD_BYTES,
        Format::Avro => MAX_BLOCK_BYTES,
    }));
    let input = Metered::new(file, Arc::clone(&meter));
    let source = match format {
        Format::Csv => {
            let delimiter = options.delimiter.unwrap_or_else(|| csv::guess_delimiter(&probe));
            let mut source = csv::CsvSource::open(input, delimiter).map_err(refused)?;
            mapper.check_columns(path, source.columns())?;
            source.note_unused(&mapper);
            Source::Csv(Box::new(source))
        }
        Format::Json if json::is_one_record_a_line(&probe) => Source::Lines(json::Lines::new(input)),
        Format::Json => Source::Values(json::Values::new(input)),
        Format::JsonLines => Source::Lines(json::Lines::new(input)),
        Format::Avro => {
            let source = avro::AvroSource::open(input).map_err(refused)?;
            mapper.check_columns(path, source.columns())?;
            Source::Avro(Box::new(source))
        }
    };
    Ok(Replay {
        path: path.to_owned(),
        total_bytes: metadata.len(),
        meter,
        mapper,
        source,
        ignored: Ignored::default(),
        ended: false,
    })
}

impl Replay {
    /// Bytes read from the file so far, up to a buffer ahead of the record given last.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.meter.read_bytes().min(self.total_bytes)
    }

    /// Size of the file when it was opened, bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

impl Replay {
    /// Fields that the records read so far had and that no field of the stream takes.
    #[must_use]
    pub fn ignored(&self) -> &Ignored {
        &self.ignored
    }

    /// Says of a record that was read that the stream does not take it.
    #[must_use]
    pub fn refuse(&self, record: &ReplayRecord, reason: String) -> ReplayError {
        let place = match &self.source {
            Source::Csv(_) | Source::Lines(_) | Source::Values(_) => Place::line,
            Source::Avro(_) => Place::record,
        };
        ReplayError::BadRecord { place: place(&self.path, record.number), reason }
    }
}

impl Iterator for Replay {
    type Item = Result<ReplayRecord, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.meter.begin_record();
        let (mapper, path, ignored) = (&self.mapper, &self.path, &mut self.ignored);
        let (next, place): (_, fn(&Path, u64) -> Place) = match &mut self.source {
            Source::Csv(source) => (source.next(mapper, ignored), Place::line),
            Source::Lines(source) => (source.next(mapper, ignored), Place::line),
            Source::Values(source) => (source.next(mapper, ignored), Place::line),
            Source::Avro(source) => (source.next(mapper, ignored), Place::record),
        };
        match next {
            None => {
                self.ended = true;
                None
            }
            Some(Ok(record)) => Some(Ok(record)),
            Some(Err(ReadFault::BadRecord { number, reason })) => {
                Some(Err(ReplayError::BadRecord { place: place(path, number), reason }))
            }
            Some(Err(ReadFault::Broken { number, reason })) => {
                self.ended = true;
                Some(Err(ReplayError::Broken { place: place(path, number), reason }))
            }
        }
    }
}

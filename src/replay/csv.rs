//! CSV with a header line: cells are found by the header's names, quotes as in RFC 4180.

use std::collections::HashMap;

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use super::ReplayRecord;
use super::error::ReadFault;
use super::ignored::Ignored;
use super::mapping::{Cell, Mapper};
use super::meter::Metered;
use super::quotes::{Open, QUOTED, Quotes};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Reads the rows of one file.
#[derive(Debug)]
pub(super) struct CsvSource {
    reader: csv::Reader<Quotes<Metered>>,
    open_quote: Open,
    columns: Vec<String>,
    index: HashMap<String, usize>,
    /// Columns that no field takes.
    unused: Vec<String>,
    row: StringRecord,
}

impl CsvSource {
    /// # Errors
    /// There is no header line, or a name stands in it twice.
    pub(super) fn open(input: Metered, delimiter: u8) -> Result<Self, String> {
        let quotes = Quotes::new(input, delimiter);
        let open_quote = quotes.open();
        let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(quotes);
        let header = reader.headers().map_err(|error| format!("its header line cannot be read: {error}"))?;
        let columns: Vec<String> = header.iter().map(|name| cell_text(name).trim().to_owned()).collect();
        if let Some(line) = open_quote.get() {
            return Err(format!("its header line has a quote that never closes, opened in line {line}"));
        }
        if columns.iter().all(String::is_empty) {
            return Err("is empty; a CSV file begins with a header line".to_owned());
        }
        let mut index = HashMap::new();
        for (place, column) in columns.iter().enumerate() {
            if !column.is_empty() && index.insert(column.clone(), place).is_some() {
                return Err(format!("its header line has the column `{column}` twice"));
            }
        }
        Ok(Self { reader, open_quote, columns, index, unused: Vec::new(), row: StringRecord::new() })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Remembers which columns no field takes; those without a name cannot be told.
    pub(super) fn note_unused(&mut self, mapper: &Mapper) {
        let unused = self.columns.iter().filter(|column| !column.is_empty() && !mapper.takes(column));
        self.unused = unused.cloned().collect();
    }

    pub(super) fn next(&mut self, mapper: &Mapper, ignored: &mut Ignored) -> Option<Result<ReplayRecord, ReadFault>> {
        let line = self.reader.position().line();
        match self.reader.read_record(&mut self.row) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => return Some(Err(fault(&error, line))),
        }
        // The end of the file is read for its last row alone.
        if let Some(number) = self.open_quote.get() {
            let cell = self.row.len().saturating_sub(1);
            let column =
                self.columns.get(cell).map_or_else(|| format!("cell {}", cell + 1), |name| format!("column `{name}`"));
            let reason = format!(
                "{column}: a quote opens here and never closes; close it, or double a quote that is meant as text"
            );
            return Some(Err(ReadFault::Broken { number, reason }));
        }
        let number = self.row.position().map_or(line, csv::Position::line);
        let bad = |reason| Some(Err(ReadFault::BadRecord { number, reason }));
        if self.row.len() != self.columns.len() {
            let (cells, columns) = (self.row.len(), self.columns.len());
            return bad(format!("has {cells} cells, the header line has {columns}; check delimiter and quotes"));
        }
        let cell = |column: &str| self.row.get(*self.index.get(column)?).map(|text| Cell::Text(cell_text(text)));
        match mapper.record(number, cell) {
            Ok(record) => {
                self.unused.iter().for_each(|column| ignored.count(column));
                Some(Ok(record))
            }
            Err(reason) => bad(reason),
        }
    }
}

/// A cell without the blanks around it; those inside quotes belong to it.
fn cell_text(cell: &str) -> &str {
    cell.strip_prefix(QUOTED).unwrap_or_else(|| cell.trim())
}

fn fault(error: &csv::Error, line: u64) -> ReadFault {
    let number = error.position().map_or(line, csv::Position::line);
    match error.kind() {
        ErrorKind::Utf8 { .. } => {
            ReadFault::BadRecord { number, reason: "is not UTF-8; convert the file first".to_owned() }
        }
        ErrorKind::Io(error) => ReadFault::Broken { number, reason: error.to_string() },
        _ => ReadFault::Broken { number, reason: error.to_string() },
    }
}

/// The delimiter that occurs most often outside quotes in the first line; a comma if none does.
pub(super) fn guess_delimiter(probe: &[u8]) -> u8 {
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for byte in probe {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted && counts.iter().any(|count| *count > 0) => break,
            byte if !quoted => {
                if let Some(place) = DELIMITERS.iter().position(|delimiter| delimiter == byte) {
                    counts[place] += 1;
                }
            }
            _ => {}
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let place = counts.iter().position(|count| *count == most).unwrap_or(0);
    DELIMITERS[place]
}

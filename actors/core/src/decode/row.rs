//! One record between its bytes and the columns: a scalar per leaf, borrowed where the bytes allow it.
//!
//! The columns only see whole rows, so a record that turns out bad half-way leaves no trace in them.

use super::{avro::Frame, fault::Fault};
use crate::schema::{Scalar, StreamSchema};

/// One leaf's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    /// Not seen in this record.
    Missing,
    Null,
    Boolean(bool),
    /// `Int`, `Long`, `Timestamp`.
    Integer(i64),
    /// `Float`, `Double`; finite.
    Number(f64),
    /// Digits of a `Decimal`, an `i128`; as bytes, so that a cell stays three words long.
    Decimal([u8; 16]),
    Text(&'a str),
    /// Text that had to be unescaped: a range of `Row::copied`.
    Copied {
        start: usize,
        end: usize,
    },
}

/// The cells of the record at hand; reused from record to record.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub cells: Vec<Cell<'a>>,
    copied: String,
    /// For what is passed over; empty in between.
    pub skipping: Vec<Frame>,
}

impl<'a> Row<'a> {
    pub fn new(leaves: usize) -> Self {
        Self { cells: vec![Cell::Missing; leaves], copied: String::new(), skipping: Vec::new() }
    }

    pub fn clear(&mut self) {
        self.cells.fill(Cell::Missing);
        self.copied.clear();
    }

    pub fn set_copied(&mut self, leaf: usize, text: &str) {
        let start = self.copied.len();
        self.copied.push_str(text);
        self.cells[leaf] = Cell::Copied { start, end: self.copied.len() };
    }

    /// The text of a cell, if it is text.
    pub fn text(&self, cell: Cell<'a>) -> Option<&str> {
        match cell {
            Cell::Text(text) => Some(text),
            Cell::Copied { start, end } => self.copied.get(start..end),
            Cell::Missing | Cell::Null | Cell::Boolean(_) | Cell::Integer(_) | Cell::Number(_) | Cell::Decimal(_) => {
                None
            }
        }
    }

    /// Puts defaults where the record was silent; a leaf without default is a fault.
    pub fn complete(&mut self, schema: &'a StreamSchema) -> Result<(), Box<Fault>> {
        for (cell, field) in self.cells.iter_mut().zip(&schema.fields) {
            if !matches!(cell, Cell::Missing) {
                continue;
            }
            *cell = match &field.default {
                Some(Scalar::Null) => Cell::Null,
                Some(Scalar::Boolean(value)) => Cell::Boolean(*value),
                Some(Scalar::Integer(value)) => Cell::Integer(*value),
                Some(Scalar::Number(value)) => Cell::Number(*value),
                Some(Scalar::Text(value)) => Cell::Text(value),
                Some(Scalar::Decimal(value)) => Cell::Decimal(value.unscaled.to_ne_bytes()),
                None => return Err(Fault::contract(format!("{}: missing and without default", field.dotted()))),
            };
        }
        Ok(())
    }
}

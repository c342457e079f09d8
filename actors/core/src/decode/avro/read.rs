//! Runs a [`Plan`] over one datum.
//!
//! A fault against the schema's rules does not end the run: only a datum that can be read to its end has broken a rule,
//! all others are not readable.

use super::{
    cursor::{Cursor, WireFault},
    plan::{Plan, Read, Step, Width},
    skip::{SkipId, Skips},
};
use crate::{
    decode::{
        fault::{Fault, text},
        row::{Cell, Row},
    },
    schema::{Kind, StreamSchema, decimal, instant},
};

const MS_PER_DAY: i64 = 24 * 60 * 60 * 1_000;

impl Plan {
    /// Fills `row` (cleared by the caller) and returns the number of the writer's fields that the stream lacks.
    pub fn read<'a>(&self, schema: &'a StreamSchema, datum: &'a [u8], row: &mut Row<'a>) -> Result<u64, Box<Fault>> {
        let mut run =
            Run { schema, skips: &self.skips, cursor: Cursor::new(datum), row, skipped: 0, broken_rule: None };
        run.step(&self.top)?;
        match run.cursor.remaining() {
            0 => run.broken_rule.map_or(Ok(run.skipped), Err),
            rest => Err(Fault::decode(format!("{rest} bytes follow the record"))),
        }
    }
}

struct Run<'a, 'p, 'r> {
    schema: &'a StreamSchema,
    skips: &'p Skips,
    cursor: Cursor<'a>,
    row: &'r mut Row<'a>,
    skipped: u64,
    /// The first one.
    broken_rule: Option<Box<Fault>>,
}

impl<'a> Run<'a, '_, '_> {
    /// Recursion ends with the stream's schema, which is not recursive.
    fn step(&mut self, step: &Step) -> Result<(), Box<Fault>> {
        match step {
            Step::Leaf { leaf, read } => {
                let cell = self.leaf(*leaf, read)?;
                self.row.cells[*leaf] = cell;
                Ok(())
            }
            Step::Record(steps) => steps.iter().try_for_each(|step| self.step(step)),
            Step::Union { place, branches } => {
                let branch = self
                    .cursor
                    .index(branches.len(), WireFault::NoSuchBranch)
                    .map_err(|fault| wire_fault(place, fault))?;
                self.step(&branches[branch])
            }
            Step::Skip { field, skip } => {
                self.skipped += 1;
                self.skip(*skip, field)
            }
            Step::Mismatch { reason, skip } => {
                self.refuse(Fault::contract(reason.as_str()));
                self.skip(*skip, "a field of another type")
            }
        }
    }

    fn skip(&mut self, skip: SkipId, place: &str) -> Result<(), Box<Fault>> {
        let skipped = self.skips.skip(skip, &mut self.cursor, &mut self.row.skipping);
        skipped.map_err(|fault| wire_fault(place, fault))
    }

    fn leaf(&mut self, leaf: usize, read: &Read) -> Result<Cell<'a>, Box<Fault>> {
        let cell = match read {
            Read::Null => Ok(Cell::Null),
            Read::Boolean => self.cursor.boolean().map(Cell::Boolean),
            Read::Int => self.cursor.int().map(|value| Cell::Integer(i64::from(value))),
            Read::Long => self.cursor.long().map(Cell::Integer),
            #[expect(clippy::cast_precision_loss, reason = "Avro's promotion")]
            Read::IntegerAsFloat(width) => self.integer(*width).map(|value| Cell::Number(f64::from(value as f32))),
            #[expect(clippy::cast_precision_loss, reason = "Avro's promotion")]
            Read::IntegerAsDouble(width) => self.integer(*width).map(|value| Cell::Number(value as f64)),
            Read::Float => self.cursor.float().map(|value| Cell::Number(f64::from(value))),
            Read::Double => self.cursor.double().map(Cell::Number),
            Read::Text => self.cursor.string().map(Cell::Text),
            Read::Instant { width, units_per_ms } => {
                self.integer(*width).map(|value| Cell::Integer(value.div_euclid(*units_per_ms)))
            }
            Read::Day => self.cursor.int().map(|days| Cell::Integer(i64::from(days) * MS_PER_DAY)),
            Read::Decimal { size } => return self.decimal(leaf, *size),
            Read::Enum(symbols) => return self.symbol(leaf, symbols),
        };
        let cell = cell.map_err(|fault| wire_fault(&self.schema.fields[leaf].dotted(), fault))?;
        match (cell, &self.schema.fields[leaf].kind) {
            (Cell::Number(value), _) if !value.is_finite() => self.refuse_leaf(leaf, text::NOT_FINITE),
            (Cell::Integer(ms), Kind::Timestamp) if !instant::is_in_range(ms) => {
                self.refuse_leaf(leaf, text::TIME_OUT_OF_RANGE);
            }
            _ => {}
        }
        Ok(cell)
    }

    fn refuse_leaf(&mut self, leaf: usize, text: &str) {
        self.refuse(Fault::of_leaf(self.schema, leaf, text));
    }

    #[cold]
    fn refuse(&mut self, fault: Box<Fault>) {
        self.broken_rule.get_or_insert(fault);
    }

    fn integer(&mut self, width: Width) -> Result<i64, WireFault> {
        match width {
            Width::Int => self.cursor.int().map(i64::from),
            Width::Long => self.cursor.long(),
        }
    }

    fn decimal(&mut self, leaf: usize, size: Option<usize>) -> Result<Cell<'a>, Box<Fault>> {
        let field = &self.schema.fields[leaf];
        let bytes = match size {
            Some(size) => self.cursor.take(size),
            None => self.cursor.bytes(),
        };
        let bytes = bytes.map_err(|fault| wire_fault(&field.dotted(), fault))?;
        match (decimal::from_be_bytes(bytes), &field.kind) {
            (Some(unscaled), Kind::Decimal { precision, .. }) if decimal::fits(unscaled, *precision) => {
                Ok(Cell::Decimal(unscaled.to_ne_bytes()))
            }
            _ => {
                self.refuse_leaf(leaf, text::OUT_OF_RANGE);
                Ok(Cell::Null)
            }
        }
    }

    fn symbol(&mut self, leaf: usize, symbols: &[Option<usize>]) -> Result<Cell<'a>, Box<Fault>> {
        let field = &self.schema.fields[leaf];
        let position = self
            .cursor
            .index(symbols.len(), WireFault::NoSuchSymbol)
            .map_err(|fault| wire_fault(&field.dotted(), fault))?;
        match (symbols[position], &field.kind) {
            (Some(known), Kind::Enum(names)) => Ok(Cell::Text(&names[known])),
            _ => {
                self.refuse_leaf(leaf, text::UNKNOWN_SYMBOL);
                Ok(Cell::Null)
            }
        }
    }
}

#[cold]
fn wire_fault(place: &str, fault: WireFault) -> Box<Fault> {
    Fault::decode(format!("{place}: {}", fault.text()))
}

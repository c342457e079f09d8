//! Which cells of a CSV file are quoted: a reader between the file and the parser, which does not tell.
//!
//! It puts [`QUOTED`] behind the quote that opens a cell, drops blanks behind the quote that closes it, and remembers a
//! quote that the end of the file leaves open. Quotes as in RFC 4180: one opens a cell only as its first byte.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

/// First character of a quoted cell, as the parser gives it.
pub(super) const QUOTED: char = '\u{1}';

/// The line whose quote is open at the end of the file.
pub(super) type Open = Rc<Cell<Option<u64>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    CellStart,
    Bare,
    Quoted,
    /// Behind a quote that closes the cell, or is half of a doubled one.
    QuoteIn,
    /// So many blanks behind the quote that closes the cell.
    Blanks(usize),
}

/// The bytes of a file with its quoted cells marked.
#[derive(Debug)]
pub(super) struct Quotes<R> {
    input: BufReader<R>,
    delimiter: u8,
    state: State,
    line: u64,
    /// Where the quote of the present cell opens.
    opened_at: u64,
    open: Open,
    /// Marked bytes that nobody has read yet, from `taken` on.
    marked: Vec<u8>,
    taken: usize,
}

impl<R: Read> Quotes<R> {
    pub(super) fn new(input: R, delimiter: u8) -> Self {
        Self {
            input: BufReader::new(input),
            delimiter,
            state: State::CellStart,
            line: 1,
            opened_at: 1,
            open: Open::default(),
            marked: Vec::new(),
            taken: 0,
        }
    }

    /// Tells, once the file has been read to its end, whether a quote is left open.
    pub(super) fn open(&self) -> Open {
        Rc::clone(&self.open)
    }

    fn mark(&mut self, byte: u8) {
        use State::{Bare, Blanks, CellStart, QuoteIn, Quoted};
        let ends_cell = byte == self.delimiter || byte == b'\n' || byte == b'\r';
        self.line += u64::from(byte == b'\n');
        let next = match (self.state, byte) {
            (CellStart, b'"') => {
                self.opened_at = self.line;
                self.marked.extend([b'"', QUOTED as u8]);
                self.state = Quoted;
                return;
            }
            (Quoted, b'"') => QuoteIn,
            (Quoted, _) | (QuoteIn, b'"') => Quoted,
            (CellStart | Bare | QuoteIn | Blanks(_), _) if ends_cell => CellStart,
            (CellStart | Bare, _) => Bare,
            (QuoteIn, b' ') => {
                self.state = Blanks(1);
                return;
            }
            (Blanks(count), b' ') => {
                self.state = Blanks(count + 1);
                return;
            }
            (Blanks(count), _) => {
                self.marked.extend(std::iter::repeat_n(b' ', count));
                Bare
            }
            (QuoteIn, _) => Bare,
        };
        self.state = next;
        self.marked.push(byte);
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.marked.len() {
            self.marked.clear();
            self.taken = 0;
            let bytes = self.input.fill_buf()?.to_vec();
            if bytes.is_empty() {
                self.open.set((self.state == State::Quoted).then_some(self.opened_at));
                return Ok(0);
            }
            bytes.iter().for_each(|byte| self.mark(*byte));
            self.input.consume(bytes.len());
        }
        let count = buffer.len().min(self.marked.len() - self.taken);
        buffer[..count].copy_from_slice(&self.marked[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str) -> (String, Option<u64>) {
        let mut quotes = Quotes::new(text.as_bytes(), b',');
        let (mut out, open) = (String::new(), quotes.open());
        quotes.read_to_string(&mut out).unwrap();
        (out.replace(QUOTED, "^"), open.get())
    }

    #[test]
    fn quoted_cells_are_marked_and_an_open_quote_is_told_with_its_line() {
        for (text, wanted, open) in [
            ("a,\"b\"\n\"c\"", "a,\"^b\"\n\"^c\"", None),
            ("\"a\nb\"  ,c \r\n", "\"^a\nb\",c \r\n", None),
            ("\"say \"\"hi, you\"\"\",5\" pipe", "\"^say \"\"hi, you\"\"\",5\" pipe", None),
            ("\"a\" b,\"\"", "\"^a\" b,\"^\"", None),
            ("a\n\"x\"\nb,\"c\nd", "a\n\"^x\"\nb,\"^c\nd", Some(3)),
            ("\"a\"\"", "\"^a\"\"", Some(1)),
        ] {
            assert_eq!(marked(text), (wanted.to_owned(), open), "{text}");
        }
    }
}

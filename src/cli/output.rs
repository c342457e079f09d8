//! What commands write: results on standard output, remarks on standard error.
//!
//! A reader of the results that has gone (`| head -1`) is no error: a command that has more to do than to print does it, one
//! that only goes on printing ends with [`Exit::Done`]. Results that cannot be written for another reason, such as a full
//! disk, end the command with [`Exit::Usage`]. Nobody is told of a remark that cannot be written.

use std::{
    fmt,
    io::{self, Write},
};

use super::exit::{Exit, Failure};

/// Whether somebody still reads the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    There,
    Gone,
}

impl Reader {
    /// Ends a command that does nothing but print.
    ///
    /// # Errors
    /// [`Failure::unread`] if nobody reads what it prints.
    pub fn or_end(self) -> Result<(), Failure> {
        match self {
            Self::There => Ok(()),
            Self::Gone => Err(Failure::unread()),
        }
    }
}

/// Prints a command's result.
///
/// # Errors
/// It cannot be written, for another reason than that nobody reads it.
pub fn say(text: fmt::Arguments<'_>) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    outcome(out.write_fmt(text).and_then(|()| out.flush()))
}

/// Prints one line of a command's result.
///
/// # Errors
/// As [`say`].
pub fn say_line(text: fmt::Arguments<'_>) -> Result<Reader, Failure> {
    say(format_args!("{text}\n"))
}

/// Prints a result that is bytes.
///
/// # Errors
/// As [`say`].
pub fn say_bytes(bytes: &[u8]) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    outcome(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Says something beside the result, on standard error.
pub fn remark(text: fmt::Arguments<'_>) {
    let mut err = io::stderr().lock();
    let _nobody_reads_it = err.write_fmt(format_args!("{text}\n"));
}

/// Prints what the command line itself answers: help, the version, or why its arguments are refused.
pub fn answer(answer: &clap::Error) -> Exit {
    let exit = if answer.use_stderr() { Exit::Usage } else { Exit::Done };
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match outcome(printed) {
        Ok(_) => exit,
        Err(failure) => {
            remark(format_args!("streamward: {failure}"));
            failure.exit()
        }
    }
}

fn outcome(written: io::Result<()>) -> Result<Reader, Failure> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::usage(format_args!("the output cannot be written: {error}"))),
    }
}

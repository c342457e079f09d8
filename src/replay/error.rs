//! What can go wrong with a file, with its place and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be replayed, or one of its records.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither the options nor the name tell the format.
    #[error("{}: its name does not tell the format; rename it to .csv, .tsv, .jsonl, .ndjson, .json or .avro, or add --format", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is not of its format from the first byte on.
    #[error("{}: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The mapping does not fit the stream or the file.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// One record is bad; the next call goes on behind it.
    #[error("{place}: {reason}")]
    BadRecord {
        /// File and line.
        place: Place,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The rest of the file cannot be read; nothing follows.
    #[error("{place}: {reason}")]
    Broken {
        /// File and line.
        place: Place,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl ReplayError {
    /// Whether it concerns one record only, so that skipping it and going on makes sense.
    #[must_use]
    pub fn is_bad_record(&self) -> bool {
        match self {
            Self::BadRecord { .. } => true,
            Self::Open { .. }
            | Self::UnknownFormat { .. }
            | Self::Unreadable { .. }
            | Self::Mapping(_)
            | Self::Broken { .. } => false,
        }
    }
}

/// Why a mapping cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// Not of the form `field=…`.
    #[error("`{0}` is not of the form field=column or field=value")]
    Syntax(String),
    /// The same field twice.
    #[error("the field `{0}` is given twice; leave one --map or --const out")]
    Twice(String),
    /// A field the stream does not have.
    #[error("the stream has no field `{field}`; its fields are {}", .fields.join(", "))]
    UnknownField {
        /// The field meant.
        field: String,
        /// The stream's fields.
        fields: Vec<String>,
    },
    /// A column the file does not have.
    #[error("{}: there is no column `{column}` for the field `{field}`; its columns are {}; add --map {field}=COLUMN or --const {field}=VALUE", .path.display(), .columns.join(", "))]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The field that needs the column.
        field: String,
        /// The column looked for.
        column: String,
        /// The columns of the file.
        columns: Vec<String>,
    },
    /// A constant that its field cannot hold.
    #[error("--const {field}: {reason}")]
    Constant {
        /// The field meant.
        field: String,
        /// What is wrong with the value.
        reason: String,
    },
}

/// Where in a file: `data.csv:17`, or `data.avro: record 17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    unit: &'static str,
    number: u64,
}

impl Place {
    pub(super) fn line(path: &Path, number: u64) -> Self {
        Self { path: path.to_owned(), unit: "", number }
    }

    pub(super) fn record(path: &Path, number: u64) -> Self {
        Self { path: path.to_owned(), unit: " record ", number }
    }

    /// The line, or the record's number, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.path.display(), self.unit, self.number)
    }
}

/// What a reader met instead of a record.
#[derive(Debug)]
pub(super) enum ReadFault {
    BadRecord { number: u64, reason: String },
    Broken { number: u64, reason: String },
}

//! Pure logic of Streamward: bytes and values in, values out.
//!
//! Nothing in this crate reads a clock, a file, a socket or the system's randomness: `now` and seeds are arguments.

pub mod batch;
mod chunk;
pub mod corpus;
pub mod decode;
pub mod definition;
pub mod encode;
pub mod expr;
pub mod output;
pub mod partition;
pub mod ports;
pub mod reading;
pub mod record;
mod rows;
pub mod schema;
pub mod stats;
pub mod steps;
pub mod table;
pub mod watermark;

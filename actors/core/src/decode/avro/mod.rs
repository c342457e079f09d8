//! Avro in Confluent framing: `0x00`, the writer schema's id (4 bytes, big endian), the datum.
//!
//! A writer schema is compiled once into a [`Plan`] against the stream's schema: a tree of steps in the writer's order
//! that read a value into a leaf (with Avro's promotions), skip what the stream lacks, or choose by a union's branch.
//! Then a record costs no allocation and no lookup by name. Resolution follows the Avro 1.11 specification, "Schema
//! Resolution": no narrowing (long to int, double to float), records and enums by their names without
//! namespaces or by the stream's aliases, symbols and fields by name, aliases of the stream's fields, the enum's default.
//! Where the specification leaves a choice, a registry's check and this reader agree: one field of the writer is never read
//! into two, and a decimal is no text (`src/registry/avro/reads`). apache-avro is the oracle in the tests and parses the schemas, nothing else.
//!
//! Start at [`plan`] for what is compiled, at [`read`] for what is done with it; [`skip`] bounds what it passes over.

mod compile;
mod cursor;
mod plan;
mod read;
mod skip;

pub(super) use compile::compile;
pub(super) use plan::Plan;
pub(super) use skip::Frame;

use super::fault::Fault;

/// First byte of a framed value.
pub const MAGIC: u8 = 0;
/// Bytes before the datum.
pub const FRAME_BYTES: usize = 5;

/// Splits a framed value into schema id and datum.
pub(super) fn unframe(value: &[u8]) -> Result<(u32, &[u8]), Box<Fault>> {
    match value {
        [] => Err(Fault::decode("the value is empty")),
        [MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] => Err(Fault::decode("the value ends inside the schema id")),
        _ => Err(Fault::decode("the value does not begin with the byte 0 of a schema id")),
    }
}

/// The schema id of a framed value.
pub(super) fn schema_id(value: &[u8]) -> Option<u32> {
    unframe(value).ok().map(|(id, _)| id)
}

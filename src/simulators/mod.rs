//! Sources of made-up records: deterministic for a seed, and labelled where a detector is to be scored.
//!
//! What it is: pure generators. The caller says up to which event time to emit and gets readings in event-time order;
//! the same seed and start give the same bytes.
//! What it is not: it opens no socket, reads no clock and does not sleep; whoever drives it sends the records to Kafka.
//!
//! Invariants: event times never go back; no value leaves the physical bounds of its type; a reading is labelled if and
//! only if its time lies in an interval of the listed ground truth.
//!
//! Start at [`sensors::SensorSimulator`]; [`load::LoadGenerator`] is the fast, featureless one for benches.

pub mod load;
pub mod sensors;

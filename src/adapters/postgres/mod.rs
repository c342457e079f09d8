//! PostgreSQL storage: a writer connection, upkeep and recounts on connections of their own, and a pool for reads.
//!
//! Times are `timestamptz` ([`moment::Moment`]); names and columns of tables are those of SQLite. Transactions of several
//! processes meet in the rows of `sw_positions`, which each takes in the order of its key.

pub mod fault;
pub mod moment;
pub mod settings;

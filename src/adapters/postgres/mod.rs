//! PostgreSQL storage: a writer connection, others for relays, upkeep and recounts, and a pool for reads.
//!
//! Times are `timestamptz` ([`moment::Moment`]); names and columns of tables are those of SQLite. Transactions of several
//! processes meet in the rows of `sw_positions`, which each takes in the order of its key. Start reading at [`commit`]:
//! the position protocol.

mod apart;
mod assign;
pub mod audit;
mod commit;
mod connection;
pub mod ddl;
mod facts;
pub mod fault;
pub mod ledger;
pub mod memory;
pub mod moment;
pub mod names;
mod numeric;
pub mod orphans;
pub mod outbox;
mod positions;
pub mod reach;
pub mod read;
pub mod retention;
mod rows;
#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod scratch;
pub mod settings;
mod store;
mod summaries;
pub mod upkeep;
mod windows;

pub use self::store::PostgresStore;

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
mod ddl;
mod facts;
mod fault;
mod ledger;
pub mod memory;
mod moment;
mod names;
mod numeric;
mod orphans;
mod outbox;
mod positions;
pub mod reach;
pub mod read;
mod retention;
mod rows;
#[cfg(test)]
#[cfg(feature = "postgres-tests")]
mod scratch;
pub mod settings;
mod store;
mod summaries;
mod upkeep;
mod windows;

pub use self::store::PostgresStore;

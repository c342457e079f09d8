//! Adapters: one folder per third-party client. They implement ports and never import each other.

#[cfg(test)]
mod contract;
pub mod database;
pub mod headers;
pub mod kafka;
pub mod postgres;
mod refused;
pub mod registry;
mod seen;
pub mod sqlite;
mod unjudged;

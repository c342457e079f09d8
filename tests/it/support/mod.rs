//! What every test of the real binary needs: a server on free ports in its own folder, clients, reads of its database.
//!
//! Nothing here sleeps for a fixed time: [`wait::until`] looks at a state until it is there or [`wait::PATIENCE`] ends.
//! Start at [`server::Node`].

pub mod database;
pub mod http;
pub mod kafka;
pub mod readings;
pub mod server;
pub mod wait;

/// A setting of a run from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

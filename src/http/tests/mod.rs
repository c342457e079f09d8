//! The HTTP contract, driven over real connections against ports that answer from constants.

mod access;
pub mod client;
mod fake;
mod fake_topics;
mod rest;
mod sockets;
mod topics;

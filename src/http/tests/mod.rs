//! The HTTP contract, driven over real connections against ports that answer from constants.

mod access;
mod client;
mod fake;
mod rest;
mod sockets;

//! Streamward: the application.
//!
//! In reading order: [`cli`] (commands), [`config`] and [`plan`] (from YAML to compiled pipelines), [`app`] (composes
//! everything and shuts it down), [`adapters`] (Kafka, SQL), [`registry`], [`http`] with the console, [`simulators`],
//! [`replay`], [`verify`], [`bench`]. The actor roles are in `streamward-pipeline`, the logic without I/O in
//! `streamward-core`, supervision in `streamward-kit`, the embedded broker in `streamward-broker`.

// `eprintln!` panics where nobody reads: see `cli::output`.
#![warn(clippy::print_stderr)]

pub mod adapters;
pub mod app;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod node;
pub mod plan;
pub mod process;
pub mod registry;
pub mod replay;
pub mod simulators;
pub mod telemetry;
pub mod verify;

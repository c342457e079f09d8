//! Trees that run: what the kit promises, seen from outside.

mod command_table;
mod commands;
mod failures;
mod regressions;
mod shutdown;
mod standstill;
mod stuck;
mod support;
mod trees;

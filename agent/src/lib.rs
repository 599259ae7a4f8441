//! Captures, stores and answers questions about workflow provenance. The only crate with clocks, files and processes.
//!
//! Modules in reading order; upper ones may use lower ones, never the reverse (`cargo xtask tidy` checks):
//!
//! layers:
//! cli > output import > session query intake keeper > sinks context capture > store > formats > settings > exit_code workflow

pub mod cli;

pub mod import;
pub mod output;

pub mod intake;
pub mod keeper;
pub mod query;
pub mod session;

pub mod capture;
pub mod context;
pub mod sinks;

pub mod store;

pub mod formats;

pub mod settings;

pub mod exit_code;
pub mod workflow;

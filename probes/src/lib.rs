//! Loads the BPF programs and hands out what they write. It does not know what a record means, nor who asked.
//!
//! Reading order: [`host`] finds facts, [`plan`] decides from them, [`probes`] loads, attaches and reads.

mod error;
pub mod host;
pub mod plan;
mod probes;

pub use error::Error;
pub use probes::{Counters, Probes, Ring, Sum};

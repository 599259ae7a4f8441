//! Where documents go, one file a sink; an [`outlet`] is a sink with its place in the store. They do not know what documents say.

pub mod lmdb;
pub mod outlet;
pub mod redis;

use serde_json::Value;

/// Takes documents for others.
pub trait Sink {
    /// What it is called, for people and as the name of its cursor: without user and password.
    fn place(&self) -> &str;

    /// Delivers documents, all or none, in their order: when it returns, who is there has them.
    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered>;
}

/// Why documents were not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// It may go better later.
    #[error("{0}")]
    Now(String),
    /// Somebody has to do something about it first.
    #[error("{0}")]
    Ever(String),
}

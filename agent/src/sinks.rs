//! Where documents go, one file a sink, and the queues that they come back from; an [`outlet`] is a sink with its place in the store.
//! They do not know what documents say.

pub mod jsonl;
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

/// Where documents of others and ours come from, as messages.
pub trait Queue {
    /// What it is called, for people: without user and password.
    fn place(&self) -> &str;

    /// The next message; none where none came for a while. It connects where it has to.
    fn message(&mut self) -> Result<Option<Vec<u8>>, Undelivered>;

    /// Says that all messages until now have been kept somewhere.
    fn settle(&mut self) -> Result<(), Undelivered>;

    /// Whether it gives again what was not settled, if need be to somebody else.
    fn keeps(&self) -> bool;
}

/// Why documents were not delivered, or not received.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// It may go better later.
    #[error("{0}")]
    Now(String),
    /// Somebody has to do something about it first.
    #[error("{0}")]
    Ever(String),
}

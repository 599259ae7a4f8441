//! Where a keeper puts documents: each is joined with what is there under its id.

use super::document::{Document, merged};
use crate::sinks::Undelivered;
use crate::sinks::lmdb::Lmdb;
use crate::sinks::mongodb::{Change, Mongo};
use crate::sinks::table::Table;

/// A database of Flowcept's.
pub trait Database {
    /// What it is called, for people: without user and password.
    fn place(&self) -> &str;

    /// Joins documents with what is there. Those that it refuses for what they are, by their place in the list, with the reason; it
    /// has the others on its disk when this returns.
    fn keep(&mut self, documents: &[&Document]) -> Result<Vec<(usize, String)>, Undelivered>;
}

impl Database for Lmdb {
    fn place(&self) -> &str {
        crate::sinks::Sink::place(self)
    }

    fn keep(&mut self, documents: &[&Document]) -> Result<Vec<(usize, String)>, Undelivered> {
        let rows: Vec<(Table, &str)> = documents.iter().map(|d| (d.table, &*d.id)).collect();
        self.update(&rows, &|place: usize, before| merged(before, documents[place])).map(|()| Vec::new())
    }
}

impl Database for Mongo {
    fn place(&self) -> &str {
        self.place()
    }

    fn keep(&mut self, documents: &[&Document]) -> Result<Vec<(usize, String)>, Undelivered> {
        let fields: Vec<_> = documents.iter().map(|document| document.fields()).collect();
        let changes: Vec<Change<'_>> =
            documents.iter().zip(&fields).map(|(d, fields)| (d.table, &*d.id, fields)).collect();
        self.join(&changes)
    }
}

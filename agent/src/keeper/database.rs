//! Where a keeper puts documents: each is joined with what is there under its id.

use std::collections::BTreeMap;

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

/// Databases of which each has all; where one is away, all wait.
pub struct Several {
    databases: Vec<Box<dyn Database + Send>>,
    place: String,
}

impl Several {
    /// Of these.
    pub fn new(databases: Vec<Box<dyn Database + Send>>) -> Self {
        let places: Vec<&str> = databases.iter().map(|database| database.place()).collect();
        Self { place: places.join(" and "), databases }
    }
}

impl Database for Several {
    fn place(&self) -> &str {
        &self.place
    }

    fn keep(&mut self, documents: &[&Document]) -> Result<Vec<(usize, String)>, Undelivered> {
        if documents.is_empty() {
            // What somebody has to do something about goes before what may go better later.
            let failed: Vec<_> = self.databases.iter_mut().filter_map(|database| database.keep(&[]).err()).collect();
            let worst = failed.into_iter().min_by_key(|why| matches!(why, Undelivered::Now(_)));
            return worst.map_or(Ok(Vec::new()), Err);
        }
        let mut refused = BTreeMap::new();
        for number in 0..self.databases.len() {
            match self.databases[number].keep(documents) {
                Ok(these) => refused.extend(these),
                Err(why) => {
                    // The next time it is asked before others write again what they have.
                    self.databases[..=number].rotate_right(1);
                    return Err(why);
                }
            }
        }
        Ok(refused.into_iter().collect())
    }
}

//! Flowcept's own LMDB database, as its Python reads it: a table each for tasks and workflows, documents as JSON by their id. It is
//! open only while something is written: Python's LMDB and ours cannot have it open at one time (their lock files differ).

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError};
use serde_json::Value;

use super::{Sink, Undelivered};
use crate::store::place::is_on_network;

/// Address space, not memory: as much as Flowcept gives it, in whole pages.
const MAP_BYTES: usize = 1 << 40;
/// The tables that Flowcept makes and opens.
const TABLES: [&str; 4] = ["tasks", "workflows", "agents", "dashboards"];

/// A database in a folder.
pub struct Lmdb {
    folder: PathBuf,
    place: String,
}

impl Lmdb {
    /// In this folder (Flowcept's `databases.lmdb.path`), which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self> {
        let absolute = std::path::absolute(folder)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&absolute)
            .with_context(|| format!("make {}", absolute.display()))?;
        ensure!(
            !is_on_network(&absolute)?,
            "{} is on a network filesystem, on which an LMDB database is damaged sooner or later: give a folder of this host's",
            absolute.display()
        );
        Ok(Self { place: format!("lmdb:{}", absolute.display()), folder: absolute })
    }

    fn write(&self, documents: &[Value]) -> Result<(), heed::Error> {
        #[expect(unsafe_code, reason = "LMDB maps its file")]
        // SAFETY: nobody but LMDB changes the file.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).max_dbs(5).open(&self.folder) }?;
        let written = written(&env, documents);
        env.prepare_for_closing().wait();
        written
    }
}

fn written(env: &Env, documents: &[Value]) -> Result<(), heed::Error> {
    type Table<'e> = Database<'e, Bytes, Bytes>;
    let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        let [tasks, workflows, agents, dashboards] = TABLES.map(|name| opener.create_database(txn, Some(name)));
        let tables: [Table<'_>; 4] = [tasks?, workflows?, agents?, dashboards?];
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(tables))
    })?;
    let [tasks, workflows, ..] = made.unwrap_commit();
    let mut txn = env.write_txn()?;
    for document in documents {
        let table = if document["type"] == "task" { &tasks } else { &workflows };
        let (id, row) = row(document);
        table.put(&mut txn, id.as_bytes(), row.to_string().as_bytes())?;
    }
    txn.commit()
}

/// A document's id, and itself as Flowcept stores it: a task has no type there, and its status is a key, too.
fn row(document: &Value) -> (&str, Value) {
    let mut row = document.clone();
    if document["type"] != "task" {
        return (document["workflow_id"].as_str().unwrap_or_default(), row);
    }
    if let Some(map) = row.as_object_mut() {
        map.shift_remove("type");
        if let Some(status) = document["status"].as_str() {
            map.insert(status.to_lowercase(), true.into());
        }
    }
    (document["task_id"].as_str().unwrap_or_default(), row)
}

impl Sink for Lmdb {
    fn place(&self) -> &str {
        &self.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", self.place);
        self.write(documents).map_err(|error| match error {
            heed::Error::Mdb(MdbError::VersionMismatch) => {
                Undelivered::Now(named(&"a program of Flowcept has it open; it is written once that has closed it"))
            }
            heed::Error::Mdb(MdbError::Invalid) => {
                Undelivered::Ever(named(&"there is another file in the database's place"))
            }
            heed::Error::Io(why) if why.kind() == io::ErrorKind::PermissionDenied => Undelivered::Ever(named(&why)),
            why => Undelivered::Now(named(&why)),
        })
    }
}

//! Flowcept's own LMDB database, as its Python reads it: a table each for tasks and workflows, documents as JSON by their id. It is
//! open only while something is written: Python's LMDB and ours cannot have it open at one time (their lock files differ).

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvOpenOptions, MdbError};
use serde_json::Value;

use super::table::{Table, as_row, key};
use super::{Sink, Undelivered};
use crate::store::place::is_on_network;

/// Address space, not memory: as much as Flowcept gives it, in whole pages.
const MAP_BYTES: usize = 1 << 40;
/// The tables that Flowcept makes and opens.
const TABLES: [&str; 4] = ["tasks", "workflows", "agents", "dashboards"];

/// What becomes of the row of this place in the list, as it is there: a document as JSON.
type Change<'a> = &'a dyn Fn(usize, Option<Value>) -> Cow<'a, str>;

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

    /// The rows of a table as they are there: documents as JSON. What there is none of is not made.
    pub fn rows(folder: &Path, table: Table, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        ensure!(folder.join("data.mdb").exists(), "there is no database in {}", folder.display());
        let mut read = || {
            let env = environment(folder)?;
            let read = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
                let rows = opener.open_database::<Bytes, Bytes>(txn, Some(table.name()))?;
                for row in rows.iter().flat_map(|rows| rows.iter(txn)).flatten() {
                    each(row?.1);
                }
                Ok::<_, heed::Error>(CommitOrAbort::<(), ()>::Abort(()))
            });
            env.prepare_for_closing().wait();
            read.map(drop)
        };
        read().map_err(|why: heed::Error| match why {
            heed::Error::Mdb(MdbError::VersionMismatch) => {
                anyhow::anyhow!(
                    "lmdb:{}: a program of Flowcept has it open: try again once that has closed it",
                    folder.display()
                )
            }
            why => anyhow::anyhow!("lmdb:{}: {why}", folder.display()),
        })
    }

    /// Changes rows of tables by their keys, in their order, all or none. It is on the disk when this returns.
    pub fn update(&self, rows: &[(Table, &str)], change: Change<'_>) -> Result<(), Undelivered> {
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", self.place);
        self.write(rows, change).map_err(|error| match error {
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

    fn write(&self, rows: &[(Table, &str)], change: Change<'_>) -> Result<(), heed::Error> {
        let env = environment(&self.folder)?;
        let written = written(&env, rows, change);
        env.prepare_for_closing().wait();
        written
    }
}

fn environment(folder: &Path) -> Result<Env, heed::Error> {
    #[expect(unsafe_code, reason = "LMDB maps its file")]
    // SAFETY: nobody but LMDB changes the file.
    unsafe {
        EnvOpenOptions::new().map_size(MAP_BYTES).max_dbs(5).open(folder)
    }
}

fn written(env: &Env, rows: &[(Table, &str)], change: Change<'_>) -> Result<(), heed::Error> {
    let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        let mut table = |name| opener.create_database::<Bytes, Bytes>(txn, Some(name));
        let [tasks, workflows, agents, dashboards] = TABLES;
        let tables = [table(tasks)?, table(workflows)?, table(agents)?, table(dashboards)?];
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(tables))
    })?;
    let tables = made.unwrap_commit();
    let mut txn = env.write_txn()?;
    for (place, (table, id)) in rows.iter().enumerate() {
        let table = &tables[*table as usize];
        let before = table.get(&txn, id.as_bytes())?.and_then(|bytes| serde_json::from_slice(bytes).ok());
        table.put(&mut txn, id.as_bytes(), change(place, before).as_bytes())?;
    }
    txn.commit()
}

impl Sink for Lmdb {
    fn place(&self) -> &str {
        &self.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let keys: Vec<(Table, &str)> = documents.iter().map(key).collect();
        self.update(&keys, &|place, _| {
            let mut row = documents[place].clone();
            if let (Table::Tasks, Some(task)) = (keys[place].0, row.as_object_mut()) {
                as_row(task);
            }
            row.to_string().into()
        })
    }
}

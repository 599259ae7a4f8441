//! Where runs are kept: a log for each, the truth, and an index over all of them that can be rebuilt. It does not know how
//! runs are captured.

mod bytes;
mod codec;
pub mod index;
pub mod log;
pub(crate) mod place;
pub mod record;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flowcept_provenance::identity::FileKey;
use flowcept_provenance::lineage::{Lineage, Provenance};

use crate::formats::flowcept;
use crate::workflow::Workflow;
use index::Index;

/// Entities that are entered together when the index is made anew: bounds the memory that it takes.
const BATCH: usize = 100_000;

/// What the folder of a run in the spool is called, before its id.
pub const IN_SPOOL: &str = "w-";

/// A folder with logs and their index.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// Where the index lies: the same, or on this node.
    beside: PathBuf,
}

/// What went wrong, by action.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or a file in it.
    #[error("{action} {path}: {source}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A log.
    #[error(transparent)]
    Log(#[from] log::LogError),
    /// The index.
    #[error("the index in {0}: {1}; `flowcept store rebuild` makes it anew")]
    Index(PathBuf, heed::Error),
    /// No such run.
    #[error("no workflow '{0}' in {1}; `flowcept workflows` lists them")]
    NoWorkflow(String, PathBuf),
    /// Several runs.
    #[error("'{0}' begins the ids of several workflows: give more of it")]
    Ambiguous(String),
}

impl Store {
    /// The store in `folder`, made with mode 0700 if it is not there.
    pub fn open(folder: PathBuf) -> Result<Self, StoreError> {
        // Programs that are told of it go elsewhere.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let logs = folder.join("logs");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&logs).map_err(|source| StoreError::File {
            action: "make the store",
            path: logs.clone(),
            source,
        })?;
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        let beside = place::of_index(&folder).map_err(|source| StoreError::File {
            action: "find a place on this node for the index of",
            path: folder.clone(),
            source,
        })?;
        Ok(Self { folder, beside })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its index lies, if that is not in it: LMDB must not lie on a network filesystem.
    pub fn index_elsewhere(&self) -> Option<&Path> {
        (self.beside != self.folder).then_some(&self.beside)
    }

    /// Where the log of a run lies.
    pub fn log_path(&self, id: uuid::Uuid) -> PathBuf {
        self.folder.join("logs").join(format!("{id}.log"))
    }

    /// Where the library leaves its records.
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// The same for one run.
    pub fn spool_of(&self, id: uuid::Uuid) -> PathBuf {
        self.spool().join(format!("{IN_SPOOL}{id}"))
    }

    /// The index, after logs that nobody indexed (their tracer was killed) are taken in.
    pub fn index(&self) -> Result<Index, StoreError> {
        let index = Index::open(&self.beside)?;
        self.take_in(&index)?;
        Ok(index)
    }

    fn take_in(&self, index: &Index) -> Result<(), StoreError> {
        let mut waiting = Vec::new();
        let reader = index.reader()?;
        for path in self.logs()? {
            let id = path.file_stem().and_then(|s| uuid::Uuid::parse_str(&s.to_string_lossy()).ok());
            if let Some(id) = id
                && reader.number(id)?.is_some()
            {
                continue;
            }
            // A log that is no log blocks no other. Where the rest of a run whose tracer was killed lies in the spool, its
            // log is not all until that is taken in.
            if let Ok((workflow, false)) = log::head(&path)
                && (!self.spool_of(workflow.id).exists() || log::read(&path)?.ended)
            {
                waiting.push((workflow.started, path));
            }
        }
        drop(reader);
        waiting.sort();
        for (_, path) in waiting {
            let (workflow, told) = self.read(&path)?;
            log::mark(&path, index.insert(&workflow, &told)?)?;
        }
        Ok(())
    }

    fn logs(&self) -> Result<Vec<PathBuf>, StoreError> {
        let logs = self.folder.join("logs");
        let entries = fs::read_dir(&logs).map_err(|source| StoreError::File { action: "read", path: logs, source })?;
        let paths = entries.flatten().map(|e| e.path());
        Ok(paths.filter(|p| p.extension().is_some_and(|e| e == "log")).collect())
    }

    /// Puts a run that has ended into the index, and marks its log with the number that it has there.
    pub fn enter(&self, workflow: &Workflow, told: &Provenance, log: &Path) -> Result<(), StoreError> {
        Ok(log::mark(log, Index::open(&self.beside)?.insert(workflow, told)?)?)
    }

    /// Reads a run from its log.
    pub fn read(&self, path: &Path) -> Result<(Workflow, Provenance), StoreError> {
        let mut contents = log::read(path)?;
        if contents.workflow.imported {
            let (_, told) = flowcept::read::told(&contents.documents);
            return Ok((contents.workflow, told));
        }
        let mut lineage = Lineage::default();
        for observation in std::mem::take(&mut contents.observations) {
            lineage.apply(observation);
        }
        contents.lost().into_iter().for_each(|o| lineage.apply(o));
        if !contents.ended && !contents.live {
            lineage.apply(contents.cut("the tracer was stopped before the workflow had ended"));
        }
        Ok((contents.workflow, lineage.tell()))
    }

    /// The documents of a workflow that was traced elsewhere.
    pub fn documents(&self, workflow: &Workflow) -> Result<Vec<serde_json::Value>, StoreError> {
        Ok(log::read(&self.log_path(workflow.id))?.documents)
    }

    /// What version 0 of each file is called of a run that is not entered yet.
    pub fn bases(&self, told: &Provenance) -> Result<HashMap<FileKey, u32>, StoreError> {
        Index::open(&self.beside)?.reader()?.bases(told)
    }

    /// Runs that are being traced now.
    pub fn running(&self) -> Result<Vec<Workflow>, StoreError> {
        let heads = self.logs()?.into_iter().filter_map(|p| log::head(&p).ok());
        Ok(heads.filter(|(_, live)| *live).map(|(w, _)| w).collect())
    }

    /// Makes the index anew from the logs, in the order in which they were entered; how many.
    pub fn rebuild(&self) -> Result<usize, StoreError> {
        Index::remove(&self.beside)?;
        let index = Index::open(&self.beside)?;
        let mut entered = Vec::new();
        for path in self.logs()? {
            if let Ok(contents) = log::read(&path)
                && !contents.live
                && (contents.ended || !self.spool_of(contents.workflow.id).exists())
            {
                entered.push((contents.commit_number.unwrap_or(u64::MAX), contents.workflow.started, path));
            }
        }
        entered.sort();
        let mut batch = index.batch()?;
        for (_, _, path) in &entered {
            let (workflow, told) = self.read(path)?;
            batch.insert(&workflow, &told)?;
            if batch.entities() > BATCH {
                batch.commit()?;
                batch = index.batch()?;
            }
        }
        batch.commit()?;
        Ok(entered.len())
    }
}

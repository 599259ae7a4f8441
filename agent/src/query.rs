//! Questions over the store: what a run was, where a file came from, and what it fed. It does not print.

pub mod filter;
mod walk;

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, bail};
use flowcept_provenance::activity::ActivityNo;
use flowcept_provenance::identity::{EntityId, FileKey};
use flowcept_provenance::lineage::Provenance;
use serde_json::Value;

use crate::formats::flowcept::{self, Files};
use crate::store::index::{Index, Reader};
use crate::store::{Store, StoreError};
use crate::workflow::Workflow;

pub use walk::{Node, Question, What};

/// A run, read from its log.
pub struct Run {
    /// Its number in the index.
    pub number: u64,
    /// What it was.
    pub workflow: Workflow,
    /// What it told.
    pub told: Provenance,
    bases: HashMap<FileKey, u32>,
    /// Its documents as they came, where it was traced elsewhere.
    documents: Vec<Value>,
}

impl Run {
    /// Flowcept's documents: the workflow's, then the tasks'. What came from elsewhere may be without the first.
    pub fn documents(&self, files: Files) -> Vec<Value> {
        if self.workflow.imported {
            return self.documents.clone();
        }
        flowcept::documents(&self.workflow, &self.told, files, &|file| self.base(file))
    }

    /// What the run's version 0 of a file is called in this store.
    pub fn base(&self, file: &FileKey) -> u32 {
        self.bases.get(file).copied().unwrap_or(0)
    }
}

/// Reads runs of one store, each once.
pub struct Library {
    store: Store,
    index: Index,
    runs: HashMap<u64, Rc<Run>>,
}

/// What a name on the command line means.
pub struct Found {
    /// The run.
    pub run: Rc<Run>,
    /// The task in it, where the name is a task's id.
    pub task: Option<ActivityNo>,
}

impl Library {
    /// Opens the store for questions.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), index: store.index()?, runs: HashMap::new() })
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The run of this number, from its log.
    pub fn run(&mut self, number: u64) -> Result<Rc<Run>, StoreError> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(run.clone());
        }
        let missing = || StoreError::NoWorkflow(number.to_string(), self.store.folder().to_path_buf());
        let reader = self.index.reader()?;
        let workflow = reader.workflow(number)?.ok_or_else(missing)?;
        let (workflow, told, documents) = if workflow.imported {
            let documents = self.store.documents(&workflow)?;
            (workflow, flowcept::read::told(&documents).1, documents)
        } else {
            let (workflow, told) = self.store.read(&self.store.log_path(workflow.id))?;
            (workflow, told, Vec::new())
        };
        let mut bases = HashMap::new();
        for entity in &told.entities {
            if let std::collections::hash_map::Entry::Vacant(entry) = bases.entry(entity.file) {
                let last = reader.last_version(&entity.file, number)?;
                entry.insert(last.map_or(0, |(id, local)| id.version.saturating_sub(local)));
            }
        }
        let run = Rc::new(Run { number, workflow, told, bases, documents });
        self.runs.insert(number, run.clone());
        Ok(run)
    }

    /// Keeps a run no longer that will not be asked for again.
    pub fn forget(&mut self, number: u64) {
        self.runs.remove(&number);
    }

    /// The run that `name` means: `last`, an id, the beginning of one, or a name (the newest of that name).
    pub fn find(&mut self, name: &str) -> Result<Rc<Run>, StoreError> {
        let all = self.index.reader()?.workflows()?;
        let missing = || StoreError::NoWorkflow(name.to_string(), self.store.folder().to_path_buf());
        let number = if name == "last" {
            all.iter().max_by_key(|(_, w)| w.started).ok_or_else(missing)?.0
        } else {
            let by_id: Vec<_> = all.iter().filter(|(_, w)| w.id.to_string().starts_with(name)).collect();
            match by_id.as_slice() {
                [one] => one.0,
                [] => all.iter().rev().find(|(_, w)| w.name == name).ok_or_else(missing)?.0,
                _ => return Err(StoreError::Ambiguous(name.to_string())),
            }
        };
        self.run(number)
    }

    /// As [`Library::find`], and also a task by its whole id.
    pub fn find_task(&mut self, name: &str) -> Result<Found, StoreError> {
        let number = self.index.reader()?.number(flowcept::read::id(name))?;
        match number {
            Some((number, task)) => Ok(Found { run: self.run(number)?, task }),
            None => Ok(Found { run: self.find(name)?, task: None }),
        }
    }

    /// Where a file came from, or what it fed.
    pub fn lineage(&self, path: &str, question: Question) -> Result<Node> {
        let reader = self.index.reader()?;
        let start = start(&reader, path)?;
        walk::answer(&reader, start, question)
    }
}

/// The newest version of the file that is or was at `path`, or of the entity that `path` names.
fn start(reader: &Reader<'_>, path: &str) -> Result<EntityId> {
    if let Ok(id) = path.parse::<EntityId>() {
        if reader.versions(&id)?.is_empty() {
            bail!("no run in this store used or generated {id}");
        }
        return Ok(id);
    }
    let absolute = std::path::absolute(path)?;
    let canonical = std::fs::canonicalize(&absolute).unwrap_or(absolute);
    let name = canonical.to_string_lossy();
    let mut named = reader.named(&name)?;
    // The file that is there now, where it is one of them; else the one that was there last.
    if let Some(inode) = inode_of(&canonical)
        && named.iter().any(|(_, f)| f.inode == inode)
    {
        named.retain(|(_, f)| f.inode == inode);
    }
    let Some((number, file)) = named.pop() else {
        bail!("no run in this store used or generated a file called {name}; `flowcept show last` lists what one did")
    };
    let Some((id, _)) = reader.last_version(&file, number)? else {
        bail!("the index names a run that does not know {name}: `flowcept store rebuild`")
    };
    Ok(id)
}

fn inode_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|m| m.ino())
}

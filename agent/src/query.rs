//! Questions over the store: where a file came from, and what it fed. It does not print.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, bail};
use flowcept_provenance::activity::ActivityNo;
use flowcept_provenance::entity::{EntityNo, Origin};
use flowcept_provenance::identity::{EntityId, FileKey};
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::quantity::BootNs;
use flowcept_provenance::relation::{Manner, Via};
use flowcept_provenance::role::Role;

use crate::store::index::Index;
use crate::store::{Store, StoreError};
use crate::workflow::Workflow;

/// A run, read from its log.
pub struct Run {
    /// Its number in the index.
    pub number: u64,
    /// What it was.
    pub workflow: Workflow,
    /// What it told.
    pub told: Provenance,
    bases: HashMap<FileKey, u32>,
}

impl Run {
    /// What the run's version 0 of a file is called in this store.
    pub fn base(&self, file: &FileKey) -> u32 {
        self.bases.get(file).copied().unwrap_or(0)
    }

    /// The lasting name of an entity.
    pub fn entity_id(&self, no: EntityNo) -> EntityId {
        let entity = self.told.entity(no);
        EntityId { file: entity.file, version: entity.version + self.base(&entity.file) }
    }
}

/// Reads runs of one store, each once.
pub struct Library {
    store: Store,
    index: Index,
    runs: HashMap<u64, Rc<Run>>,
}

/// In which direction, how far, over what.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Towards what the file was made from, or towards what was made from it.
    pub up: bool,
    /// Steps from file to file; none for all.
    pub depth: Option<usize>,
    /// Also who started whom.
    pub control: bool,
}

/// A node of an answer; a thing that was answered already has no children again.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub what: What,
    /// How the node above is related to it.
    pub via: &'static str,
    /// Told above already.
    pub again: bool,
    /// What lies behind.
    pub children: Vec<Node>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A file version.
    File {
        /// Its name at that use.
        path: String,
        /// Its lasting name.
        entity: String,
        /// As what it was used or made.
        role: Role,
    },
    /// A task.
    Task {
        /// Its id.
        id: String,
        /// Its activity.
        name: String,
        /// Its command line.
        command: String,
        /// The run that it belongs to.
        workflow: String,
    },
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

    /// The run of this number.
    pub fn run(&mut self, number: u64) -> Result<Rc<Run>, StoreError> {
        if let Some(run) = self.runs.get(&number) {
            return Ok(run.clone());
        }
        let missing = || StoreError::NoWorkflow(number.to_string(), self.store.folder().to_path_buf());
        let workflow = self.index.workflow(number)?.ok_or_else(missing)?;
        let (workflow, told) = self.store.read(&self.store.log_path(&workflow))?;
        let mut bases = HashMap::new();
        for entity in &told.entities {
            if let std::collections::hash_map::Entry::Vacant(entry) = bases.entry(entity.file) {
                let spans = self.index.spans(&entity.file)?;
                entry.insert(spans.iter().find(|s| s.workflow == number).map_or(0, |s| s.base));
            }
        }
        let run = Rc::new(Run { number, workflow, told, bases });
        self.runs.insert(number, run.clone());
        Ok(run)
    }

    /// The run that `name` means: `last`, an id, the beginning of one, or a name (the newest of that name).
    pub fn find(&mut self, name: &str) -> Result<Rc<Run>, StoreError> {
        let all = self.index.workflows()?;
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

    /// The newest version of the file that is or was at `path`, or of the entity that `path` names.
    fn start(&mut self, path: &str) -> Result<(Rc<Run>, EntityNo)> {
        if let Ok(id) = path.parse::<EntityId>() {
            for span in self.index.spans(&id.file)? {
                if (span.base..span.base + span.count).contains(&id.version) {
                    let run = self.run(span.workflow)?;
                    if let Some(no) = entity_of(&run, &id) {
                        return Ok((run, no));
                    }
                }
            }
            bail!("no run in this store used or generated {id}");
        }
        let absolute = std::path::absolute(path)?;
        let canonical = std::fs::canonicalize(&absolute).unwrap_or(absolute);
        let name = canonical.to_string_lossy();
        let mut named = self.index.named(&name)?;
        if named.is_empty() {
            bail!(
                "no run in this store used or generated a file called {name}; `flowcept show last` lists what one did"
            );
        }
        // The file that is there now, where it is one of them; else the one that was there last.
        if let Some(inode) = inode_of(&canonical)
            && named.iter().any(|(_, f)| f.inode == inode)
        {
            named.retain(|(_, f)| f.inode == inode);
        }
        let Some((number, file)) = named.pop() else { bail!("no run knows {name}") };
        let run = self.run(number)?;
        let last = (0..run.told.entities.len()).rev().find(|i| run.told.entities[*i].file == file);
        let Some(no) = last.map(|i| EntityNo(i as u32)) else {
            bail!("the index names a run that does not know {name}: `flowcept store rebuild`")
        };
        Ok((run, no))
    }

    /// Where a file came from, or what it fed.
    pub fn lineage(&mut self, path: &str, question: Question) -> Result<Node> {
        let (run, entity) = self.start(path)?;
        let mut walk = Walk { library: self, question, told: HashMap::new(), files: HashSet::new() };
        let path = run.told.entity(entity).last_path().to_string();
        walk.file(&run, entity, path, Role::Data, "", 0)
    }
}

fn inode_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).ok().map(|m| m.ino())
}

fn entity_of(run: &Run, id: &EntityId) -> Option<EntityNo> {
    let base = run.base(&id.file);
    let found = run.told.entities.iter().position(|e| e.file == id.file && e.version + base == id.version);
    found.map(|i| EntityNo(i as u32))
}

struct Walk<'a> {
    library: &'a mut Library,
    question: Question,
    /// Until when each task was looked at.
    told: HashMap<(u64, ActivityNo), BootNs>,
    files: HashSet<EntityId>,
}

impl Walk<'_> {
    fn file(
        &mut self,
        run: &Rc<Run>,
        no: EntityNo,
        path: String,
        role: Role,
        via: &'static str,
        depth: usize,
    ) -> Result<Node> {
        let id = run.entity_id(no);
        let what = What::File { path, entity: id.to_string(), role };
        let again = !self.files.insert(id);
        let mut node = Node { what, via, again, children: Vec::new() };
        if again || self.question.depth.is_some_and(|d| depth >= d) {
            return Ok(node);
        }
        if self.question.up {
            self.makers(run, no, depth, &mut node.children)?;
        } else {
            self.users(&id, depth, &mut node.children)?;
        }
        Ok(node)
    }

    /// Who made this version, and the versions that it revises.
    fn makers(&mut self, run: &Rc<Run>, no: EntityNo, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        let entity = run.told.entity(no);
        if let Some(before) = entity.revision_of {
            self.makers(run, before, depth, out)?;
        }
        if entity.origin == Origin::Found {
            let id = run.entity_id(no);
            for span in self.library.index.spans(&id.file)? {
                let made = span.base + u32::from(span.found) <= id.version && id.version < span.base + span.count;
                if made && span.workflow != run.number {
                    let other = self.library.run(span.workflow)?;
                    if let Some(no) = entity_of(&other, &id) {
                        self.makers(&other, no, depth, out)?;
                    }
                }
            }
        }
        for g in run.told.generated.iter().filter(|g| g.entity == no) {
            out.push(self.task(run, g.activity, g.last, if g.possible { "possibly by" } else { "by" }, depth)?);
        }
        Ok(())
    }

    /// What a task had until `until` (upward) or made from then on (downward).
    fn task(&mut self, run: &Rc<Run>, no: ActivityNo, time: BootNs, via: &'static str, depth: usize) -> Result<Node> {
        let activity = run.told.activity(no);
        let what = What::Task {
            id: activity.process.task_id().to_string(),
            name: activity.name.to_string(),
            command: activity.command_line(),
            workflow: run.workflow.id.to_string(),
        };
        let mut node = Node { what, via, again: false, children: Vec::new() };
        let key = (run.number, no);
        let farther = |before: &BootNs| if self.question.up { time <= *before } else { time >= *before };
        if self.told.get(&key).is_some_and(farther) {
            node.again = true;
            return Ok(node);
        }
        self.told.insert(key, time);
        if self.question.up {
            self.before(run, no, time, depth, &mut node.children)?;
        } else {
            self.after(run, no, time, depth, &mut node.children)?;
        }
        Ok(node)
    }

    fn before(
        &mut self,
        run: &Rc<Run>,
        no: ActivityNo,
        until: BootNs,
        depth: usize,
        out: &mut Vec<Node>,
    ) -> Result<()> {
        for u in run.told.used.iter().filter(|u| u.activity == no && u.first <= until) {
            if u.manner != Manner::Revised && self.shown(run, u.entity, u.role)? {
                let via = if u.possible { "possibly used" } else { "used" };
                out.push(self.file(run, u.entity, u.path.to_string(), u.role, via, depth + 1)?);
            }
        }
        for i in run.told.informed.iter().filter(|i| i.informed == no && i.received.0 <= until) {
            let from_memory = matches!(i.via, Via::Fork | Via::Memory);
            let cutoff = if from_memory { i.sent.1 } else { i.sent.1.min(until) };
            let node = self.task(run, i.informant, cutoff, i.via.name(), depth)?;
            // What a parent had before a fork matters only where it had something.
            if !from_memory || !node.children.is_empty() {
                out.push(node);
            }
        }
        let activity = run.told.activity(no);
        if self.question.control
            && let Some(parent) = activity.parent
        {
            out.push(self.task(run, parent, activity.started, "started_by", depth)?);
        }
        Ok(())
    }

    /// The default view: data, and whatever a run made itself.
    fn shown(&mut self, run: &Rc<Run>, no: EntityNo, role: Role) -> Result<bool> {
        let made = run.told.entity(no).origin != Origin::Found;
        Ok(matches!(role, Role::Data | Role::Temporary) || made)
    }

    fn users(&mut self, id: &EntityId, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        for span in self.library.index.spans(&id.file)? {
            if !(span.base..span.base + span.count).contains(&id.version) {
                continue;
            }
            let run = self.library.run(span.workflow)?;
            let Some(no) = entity_of(&run, id) else { continue };
            for u in run.told.used.iter().filter(|u| u.entity == no && u.manner != Manner::Revised) {
                out.push(self.task(&run, u.activity, u.first, "used by", depth)?);
            }
            for (later, e) in run.told.entities.iter().enumerate() {
                if e.revision_of == Some(no) {
                    let path = e.last_path().to_string();
                    out.push(self.file(&run, EntityNo(later as u32), path, Role::Data, "revised to", depth + 1)?);
                }
            }
        }
        Ok(())
    }

    fn after(&mut self, run: &Rc<Run>, no: ActivityNo, from: BootNs, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        for g in run.told.generated.iter().filter(|g| g.activity == no && g.last >= from) {
            let path = run.told.entity(g.entity).last_path().to_string();
            out.push(self.file(run, g.entity, path, g.role, "generated", depth + 1)?);
        }
        for i in run.told.informed.iter().filter(|i| i.informant == no) {
            let goes_on = if matches!(i.via, Via::Fork | Via::Memory) { i.sent.0 >= from } else { i.sent.1 >= from };
            if goes_on {
                let node = self.task(run, i.informed, i.received.0.max(from), i.via.name(), depth)?;
                if i.via != Via::Fork || !node.children.is_empty() {
                    out.push(node);
                }
            }
        }
        if self.question.control {
            let children = run.told.activities.iter().enumerate();
            for (child, activity) in children.filter(|(_, a)| a.parent == Some(no) && a.started >= from) {
                out.push(self.task(run, ActivityNo(child as u32), activity.started, "started", depth)?);
            }
        }
        Ok(())
    }
}

//! The walk over the index that tells a lineage. It reads no log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use flowcept_provenance::activity::ActivityNo;
use flowcept_provenance::entity::Origin;
use flowcept_provenance::identity::EntityId;
use flowcept_provenance::quantity::BootNs;
use flowcept_provenance::relation::Via;
use flowcept_provenance::role::Role;

use crate::store::index::Reader;
use crate::store::record::{NameOf, Task, Version};

/// In which direction, how far, over what.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Towards what the file was made from, or towards what was made from it.
    pub up: bool,
    /// Steps from file to file; none for all.
    pub depth: Option<usize>,
    /// Also who started whom, and whose end somebody waited for.
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
        workflow: Arc<str>,
    },
}

/// The tree behind a file version.
pub(super) fn answer(reader: &Reader<'_>, start: EntityId, question: Question) -> Result<Node> {
    let mut walk = Walk { reader, question, told: HashMap::new(), files: HashSet::new(), workflows: HashMap::new() };
    let versions = reader.versions(&start)?;
    let path = last_name(&versions, &start);
    walk.file(start, versions, path, Role::Data, "", 0)
}

/// Versions as the runs that had them saw them.
type Versions<'r> = Vec<(u64, Version<'r>)>;

fn last_name(versions: &Versions<'_>, id: &EntityId) -> String {
    let name = versions.last().and_then(|(_, v)| v.names.last());
    name.map_or_else(|| id.file.to_string(), ToString::to_string)
}

struct Walk<'r> {
    reader: &'r Reader<'r>,
    question: Question,
    /// Until when each task was looked at.
    told: HashMap<(u64, ActivityNo), BootNs>,
    files: HashSet<EntityId>,
    workflows: HashMap<u64, Arc<str>>,
}

impl<'r> Walk<'r> {
    fn file(
        &mut self,
        id: EntityId,
        versions: Versions<'r>,
        path: String,
        role: Role,
        via: &'static str,
        depth: usize,
    ) -> Result<Node> {
        let what = What::File { path, entity: id.to_string(), role };
        let again = !self.files.insert(id);
        let mut node = Node { what, via, again, children: Vec::new() };
        if again || self.question.depth.is_some_and(|d| depth >= d) {
            return Ok(node);
        }
        if self.question.up {
            self.makers(id, &versions, depth, &mut node.children)?;
        } else {
            self.users(id, &versions, depth, &mut node.children)?;
        }
        Ok(node)
    }

    /// Who made this version, and the versions that it revises.
    fn makers(&mut self, id: EntityId, versions: &Versions<'r>, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        if versions.iter().any(|(_, v)| v.origin == Origin::Revised) && id.version > 0 {
            let before = EntityId { version: id.version - 1, ..id };
            self.makers(before, &self.reader.versions(&before)?, depth, out)?;
        }
        for (number, version) in versions {
            for (task, last, possible) in &version.generated_by {
                let via = if *possible { "possibly by" } else { "by" };
                out.push(self.task(*number, *task, *last, via, depth)?);
            }
        }
        Ok(())
    }

    fn users(&mut self, id: EntityId, versions: &Versions<'r>, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        for (number, version) in versions {
            for (task, first) in &version.used_by {
                out.push(self.task(*number, *task, *first, "used by", depth)?);
            }
        }
        let later = EntityId { version: id.version + 1, ..id };
        let versions = self.reader.versions(&later)?;
        if versions.iter().any(|(_, v)| v.origin == Origin::Revised) {
            let path = last_name(&versions, &later);
            out.push(self.file(later, versions, path, Role::Data, "revised to", depth + 1)?);
        }
        Ok(())
    }

    /// What a task had until `time` (upward) or made from then on (downward).
    fn task(&mut self, number: u64, no: ActivityNo, time: BootNs, via: &'static str, depth: usize) -> Result<Node> {
        let task = self.reader.task(number, no)?;
        let task = task.context("the index lacks a task that it names: `flowcept store rebuild`")?;
        let what = What::Task {
            id: task.id.to_string(),
            name: task.name.to_string(),
            command: task.command.to_string(),
            workflow: self.workflow(number)?,
        };
        let mut node = Node { what, via, again: false, children: Vec::new() };
        let farther = |before: &BootNs| if self.question.up { time <= *before } else { time >= *before };
        if self.told.get(&(number, no)).is_some_and(farther) {
            node.again = true;
            return Ok(node);
        }
        self.told.insert((number, no), time);
        if self.question.up {
            self.before(number, &task, time, depth, &mut node.children)?;
        } else {
            self.after(number, &task, time, depth, &mut node.children)?;
        }
        Ok(node)
    }

    fn workflow(&mut self, number: u64) -> Result<Arc<str>> {
        if let Some(id) = self.workflows.get(&number) {
            return Ok(id.clone());
        }
        let id: Arc<str> = self.reader.workflow(number)?.map_or_else(String::new, |w| w.id.to_string()).into();
        self.workflows.insert(number, id.clone());
        Ok(id)
    }

    fn before(&mut self, number: u64, task: &Task<'r>, until: BootNs, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        // The default view: data, and whatever a run made itself.
        let shown = |role: Role, made: bool| matches!(role, Role::Data | Role::Temporary) || made;
        for u in task.used.iter().filter(|u| u.first <= until && shown(u.role, u.made_here)) {
            let versions = self.reader.versions(&u.entity)?;
            let path = match u.name {
                NameOf::Other(path) => path.to_string(),
                NameOf::Known(position) => {
                    let here = versions.iter().find(|(n, _)| *n == number);
                    let name = here.and_then(|(_, v)| v.names.get(position as usize));
                    name.map_or_else(|| u.entity.file.to_string(), ToString::to_string)
                }
            };
            let via = if u.possible { "possibly used" } else { "used" };
            out.push(self.file(u.entity, versions, path, u.role, via, depth + 1)?);
        }
        for i in task.informed_by.iter().filter(|i| i.received <= until) {
            let from_memory = matches!(i.via, Via::Fork | Via::Memory);
            let cutoff = if from_memory { i.sent.1 } else { i.sent.1.min(until) };
            let node = self.task(number, i.other, cutoff, i.via.name(), depth)?;
            // What a parent had before a fork matters only where it had something.
            if !from_memory || !node.children.is_empty() {
                out.push(node);
            }
        }
        if self.question.control {
            if let Some(parent) = task.parent {
                out.push(self.task(number, parent, task.started, "started_by", depth)?);
            }
            // A shell goes on by how its children ended.
            for child in &task.children {
                let ended = self.reader.task(number, *child)?.and_then(|c| c.ended);
                if let Some(ended) = ended.filter(|e| *e <= until) {
                    out.push(self.task(number, *child, ended, "exit_status_of", depth)?);
                }
            }
        }
        Ok(())
    }

    fn after(&mut self, number: u64, task: &Task<'r>, from: BootNs, depth: usize, out: &mut Vec<Node>) -> Result<()> {
        for g in task.generated.iter().filter(|g| g.last >= from) {
            let versions = self.reader.versions(&g.entity)?;
            let path = last_name(&versions, &g.entity);
            out.push(self.file(g.entity, versions, path, g.role, "generated", depth + 1)?);
        }
        for i in &task.informed {
            let goes_on = if matches!(i.via, Via::Fork | Via::Memory) { i.sent.0 >= from } else { i.sent.1 >= from };
            if goes_on {
                let node = self.task(number, i.other, i.received.max(from), i.via.name(), depth)?;
                if i.via != Via::Fork || !node.children.is_empty() {
                    out.push(node);
                }
            }
        }
        if self.question.control {
            for child in &task.children {
                let started = self.reader.task(number, *child)?.map(|c| c.started);
                if let Some(started) = started.filter(|s| *s >= from) {
                    out.push(self.task(number, *child, started, "started", depth)?);
                }
            }
            // Its end reaches who started it.
            if let (Some(parent), Some(ended)) = (task.parent, task.ended) {
                out.push(self.task(number, parent, ended.max(from), "exit_status_to", depth)?);
            }
        }
        Ok(())
    }
}

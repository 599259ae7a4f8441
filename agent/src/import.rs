//! Flowcept's databases and files → the store: workflows that were traced elsewhere, by their documents. It does not know what the
//! documents say of what ran.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::formats::flowcept::{packed, read};
use crate::keeper::document::{self, Message, merged};
use crate::sinks::lmdb::Lmdb;
use crate::sinks::mongodb::Mongo;
use crate::sinks::table::{TIMES, Table};
use crate::store::log::{self, Writer};
use crate::store::{Store, StoreError};
use crate::workflow::Workflow;

/// Documents that are written to a log together.
const BATCH: usize = 1000;

/// What was read, by workflow.
#[derive(Debug, Default)]
pub struct Found {
    /// Where, for people: without user and password.
    pub place: String,
    /// Documents of each workflow, its own first, by its id.
    workflows: BTreeMap<String, Vec<Value>>,
    /// Documents that are neither of a task nor of a workflow.
    pub other: u64,
    /// What could not be taken, and why.
    pub wrong: Vec<String>,
}

impl Found {
    /// Reads a place: `lmdb:FOLDER`, `mongodb://…` or a file; of these workflows only, if some are named.
    pub fn read(from: &str, only: &[String]) -> Result<Self> {
        let mut found = Self { place: from.into(), ..Self::default() };
        if let Some(folder) = from.strip_prefix("lmdb:") {
            for table in [Table::Workflows, Table::Tasks] {
                let mut each = |row: &[u8]| match serde_json::from_slice(row) {
                    Ok(row) => found.row(table, row, only),
                    Err(why) => found.wrong.push(format!("{from}: a row of {} is no JSON: {why}", table.name())),
                };
                Lmdb::rows(Path::new(folder), table, &mut each)?;
            }
        } else if let Some((scheme, _)) = from.split_once("://") {
            // The rest may have a password.
            ensure!(
                scheme == "mongodb",
                "{scheme}:// is nothing to import from; there are mongodb://, lmdb:FOLDER and files"
            );
            let database = Mongo::open(from)?;
            found.place = database.place().into();
            for table in [Table::Workflows, Table::Tasks] {
                database.rows(table, only, &mut |row| found.row(table, row, only))?;
            }
        } else {
            found.file(Path::new(from.strip_prefix("jsonl:").unwrap_or(from)), only)?;
        }
        Ok(found)
    }

    /// Each workflow's id and documents, in the order in which they began.
    pub fn workflows(&mut self) -> Vec<(String, Vec<Value>)> {
        let mut workflows: Vec<_> = std::mem::take(&mut self.workflows).into_iter().collect();
        workflows.sort_by(|(_, one), (_, other)| begun(&one[0]).total_cmp(&begun(&other[0])));
        workflows
    }

    /// Messages of a buffer are joined as a keeper joins them.
    fn file(&mut self, path: &Path, only: &[String]) -> Result<()> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut rows: Vec<(Table, String)> = Vec::new();
        let mut places: HashMap<(&str, String), usize> = HashMap::new();
        for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.with_context(|| format!("read {}", path.display()))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = serde_json::from_slice::<Value>(&line).map_err(|why| why.to_string());
            match message.and_then(|message| document::read(&packed(&message), false)) {
                Ok(Message::Document(document)) if document.table != Table::Agents => {
                    let place = *places.entry((document.table.name(), document.id.clone())).or_insert(rows.len());
                    if place == rows.len() {
                        rows.push((document.table, document.row));
                    } else {
                        let before = serde_json::from_str(&rows[place].1).ok();
                        rows[place].1 = merged(before, &document).into_owned();
                    }
                }
                Ok(_) => self.other += 1,
                Err(why) => self.wrong.push(format!("{}:{}: {why}", path.display(), number + 1)),
            }
        }
        for (table, row) in rows {
            match serde_json::from_str(&row) {
                Ok(row) => self.row(table, row, only),
                Err(why) => self.wrong.push(format!("{}: {why}", path.display())),
            }
        }
        Ok(())
    }

    /// A row as the document that it was.
    fn row(&mut self, table: Table, mut row: Map<String, Value>, only: &[String]) {
        let kind = if table == Table::Tasks { "task" } else { "workflow" };
        let workflow = row.get("workflow_id").and_then(Value::as_str).map(String::from);
        let Some(workflow) = workflow else {
            let id = row.get(table.key()).and_then(Value::as_str).unwrap_or_default();
            self.wrong.push(format!("the {kind} {id:?} names no workflow"));
            return;
        };
        if !only.is_empty() && !only.contains(&workflow) {
            return;
        }
        row.shift_remove("type");
        if table == Table::Tasks {
            // The status as a key is the database's.
            let flag = row.get("status").and_then(Value::as_str).map(str::to_lowercase);
            flag.filter(|flag| row.get(flag) == Some(&Value::Bool(true))).map(|flag| row.shift_remove(&flag));
        }
        let document: Map<String, Value> =
            std::iter::once(("type".to_string(), Value::from(kind))).chain(row).collect();
        let documents = self.workflows.entry(workflow).or_default();
        match table {
            Table::Workflows => documents.insert(0, document.into()),
            _ => documents.push(document.into()),
        }
    }
}

fn begun(document: &Value) -> f64 {
    document["started_at"].as_f64().unwrap_or_default()
}

/// What became of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new.
    New,
    /// It replaces what came before.
    Changed,
    /// All of it is here.
    Here,
}

/// Takes a workflow into the store. Where one is replaced, the index has to be made anew.
pub fn take(store: &Store, documents: &mut [Value]) -> Result<Taken> {
    if let Some(tasks) = documents.iter().position(|document| document["type"] == "task") {
        documents[tasks..].sort_by(|one, other| begun(one).total_cmp(&begun(other)));
    }
    let (workflow, told) = read::told(documents);
    let path = store.log_path(workflow.id);
    let before = match log::read(&path) {
        Ok(log) if !log.workflow.imported || same(&log.documents, documents) => return Ok(Taken::Here),
        Ok(_) => Taken::Changed,
        Err(_) if !path.exists() => Taken::New,
        Err(why) => return Err(why.into()),
    };
    // Under another name until it is whole: nobody takes a part for the workflow.
    let part = path.with_extension("taking");
    let _ = fs::remove_file(&part);
    let written = write(&part, &workflow, documents).and_then(|()| Ok(fs::rename(&part, &path)?));
    written.inspect_err(|_| drop(fs::remove_file(&part)))?;
    if before == Taken::New {
        store.enter(&workflow, &told, &path)?;
    }
    Ok(before)
}

/// Whether they say the same: MongoDB has times to the millisecond.
fn same(ours: &[Value], theirs: &[Value]) -> bool {
    let is_time = |one: &Value, other: &Value| match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() <= 0.001,
        _ => false,
    };
    let field = |one: &Map<String, Value>, (name, other): (&String, &Value)| {
        one.get(name).is_some_and(|one| one == other || TIMES.contains(&&**name) && is_time(one, other))
    };
    let document = |one: &Value, other: &Value| match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => one.len() == other.len() && other.iter().all(|entry| field(one, entry)),
        _ => false,
    };
    let ids = |documents: &[Value]| -> HashMap<(bool, String), Value> {
        let key = |d: &Value| (d["type"] == "task", d["task_id"].as_str().unwrap_or_default().to_string());
        documents.iter().map(|d| (key(d), d.clone())).collect()
    };
    let (ours, theirs) = (ids(ours), ids(theirs));
    ours.len() == theirs.len() && theirs.iter().all(|(id, other)| ours.get(id).is_some_and(|one| document(one, other)))
}

fn write(path: &Path, workflow: &Workflow, documents: &[Value]) -> Result<()> {
    let mut log = Writer::create(path, workflow)?;
    documents.chunks(BATCH).try_for_each(|batch| log.documents(batch)).map_err(StoreError::from)?;
    Ok(log.end(workflow)?)
}

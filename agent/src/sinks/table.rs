//! What Flowcept's databases have in common: their tables, and what a row is.

use serde_json::{Map, Value};

/// How a task or a workflow can have ended.
pub const ENDS: [&str; 2] = ["FINISHED", "ERROR"];
/// Fields that are seconds since 1970.
pub const TIMES: [&str; 5] = ["submitted_at", "started_at", "ended_at", "registered_at", "utc_timestamp"];

/// A table, by its place among those that Flowcept makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// By `task_id`.
    Tasks,
    /// By `workflow_id`.
    Workflows,
    /// By `agent_id`.
    Agents,
}

impl Table {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Workflows => "workflows",
            Self::Agents => "agents",
        }
    }

    /// The field that is the key of its rows.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tasks => "task_id",
            Self::Workflows => "workflow_id",
            Self::Agents => "agent_id",
        }
    }
}

/// Makes a task what its row is: without a type, and with its status as a key, too.
pub fn as_row(task: &mut Map<String, Value>) {
    task.shift_remove("type");
    if let Some(status) = task.get("status").and_then(Value::as_str).map(str::to_lowercase) {
        task.insert(status, true.into());
    }
}

/// A document's table and its id.
pub fn key(document: &Value) -> (Table, &str) {
    let table = if document["type"] == "task" { Table::Tasks } else { Table::Workflows };
    (table, document[table.key()].as_str().unwrap_or_default())
}

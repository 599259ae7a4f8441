//! The data files that a task used and made, as Flowcept's collection `objects` has files: what they were, without what was in them.
//! One that some task made is what that says of it, whoever used it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Change, Table};

/// What the collection is called.
pub(super) const NAME: &str = "objects";
/// The key of its rows.
pub(super) const KEY: &str = "object_id";
/// Flowcept's indexes; the first is unique.
pub(super) const INDEXES: &[&str] = &[KEY, "workflow_id", "task_id", "campaign_id", "data_sha256"];

/// A file of a task.
pub(super) struct Object {
    pub(super) id: String,
    pub(super) row: Value,
    /// The task has made it.
    pub(super) is_made: bool,
}

/// Those of a task, or of one of its pages; none of what is not ours.
pub(super) fn of((table, _, task): &Change<'_>) -> Vec<Object> {
    let sides = [("used", "used_as", "first_at", false), ("generated", "made_as", "last_at", true)];
    let lists = sides.into_iter().filter(|_| *table == Table::Tasks).flat_map(|(side, role, at, is_made)| {
        let files = task.get(side).and_then(|side| side["files"].as_array()).into_iter().flatten();
        files.filter(move |file| file[role] == "data").filter_map(move |file| {
            let entity = file["entity"].as_str()?;
            let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, entity.as_bytes()).to_string();
            let kind = if is_made { "output_file" } else { "input_file" };
            let mut row = json!({"object_type": kind, "custom_metadata": file, "tags": [], "version": 0,
                "created_at": file[at], "updated_at": file[at]});
            // A page is part of its task.
            let whose =
                if task.get("subtype").is_some_and(|kind| kind == "file_page") { "parent_task_id" } else { "task_id" };
            for (name, field) in [("task_id", whose), ("workflow_id", "workflow_id"), ("campaign_id", "campaign_id")] {
                row[name] = task.get(field).cloned().unwrap_or_default();
            }
            Some(Object { id, row, is_made })
        })
    });
    lists.collect()
}

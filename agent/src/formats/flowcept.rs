//! Flowcept's workflow and task messages, field for field, so that everything made for Flowcept reads them. It does not know
//! where they go.
//!
//! Values that begin with `$` get a zero-width space in front (MongoDB would evaluate them); keys never contain `.` or begin
//! with `$`; nothing is null; times are seconds since 1970. The only leaf that is equal in one task's `generated` and another's
//! `used` is `entity`: Flowcept's readers derive dataflow from equal pairs.

use std::collections::{BTreeMap, HashMap, HashSet};

use flowcept_provenance::activity::{Activity, ActivityNo, Outcome, Subtype};
use flowcept_provenance::entity::{EntityNo, Origin};
use flowcept_provenance::identity::{EntityId, FileKey};
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::quantity::BootNs;
use flowcept_provenance::relation::{Generation, Manner, Use};
use flowcept_provenance::role::Role;
use serde_json::{Map, Value, json};

use crate::workflow::Workflow;

/// How many files a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// At most 200 data files a side, the rest in pages; no message over [`MESSAGE_BYTES`].
    Bounded,
    /// Every use of every role in the task itself.
    All,
}

/// No bounded message is longer: Kafka's default limit is 1 MB, and readers load whole messages.
pub const MESSAGE_BYTES: usize = 60_000;
/// Files a side in one bounded message.
const PAGE: usize = 200;
/// Bytes of files a side: both sides and the rest of the message stay under [`MESSAGE_BYTES`].
const SIDE_BYTES: usize = 20_000;
/// Words of a command line and values of parameters are cut to this in bounded messages.
const TEXT_BYTES: usize = 8_000;

/// What a run's version 0 of a file is called in the store.
pub type Base<'a> = &'a dyn Fn(&FileKey) -> u32;

/// The data versions that the run used and did not make itself, one use each.
pub fn inputs(told: &Provenance) -> Vec<&Use> {
    let mut seen = HashSet::new();
    let data = told.used.iter().filter(|u| u.role == Role::Data && told.entity(u.entity).origin == Origin::Found);
    data.filter(|u| seen.insert(u.entity)).collect()
}

/// The last versions of files that the run made and that are still there at its end.
pub fn outputs(told: &Provenance) -> Vec<&Generation> {
    let mut last: HashMap<FileKey, &Generation> = HashMap::new();
    let mut newest: HashMap<FileKey, u32> = HashMap::new();
    for entity in &told.entities {
        newest.insert(entity.file, entity.version);
    }
    for g in &told.generated {
        let entity = told.entity(g.entity);
        let current = newest.get(&entity.file) == Some(&entity.version);
        if current && entity.exists() && !matches!(g.role, Role::Temporary | Role::Device | Role::KernelFile) {
            last.insert(entity.file, g);
        }
    }
    let mut outputs: Vec<_> = last.into_values().collect();
    outputs.sort_by_key(|g| (g.first, g.entity));
    outputs
}

struct Writer<'a> {
    workflow: &'a Workflow,
    told: &'a Provenance,
    base: Base<'a>,
}

impl Writer<'_> {
    fn seconds(&self, at: BootNs) -> f64 {
        // A time beyond the boot's clock (`BootNs::END`) stays finite.
        at.0.saturating_add(self.workflow.boot_offset) as f64 / 1e9
    }

    fn entity(&self, no: EntityNo) -> String {
        let entity = self.told.entity(no);
        EntityId { file: entity.file, version: entity.version + (self.base)(&entity.file) }.to_string()
    }

    fn task_id(&self, no: ActivityNo) -> String {
        self.told.activity(no).process.task_id().to_string()
    }

    fn used(&self, u: &Use) -> Value {
        let role = if u.manner == Manner::Revised { "revised" } else { u.role.name() };
        let mut file = json!({"entity": self.entity(u.entity), "used_path": text(&u.path), "used_as": role,
            "first_at": self.seconds(u.first)});
        if u.possible {
            file["use_possible"] = true.into();
        }
        file
    }

    fn made(&self, g: &Generation) -> Value {
        let mut file = json!({"entity": self.entity(g.entity), "made_path": text(&g.path), "made_as": g.role.name(),
            "last_at": self.seconds(g.last)});
        if g.possible {
            file["make_possible"] = true.into();
        }
        file
    }
}

/// A string that neither MongoDB nor a terminal evaluates.
fn text(value: &str) -> String {
    if value.starts_with('$') { format!("\u{200b}{value}") } else { value.to_string() }
}

/// At most so many bytes, cut between characters.
fn bounded(value: &str) -> String {
    match value.char_indices().find(|(i, c)| i + c.len_utf8() > TEXT_BYTES) {
        Some((end, _)) => text(&format!("{}…", &value[..end])),
        None => text(value),
    }
}

/// Drops what is null or empty: an empty block is not sent.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(k, v)| (k, pruned(v)));
            Value::Object(kept.filter(|(_, v)| !v.is_null() && *v != json!({}) && *v != json!([])).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(pruned).collect()),
        other => other,
    }
}

/// The workflow's document.
pub fn workflow(w: &Workflow, told: &Provenance, base: Base<'_>) -> Value {
    let writer = Writer { workflow: w, told, base };
    let (inputs, outputs) = (inputs(told), outputs(told));
    let used = pages(inputs.iter().map(|u| writer.used(u)), Files::Bounded).into_iter().next().unwrap_or_default();
    let made = pages(outputs.iter().map(|g| writer.made(g)), Files::Bounded).into_iter().next().unwrap_or_default();
    let gaps = told.gaps.iter().take(100).map(|g| {
        json!({"kind": &*g.kind, "process": g.activity.map(|a| &*told.activity(a).name), "count": g.count, "why": text(&g.why)})
    });
    let gaps: Vec<Value> = gaps.collect();
    let books = &told.books;
    let host = &w.host;
    let parameters: Map<String, Value> =
        w.parameters.iter().map(|(k, v)| (k.replace(['.', '$'], "_"), text(v).into())).collect();
    let repository = w.repository.as_ref().map(|r| {
        let short: String = r.sha.chars().take(7).collect();
        json!({"root": r.root, "sha": r.sha, "short_sha": short, "branch": r.branch, "remote": r.remote,
            "dirty": r.dirty.map(|d| if d { "dirty" } else { "clean" })})
    });
    let machine = json!({
        "hostname": host.hostname, "login_name": host.user,
        "platform": {"system": host.system, "node": host.node_name, "release": host.release, "version": host.version, "machine": host.machine},
        "cpu": {"brand_raw": host.cpu, "arch": host.machine, "count": host.cpus},
        "memory": {"virtual": {"total": host.memory}, "swap": {"total": host.swap}},
    });
    pruned(json!({
        "type": "workflow", "workflow_id": w.id, "campaign_id": w.campaign, "parent_workflow_id": w.parent,
        "name": w.name, "status": w.status(), "utc_timestamp": w.started as f64 / 1e9, "started_at": w.started as f64 / 1e9,
        "ended_at": w.ended.map(|t| t as f64 / 1e9), "user": host.user, "sys_name": host.system,
        "environment_id": host.node_name, "hostname": host.hostname, "node_name": host.node_name, "login_name": host.user,
        "adapter_id": "flowcept", "flowcept_version": w.flowcept_version, "tags": w.tags,
        "used": {"command": bounded(&w.command.join(" ")), "directory": text(&w.directory), "parameters": parameters, "files": used},
        "generated": {"files": made},
        "code_repository": repository,
        "machine_info": {"flowcept": machine},
        "host_os": host.distribution, "compute_hardware": format!("{} × {}", host.cpus, host.cpu),
        "custom_metadata": {
            "inputs": inputs.len(), "outputs": outputs.len(), "tasks": told.activities.len(), "exit_code": w.exit_code,
            "coverage": {"complete": told.gaps.is_empty(), "sources": w.sources, "gaps": gaps,
                "books": {"forked": books.forked, "ended": books.ended, "living": books.living,
                    "records_written": books.written, "decoded": books.decoded}},
        },
    }))
}

/// The messages of all tasks, in their order; pages follow their task.
pub fn tasks(w: &Workflow, told: &Provenance, files: Files, base: Base<'_>) -> Vec<Value> {
    let writer = Writer { workflow: w, told, base };
    let mut used: Vec<Vec<&Use>> = vec![Vec::new(); told.activities.len()];
    let mut made: Vec<Vec<&Generation>> = vec![Vec::new(); told.activities.len()];
    let mut makers: HashMap<EntityNo, Vec<ActivityNo>> = HashMap::new();
    for u in &told.used {
        used[u.activity.0 as usize].push(u);
    }
    for g in &told.generated {
        made[g.activity.0 as usize].push(g);
        makers.entry(g.entity).or_default().push(g.activity);
    }
    let mut out = Vec::new();
    for (i, activity) in told.activities.iter().enumerate() {
        task(&writer, ActivityNo(i as u32), activity, &used[i], &made[i], &makers, files, &mut out);
    }
    out
}

/// Lists of files, each small enough for one message.
fn pages(list: impl Iterator<Item = Value>, files: Files) -> Vec<Vec<Value>> {
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    for file in list {
        let size = file.to_string().len();
        let full =
            files == Files::Bounded && pages.last().is_some_and(|p| p.len() >= PAGE || bytes + size > SIDE_BYTES);
        if pages.is_empty() || full {
            pages.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(page) = pages.last_mut() {
            page.push(file);
        }
    }
    pages
}

#[expect(clippy::too_many_arguments, reason = "the parts of one message")]
fn task(
    writer: &Writer<'_>,
    no: ActivityNo,
    a: &Activity,
    used: &[&Use],
    made: &[&Generation],
    makers: &HashMap<EntityNo, Vec<ActivityNo>>,
    files: Files,
    out: &mut Vec<Value>,
) {
    let told = writer.told;
    let w = writer.workflow;
    let all = files == Files::All;
    let named = |role: Role| all || matches!(role, Role::Data | Role::Temporary);
    let mut by_role: BTreeMap<&str, u64> = BTreeMap::new();
    for role in used.iter().map(|u| u.role) {
        *by_role.entry(role.name()).or_default() += 1;
    }
    let shown = used.iter().filter(|u| named(u.role) || told.entity(u.entity).origin != Origin::Found);
    let mut used_pages = pages(shown.map(|u| writer.used(u)), files).into_iter();
    let mut made_pages = pages(made.iter().map(|g| writer.made(g)), files).into_iter();
    let (first, last) = match a.outcome {
        Outcome::Exited(code) => (json!({"exit_code": code}), json!(null)),
        Outcome::Signalled(signal, core) => (json!({"signal": signal, "core_dumped": core}), json!(null)),
        Outcome::Running | Outcome::Replaced => (json!({}), json!(matches!(a.outcome, Outcome::Replaced))),
    };
    let words = a.arguments.iter().map(|s| if all { text(s) } else { bounded(s) });
    let limit = if all { usize::MAX } else { 50 };
    let words: Vec<String> = words.take(limit).collect();
    let environment: Map<String, Value> = a
        .environment
        .iter()
        .map(|(k, v)| (k.replace(['.', '$'], "_"), if all { text(v) } else { bounded(v) }.into()))
        .collect();
    let mut process = json!({
        "pid": a.pid.0, "exe": &*a.executable, "argv": words, "arguments": a.arguments.len(), "arguments_cut": a.arguments_cut,
        "cwd": text(&a.directory), "uid": a.credentials.uid, "euid": a.credentials.euid, "gid": a.credentials.gid,
        "environment": environment, "through": a.through.iter().map(|t| &**t).collect::<Vec<_>>(), "replaced_by_exec": last,
        "previous_task_id": a.previous.map(|p| writer.task_id(p)),
    });
    if let (Some(process), Some(more)) = (process.as_object_mut(), first.as_object()) {
        process.extend(more.clone());
    }
    let mut informed: Vec<_> = told.informed.iter().filter(|i| i.informed == no).collect();
    informed.sort_by_key(|i| i.received.0);
    // Only earlier starters: what is told to Flowcept is acyclic; the whole relation stands in informed_by.
    let mut before: Vec<(BootNs, ActivityNo)> = informed.iter().map(|i| (i.received.0, i.informant)).collect();
    for u in used {
        before.extend(makers.get(&u.entity).into_iter().flatten().map(|m| (u.first, *m)));
    }
    before.retain(|(_, m)| *m != no && (told.activity(*m).started, *m) < (a.started, no));
    before.sort();
    let mut seen = HashSet::new();
    let dependencies: Vec<String> = before
        .into_iter()
        .filter(|(_, m)| seen.insert(*m))
        .take(limit.min(200))
        .map(|(_, m)| writer.task_id(m))
        .collect();
    let informed: Vec<Value> = informed
        .iter()
        .take(limit.min(100))
        .map(|i| {
            json!({"task_id": writer.task_id(i.informant), "via": i.via.name(), "first_at": writer.seconds(i.sent.0),
                "last_at": writer.seconds(i.received.1), "possible": i.possible})
        })
        .collect();
    let moved: Vec<Value> = told
        .moved
        .iter()
        .filter(|m| m.activity == no)
        .take(limit)
        .map(|m| {
            json!({"entity": writer.entity(m.entity), "old_path": text(&m.old_path), "new_path": text(&m.new_path),
                "at": writer.seconds(m.at), "linked": m.linked, "inferred": m.inferred})
        })
        .collect();
    let command = a.command_line();
    let cost = &a.cost;
    let common = |subtype: &str, id: String, parent: Option<String>| {
        json!({"type": "task", "subtype": subtype, "task_id": id, "workflow_id": w.id, "campaign_id": w.campaign,
            "parent_task_id": parent, "activity_id": text(&a.name), "status": a.outcome.status(),
            "started_at": writer.seconds(a.started), "ended_at": a.ended.map(|t| writer.seconds(t)),
            "hostname": w.host.hostname, "node_name": w.host.node_name, "login_name": w.host.user, "user": w.host.user,
            "adapter_id": "flowcept"})
    };
    let subtype = if a.subtype == Subtype::Fork { "process_fork" } else { "process" };
    let mut document = common(subtype, writer.task_id(no), a.parent.map(|p| writer.task_id(p)));
    document["used"] = json!({"command": if all { text(&command) } else { bounded(&command) },
        "files": used_pages.next().unwrap_or_default()});
    document["generated"] = json!({"files": made_pages.next().unwrap_or_default()});
    document["dependencies"] = json!(dependencies);
    document["custom_metadata"] = json!({
        "process": process,
        "io": {"read_bytes": a.read.0, "written_bytes": a.written.0, "storage_read_bytes": cost.storage_read.0,
            "storage_written_bytes": cost.storage_written.0, "files_used": used.len(), "files_generated": made.len(),
            "files_by_role": by_role, "unlinked": a.unlinked, "directories_made": a.directories_made},
        "cost": {"cpu_seconds": cost.cpu.0 as f64 / 1e9, "cpu_at_least": cost.cpu_at_least,
            "user_seconds": cost.user.0 as f64 / 1e9, "system_seconds": cost.system.0 as f64 / 1e9,
            "peak_memory_bytes": cost.peak_memory.0, "peak_at_most": cost.peak_at_most},
        "moved": moved, "informed_by": informed,
        "failed_execs": a.failed_execs.iter().take(limit).map(|(asked, errno)| json!({"asked": text(asked), "errno": errno})).collect::<Vec<_>>(),
    });
    out.push(pruned(document));
    // The rest as pages, which the same joins find.
    for page in 0.. {
        let (more_used, more_made) = (used_pages.next(), made_pages.next());
        if more_used.is_none() && more_made.is_none() {
            break;
        }
        let id = format!("{}-page-{page}", writer.task_id(no));
        let mut document = common("file_page", id, Some(writer.task_id(no)));
        document["used"] = json!({"files": more_used.unwrap_or_default()});
        document["generated"] = json!({"files": more_made.unwrap_or_default()});
        out.push(pruned(document));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_null_or_empty_is_sent_and_dollars_are_escaped() {
        let value = pruned(json!({"a": null, "b": {"c": null}, "d": [], "e": [{"f": null, "g": 1}]}));
        assert_eq!(value, json!({"e": [{"g": 1}]}));
        assert_eq!(text("$HOME"), "\u{200b}$HOME");
        assert_eq!(text("a$"), "a$");
        assert!(bounded(&"ä".repeat(TEXT_BYTES)).len() <= TEXT_BYTES + 3);
    }

    #[test]
    fn pages_are_bounded_by_number_and_by_bytes() {
        let short = pages((0..450).map(|i| json!({"p": i})), Files::Bounded);
        assert_eq!(short.iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 50]);
        let long = pages((0..30).map(|_| json!("x".repeat(4000))), Files::Bounded);
        assert!(long.iter().all(|p| p.iter().map(|f| f.to_string().len()).sum::<usize>() <= SIDE_BYTES));
        assert_eq!(pages((0..450).map(|i| json!(i)), Files::All).len(), 1);
    }
}

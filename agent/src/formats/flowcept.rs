//! Flowcept's workflow and task messages, field for field, so that everything made for Flowcept reads them. It does
//! not know where they go.
//!
//! A value that begins with `$` gets a zero-width space (U+200B) in front, for MongoDB would evaluate it; so does one
//! that begins with such spaces and then `$`: taking one away gives the value back. In keys, `.` is written `．`
//! (U+FF0E) and a leading `$` as `＄` (U+FF04). Nothing is null; times are seconds since
//! 1970. The only leaf that is equal in one task's `generated` and another's `used` is `entity`: Flowcept's readers
//! derive dataflow from equal pairs.
//!
//! Bounded messages name as much as fits; `custom_metadata.cut` has the exact length of each list that did not fit.

pub mod read;
mod sent;
mod telemetry;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use flowcept_provenance::activity::{ActivityNo, Outcome, Subtype};
use flowcept_provenance::entity::{EntityNo, Origin};
use flowcept_provenance::identity::{EntityId, FileKey};
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::observation::Mechanism;
use flowcept_provenance::quantity::BootNs;
use flowcept_provenance::relation::{Generation, Informed, Manner, Move, Use};
use flowcept_provenance::role::Role;
use serde_json::{Map, Value, json};

use crate::workflow::Workflow;
use sent::{bounded, clean, size};

/// How many files a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// At most 200 files a side (data, temporary, and what the run made of other roles but devices and kernel files),
    /// data first, the rest in pages; no message over [`MESSAGE_BYTES`].
    Bounded,
    /// Every use of every role in the task itself.
    All,
}

/// No bounded message is longer: Kafka's default limit is 1 MB, and readers load whole messages.
pub const MESSAGE_BYTES: usize = 60_000;
/// Files a side in one bounded message.
const PAGE: usize = 200;
/// A command line in a bounded message, in bytes as JSON.
const COMMAND_BYTES: usize = 6_000;
/// A path, an argument or a value in a bounded message, in bytes as JSON.
const TEXT_BYTES: usize = 4_000;

/// What a run's version 0 of a file is called in the store.
pub type Base<'a> = &'a dyn Fn(&FileKey) -> u32;

/// The data versions that the run used and did not make itself, one use each.
pub fn inputs(told: &Provenance) -> Vec<&Use> {
    let mut seen: HashSet<EntityNo> = told.generated.iter().map(|g| g.entity).collect();
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
        self.told.activity(no).task_id().to_string()
    }

    fn used(&self, u: &Use) -> Value {
        let mut file = json!({"entity": self.entity(u.entity), "used_path": *u.path, "used_as": used_as(u),
            "first_at": self.seconds(u.first)});
        if u.possible {
            file["use_possible"] = true.into();
        }
        file
    }

    fn made(&self, g: &Generation) -> Value {
        let mut file = json!({"entity": self.entity(g.entity), "made_path": *g.path, "made_as": g.role.name(),
            "last_at": self.seconds(g.last)});
        if g.possible {
            file["make_possible"] = true.into();
        }
        file
    }
}

fn used_as(u: &Use) -> &'static str {
    if u.manner == Manner::Revised { "revised" } else { u.role.name() }
}

/// Takes from lists what fits and notes the length of those that do not.
struct Fit {
    files: Files,
    cut: Map<String, Value>,
}

impl Fit {
    fn list(&mut self, name: &str, bytes: usize, list: impl ExactSizeIterator<Item = Value>) -> Vec<Value> {
        if self.files == Files::All {
            return list.collect();
        }
        let (total, mut left) = (list.len(), bytes);
        let fitting = list.take_while(|v| {
            let size = size(v);
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        let kept: Vec<Value> = fitting.collect();
        if kept.len() < total {
            self.cut.insert(name.to_string(), total.into());
        }
        kept
    }

    fn pairs(&mut self, name: &str, bytes: usize, pairs: Vec<(&str, &str)>) -> Map<String, Value> {
        let pairs = pairs.into_iter().map(|(k, v)| json!([self.text(k), self.text(v)])).collect::<Vec<_>>();
        let kept = self.list(name, bytes, pairs.into_iter());
        kept.into_iter().map(|p| (p[0].as_str().unwrap_or_default().to_string(), p[1].clone())).collect()
    }

    fn text(&self, value: &str) -> String {
        self.line(value, TEXT_BYTES)
    }

    fn line(&self, value: &str, bytes: usize) -> String {
        if self.files == Files::All { value.to_string() } else { bounded(value, bytes) }
    }

    /// Lists of files, the first small enough for the message `first`, the others for `other`, with as much on the
    /// other side.
    fn pages(&self, list: impl Iterator<Item = Value>, first: &Value, other: &Value) -> Vec<Vec<Value>> {
        if self.files == Files::All {
            return vec![list.collect()];
        }
        // 200 bytes for the keys around the files.
        let room = |message| (MESSAGE_BYTES - 200).saturating_sub(size(message)) / 2;
        let (mut left, more) = (room(first), room(other));
        let mut pages: Vec<Vec<Value>> = vec![Vec::new()];
        for file in list {
            let size = size(&file);
            if size > left || pages.last().is_some_and(|p| p.len() >= PAGE) {
                pages.push(Vec::new());
                left = more;
            }
            left = left.saturating_sub(size);
            if let Some(page) = pages.last_mut() {
                page.push(file);
            }
        }
        pages
    }
}

/// One for each key, in the order of their first.
fn merged<T: Clone, K: Hash + Eq>(list: &[&T], key: impl Fn(&T) -> K, join: impl Fn(&mut T, &T)) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    let mut at: HashMap<K, usize> = HashMap::new();
    for item in list {
        let index = *at.entry(key(item)).or_insert(out.len());
        match out.get_mut(index) {
            Some(before) => join(before, item),
            None => out.push((*item).clone()),
        }
    }
    out
}

/// Who is said to run it.
fn user(w: &Workflow) -> &str {
    w.declared.user.as_ref().unwrap_or(&w.host.user)
}

/// The workflow's document.
pub fn workflow(w: &Workflow, told: &Provenance, base: Base<'_>) -> Value {
    let writer = Writer { workflow: w, told, base };
    let mut fit = Fit { files: Files::Bounded, cut: Map::new() };
    let (inputs, outputs) = (inputs(told), outputs(told));
    let gaps: Vec<Value> = told
        .gaps
        .iter()
        .map(|g| {
            json!({"kind": *g.kind, "process": g.activity.map(|a| fit.line(&told.activity(a).name, 200)),
                "task_id": g.activity.map(|a| writer.task_id(a)), "count": g.count, "why": fit.line(&g.why, 500)})
        })
        .collect();
    let gaps = fit.list("gaps", 8_000, gaps.into_iter());
    let tags = fit.list("tags", 2_000, w.tags.iter().map(|t| bounded(t, 500).into()));
    let params =
        fit.pairs("params", 2 * TEXT_BYTES + 500, w.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect());
    let books = &told.books;
    let host = &w.host;
    let gib = host.memory as f64 / f64::from(1 << 30);
    let repository = w.repository.as_ref().map(|r| {
        let short: String = r.sha.chars().take(7).collect();
        json!({"root": fit.text(&r.root), "sha": r.sha, "short_sha": short, "branch": fit.line(&r.branch, 300),
            "remote": fit.line(&r.remote, 1000), "dirty": r.dirty.map(|d| if d { "dirty" } else { "clean" })})
    });
    let machine = json!({
        "hostname": host.hostname, "login_name": host.user,
        "platform": {"system": host.system, "node": host.node_name, "release": host.release, "version": host.version,
            "machine": host.machine},
        "cpu": {"brand_raw": host.cpu, "arch": host.machine, "count": host.cpus},
        "memory": {"virtual": {"total": host.memory}, "swap": {"total": host.swap}},
    });
    let mut document = json!({
        "type": "workflow", "workflow_id": w.id, "campaign_id": w.campaign, "parent_workflow_id": w.parent,
        "name": fit.line(&w.name, 500), "status": w.status(), "utc_timestamp": w.started as f64 / 1e9,
        "started_at": w.started as f64 / 1e9,
        "ended_at": w.ended.map(|t| t as f64 / 1e9), "user": user(w), "sys_name": host.system,
        "environment_id": w.declared.environment.as_ref().unwrap_or(&host.node_name), "hostname": host.hostname, "node_name": host.node_name,
        "login_name": host.user,
        "adapter_id": "flowcept", "flowcept_version": w.flowcept_version, "tags": tags,
        "used": {"command": fit.line(&w.command.join(" "), COMMAND_BYTES), "directory": fit.text(&w.directory),
            "params": params},
        "generated": {},
        "code_repository": repository,
        "machine_info": {"flowcept": machine},
        "host_os": host.distribution,
        "extra_metadata": w.declared.extra,
        "compute_hardware": format!("{} × {}, {:.1} GiB of memory", host.cpus, host.cpu, gib),
        "custom_metadata": {
            "inputs": inputs.len(), "outputs": outputs.len(), "tasks": told.activities.len(), "exit_code": w.exit_code,
            "coverage": {"complete": told.gaps.is_empty(), "sources": w.sources, "gaps": gaps,
                "books": {"forked": books.forked, "ended": books.ended, "living": books.living,
                    "records_written": books.written, "decoded": books.decoded}},
            "cut": fit.cut,
        },
    });
    let used = fit.pages(inputs.iter().take(PAGE).map(|u| writer.used(u)), &document, &document);
    let made = fit.pages(outputs.iter().take(PAGE).map(|g| writer.made(g)), &document, &document);
    document["used"]["files"] = json!(used.into_iter().next());
    document["generated"]["files"] = json!(made.into_iter().next());
    clean(document)
}

/// The workflow's document, then its tasks'.
pub fn documents(w: &Workflow, told: &Provenance, files: Files, base: Base<'_>) -> Vec<Value> {
    std::iter::once(workflow(w, told, base)).chain(tasks(w, told, files, base)).collect()
}

/// Of a workflow that goes on: its document, without coverage, as its end has that; and those of the tasks that stay such, the first each.
pub fn so_far(w: &Workflow, told: &Provenance, base: Base<'_>) -> Vec<Value> {
    let lasting: HashSet<Value> =
        told.activities.iter().filter(|a| a.lasts).map(|a| a.task_id().to_string().into()).collect();
    let mut documents = documents(w, told, Files::Bounded, base);
    documents.retain(|document| document["type"] == "workflow" || lasting.contains(&document["task_id"]));
    documents[0]["custom_metadata"].as_object_mut().map(|metadata| metadata.remove("coverage"));
    documents
}

/// Documents, one a line.
pub fn lines(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("{document}\n")).collect()
}

/// A document as queues carry it: a msgpack map, as Flowcept's consumers take it.
pub fn packed(document: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    pack(document, &mut message);
    message
}

/// The same, behind what is there.
pub fn pack(document: &Value, message: &mut Vec<u8>) {
    rmp_serde::encode::write(message, document).expect("because all of JSON has its place in msgpack");
}

/// What concerns one task.
#[derive(Clone, Default)]
struct Parts<'a> {
    used: Vec<&'a Use>,
    made: Vec<&'a Generation>,
    informed: Vec<&'a Informed>,
    moved: Vec<&'a Move>,
}

/// Who made a version.
type Makers = HashMap<EntityNo, Vec<ActivityNo>>;

/// The messages of all tasks, in their order; pages follow their task.
pub fn tasks(w: &Workflow, told: &Provenance, files: Files, base: Base<'_>) -> Vec<Value> {
    let writer = Writer { workflow: w, told, base };
    let mut parts: Vec<Parts<'_>> = vec![Parts::default(); told.activities.len()];
    let mut makers = Makers::new();
    told.used.iter().for_each(|u| parts[u.activity.0 as usize].used.push(u));
    told.informed.iter().for_each(|i| parts[i.informed.0 as usize].informed.push(i));
    told.moved.iter().for_each(|m| parts[m.activity.0 as usize].moved.push(m));
    for g in &told.generated {
        parts[g.activity.0 as usize].made.push(g);
        makers.entry(g.entity).or_default().push(g.activity);
    }
    let mut out = Vec::new();
    for (i, part) in parts.iter_mut().enumerate() {
        part.informed.sort_by_key(|i| i.received.0);
        task(&writer, ActivityNo(i as u32), part, &makers, files, &mut out);
    }
    out
}

/// The tasks that this one was informed by or whose files it used, by first byte. Only those that began before it:
/// what is told to Flowcept is acyclic; the whole relation stands in `informed_by`.
fn dependencies(told: &Provenance, no: ActivityNo, parts: &Parts<'_>, makers: &Makers) -> Vec<ActivityNo> {
    let mut before: Vec<(BootNs, ActivityNo)> = parts.informed.iter().map(|i| (i.received.0, i.informant)).collect();
    for u in &parts.used {
        before.extend(makers.get(&u.entity).into_iter().flatten().map(|m| (u.first, *m)));
    }
    before.retain(|(_, m)| (told.activity(*m).started, *m) < (told.activity(no).started, no));
    before.sort();
    let mut seen = HashSet::new();
    before.into_iter().map(|(_, m)| m).filter(|m| seen.insert(*m)).collect()
}

fn by_role(roles: impl Iterator<Item = Role>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    roles.for_each(|role| *counts.entry(role.plural()).or_default() += 1);
    counts
}

fn task(writer: &Writer<'_>, no: ActivityNo, parts: &Parts<'_>, makers: &Makers, files: Files, out: &mut Vec<Value>) {
    let (told, w, a, id) = (writer.told, writer.workflow, writer.told.activity(no), writer.task_id(no));
    let mut fit = Fit { files, cut: Map::new() };
    let common = |subtype: &str, id: &str, parent: Option<String>| {
        json!({"type": "task", "subtype": subtype, "task_id": id, "workflow_id": w.id, "campaign_id": w.campaign,
            "parent_task_id": parent, "activity_id": bounded(&a.name, 200), "status": a.outcome.status(),
            "started_at": writer.seconds(a.started), "ended_at": a.ended.map(|t| writer.seconds(t)),
            "hostname": w.host.hostname, "node_name": w.host.node_name, "login_name": w.host.user, "user": user(w),
            "adapter_id": "flowcept"})
    };
    let words = a.arguments.iter().map(|s| fit.text(s).into()).collect::<Vec<Value>>();
    let mut process = json!({
        "pid": a.pid.0, "exe": fit.text(&a.executable), "argv": fit.list("argv", 8_000, words.into_iter()),
        "arguments": a.arguments.len(), "arguments_cut": a.arguments_cut, "cwd": fit.text(&a.directory),
        "uid": a.credentials.uid, "euid": a.credentials.euid, "gid": a.credentials.gid,
        "environment": fit.pairs("environment", 5_000, a.environment.iter().map(|(k, v)| (&**k, &**v)).collect()),
        "through": fit.list("through", 1_000, a.through.iter().map(|t| json!(**t))),
        "previous_task_id": a.previous.map(|p| writer.task_id(p)),
    });
    match a.outcome {
        Outcome::Exited(code) => process["exit_code"] = code.into(),
        Outcome::Signalled(signal, core) => {
            process["signal"] = signal.into();
            process["core_dumped"] = core.into();
        }
        Outcome::Replaced => process["replaced_by_exec"] = true.into(),
        Outcome::Running => {}
    }
    let informed = parts.informed.iter().map(|i| {
        json!({"task_id": writer.task_id(i.informant), "via": i.via.name(), "first_at": writer.seconds(i.sent.0),
            "last_at": writer.seconds(i.received.1), "possible": i.possible})
    });
    let moved = parts.moved.iter().map(|m| {
        json!({"entity": writer.entity(m.entity), "old_path": *m.old_path, "new_path": *m.new_path,
            "at": writer.seconds(m.at), "linked": m.linked, "inferred": m.inferred})
    });
    let failed = a.failed_execs.iter().map(|(asked, errno)| json!({"asked": **asked, "errno": errno}));
    let dependencies = dependencies(told, no, parts, makers);
    let cost = &a.cost;
    let subtype = if a.subtype == Subtype::Fork { "process_fork" } else { "process" };
    let mut document = common(subtype, &id, a.parent.map(|p| writer.task_id(p)));
    document["used"] = json!({"command": fit.line(&a.command_line(), COMMAND_BYTES)});
    document["generated"] = json!({});
    let dependencies = dependencies.into_iter().map(|m| writer.task_id(m).into());
    document["dependencies"] = fit.list("dependencies", 4_000, dependencies).into();
    document["custom_metadata"] = json!({
        "process": process,
        "io": {"read_bytes": a.read.0, "written_bytes": a.written.0, "storage_read_bytes": cost.storage_read.0,
            "storage_written_bytes": cost.storage_written.0, "files_used": parts.used.len(),
            "files_generated": parts.made.len(),
            "files_by_role": by_role(parts.used.iter().map(|u| u.role)),
            "generated_by_role": by_role(parts.made.iter().map(|g| g.role)),
            "unlinked": a.unlinked, "directories_made": a.directories_made},
        "cost": {"cpu_seconds": cost.cpu.0 as f64 / 1e9, "cpu_at_least": cost.cpu_at_least,
            "user_seconds": cost.user.0 as f64 / 1e9, "system_seconds": cost.system.0 as f64 / 1e9,
            "peak_memory_bytes": cost.peak_memory.0, "peak_at_most": cost.peak_at_most},
        "moved": fit.list("moved", 9_000, moved), "informed_by": fit.list("informed_by", 5_000, informed),
        "failed_execs": fit.list("failed_execs", 2_000, failed),
        "unseen": a.unseen.iter().map(|m| mechanism(*m)).collect::<Vec<_>>(),
    });
    let [at_start, at_end] = telemetry::blocks(w, told, a, &mut fit);
    (document["telemetry_at_start"], document["telemetry_at_end"]) = (at_start, at_end);
    document["custom_metadata"]["cut"] = std::mem::take(&mut fit.cut).into();

    // Other roles are counted, but for what the run made itself: that is what joins tasks.
    let shown = |role: Role, entity: EntityNo| match role {
        Role::Data | Role::Temporary => true,
        Role::Device | Role::KernelFile => files == Files::All,
        _ => files == Files::All || makers.contains_key(&entity),
    };
    let mut used = merged(
        &parts.used,
        |u| (u.entity, used_as(u)),
        |before, u| {
            if u.first < before.first {
                (before.first, before.path) = (u.first, u.path.clone());
            }
            before.possible &= u.possible;
        },
    );
    let mut made = merged(
        &parts.made,
        |g| (g.entity, g.role),
        |before, g| {
            before.last = before.last.max(g.last);
            before.possible &= g.possible;
        },
    );
    used.retain(|u| shown(u.role, u.entity));
    made.retain(|g| shown(g.role, g.entity));
    used.sort_by_key(|u| u.role != Role::Data);
    made.sort_by_key(|g| g.role != Role::Data);
    let page = common("file_page", &format!("{id}-page-{}", u32::MAX), Some(id.clone()));
    let mut used = fit.pages(used.iter().map(|u| writer.used(u)), &document, &page).into_iter();
    let mut made = fit.pages(made.iter().map(|g| writer.made(g)), &document, &page).into_iter();
    document["used"]["files"] = json!(used.next());
    document["generated"]["files"] = json!(made.next());
    out.push(clean(document));
    // The rest as pages, which the same joins find.
    for number in 0..used.len().max(made.len()) {
        let mut document = common("file_page", &format!("{id}-page-{number}"), Some(id.clone()));
        document["used"] = json!({"files": used.next()});
        document["generated"] = json!({"files": made.next()});
        out.push(clean(document));
    }
}

/// As gaps name it.
fn mechanism(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::IoUring => "io_uring",
        Mechanism::LinuxAio => "libaio",
        Mechanism::Socket => "socket",
        Mechanism::SystemVSharedMemory => "sysv_shared_memory",
        Mechanism::MessageQueue => "message_queue",
        Mechanism::ProcessVm => "process_vm",
        Mechanism::Compat => "compat",
        Mechanism::SharedMemory => "shared_memory",
        Mechanism::Deduplication => "deduplication",
        Mechanism::TruncateByName => "truncate_by_name",
        Mechanism::Sandbox => "sandbox",
        Mechanism::NumberedCall => "numbered_call",
    }
}

/// A hand-made run: `sort` reads `inputs` files and `$odd`, writes one, which `cat` reads by pipe and by name while it
/// runs.
#[cfg(test)]
pub(crate) fn example(inputs: u32, long: usize) -> (Workflow, Provenance) {
    use flowcept_provenance::activity::{Activity, Cost};
    use flowcept_provenance::entity::{Entity, Name};
    use flowcept_provenance::identity::{FilesystemId, ImageNo, ProcessKey};
    use flowcept_provenance::observation::{Credentials, FileKind, FileState};
    use flowcept_provenance::quantity::{ByteCount, Pid};
    use flowcept_provenance::relation::Via;
    let activity = |no: u32, name: &str, parent, ended, outcome| Activity {
        image: ImageNo(no.into()),
        given_id: None,
        process: ProcessKey { boot: 7, pid_namespace: 1, tgid: no, start_ticks: 5, digest: 9 },
        name: name.into(),
        subtype: Subtype::Process,
        parent,
        previous: None,
        pid: Pid(100 + no),
        started: BootNs(1_000 + u64::from(no)),
        ended,
        outcome,
        lasts: ended.is_some(),
        executable: format!("/usr/bin/{name}").into(),
        arguments: std::iter::once(name.into()).chain((0..long).map(|_| "$\u{1}x\"".repeat(2000).into())).collect(),
        arguments_cut: 0,
        through: vec!["env".into()],
        directory: "/data".into(),
        environment: (0..long).map(|i| (format!("$a.{i}").into(), "v".repeat(5000).into())).collect(),
        credentials: Credentials::default(),
        cost: Cost::default(),
        read: ByteCount(1),
        written: ByteCount(2),
        failed_execs: vec![("$none".into(), 2)],
        unseen: vec![Mechanism::Socket],
        unlinked: 0,
        directories_made: 0,
    };
    let path = |i: u32| std::sync::Arc::<str>::from(format!("/data/{}/f{i}", "d\n".repeat(long.min(2000))));
    let entity = |i: u32, origin, version, revision_of| Entity {
        file: FileKey {
            filesystem: FilesystemId { magic: 0xEF53, host: 1, volume: 2 },
            inode: i.into(),
            generation: 3,
        },
        kind: FileKind::Regular,
        version,
        origin,
        begun: BootNs(1_000),
        revision_of,
        names: vec![Name { path: path(i), at: BootNs(1_000), by: None }],
        state: FileState::default(),
        first_state: FileState::default(),
        invalidated: None,
        nameless: false,
    };
    let out = EntityNo(inputs);
    let used = |activity, entity, role, path| Use {
        activity: ActivityNo(activity),
        entity,
        role,
        manner: Manner::Read,
        path,
        first: BootNs(1_100),
        last: BootNs(1_200),
        bytes: ByteCount(1),
        possible: false,
    };
    let mut told = Provenance::default();
    let (running, exited) = (Outcome::Running, Outcome::Exited(0));
    told.activities = vec![
        activity(0, "sort", None, Some(BootNs(2_000)), exited),
        activity(1, "cat", Some(ActivityNo(0)), None, running),
    ];
    told.entities = (0..inputs).map(|i| entity(i, Origin::Found, 0, None)).collect();
    told.entities.push(entity(inputs, Origin::Created, 0, None));
    told.entities.push(entity(inputs, Origin::Revised, 1, Some(out)));
    told.used = (0..inputs).map(|i| used(0, EntityNo(i), Role::Data, path(i))).collect();
    told.used.push(used(0, EntityNo(0), Role::Library, "$odd".into()));
    told.used.extend([used(1, out, Role::Data, path(inputs)), used(1, out, Role::Data, path(inputs))]);
    let made = |entity, activity| Generation {
        activity: ActivityNo(activity),
        entity,
        role: Role::Data,
        path: path(inputs),
        first: BootNs(1_150),
        last: BootNs(1_900),
        bytes: ByteCount(1),
        possible: false,
    };
    told.generated = vec![made(out, 0), made(EntityNo(inputs + 1), 1)];
    let span = (BootNs(1_150), BootNs(1_900));
    let informed = |to, from| Informed {
        informed: ActivityNo(to),
        informant: ActivityNo(from),
        via: Via::Pipe,
        sent: span,
        received: span,
        bytes: ByteCount(1),
        possible: false,
    };
    told.informed = vec![informed(1, 0), informed(0, 1)];
    let renamed = |i: usize| Move {
        activity: ActivityNo(0),
        entity: out,
        at: BootNs(1_000 + i as u64),
        old_path: path(1),
        new_path: path(2),
        linked: false,
        inferred: false,
    };
    told.moved = (0..=long).map(renamed).collect();
    let mut w = Workflow { name: "$n".into(), boot_offset: 1_795_470_895_000_000_000, ..Workflow::default() };
    w.command = vec!["sort".into(), "\u{2}".repeat(20_000)];
    w.parameters = vec![("$lr.init".into(), "$1".into())];
    (w, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: u32 = 20_000;

    fn none_is_unfit(value: &Value) {
        match value {
            Value::Null => panic!("null"),
            Value::String(s) => assert!(!s.starts_with('$'), "{s}"),
            Value::Array(list) => list.iter().for_each(none_is_unfit),
            Value::Object(map) => map.iter().for_each(|(k, v)| {
                assert!(!k.contains('.') && !k.starts_with('$') && *v != json!({}) && *v != json!([]), "{k}");
                none_is_unfit(v);
            }),
            _ => {}
        }
    }

    fn files<'a>(messages: &'a [Value], side: &str) -> Vec<&'a Value> {
        messages.iter().flat_map(|m| m[side]["files"].as_array().into_iter().flatten()).collect()
    }

    #[test]
    fn messages_are_bounded_and_whole() {
        for (count, long) in [(FILES, 0), (FILES / 10, 50), (FILES / 100, 2000)] {
            let (w, told) = example(count, long);
            let bounded = tasks(&w, &told, Files::Bounded, &|_| 4);
            for message in bounded.iter().chain([&workflow(&w, &told, &|_| 4)]) {
                none_is_unfit(message);
                assert!(message.to_string().len() <= MESSAGE_BYTES, "{}", message.to_string().len());
                assert!(message["used"]["files"].as_array().is_none_or(|f| f.len() <= PAGE));
                assert_eq!(serde_json::from_str::<Value>(&message.to_string()).ok().as_ref(), Some(message));
            }
            let distinct: HashSet<String> = files(&bounded, "used").iter().map(|f| f["entity"].to_string()).collect();
            let count = count as usize;
            assert_eq!((files(&bounded, "used").len(), distinct.len()), (count + 1, count + 1));
            let ids: HashSet<String> = bounded.iter().map(|m| m["task_id"].to_string()).collect();
            assert_eq!(ids.len(), bounded.len());
            let all = tasks(&w, &told, Files::All, &|_| 4);
            assert_eq!((all.len(), files(&all, "used").len()), (2, count + 2));
            assert_eq!(all[0]["custom_metadata"]["moved"].as_array().map(Vec::len), Some(long + 1));
            assert_eq!(all[0]["custom_metadata"].get("cut"), None);
        }
    }

    #[test]
    fn a_task_says_what_is_known_and_no_more() {
        let (w, told) = example(450, 0);
        let messages = tasks(&w, &told, Files::Bounded, &|_| 4);
        let kinds: Vec<_> = messages.iter().map(|m| m["subtype"].as_str().unwrap_or_default()).collect();
        assert_eq!(kinds, ["process", "file_page", "file_page", "process"]);
        let (sort, page, cat) = (&messages[0], &messages[1], &messages[3]);
        assert_eq!(page["parent_task_id"], sort["task_id"]);
        assert_eq!((&cat["status"], cat.get("ended_at")), (&json!("RUNNING"), None));
        assert_eq!(sort["started_at"], json!(1_795_470_895.000_001));
        assert_eq!(sort["used"]["files"][0]["entity"], "ext4-0000000000000002-h00000001:0.3@4");
        assert_eq!(sort["custom_metadata"]["io"]["files_by_role"], json!({"data_files": 450, "libraries": 1}));
        assert_eq!(sort["custom_metadata"]["io"]["files_used"], 451);
        assert_eq!(sort["custom_metadata"]["unseen"], json!(["socket"]));
        assert_eq!(sort["custom_metadata"]["failed_execs"][0]["asked"], "\u{200b}$none");
        // The two informed each other: only what is acyclic is a dependency.
        assert_eq!((sort.get("dependencies"), &cat["dependencies"]), (None, &json!([sort["task_id"]])));
        assert_eq!(sort["custom_metadata"]["informed_by"][0]["task_id"], cat["task_id"]);
    }

    #[test]
    fn a_workflow_names_its_inputs_and_the_last_version_of_its_outputs() {
        let (w, told) = example(450, 0);
        let document = workflow(&w, &told, &|_| 0);
        let of = |side: &str| files(std::slice::from_ref(&document), side).len();
        assert_eq!((of("used"), of("generated")), (200, 1));
        assert_eq!((&document["custom_metadata"]["inputs"], outputs(&told)[0].entity), (&json!(450), EntityNo(451)));
        assert_eq!(document["used"]["params"], json!({"\u{ff04}lr\u{ff0e}init": "\u{200b}$1"}));
    }

    /// What Python's msgpack 1.2.4 makes of it.
    #[test]
    fn a_packed_document_is_what_python_packs() {
        let document = r#"{"type":"task","task_id":"p2","parent_task_id":"p1",
            "workflow_id":"11111111-2222-4333-8444-555555555555","campaign_id":"camp-ext","activity_id":"/usr/bin/uniq",
            "subtype":"process","started_at":1795470003.0,"ended_at":1795470004.0,"status":"FINISHED",
            "used":{"file":"/data/sorted.txt"},"generated":{"file":"/data/u.txt"},"hostname":"node1"}"#;
        let python = "8da474797065a47461736ba77461736b5f6964a27032ae706172656e745f7461736b5f6964a27031ab776f726b666c6f775f6964d92431313131313131312d323232322d343333332d383434342d353535353535353535353535ab63616d706169676e5f6964a863616d702d657874ab61637469766974795f6964ad2f7573722f62696e2f756e6971a773756274797065a770726f63657373aa737461727465645f6174cb41dac12cacc00000a8656e6465645f6174cb41dac12cad000000a6737461747573a846494e4953484544a47573656481a466696c65b02f646174612f736f727465642e747874a967656e65726174656481a466696c65ab2f646174612f752e747874a8686f73746e616d65a56e6f646531";
        let document = serde_json::from_str(document).expect("because it is JSON");
        let packed: String = packed(&document).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(packed, python);
    }
}

//! Flowcept's documents, ours or of its Python, back to what was told: for questions about runs of other nodes. What a document does
//! not say is not there; the documents themselves are kept beside it. It does not know where they came from.

use std::collections::HashMap;
use std::sync::Arc;

use flowcept_provenance::activity::{Activity, ActivityNo, Cost, Outcome, Subtype};
use flowcept_provenance::entity::{Entity, EntityNo, Name, Origin};
use flowcept_provenance::identity::{EntityId, ImageNo, ProcessKey};
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::observation::{Counted, Credentials, FileKind, FileState};
use flowcept_provenance::quantity::{BootNs, ByteCount, Nanos, Pid};
use flowcept_provenance::relation::{Gap, Generation, Informed, Manner, Move, Use, Via};
use flowcept_provenance::role::Role;
use serde_json::Value;
use uuid::Uuid;

use crate::workflow::{Host, Workflow};

/// The namespace of ids that are no UUIDs (a version 4 UUID, chosen once).
const NAMES: Uuid = Uuid::from_u128(0x0b6f_7a8e_6c55_4f0e_8e53_7d4f_5a0c_2f61);

/// An id of a workflow or a task as the store has it: those of Flowcept's Python are any text.
pub fn id(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap_or_else(|_| Uuid::new_v5(&NAMES, text.as_bytes()))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

/// Seconds since 1970 as ns: the clock of what is read.
fn time(value: &Value, name: &str) -> Option<u64> {
    value[name].as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| (seconds * 1e9).round() as u64)
}

fn at(value: &Value, name: &str) -> BootNs {
    BootNs(time(value, name).unwrap_or_default())
}

fn nanos(value: &Value, name: &str) -> Nanos {
    Nanos(time(value, name).unwrap_or_default())
}

/// A workflow, from the documents of it and of its tasks: the first of its kind is its own, if there is one.
pub fn told(documents: &[Value]) -> (Workflow, Provenance) {
    let own = documents.iter().find(|document| document["type"] == "workflow");
    let tasks: Vec<&Value> = documents.iter().filter(|document| document["type"] == "task").collect();
    let workflow = workflow(own.unwrap_or(&Value::Null), &tasks);
    let mut told = Told::default();
    let (pages, mut tasks): (Vec<&Value>, Vec<&Value>) = tasks.into_iter().partition(|t| t["subtype"] == "file_page");
    tasks.sort_by_key(|task| at(task, "started_at"));
    told.place(&tasks);
    for task in tasks.iter().copied() {
        let no = told.numbers[text(task, "task_id")];
        told.relate(no, task);
    }
    for page in pages {
        if let Some(no) = told.numbers.get(text(page, "parent_task_id")) {
            told.files(*no, page);
        }
    }
    let mut told = told.finish();
    missing(own, documents, &mut told);
    (workflow, told)
}

fn workflow(own: &Value, tasks: &[&Value]) -> Workflow {
    let one = tasks.first().copied().unwrap_or(&Value::Null);
    let said = |name: &str| own[name].as_str().or(one[name].as_str()).unwrap_or_default().to_string();
    let custom = &own["custom_metadata"];
    let begun = time(own, "started_at").or(time(own, "utc_timestamp"));
    let begun = begun.or_else(|| tasks.iter().filter_map(|task| time(task, "started_at")).min()).unwrap_or_default();
    let ended = time(own, "ended_at").or_else(|| tasks.iter().filter_map(|task| time(task, "ended_at")).max());
    let by_status = match text(own, "status") {
        "ERROR" => Some(1 << 8),
        "RUNNING" => None,
        _ => Some(0),
    };
    let params = own["used"]["params"].as_object().into_iter().flatten();
    let name = Some(said("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| said("workflow_id"));
    Workflow {
        id: id(&said("workflow_id")),
        campaign: id(&said("campaign_id")),
        parent: own["parent_workflow_id"].as_str().map(id),
        name,
        parameters: params.map(|(key, value)| (key.clone(), word(value))).collect(),
        tags: list(own, "tags").map(word).collect(),
        command: own["used"]["command"].as_str().map(String::from).into_iter().collect(),
        directory: text(&own["used"], "directory").into(),
        started: begun,
        ended,
        exit_code: custom["exit_code"].as_u64().and_then(|code| code.try_into().ok()).or(by_status),
        host: Host { hostname: said("hostname"), node_name: said("node_name"), user: said("user"), ..Host::default() },
        sources: list(&custom["coverage"], "sources").map(word).collect(),
        flowcept_version: said("flowcept_version"),
        imported: true,
        ..Workflow::default()
    }
}

/// A value as a word of a command line.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// The command line of a process; of a function its name, with what it used and generated.
fn arguments(task: &Value) -> Arc<[Box<str>]> {
    let words: Vec<Box<str>> = list(&task["custom_metadata"]["process"], "argv").map(|w| word(w).into()).collect();
    if !words.is_empty() {
        return words.into();
    }
    let fields = |side: &str| {
        let fields = task[side].as_object().into_iter().flatten();
        fields.map(|(name, value)| format!("{name}={}", word(value)).into()).collect::<Vec<Box<str>>>()
    };
    let (used, mut generated) = (fields("used"), fields("generated"));
    if !generated.is_empty() {
        generated.insert(0, "→".into());
    }
    std::iter::once(text(task, "activity_id").into()).chain(used).chain(generated).collect()
}

fn outcome(task: &Value) -> Outcome {
    let process = &task["custom_metadata"]["process"];
    let small = |name: &str| process[name].as_u64().and_then(|n| u8::try_from(n).ok());
    match (small("exit_code"), small("signal"), text(task, "status")) {
        _ if process["replaced_by_exec"] == true => Outcome::Replaced,
        (Some(code), ..) => Outcome::Exited(code),
        (_, Some(signal), _) => Outcome::Signalled(signal, process["core_dumped"] == true),
        (.., "FINISHED") => Outcome::Exited(0),
        (.., "ERROR") => Outcome::Exited(1),
        _ => Outcome::Running,
    }
}

#[derive(Default)]
struct Told<'a> {
    told: Provenance,
    /// Tasks by their ids.
    numbers: HashMap<&'a str, ActivityNo>,
    /// Versions by their ids, in no order yet.
    entities: HashMap<EntityId, EntityNo>,
}

impl<'a> Told<'a> {
    /// Gives tasks their numbers: parents before children, else in their order.
    fn place(&mut self, tasks: &[&'a Value]) {
        let by_id: HashMap<&str, &Value> = tasks.iter().map(|task| (text(task, "task_id"), *task)).collect();
        for task in tasks {
            let mut chain = vec![*task];
            while let Some(parent) = chain.last().and_then(|last| by_id.get(text(last, "parent_task_id")))
                && !self.numbers.contains_key(text(parent, "task_id"))
                && !chain.iter().any(|other| std::ptr::eq(*other, *parent))
            {
                chain.push(parent);
            }
            for task in chain.into_iter().rev() {
                let no = ActivityNo(self.told.activities.len() as u32);
                if let std::collections::hash_map::Entry::Vacant(place) = self.numbers.entry(text(task, "task_id")) {
                    place.insert(no);
                    let activity = self.activity(no, task);
                    self.told.activities.push(activity);
                }
            }
        }
        self.told.root = self.told.activities.first().map(|_| ActivityNo(0));
    }

    fn activity(&self, no: ActivityNo, task: &Value) -> Activity {
        let (custom, process) = (&task["custom_metadata"], &task["custom_metadata"]["process"]);
        let (io, cost) = (&custom["io"], &custom["cost"]);
        let bytes = |value: &Value, name: &str| ByteCount(number(value, name));
        let small = |value: &Value, name: &str| u32::try_from(number(value, name)).unwrap_or_default();
        // Whoever is its parent is there already, if it is not below itself.
        let other = |id: &Value| id.as_str().and_then(|id| self.numbers.get(id)).filter(|other| **other < no).copied();
        let environment = process["environment"].as_object().into_iter().flatten();
        Activity {
            image: ImageNo(no.0.into()),
            process: ProcessKey { boot: 0, pid_namespace: 0, tgid: 0, start_ticks: 0, digest: 0 },
            given_id: Some(id(text(task, "task_id"))),
            name: text(task, "activity_id").into(),
            subtype: if task["subtype"] == "process_fork" { Subtype::Fork } else { Subtype::Process },
            parent: other(&task["parent_task_id"]),
            previous: other(&process["previous_task_id"]),
            pid: Pid(small(process, "pid")),
            started: at(task, "started_at"),
            ended: time(task, "ended_at").map(BootNs),
            outcome: outcome(task),
            lasts: true,
            executable: text(process, "exe").into(),
            arguments: arguments(task),
            arguments_cut: small(process, "arguments_cut"),
            through: list(process, "through").map(|t| word(t).into()).collect(),
            directory: text(process, "cwd").into(),
            environment: environment.map(|(name, value)| (name.as_str().into(), word(value).into())).collect(),
            credentials: Credentials {
                uid: small(process, "uid"),
                euid: small(process, "euid"),
                gid: small(process, "gid"),
                ..Credentials::default()
            },
            cost: Cost {
                cpu: nanos(cost, "cpu_seconds"),
                cpu_at_least: cost["cpu_at_least"] == true,
                user: nanos(cost, "user_seconds"),
                system: nanos(cost, "system_seconds"),
                peak_memory: bytes(cost, "peak_memory_bytes"),
                peak_at_most: cost["peak_at_most"] == true,
                storage_read: bytes(io, "storage_read_bytes"),
                storage_written: bytes(io, "storage_written_bytes"),
            },
            read: bytes(io, "read_bytes"),
            written: bytes(io, "written_bytes"),
            failed_execs: list(custom, "failed_execs")
                .map(|failed| (text(failed, "asked").into(), small(failed, "errno")))
                .collect(),
            // They stand in the workflow's gaps.
            unseen: Vec::new(),
            unlinked: small(io, "unlinked"),
            directories_made: small(io, "directories_made"),
        }
    }

    /// What a task used and generated, who informed it, and what it moved.
    fn relate(&mut self, no: ActivityNo, task: &Value) {
        self.files(no, task);
        let custom = &task["custom_metadata"];
        for informed in list(custom, "informed_by") {
            let informant = self.numbers.get(text(informed, "task_id")).copied();
            let via =
                [Via::Pipe, Via::Fifo, Via::Fork, Via::Memory].into_iter().find(|v| v.name() == text(informed, "via"));
            let (Some(informant), Some(via)) = (informant, via) else { continue };
            let span = (at(informed, "first_at"), at(informed, "last_at"));
            let possible = informed["possible"] == true;
            let bytes = ByteCount(0);
            self.told.informed.push(Informed {
                informed: no,
                informant,
                via,
                sent: span,
                received: span,
                bytes,
                possible,
            });
        }
        for moved in list(custom, "moved") {
            let (old_path, new_path): (Arc<str>, Arc<str>) =
                (text(moved, "old_path").into(), text(moved, "new_path").into());
            let Some(entity) = self.entity(moved, &old_path, at(moved, "at")) else { continue };
            let name = Name { path: new_path.clone(), at: at(moved, "at"), by: Some(no) };
            let names = &mut self.told.entities[entity.0 as usize].names;
            if names.iter().all(|known| known.path != new_path) {
                names.push(name);
            }
            let (linked, inferred) = (moved["linked"] == true, moved["inferred"] == true);
            let at = at(moved, "at");
            self.told.moved.push(Move { activity: no, entity, at, old_path, new_path, linked, inferred });
        }
    }

    /// The files of a task or of a page of it.
    fn files(&mut self, no: ActivityNo, task: &Value) {
        for file in list(&task["used"], "files") {
            let path: Arc<str> = text(file, "used_path").into();
            let first = at(file, "first_at");
            let Some(entity) = self.entity(file, &path, first) else { continue };
            let revises = text(file, "used_as") == "revised";
            self.told.used.push(Use {
                activity: no,
                entity,
                role: role(text(file, "used_as")),
                manner: if revises { Manner::Revised } else { Manner::Read },
                path,
                first,
                last: first,
                bytes: ByteCount(0),
                possible: file["use_possible"] == true,
            });
        }
        for file in list(&task["generated"], "files") {
            let path: Arc<str> = text(file, "made_path").into();
            let last = at(file, "last_at");
            let Some(entity) = self.entity(file, &path, last) else { continue };
            self.told.entities[entity.0 as usize].origin = Origin::Created;
            let (role, possible) = (role(text(file, "made_as")), file["make_possible"] == true);
            let bytes = ByteCount(0);
            self.told.generated.push(Generation {
                activity: no,
                entity,
                role,
                path,
                first: last,
                last,
                bytes,
                possible,
            });
        }
    }

    /// The version that a file names.
    fn entity(&mut self, file: &Value, path: &Arc<str>, at: BootNs) -> Option<EntityNo> {
        let id: EntityId = text(file, "entity").parse().ok()?;
        let next = EntityNo(self.told.entities.len() as u32);
        let no = *self.entities.entry(id).or_insert(next);
        if no == next {
            self.told.entities.push(Entity {
                file: id.file,
                kind: FileKind::Regular,
                version: id.version,
                origin: Origin::Found,
                begun: at,
                revision_of: None,
                names: Vec::new(),
                state: FileState::default(),
                first_state: FileState::default(),
                invalidated: None,
                nameless: false,
            });
        }
        let entity = &mut self.told.entities[no.0 as usize];
        entity.begun = entity.begun.min(at);
        if entity.names.iter().all(|name| name.path != *path) {
            entity.names.push(Name { path: path.clone(), at, by: None });
        }
        Some(no)
    }

    /// Versions of a file side by side and in order, and what each of them revises.
    fn finish(mut self) -> Provenance {
        let mut order: Vec<usize> = (0..self.told.entities.len()).collect();
        order.sort_by_key(|i| (self.told.entities[*i].file, self.told.entities[*i].version));
        let mut numbers = vec![EntityNo(0); order.len()];
        for (new, old) in order.iter().enumerate() {
            numbers[*old] = EntityNo(new as u32);
        }
        self.told.entities = order.iter().map(|old| self.told.entities[*old].clone()).collect();
        let moved = |no: &mut EntityNo| *no = numbers[no.0 as usize];
        self.told.used.iter_mut().for_each(|u| moved(&mut u.entity));
        self.told.generated.iter_mut().for_each(|g| moved(&mut g.entity));
        self.told.moved.iter_mut().for_each(|m| moved(&mut m.entity));
        for revised in self.told.used.iter().filter(|u| u.manner == Manner::Revised) {
            let next = revised.entity.0 as usize + 1;
            let is_next = self.told.entities.get(next).is_some_and(|e| e.file == self.told.entity(revised.entity).file);
            if is_next {
                let entity = &mut self.told.entities[next];
                (entity.origin, entity.revision_of) = (Origin::Revised, Some(revised.entity));
            }
        }
        self.told
    }
}

fn role(name: &str) -> Role {
    const ALL: [Role; 7] = [
        Role::Program,
        Role::Library,
        Role::Configuration,
        Role::Cache,
        Role::Device,
        Role::KernelFile,
        Role::Temporary,
    ];
    ALL.into_iter().find(|role| role.name() == name).unwrap_or(Role::Data)
}

/// What the documents say was not seen, or do not say.
fn missing(own: Option<&Value>, documents: &[Value], told: &mut Provenance) {
    let coverage = own.map_or(&Value::Null, |own| &own["custom_metadata"]["coverage"]);
    let books = &coverage["books"];
    told.books = Counted {
        forked: number(books, "forked"),
        ended: number(books, "ended"),
        living: number(books, "living"),
        written: number(books, "records_written"),
        decoded: number(books, "decoded"),
    };
    let mut gap = |kind: &str, count: u64, why: &str| {
        if count > 0 {
            told.gaps.push(Gap { kind: kind.into(), activity: None, count, why: why.into() });
        }
    };
    list(coverage, "gaps").for_each(|told| gap(text(told, "kind"), number(told, "count"), text(told, "why")));
    let told_itself = u64::from(!coverage.is_object());
    gap("instrumented", told_itself, "the program told this itself: what its code does not name was not seen");
    gap("no_workflow", u64::from(own.is_none()), "no document says what the workflow was: there are only tasks");
    let cut = documents.iter().filter(|document| document["custom_metadata"]["cut"].is_object()).count();
    gap("cut", cut as u64, "documents that name only a part of long lists: `custom_metadata.cut` has their lengths");
}

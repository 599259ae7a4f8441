//! The rules of SEMANTICS.md, each with a change of the sources that breaks it.

/// A change that breaks a rule.
pub(super) struct Rule {
    /// Number and what is lost.
    pub(super) name: &'static str,
    /// The file.
    pub(super) file: &'static str,
    /// What stands there, once.
    pub(super) from: &'static str,
    /// What is put there instead.
    pub(super) to: &'static str,
}

const fn rule(name: &'static str, file: &'static str, from: &'static str, to: &'static str) -> Rule {
    Rule { name, file, from, to }
}

const TASKS: &str = "agent/provenance/src/lineage/tasks.rs";
const TELL: &str = "agent/provenance/src/lineage/tell.rs";
const IMAGES: &str = "agent/provenance/src/lineage/images.rs";
const VERSIONS: &str = "agent/provenance/src/versions.rs";
const PIPES: &str = "agent/provenance/src/pipes.rs";
const ROLE: &str = "agent/provenance/src/role.rs";
const ACTIVITY: &str = "agent/provenance/src/activity.rs";
const WALK: &str = "agent/src/query/walk.rs";
const DECODE: &str = "agent/src/capture/decode.rs";
const REDACT: &str = "agent/src/capture/redact.rs";
const INDEX: &str = "agent/src/store/index.rs";
const LEASE: &str = "agent/src/session/lease.rs";
const INHERIT: &str = "preload/src/inherit.rs";
const PLACE: &str = "preload/src/place.rs";
const KNOWN: &str = "agent/src/capture/spool/known.rs";

pub(super) const RULES: &[Rule] = &[
    rule(
        "1: redirections of a fork belong to its exec",
        TASKS,
        "(None, Some(next)) => self.of_redirection(images, next),",
        "(None, Some(next)) if next.0 == u64::MAX => self.of_redirection(images, next),",
    ),
    rule("1: an empty creation passes to the first writer", TELL, "pass_creations(of_file);", ""),
    rule("1: but not when its creator has closed it", TELL, "&& opener.closed.is_none_or(|c| c > *at)", ""),
    rule("1: a fork that moves bytes is a task", TASKS, "moves_bytes[i] || image.forks,", "image.forks,"),
    rule(
        "1: bytes to oneself through a pipe do not count",
        TASKS,
        "let own = seen.kind == FileKind::Pipe && own_pipes.contains(&seen.file);",
        "let own = false;",
    ),
    rule("1: launchers are folded", TASKS, "image.forks || writes[i] || uses_data[i] || script", "true"),
    rule("2: an interpreter is called by its script", IMAGES, "if read(&path) {", "if path.is_empty() {"),
    rule("2: -m names a module", IMAGES, "\"-m\" =>", "\"-mm\" =>"),
    rule("2: -c names nothing", IMAGES, "\"-c\" => return (own, None),", ""),
    rule(
        "3: the parent is who forked it",
        TASKS,
        "parent: images.parent(i).and_then(|p| self.number[self.part_of[p]]),",
        "parent: image.previous.and_then(|p| self.of_image(images, p)),",
    ),
    rule("4: reading back one's own is no use", VERSIONS, "if version.writer == Some(p.who) {", "if p.at.0 == 1 {"),
    rule(
        "4: what is executed is used",
        TELL,
        "executed.push(Executed { file: place(exec.executable), image: i, who });",
        "let _ = (&mut executed, who, i, &exec);",
    ),
    rule(
        "5: a mapping that changed nothing generates nothing",
        TELL,
        "if self.changed_through_mapping(o.seen) != Some(false) {",
        "if true {",
    ),
    rule(
        "5: a mapping that changed a file generates",
        TELL,
        "if self.changed_through_mapping(o.seen) != Some(false) {",
        "if false {",
    ),
    rule(
        "6: another writer begins a version",
        VERSIONS,
        "if others || version.read.is_some() {",
        "if version.read.is_some() {",
    ),
    rule("6: a write after a read begins a version", VERSIONS, "if others || version.read.is_some() {", "if others {"),
    rule("6: the writer of a revision used what it revises", VERSIONS, "self.revised.push((p.access, current));", ""),
    rule(
        "6: a reader that goes on reads later versions",
        VERSIONS,
        "self.reads.extend(readers.map(|r| (r.access, current)));",
        "let _ = readers.count();",
    ),
    rule("6: a truncation revises nothing", VERSIONS, ".filter(|_| origin == Origin::Revised)", ""),
    rule(
        "6: a version ends with its first reader",
        VERSIONS,
        "self.versions[version].read.map_or(end, |read| BootNs(read.0 - 1).clamp(begun, end))",
        "end.max(begun)",
    ),
    rule(
        "6: a version is used after it has begun",
        TELL,
        "if moved.0 < begun { BootNs(begun.0 + 1) } else { moved.0 }",
        "moved.0",
    ),
    rule("6: across runs a file as it was is the same version", INDEX, "found.is_some() && found == state", "false"),
    rule("6: across runs a changed file is another version", INDEX, "found.is_some() && found == state", "true"),
    rule(
        "7: a rename gives a name",
        TELL,
        "e.names.push(Name { path: new_path.clone(), at: named.at, by: Some(who) });",
        "",
    ),
    rule("7: a replaced file is gone", TELL, "gone(told, files, &mut extra, replaced, 1);", "let _ = replaced;"),
    rule(
        "7: an exchange names both",
        TELL,
        "if let (Naming::Exchange, Some(other)) = (named.naming, named.replaced) {",
        "if let (Naming::Symlink, Some(other)) = (named.naming, named.replaced) {",
    ),
    rule("7: a file with another name stays", TELL, "*extra.entry(file).or_default() += 1;", ""),
    rule(
        "8: the writer's first byte precedes the reader's last",
        PIPES,
        "w.bytes.0 > 0 && w.first <= reader.last",
        "w.bytes.0 > 0",
    ),
    rule(
        "8: a jobserver joins nothing",
        PIPES,
        "if readers.iter().any(|r| r.bytes.0 > 0 &&",
        "if readers.iter().any(|r| r.bytes.0 > u64::MAX - 1 &&",
    ),
    rule("8: an untraced writer is a gap", PIPES, "told.from_outside.push(reader.who);", ""),
    rule("9: a fork has what its parent had", TELL, "self.tell_forks(&tasks, &mut told);", ""),
    rule(
        "10: control follows who started whom",
        WALK,
        "if let Some(parent) = task.parent {",
        "if let Some(parent) = task.parent.filter(|_| number == u64::MAX) {",
    ),
    rule("10: control follows exit statuses", WALK, "ended.filter(|e| *e <= until)", "ended.filter(|e| e.0 == 1)"),
    rule(
        "10: a lineage follows data only",
        WALK,
        "if self.question.control {\n            if let Some(parent)",
        "if number < u64::MAX {\n            if let Some(parent)",
    ),
    rule("11: time bounds uses", WALK, "u.first <= until && shown(u.role, u.made_here)", "shown(u.role, u.made_here)"),
    rule("11: time bounds what one was told", WALK, ".filter(|i| i.received <= until)", ".filter(|_| true)"),
    rule("12: born and gone is temporary", TELL, "mark_temporary(&mut told);", ""),
    rule(
        "12: what a workflow makes is never hidden",
        WALK,
        "matches!(role, Role::Data | Role::Temporary) || made;",
        "matches!(role, Role::Data | Role::Temporary) || (made && role == Role::Data);",
    ),
    rule(
        "12: what is executed is a program",
        TELL,
        "Role::Program,\n                        Manner::Executed,",
        "Role::Data,\n                        Manner::Executed,",
    ),
    rule("12: a script is a program", ROLE, "if c.script {", "if c.script && c.path.is_empty() {"),
    rule("12: libraries", ROLE, "if c.executable || is_library(c.path, &folders) {", "if c.executable {"),
    rule("12: caches", ROLE, "if is_cache(c.path, &folders) {", "if c.path.is_empty() {"),
    rule("12: configuration", ROLE, "if is_configuration(c.path) {", "if c.path.is_empty() {"),
    rule("12: kernel files", ROLE, "if c.filesystem.kind().is_some_and(is_pseudo) {", "if false {"),
    rule("12: devices", ROLE, "if c.kind == FileKind::Device {", "if false {"),
    rule(
        "13: a failure is an ERROR",
        ACTIVITY,
        "Self::Exited(_) | Self::Signalled(..) => \"ERROR\",",
        "Self::Exited(_) | Self::Signalled(..) => \"FINISHED\",",
    ),
    rule(
        "15: costs are an image's own",
        IMAGES,
        "self.cpu.unwrap_or(after.cpu).0, before.cpu.0",
        "self.cpu.unwrap_or(after.cpu).0, before.cpu.0.min(0)",
    ),
    rule(
        "15: peak memory is the image's own",
        IMAGES,
        "if after.peak_memory.0 > 0 { after.peak_memory }",
        "if after.peak_memory.0 == 1 { after.peak_memory }",
    ),
    rule("16: only the admitted environment", DECODE, ".filter(|(n, _)| admits(n.as_bytes()))", ""),
    rule(
        "16: secrets are redacted",
        REDACT,
        "SECRET_NAMES.iter().any(|s| name.contains(s))",
        "SECRET_NAMES.iter().any(|s| name == *s && name.is_empty())",
    ),
    rule(
        "both: the library heeds the lease",
        "preload/src/control.rs",
        "!until.is_null() &&",
        "!until.is_null() && until.is_null() &&",
    ),
    rule("both: a lease runs out", LEASE, "Lease::LENGTH.as_nanos()", "Lease::LENGTH.as_nanos() << 32"),
    rule("both: it is renewed", LEASE, "self.set(end_of_lease());", ""),
    rule("both: the library's own files are hidden", LEASE, "p.starts_with(&**files) || p == library", "p.is_empty()"),
    rule(
        "both: an image that the kernel has told is not told again",
        KNOWN,
        "self.images.get(&key).map(|image| image.0)",
        "self.images.get(&key).map(|image| image.0).filter(|_| self.boot == 0)",
    ),
    rule(
        "both: who has only died is told by who waited",
        "agent/src/capture/spool/taken.rs",
        "let ends_of_known = family.ends_of_known(&images);",
        "let ends_of_known: Vec<_> = family.ends_of_known(&images).into_iter().filter(|e| e.pid == 0).collect();",
    ),
    rule("inside: who is started is told where he is", INHERIT, "word.iter().for_each(|word| word.put(&mut put));", ""),
    rule("inside: that is believed within a clock tick", PLACE, "start == boot_clock() / TICK", "start > 0"),
    rule("inside: nothing is said of other namespaces", PLACE, "PID_NAMESPACE.store(0, Ordering::Relaxed);", ""),
    rule("17: processes balance", TELL, "if books.forked > books.ended + books.living {", "if false {"),
    rule("17: records balance", TELL, "if books.written > books.decoded {", "if false {"),
    rule(
        "17: losses are gaps",
        TELL,
        "gap(&format!(\"lost:{}\", lost.source), None, lost.count, &lost.cause);",
        "let _ = lost;",
    ),
    rule("17: a cut run says so", TELL, "gap(\"cut\", None, 1, &left.why);", "let _ = left;"),
    rule(
        "17: what is not followed is a gap",
        TELL,
        "gap(kind, Some(ActivityNo(no as u32)), 1, why);",
        "let _ = (kind, why, no);",
    ),
    rule(
        "identity: an inode used again is another file",
        DECODE,
        "if file::reuses_inodes(filesystem.magic) { of.generation }",
        "if filesystem.magic == 1 { of.generation }",
    ),
    rule(
        "identity: a fork's redirections follow the open file",
        TELL,
        "writers.get(&opener.open_file)",
        "writers.get(&0)",
    ),
];

//! From gathered facts to provenance. Every step is a rule of SEMANTICS.md.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::tasks::Tasks;
use super::{Lineage, Provenance, Seen};
use crate::activity::ActivityNo;
use crate::entity::{Entity, EntityNo, Name, Origin};
use crate::identity::FileKey;
use crate::observation::{Access, FileKind, Mechanism, Naming};
use crate::pipes;
use crate::quantity::{BootNs, ByteCount};
use crate::relation::{Gap, Generation, Informed, Manner, Move, Reread, Use, Via};
use crate::role::{self, Circumstances, Role};
use crate::versions::{self, Point, What};

impl Lineage {
    /// Relates all that is known.
    pub fn tell(&self) -> Provenance {
        let tasks = Tasks::of(self);
        let mut told = Provenance { books: self.counted, samples: self.samples.clone(), ..Provenance::default() };
        tasks.activities(self, &mut told);
        let mut files = self.tell_files(&tasks, &mut told);
        self.tell_pipes(&tasks, &mut told);
        self.tell_forks(&tasks, &mut told);
        self.tell_names(&tasks, &mut told, &mut files);
        mark_temporary(&mut told);
        self.tell_gaps(&mut told);
        told
    }
}

pub(super) fn role_of(seen: &Seen, script: Option<&str>) -> Role {
    let path = seen.path.as_deref().unwrap_or("");
    role::of_use(&Circumstances {
        path,
        kind: seen.kind,
        filesystem: seen.file.filesystem,
        executable: seen.executable,
        script: script.is_some_and(|s| s == path),
    })
}

/// Where the versions of each file begin among the entities; they lie side by side.
struct Files {
    /// The file's place in the order in which files were met.
    places: FxHashMap<FileKey, u32>,
    /// The first version, by place.
    first: Vec<u32>,
}

impl Files {
    /// A file that was not met before, and its first version.
    fn add(&mut self, file: FileKey, first: u32) {
        self.places.insert(file, self.first.len() as u32);
        self.first.push(first);
    }

    /// The version that was current then.
    fn at(&self, told: &Provenance, file: FileKey, at: BootNs) -> Option<EntityNo> {
        let first = *self.first.get(*self.places.get(&file)? as usize)?;
        let mut versions = told.entities[first as usize..].iter().take_while(|e| e.file == file);
        versions.next()?;
        let begun = versions.take_while(|e| e.begun <= at).count();
        Some(EntityNo(first + begun as u32))
    }
}

/// A seen access and the task that it counts for.
struct Owned<'a> {
    /// The file's place in the order in which files were met.
    file: u32,
    seen: &'a Seen,
    who: ActivityNo,
    /// A creation or truncation that came to it from the one who opened the file, and when.
    passed: Option<(BootNs, bool)>,
    /// Its own creation or truncation went to another.
    gone: bool,
}

/// A file as the program of an image.
#[derive(Clone, Copy)]
struct Executed {
    /// The file's place in the order in which files were met.
    file: u32,
    /// Index of the image.
    image: usize,
    who: ActivityNo,
}

/// What telling one file after another uses again.
#[derive(Default)]
struct Work {
    points: Vec<Point>,
    swept: versions::Told,
    /// Access, version, and the manner where it is not the access's own.
    reads: Vec<(usize, usize, Option<Manner>)>,
    /// Where the uses and generations of one file's versions are.
    used: FxHashMap<(ActivityNo, EntityNo), u32>,
    generated: FxHashMap<(ActivityNo, EntityNo), u32>,
}

/// Empties a map in no more time than it takes to fill a small one: one that has grown is given back.
fn empty<K, V>(map: &mut FxHashMap<K, V>) {
    const SMALL: usize = 64;
    if map.capacity() > SMALL { *map = FxHashMap::default() } else { map.clear() }
}

impl Lineage {
    fn tell_files(&self, tasks: &Tasks, told: &mut Provenance) -> Files {
        // Room for as many files at first: a map that grows is filled again each time.
        const FILES: usize = 1 << 15;
        let images = &self.images;
        let mut order: Vec<FileKey> = Vec::new();
        let mut places: FxHashMap<FileKey, u32> = FxHashMap::default();
        places.reserve(self.seen.len().min(FILES));
        let mut place = |file: FileKey| {
            *places.entry(file).or_insert_with(|| {
                order.push(file);
                order.len() as u32 - 1
            })
        };
        let mut owned: Vec<Owned<'_>> = Vec::with_capacity(self.seen.len());
        let mut executed: Vec<Executed> = Vec::new();
        for seen in self.seen.iter().filter(|s| s.kind != FileKind::Pipe) {
            let only_opened = (seen.created || seen.truncated) && seen.moved.is_none();
            let who =
                if only_opened { tasks.of_redirection(images, seen.image) } else { tasks.of_image(images, seen.image) };
            let Some(who) = who else { continue };
            owned.push(Owned { file: place(seen.file), seen, who, passed: None, gone: false });
        }
        for (i, image) in images.list.iter().enumerate() {
            if let (Some(exec), Some(who)) = (&image.exec, tasks.of_image(images, image.no)) {
                executed.push(Executed { file: place(exec.executable), image: i, who });
            }
        }
        // Stable: what happened to one file stays in the order in which it was told.
        owned.sort_by_key(|o| o.file);
        executed.sort_by_key(|e| e.file);
        let mut files = Files { places, first: Vec::with_capacity(order.len()) };
        told.entities.reserve(order.len());
        told.used.reserve(owned.len());
        let mut work = Work::default();
        let (mut owned, mut executed) = (&mut *owned, &*executed);
        for (place, file) in order.into_iter().enumerate() {
            let (of_file, rest) = owned.split_at_mut(owned.partition_point(|o| o.file as usize <= place));
            let (runs, later) = executed.split_at(executed.partition_point(|e| e.file as usize <= place));
            (owned, executed) = (rest, later);
            files.first.push(told.entities.len() as u32);
            pass_creations(of_file);
            self.tell_file(tasks, told, &mut work, file, of_file, runs);
        }
        files
    }

    fn tell_file(
        &self,
        tasks: &Tasks,
        told: &mut Provenance,
        work: &mut Work,
        file: FileKey,
        owned: &[Owned<'_>],
        executed: &[Executed],
    ) {
        let Work { points, swept, reads, used, generated } = work;
        points.clear();
        empty(used);
        empty(generated);
        for (access, o) in owned.iter().enumerate() {
            let until = o.seen.moved.map_or(o.seen.begun, |m| m.1);
            let mut point = |at, what| points.push(Point { at, until, who: o.who, access, what });
            if let Some((at, created)) = o.passed {
                point(at, if created { What::Created } else { What::Truncated });
            } else if (o.seen.created || o.seen.truncated) && !o.gone {
                point(o.seen.begun, if o.seen.created { What::Created } else { What::Truncated });
            }
            match (o.seen.access, o.seen.moved) {
                (Access::Read | Access::Map, _) => point(o.seen.begun, What::Read),
                (Access::Write, Some((first, last))) if o.seen.kind == FileKind::Regular => {
                    point(first, What::Wrote);
                    if last > first {
                        point(last, What::Wrote);
                    }
                }
                (Access::Write, _) => {}
                (Access::MapWrite, _) => {
                    point(o.seen.begun, What::Read);
                    if self.changed_through_mapping(o.seen) != Some(false) {
                        point(BootNs(o.seen.begun.0 + 1), What::Wrote);
                    }
                }
            }
        }
        let base = owned.len();
        for (n, e) in executed.iter().enumerate() {
            let at = self.images.list[e.image].started;
            points.push(Point { at, until: at, who: e.who, access: base + n, what: What::Read });
        }
        versions::tell(points, swept);
        let first = told.entities.len();
        let number = |v: usize| EntityNo((first + v) as u32);
        for (v, version) in swept.versions.iter().enumerate() {
            told.entities.push(Entity {
                file,
                kind: owned.first().map_or(FileKind::Regular, |o| o.seen.kind),
                version: v as u32,
                origin: version.origin,
                begun: version.begun,
                revision_of: version.revision_of.map(number),
                names: Vec::new(),
                state: Default::default(),
                first_state: Default::default(),
                invalidated: None,
                nameless: false,
            });
        }
        reads.clear();
        reads.extend(swept.reads.iter().map(|(a, v)| (*a, *v, None)));
        reads.extend(swept.revised.iter().map(|(a, v)| (*a, *v, Some(Manner::Revised))));
        for (access, v, manner) in reads.iter().copied() {
            let (who, path, state, role, manner, moved, bytes, uncertain) = match owned.get(access) {
                Some(o) => {
                    let natural = if o.seen.access == Access::Read { Manner::Read } else { Manner::Mapped };
                    let manner = manner.unwrap_or(natural);
                    let role = match manner {
                        Manner::Revised => Role::Data,
                        _ => role_of(o.seen, tasks.script(o.who)),
                    };
                    let moved = o.seen.moved.unwrap_or((o.seen.begun, o.seen.begun));
                    let bytes = if manner == Manner::Revised { ByteCount(0) } else { o.seen.bytes };
                    (o.who, o.seen.path.clone(), o.seen.first_state, role, manner, moved, bytes, o.seen.uncertain)
                }
                None => {
                    let Executed { image, who, .. } = executed[access - base];
                    let image = &self.images.list[image];
                    let Some(exec) = &image.exec else { continue };
                    let at = (image.started, image.started);
                    (
                        who,
                        Some(exec.executable_path.clone()),
                        exec.state,
                        Role::Program,
                        Manner::Executed,
                        at,
                        ByteCount(0),
                        false,
                    )
                }
            };
            let path = path.unwrap_or_else(|| Arc::from(file.to_string()));
            // One who goes on while versions follow each other has used each only while it was the current one.
            let (begun, end) = swept.span(v);
            let first = if moved.0 < begun { BootNs(begun.0 + 1) } else { moved.0 };
            let moved = (first, moved.1.min(end).max(first));
            let entity = number(v);
            let e = &mut told.entities[entity.0 as usize];
            meet(e, &path, moved.0, state);
            match used.get(&(who, entity)).map(|i| &mut told.used[*i as usize]) {
                Some(u) => {
                    u.first = u.first.min(moved.0);
                    u.last = u.last.max(moved.1);
                    u.bytes.0 += bytes.0;
                    u.possible &= uncertain;
                    u.manner = u.manner.max(manner);
                    if rank(role) < rank(u.role) {
                        u.role = role;
                    }
                }
                None => {
                    used.insert((who, entity), told.used.len() as u32);
                    let (first, last) = moved;
                    told.used.push(Use {
                        activity: who,
                        entity,
                        role,
                        manner,
                        path,
                        first,
                        last,
                        bytes,
                        possible: uncertain,
                    });
                }
            }
        }
        for (access, v) in &swept.rereads {
            if let Some(o) = owned.get(*access) {
                // Under the name at its first use by the same image: it may have been renamed since.
                let first = owned.iter().filter(|f| f.who == o.who).min_by_key(|f| f.seen.begun);
                let path = first.and_then(|f| f.seen.path.clone()).unwrap_or_else(|| Arc::from(file.to_string()));
                told.reread.push(Reread { activity: o.who, entity: number(*v), path });
            }
        }
        for (access, v) in &swept.writes {
            let Some(o) = owned.get(*access) else { continue };
            let path = o.seen.path.clone().unwrap_or_else(|| Arc::from(file.to_string()));
            let entity = number(*v);
            let version = &swept.versions[*v];
            let e = &mut told.entities[entity.0 as usize];
            meet(e, &path, version.begun, o.seen.first_state);
            e.state = o.seen.last_state;
            e.nameless |= o.seen.nameless;
            let begun = version.begun;
            let last = o.seen.moved.map_or(begun, |m| m.1).clamp(begun, swept.written_until(*v));
            let possible =
                o.seen.uncertain || o.seen.access == Access::MapWrite && self.changed_through_mapping(o.seen).is_none();
            match generated.get(&(o.who, entity)).map(|i| &mut told.generated[*i as usize]) {
                Some(g) => {
                    g.last = g.last.max(last);
                    g.bytes.0 += o.seen.bytes.0;
                    g.possible &= possible;
                }
                None => {
                    generated.insert((o.who, entity), told.generated.len() as u32);
                    told.generated.push(Generation {
                        activity: o.who,
                        entity,
                        role: role::of_generation(&path, o.seen.kind, file.filesystem),
                        path,
                        first: version.begun,
                        last,
                        bytes: o.seen.bytes,
                        possible,
                    });
                }
            }
        }
    }

    /// Whether a shared mapping changed its file; none where the filesystem does not tell.
    fn changed_through_mapping(&self, seen: &Seen) -> Option<bool> {
        let settled = self.settled.get(&(seen.image, seen.file))?;
        if settled.untold {
            return None;
        }
        let state = settled.state?;
        Some(state.mtime != seen.first_state.mtime)
    }

    fn tell_pipes(&self, tasks: &Tasks, told: &mut Provenance) {
        type Ends = (Vec<pipes::End>, Vec<pipes::End>, Option<Arc<str>>);
        let mut order = Vec::new();
        let mut by_pipe: FxHashMap<FileKey, Ends> = FxHashMap::default();
        for seen in self.seen.iter().filter(|s| s.kind == FileKind::Pipe && !tasks.own_pipes.contains(&s.file)) {
            let Some(who) = tasks.of_image(&self.images, seen.image) else { continue };
            let ends = by_pipe.entry(seen.file).or_insert_with(|| {
                order.push(seen.file);
                (Vec::new(), Vec::new(), seen.path.clone())
            });
            let (first, last) = seen.moved.unwrap_or((seen.begun, seen.begun));
            let list = if seen.access == Access::Write { &mut ends.0 } else { &mut ends.1 };
            match list.iter_mut().find(|e| e.who == who) {
                Some(end) => {
                    end.first = end.first.min(first);
                    end.last = end.last.max(last);
                    end.bytes.0 += seen.bytes.0;
                }
                None => list.push(pipes::End { who, first, last, bytes: seen.bytes }),
            }
        }
        for pipe in order {
            let Some((writers, readers, path)) = by_pipe.remove(&pipe) else { continue };
            let via = if path.is_some() { Via::Fifo } else { Via::Pipe };
            let piped = pipes::tell(&writers, &readers, via);
            told.informed.extend(piped.informed);
            for who in piped.from_outside {
                told.gaps.push(Gap {
                    kind: "untraced_writer".into(),
                    activity: Some(who),
                    count: 1,
                    why: "read bytes from a pipe whose writer was not traced".into(),
                });
            }
        }
    }

    /// Fork copies memory: an image that was forked and did not exec knows what its parent had used before.
    fn tell_forks(&self, tasks: &Tasks, told: &mut Provenance) {
        for (index, image) in self.images.list.iter().enumerate().filter(|(_, i)| i.exec.is_none()) {
            let parent = self.images.parent(index).and_then(|p| tasks.number[tasks.part_of[p]]);
            let (Some(who), Some(parent)) = (tasks.number[index], parent) else { continue };
            let at = (image.started, image.started);
            told.informed.push(Informed {
                informed: who,
                informant: parent,
                via: if image.shares_memory { Via::Memory } else { Via::Fork },
                sent: at,
                received: at,
                bytes: ByteCount(0),
                possible: image.shares_memory,
            });
        }
    }

    /// Names: rename and link generate nothing, they give an existing entity a name.
    fn tell_names(&self, tasks: &Tasks, told: &mut Provenance, files: &mut Files) {
        let mut extra: FxHashMap<FileKey, i64> = FxHashMap::default();
        for named in &self.named {
            let (Some(who), Some(file)) = (tasks.of_image(&self.images, named.image), named.file) else { continue };
            if named.directory {
                continue;
            }
            let gone = |told: &mut Provenance,
                        files: &Files,
                        extra: &mut FxHashMap<FileKey, i64>,
                        file: FileKey,
                        links: u32| {
                let others = extra.entry(file).or_default();
                if *others > 0 {
                    *others -= 1;
                } else if links <= 1
                    && let Some(entity) = files.at(told, file, named.at)
                {
                    told.entities[entity.0 as usize].invalidated = Some((who, named.at));
                }
            };
            match named.naming {
                Naming::Unlink => {
                    let links = if extra.get(&file).is_some_and(|n| *n > 0) { 2 } else { named.state.links };
                    gone(told, files, &mut extra, file, links);
                }
                Naming::Rename | Naming::Exchange | Naming::Link => {
                    let Some(new_path) = &named.new_path else { continue };
                    let linked = named.naming == Naming::Link;
                    if linked {
                        *extra.entry(file).or_default() += 1;
                    }
                    if named.naming == Naming::Rename
                        && let Some(replaced) = named.replaced.filter(|r| *r != file)
                    {
                        gone(told, files, &mut extra, replaced, 1);
                    }
                    give_name(told, files, who, named, file, &named.old_path, new_path, linked);
                    if let (Naming::Exchange, Some(other)) = (named.naming, named.replaced) {
                        give_name(told, files, who, named, other, new_path, &named.old_path, false);
                    }
                }
                Naming::Symlink | Naming::MakeDirectory | Naming::RemoveDirectory => {}
            }
        }
    }

    fn tell_gaps(&self, told: &mut Provenance) {
        let mut gap = |kind: &str, activity, count, why: &str| {
            told.gaps.push(Gap { kind: kind.into(), activity, count, why: why.into() });
        };
        for (no, activity) in told.activities.iter().enumerate() {
            for mechanism in &activity.unseen {
                let (kind, why) = explain(*mechanism);
                gap(kind, Some(ActivityNo(no as u32)), 1, why);
            }
        }
        for lost in &self.lost {
            gap(&format!("lost:{}", lost.source), None, lost.count, &lost.cause);
        }
        if let Some(left) = &self.left {
            gap("cut", None, 1, &left.why);
        }
        let books = &self.counted;
        if books.forked > books.ended + books.living {
            gap("processes", None, books.forked - books.ended - books.living, "forked, and their end was not seen");
        }
        if books.written > books.decoded {
            gap("records", None, books.written - books.decoded, "written by the kernel and not decoded");
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one naming, told for one of its two files")]
fn give_name(
    told: &mut Provenance,
    files: &mut Files,
    who: ActivityNo,
    named: &crate::observation::Named,
    file: FileKey,
    old_path: &Arc<str>,
    new_path: &Arc<str>,
    linked: bool,
) {
    let entity = files.at(told, file, named.at).unwrap_or_else(|| {
        let entity = EntityNo(told.entities.len() as u32);
        told.entities.push(Entity {
            file,
            kind: FileKind::Regular,
            version: 0,
            origin: Origin::Found,
            begun: named.at,
            revision_of: None,
            names: vec![Name { path: old_path.clone(), at: named.at, by: None }],
            state: named.state,
            first_state: named.state,
            invalidated: None,
            nameless: false,
        });
        files.add(file, entity.0);
        entity
    });
    let e = &mut told.entities[entity.0 as usize];
    e.nameless = false;
    e.names.push(Name { path: new_path.clone(), at: named.at, by: Some(who) });
    e.names.sort_by_key(|n| n.at);
    let (old_path, new_path) = (old_path.clone(), new_path.clone());
    told.moved.push(Move { activity: who, entity, at: named.at, old_path, new_path, linked, inferred: named.inferred });
}

/// A creation or truncation that wrote no byte passes to the first writer of that open file: shells open outputs for the
/// programs that they start.
fn pass_creations(owned: &mut [Owned<'_>]) {
    if owned.len() < 2 {
        return;
    }
    let wrote = |s: &Seen| s.moved.filter(|_| s.access == Access::Write && s.bytes.0 > 0).map(|m| m.0);
    let mut writers: FxHashMap<u64, Vec<(BootNs, usize)>> = FxHashMap::default();
    for (j, o) in owned.iter().enumerate().filter(|(_, o)| o.seen.open_file != 0) {
        if let Some(at) = wrote(o.seen) {
            writers.entry(o.seen.open_file).or_default().push((at, j));
        }
    }
    for i in 0..owned.len() {
        let opener = owned[i].seen;
        if !(opener.created || opener.truncated) {
            continue;
        }
        let Some(writers) = writers.get(&opener.open_file) else { continue };
        let own = wrote(opener);
        let first = writers
            .iter()
            .copied()
            .filter(|(at, j)| *j != i && *at >= opener.begun && opener.closed.is_none_or(|c| c > *at))
            .min();
        if let Some((at, j)) = first
            && own.is_none_or(|own| own > at)
        {
            owned[j].passed = Some((opener.begun, opener.created));
            owned[i].gone = true;
        }
    }
}

/// The strongest of two roles that one use has: an executable is also read, a library's header too.
fn rank(role: Role) -> u8 {
    match role {
        Role::Program => 0,
        Role::Library => 1,
        Role::Device | Role::KernelFile => 2,
        Role::Cache => 3,
        Role::Configuration => 4,
        Role::Data | Role::Temporary => 5,
    }
}

fn meet(entity: &mut Entity, path: &Arc<str>, at: BootNs, state: crate::observation::FileState) {
    if entity.names.is_empty() {
        // Most have one.
        entity.names = vec![Name { path: path.clone(), at, by: None }];
        entity.first_state = state;
        entity.state = state;
    }
}

/// Born and gone within the workflow.
fn mark_temporary(told: &mut Provenance) {
    let mut made = vec![false; told.entities.len()];
    for g in &told.generated {
        made[g.entity.0 as usize] = true;
    }
    // All versions of a file go with its last name; they lie side by side.
    let mut gone = vec![false; told.entities.len()];
    for (i, e) in told.entities.iter().enumerate().rev() {
        let later = told.entities.get(i + 1).filter(|later| later.file == e.file);
        gone[i] = later.map_or(!e.exists(), |_| gone[i + 1]);
    }
    let temporary = |e: EntityNo| made[e.0 as usize] && gone[e.0 as usize];
    for u in told.used.iter_mut().filter(|u| u.role == Role::Data && temporary(u.entity)) {
        u.role = Role::Temporary;
    }
    for g in told.generated.iter_mut().filter(|g| g.role == Role::Data && temporary(g.entity)) {
        g.role = Role::Temporary;
    }
}

fn explain(mechanism: Mechanism) -> (&'static str, &'static str) {
    match mechanism {
        Mechanism::IoUring => ("io_uring", "what went through io_uring(7) was not seen"),
        Mechanism::LinuxAio => ("libaio", "what went through io_submit(2) was not seen"),
        Mechanism::Socket => ("socket", "bytes went through sockets, which are not followed"),
        Mechanism::SystemVSharedMemory => ("sysv_shared_memory", "memory shared by shmat(2) is not followed"),
        Mechanism::MessageQueue => ("message_queue", "message queues are not followed"),
        Mechanism::ProcessVm => ("process_vm", "memory of another process was read or written"),
        Mechanism::Compat => ("compat", "a 32-bit program's calls were not seen"),
        Mechanism::SharedMemory => ("shared_memory", "anonymous memory was mapped shared"),
        Mechanism::Deduplication => ("deduplication", "FIDEDUPERANGE is not followed"),
        Mechanism::TruncateByName => ("truncate_by_name", "the file behind a truncated name was not found"),
        Mechanism::Sandbox => {
            ("sandbox", "from where it restricted its own system calls on, nothing was seen from inside")
        }
        Mechanism::NumberedCall => (
            "numbered_call",
            "what system calls did to files that were made by number, through syscall(2), was not seen",
        ),
    }
}

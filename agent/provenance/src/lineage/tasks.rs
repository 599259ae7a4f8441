//! Which images are tasks, what they are called, and what each cost. It does not know of file versions.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::images::{Images, name_of};
use super::tell::role_of;
use super::{Lineage, Provenance};
use crate::activity::{Activity, ActivityNo, Subtype};
use crate::identity::{FileKey, ImageNo};
use crate::observation::{Access, FileKind, Naming};
use crate::quantity::ByteCount;
use crate::role::Role;

/// Which images are tasks, and to which task the others belong.
pub(super) struct Tasks {
    /// By index of the image: the image whose task it is part of.
    pub(super) part_of: Vec<usize>,
    /// By index of the image.
    pub(super) number: Vec<Option<ActivityNo>>,
    /// By number of the task: the index of its image.
    image: Vec<usize>,
    /// By index of the image: its name and its script.
    names: Vec<Option<(Arc<str>, Option<String>)>>,
    /// By index of the image: it stays a task, whatever is heard later.
    lasts: Vec<bool>,
    /// Pipes that only one process has.
    pub(super) own_pipes: FxHashSet<FileKey>,
}

/// What makes an image a task that is followed by another.
#[derive(Clone, Copy, Default)]
struct Deeds {
    moves_bytes: bool,
    writes: bool,
}

impl Tasks {
    pub(super) fn of(lineage: &Lineage) -> Self {
        let images = &lineage.images;
        let count = images.list.len();
        let pipes = Pipes::of(lineage);
        // As far as is known, and without what may still turn out to be nothing.
        let (mut known, mut sure) = (vec![Deeds::default(); count], vec![Deeds::default(); count]);
        let mut uses_data = vec![false; count];
        let mut read: FxHashMap<usize, FxHashSet<&str>> = FxHashMap::default();
        for seen in &lineage.seen {
            let Some(index) = images.index(seen.image) else { continue };
            if seen.access == Access::Read
                && images.list[index].exec.as_ref().is_some_and(|e| super::images::is_interpreter(&e.executable_path))
                && let Some(path) = &seen.path
            {
                read.entry(index).or_default().insert(path);
            }
            let is_pipe = seen.kind == FileKind::Pipe;
            let without = [is_pipe && pipes.own.contains(&seen.file), is_pipe && pipes.alone.contains(&seen.file)];
            for (deeds, without) in [&mut known[index], &mut sure[index]].into_iter().zip(without) {
                deeds.moves_bytes |= seen.bytes.0 > 0 && seen.kind != FileKind::Device && !without;
                match (seen.access, seen.kind) {
                    (Access::Write | Access::MapWrite, FileKind::Regular) => deeds.writes = true,
                    (Access::Write, FileKind::Pipe) => deeds.writes |= seen.bytes.0 > 0 && !without,
                    _ => {}
                }
            }
            if matches!((seen.access, seen.kind), (Access::Read | Access::Map, FileKind::Regular)) {
                // A role is read off a path: once is enough.
                uses_data[index] = uses_data[index] || role_of(seen, None) == Role::Data;
            }
        }
        for named in &lineage.named {
            if let Some(index) = images.index(named.image) {
                (known[index].writes, sure[index].writes) = (true, true);
            }
        }
        let names: Vec<_> = images
            .list
            .iter()
            .enumerate()
            .map(|(i, image)| {
                let exec = image.exec.as_ref()?;
                Some(name_of(exec, |path| read.get(&i).is_some_and(|r| r.contains(path))))
            })
            .collect();
        // Whether it is a task although another image follows it in its process.
        let is_followed = |i: usize, deeds: Deeds| {
            let image = &images.list[i];
            match &image.exec {
                None if image.parent.is_none() => false,
                None => deeds.moves_bytes || image.forks,
                Some(_) => {
                    let script = names[i].as_ref().is_some_and(|n| n.1.is_some());
                    image.forks || deeds.writes || uses_data[i] || script
                }
            }
        };
        let is_task = |i: usize| images.list[i].successor.is_none() || is_followed(i, known[i]);
        let lasts = |i: usize| {
            let image = &images.list[i];
            (image.successor.is_none() && image.ended.is_some()) || is_followed(i, sure[i])
        };
        let lasts = (0..count).map(lasts).collect();
        // Later images first: what an image is folded into begins after it.
        let mut part_of: Vec<usize> = (0..count).collect();
        for i in (0..count).rev() {
            if !is_task(i)
                && let Some(next) = images.list[i].successor.and_then(|s| images.index(s))
            {
                part_of[i] = part_of[next];
            }
        }
        let mut number = vec![None; count];
        let mut image = Vec::new();
        for i in 0..count {
            if part_of[i] == i {
                number[i] = Some(ActivityNo(image.len() as u32));
                image.push(i);
            }
        }
        Self { part_of, number, image, names, lasts, own_pipes: pipes.own }
    }

    /// The task that an image is part of.
    pub(super) fn of_image(&self, images: &Images, no: ImageNo) -> Option<ActivityNo> {
        images.index(no).and_then(|i| self.number[self.part_of[i]])
    }

    /// The script that gave a task its name.
    pub(super) fn script(&self, who: ActivityNo) -> Option<&str> {
        self.names[self.image[who.0 as usize]].as_ref().and_then(|n| n.1.as_deref())
    }

    /// The task that a fork's redirections belong to: the image that it becomes.
    pub(super) fn of_redirection(&self, images: &Images, no: ImageNo) -> Option<ActivityNo> {
        let image = images.get(no)?;
        match (&image.exec, image.successor) {
            (None, Some(next)) => self.of_redirection(images, next),
            _ => self.of_image(images, no),
        }
    }

    pub(super) fn activities(&self, lineage: &Lineage, told: &mut Provenance) {
        let images = &lineage.images;
        for (i, image) in images.list.iter().enumerate() {
            if self.number[i].is_none() {
                continue;
            }
            let exec = images.program_of(image.no);
            let mut through = Vec::new();
            let mut started = image.started;
            let mut previous = image.previous.and_then(|p| images.index(p));
            let mut before = None;
            while let Some(p) = previous {
                if self.part_of[p] != i {
                    before = self.number[self.part_of[p]];
                    break;
                }
                if let Some((name, _)) = &self.names[p] {
                    through.insert(0, name.clone());
                }
                started = started.min(images.list[p].started);
                previous = images.list[p].previous.and_then(|p| images.index(p));
            }
            let subtype = if image.exec.is_some() { Subtype::Process } else { Subtype::Fork };
            let name = match (&self.names[i], exec) {
                (Some((name, _)), _) => name.clone(),
                (None, Some(exec)) => {
                    let of = images.index(exec.image).and_then(|o| self.names[o].clone());
                    of.map_or_else(|| Arc::from(super::images::base_name(&exec.executable_path)), |n| n.0)
                }
                (None, None) => Arc::from("?"),
            };
            told.activities.push(Activity {
                image: image.no,
                process: image.process,
                given_id: None,
                name,
                subtype,
                parent: images.parent(i).and_then(|p| self.number[self.part_of[p]]),
                previous: before,
                pid: image.pid,
                started: if image.exec.is_some() && before.is_none() { started } else { image.started },
                ended: image.ended,
                outcome: image.outcome,
                lasts: self.lasts[i],
                executable: exec.map_or_else(|| Arc::from(""), |e| e.executable_path.clone()),
                arguments: exec.map_or_else(Default::default, |e| e.arguments.clone()),
                arguments_cut: exec.map_or(0, |e| e.arguments_cut),
                through,
                directory: exec.map_or_else(|| Arc::from(""), |e| e.directory.clone()),
                environment: exec.map_or_else(Default::default, |e| e.environment.clone()),
                credentials: exec.map(|e| e.credentials.clone()).unwrap_or_default(),
                cost: image.cost(),
                read: ByteCount(0),
                written: ByteCount(0),
                failed_execs: image.failed_execs.clone(),
                unseen: image.unseen.clone(),
                unlinked: 0,
                directories_made: 0,
            });
        }
        told.root = (!told.activities.is_empty()).then_some(ActivityNo(0));
        for seen in &lineage.seen {
            if let Some(activity) = self.of_image(images, seen.image).map(|a| &mut told.activities[a.0 as usize]) {
                match seen.access {
                    Access::Read => activity.read.0 += seen.bytes.0,
                    Access::Write => activity.written.0 += seen.bytes.0,
                    Access::Map | Access::MapWrite => {}
                }
            }
        }
        for named in &lineage.named {
            if let Some(activity) = self.of_image(images, named.image).map(|a| &mut told.activities[a.0 as usize]) {
                match named.naming {
                    Naming::Unlink => activity.unlinked += 1,
                    Naming::MakeDirectory => activity.directories_made += 1,
                    _ => {}
                }
            }
        }
    }
}

/// Pipes that nobody shares.
struct Pipes {
    /// Only one process is known to have it.
    alone: FxHashSet<FileKey>,
    /// And writes and reads it: a here-document that a shell writes before it execs its reader.
    own: FxHashSet<FileKey>,
}

impl Pipes {
    fn of(lineage: &Lineage) -> Self {
        let mut owner: FxHashMap<FileKey, Option<ImageNo>> = FxHashMap::default();
        let mut written = FxHashSet::default();
        for seen in lineage.seen.iter().filter(|s| s.kind == FileKind::Pipe) {
            let process = lineage.images.process_of(seen.image);
            owner.entry(seen.file).and_modify(|o| *o = o.filter(|o| *o == process)).or_insert(Some(process));
            if seen.access == Access::Write {
                written.insert(seen.file);
            }
        }
        let alone: FxHashSet<FileKey> = owner.into_iter().filter(|(_, o)| o.is_some()).map(|(f, _)| f).collect();
        // Read only: its writer is not traced. Written only: its reader is not, unless the writer itself is to read it.
        let mut read: FxHashSet<FileKey> = FxHashSet::default();
        read.extend(lineage.seen.iter().filter(|s| s.access == Access::Read).map(|s| s.file));
        let own = alone.iter().copied().filter(|f| written.contains(f) && read.contains(f)).collect();
        Self { alone, own }
    }
}

//! Program images as they are forked, exec'd and ended, and which of them are tasks. It does not know of versions.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::activity::{Cost, Outcome};
use crate::identity::{ImageNo, ProcessKey};
use crate::observation::{Costs, Ended, ExecFailed, Execed, Forked, Freed, Mechanism, Unseen};
use crate::quantity::{BootNs, ByteCount, Nanos, Pid};

/// An image and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) no: ImageNo,
    pub(super) process: ProcessKey,
    pub(super) pid: Pid,
    /// The image that forked its process.
    pub(super) parent: Option<ImageNo>,
    /// The image before it in its process.
    pub(super) previous: Option<ImageNo>,
    /// The image after it in its process.
    pub(super) successor: Option<ImageNo>,
    /// It forked.
    pub(super) forks: bool,
    pub(super) exec: Option<Box<Execed>>,
    pub(super) started: BootNs,
    pub(super) ended: Option<BootNs>,
    pub(super) outcome: Outcome,
    pub(super) shares_memory: bool,
    costs_before: Costs,
    costs_after: Option<Costs>,
    cpu: Option<Nanos>,
    pub(super) failed_execs: Vec<(Box<str>, u32)>,
    pub(super) unseen: Vec<Mechanism>,
}

/// All images, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) list: Vec<Image>,
    by_no: FxHashMap<ImageNo, usize>,
}

impl Images {
    pub(super) fn get(&self, no: ImageNo) -> Option<&Image> {
        self.by_no.get(&no).map(|i| &self.list[*i])
    }

    pub(super) fn index(&self, no: ImageNo) -> Option<usize> {
        self.by_no.get(&no).copied()
    }

    fn get_mut(&mut self, no: ImageNo) -> Option<&mut Image> {
        self.by_no.get(&no).map(|i| &mut self.list[*i])
    }

    /// The image that forked this one's process. Nobody is forked by what begins later: such a claim is of no use.
    pub(super) fn parent(&self, index: usize) -> Option<usize> {
        self.index(self.list[index].parent?).filter(|parent| *parent < index)
    }

    fn push(&mut self, image: Image) {
        self.by_no.insert(image.no, self.list.len());
        self.list.push(image);
    }

    pub(super) fn forked(&mut self, o: &Forked) {
        // An image begins once. A second begin would lead from an image back to itself.
        if self.by_no.contains_key(&o.image) {
            return;
        }
        if let Some(parent) = o.parent.and_then(|p| self.get_mut(p)) {
            parent.forks = true;
        }
        self.push(Image {
            no: o.image,
            process: o.process,
            pid: o.pid,
            parent: o.parent,
            previous: None,
            successor: None,
            forks: false,
            exec: None,
            started: o.at,
            ended: None,
            outcome: Outcome::Running,
            shares_memory: o.shares_memory,
            costs_before: Costs::default(),
            costs_after: None,
            cpu: None,
            failed_execs: Vec::new(),
            unseen: Vec::new(),
        });
    }

    pub(super) fn execed(&mut self, o: Box<Execed>) {
        if self.by_no.contains_key(&o.image) {
            return;
        }
        let mut parent = None;
        let mut previous = None;
        if let Some(before) = self.get_mut(o.previous) {
            before.successor = Some(o.image);
            before.ended = Some(o.at);
            before.outcome = Outcome::Replaced;
            before.costs_after = Some(Costs { peak_memory: ByteCount(0), ..o.costs });
            parent = before.parent;
            previous = Some(before.no);
        }
        self.push(Image {
            no: o.image,
            process: o.process,
            pid: o.pid,
            parent,
            previous,
            successor: None,
            forks: false,
            started: o.at,
            ended: None,
            outcome: Outcome::Running,
            shares_memory: false,
            costs_before: o.costs,
            costs_after: None,
            cpu: None,
            failed_execs: Vec::new(),
            unseen: Vec::new(),
            exec: Some(o),
        });
    }

    pub(super) fn exec_failed(&mut self, o: ExecFailed) {
        if let Some(image) = self.get_mut(o.image) {
            image.failed_execs.push((o.asked, o.errno));
        }
    }

    pub(super) fn ended(&mut self, o: &Ended) {
        if let Some(image) = self.get_mut(o.image) {
            image.ended = Some(o.at);
            image.outcome = Outcome::of_code(o.code);
            image.costs_after = Some(o.costs);
        }
    }

    pub(super) fn freed(&mut self, o: &Freed) {
        if let Some(image) = self.get_mut(o.image) {
            image.cpu = Some(o.cpu);
        }
    }

    pub(super) fn unseen(&mut self, o: &Unseen) {
        if let Some(image) = self.get_mut(o.image)
            && !image.unseen.contains(&o.mechanism)
        {
            image.unseen.push(o.mechanism);
        }
    }

    /// The first image of the same process.
    pub(super) fn process_of(&self, mut no: ImageNo) -> ImageNo {
        while let Some(previous) = self.get(no).and_then(|i| i.previous) {
            no = previous;
        }
        no
    }

    /// The exec'd image that this one is or was forked from, for its program and arguments.
    pub(super) fn program_of(&self, no: ImageNo) -> Option<&Execed> {
        let mut index = self.index(no)?;
        loop {
            if let Some(exec) = &self.list[index].exec {
                return Some(exec);
            }
            index = self.parent(index)?;
        }
    }
}

impl Image {
    /// What it cost: the process's costs at its end less those at its begin.
    pub(super) fn cost(&self) -> Cost {
        let Some(after) = self.costs_after else { return Cost::default() };
        let before = &self.costs_before;
        let less = |a: u64, b: u64| a.saturating_sub(b);
        Cost {
            cpu: Nanos(less(self.cpu.unwrap_or(after.cpu).0, before.cpu.0)),
            cpu_at_least: self.cpu.is_none(),
            user: Nanos(less(after.user.0, before.user.0)),
            system: Nanos(less(after.system.0, before.system.0)),
            peak_memory: if after.peak_memory.0 > 0 { after.peak_memory } else { after.peak_memory_process },
            peak_at_most: after.peak_memory.0 == 0,
            storage_read: ByteCount(less(after.storage_read.0, before.storage_read.0)),
            storage_written: ByteCount(less(after.storage_written.0, before.storage_written.0)),
        }
    }
}

/// Programs that read a program from a file that their arguments name.
const INTERPRETERS: [&str; 18] = [
    "python", "pypy", "perl", "ruby", "node", "nodejs", "bash", "sh", "dash", "zsh", "ksh", "Rscript", "R", "julia",
    "lua", "php", "tclsh", "java",
];

/// Whether the executable of this path interprets programs (`python3.11` is `python`).
pub(super) fn is_interpreter(path: &str) -> bool {
    let name = base_name(path).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&name)
}

/// The last component.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// An argument as a path from the working directory, `.` and `..` resolved by their spelling.
pub(super) fn absolute(directory: &str, argument: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let joined = if argument.starts_with('/') { argument.to_string() } else { format!("{directory}/{argument}") };
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The program as a person names it, and the path of the script that gives the name. `read` says whether the image read
/// the file of that path.
pub(super) fn name_of(exec: &Execed, read: impl Fn(&str) -> bool) -> (Arc<str>, Option<String>) {
    let own: Arc<str> = base_name(&exec.executable_path).into();
    if !is_interpreter(&exec.executable_path) {
        return (own, None);
    }
    let mut arguments = exec.arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match &**argument {
            "-c" => return (own, None),
            "-m" => return arguments.next().map_or((own, None), |module| (base_name(module).into(), None)),
            "-jar" => continue,
            _ => {}
        }
        if argument.starts_with('-') {
            continue;
        }
        let path = absolute(&exec.directory, argument);
        if read(&path) {
            return (base_name(&path).into(), Some(path));
        }
    }
    (own, None)
}

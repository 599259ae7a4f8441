//! What the log of a tracer that was killed tells of the processes whose later records lie in a spool: the kernel had named
//! them before the library went on. It reads nothing itself.

use std::collections::HashMap;

use flowcept_provenance::identity::{ImageNo, ProcessKey};
use flowcept_provenance::observation::Observation;
use flowcept_wire::library::Began;
use rustc_hash::FxHashMap;

use super::images::{self, ProcessId};

/// Images and processes that are told already; none of a run that the library has watched alone.
#[derive(Debug, Default)]
pub struct Known {
    images: FxHashMap<ProcessKey, ImageNo>,
    processes: HashMap<ProcessId, Process>,
    /// The process of each image.
    of_image: FxHashMap<ImageNo, ProcessId>,
    /// The last process of each pid.
    of_pid: HashMap<u32, ProcessId>,
    root: Option<ProcessId>,
    boot: u128,
}

/// A process that is told already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    /// Its last image.
    pub(super) last: ImageNo,
    /// Its pid here, whatever it is in its own namespace.
    pid: u32,
    /// As wait(2) has it.
    pub(super) code: Option<u32>,
}

impl Known {
    /// From the observations of a log.
    pub fn of(observations: &[Observation]) -> Self {
        let mut known = Self::default();
        for observation in observations {
            match observation {
                Observation::Forked(o) => known.image(o.process, o.image, o.pid.0, None),
                Observation::Execed(o) => known.image(o.process, o.image, o.pid.0, Some(o.previous)),
                Observation::Ended(o) => {
                    let process = known.of_image.get(&o.image).and_then(|id| known.processes.get_mut(id));
                    process.into_iter().for_each(|p| p.code = Some(o.code));
                }
                _ => {}
            }
        }
        known
    }

    fn image(&mut self, key: ProcessKey, image: ImageNo, pid: u32, previous: Option<ImageNo>) {
        let id = ProcessId { pid: key.tgid, start: key.start_ticks };
        // The root has another key before its first exec: its start was not known yet.
        let before = previous.and_then(|p| self.of_image.get(&p)).copied().filter(|before| *before != id);
        if let Some(before) = before {
            self.processes.remove(&before);
        }
        if self.root.is_none() || before.is_some() && before == self.root {
            self.root = Some(id);
        }
        self.boot = key.boot;
        self.images.insert(key, image);
        self.of_image.insert(image, id);
        self.of_pid.insert(id.pid, id);
        self.processes.insert(id, Process { last: image, pid, code: None });
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Whether a process that has not ended is still there.
    pub(super) fn is_alive(&self) -> bool {
        let there = |(id, p): (&ProcessId, &Process)| p.code.is_none() && images::start_of(p.pid) == Some(id.start);
        self.processes.iter().any(there)
    }

    /// The number of an image that is told already.
    pub(super) fn number(&self, began: &Began) -> Option<u64> {
        let key = ProcessKey {
            boot: self.boot,
            pid_namespace: began.pid_namespace,
            tgid: began.pid,
            start_ticks: began.start,
            digest: began.digest,
        };
        self.images.get(&key).map(|image| image.0)
    }

    /// Numbers above this one are free.
    pub(super) fn greatest(&self) -> u64 {
        self.images.values().map(|image| image.0).max().unwrap_or(0)
    }

    /// The process of the workflow's first image.
    pub(super) fn root(&self) -> Option<ProcessId> {
        self.root
    }

    /// A process that is told already.
    pub(super) fn process(&self, id: ProcessId) -> Option<&Process> {
        self.processes.get(&id)
    }

    /// The process of this pid that had not ended.
    pub(super) fn running(&self, pid: u32) -> Option<(ProcessId, &Process)> {
        let id = *self.of_pid.get(&pid)?;
        self.processes.get(&id).filter(|p| p.code.is_none()).map(|p| (id, p))
    }

    /// All processes.
    pub(super) fn processes(&self) -> impl Iterator<Item = (ProcessId, &Process)> {
        self.processes.iter().map(|(id, p)| (*id, p))
    }
}

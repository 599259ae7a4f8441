//! When a write makes a new version of a file; why the version graph has no cycle: versions of a file are begun in the
//! order of time and revise only the one before.

use crate::activity::ActivityNo;
use crate::entity::Origin;
use crate::quantity::BootNs;

/// Something that happened to the content of one file at a point of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at: BootNs,
    /// Until when a reader went on; else `at`.
    pub(crate) until: BootNs,
    pub(crate) who: ActivityNo,
    /// Index of the access that it belongs to, in the caller's list.
    pub(crate) access: usize,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Created,
    Truncated,
    Wrote,
    Read,
}

/// A version as the points make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) origin: Origin,
    pub(crate) begun: BootNs,
    /// Who wrote it; none for a found one.
    pub(crate) writer: Option<ActivityNo>,
    /// Index of the version that it revises.
    pub(crate) revision_of: Option<usize>,
    /// When somebody else first read it: what is written later is the next version.
    read: Option<BootNs>,
}

/// Which version each access met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) versions: Vec<Version>,
    /// (access, version): content of the version reached the access.
    pub(crate) reads: Vec<(usize, usize)>,
    /// (access, version): the access read what its image had written itself.
    pub(crate) rereads: Vec<(usize, usize)>,
    /// (access, version): the access wrote the version.
    pub(crate) writes: Vec<(usize, usize)>,
    /// (access, version): the access made its version out of this one.
    pub(crate) revised: Vec<(usize, usize)>,
    /// Readers that went on for a while.
    long: Vec<Point>,
}

/// Sweeps over the points of one file, into `told`, whatever that held. A version begins at creation, at truncation to
/// nothing, at the first write by another than the last writer, and at the first write after somebody else has read.
pub(crate) fn tell(points: &mut [Point], told: &mut Told) {
    points.sort_by_key(|p| (p.at, p.what, p.who));
    told.clear();
    told.long.extend(points.iter().filter(|p| p.what == What::Read && p.until > p.at));
    for p in points.iter() {
        match p.what {
            What::Created => told.begin(p, Origin::Created),
            What::Truncated => told.begin(p, Origin::Truncated),
            What::Read => told.read(p),
            What::Wrote => told.write(p),
        }
    }
    // A first and a last write of one access are two points and one generation.
    told.writes.sort_unstable();
    told.writes.dedup();
}

impl Told {
    /// When a version was the current one: its first and its last moment.
    pub(crate) fn span(&self, version: usize) -> (BootNs, BootNs) {
        let end = self.versions.get(version + 1).map_or(BootNs::END, |next| BootNs(next.begun.0 - 1));
        (self.versions[version].begun, end)
    }

    /// The last moment at which a version may have been written.
    pub(crate) fn written_until(&self, version: usize) -> BootNs {
        let (_, end) = self.span(version);
        let begun = self.versions[version].begun;
        self.versions[version].read.map_or(end, |read| BootNs(read.0 - 1).clamp(begun, end))
    }

    /// Begins a version. Versions of a file begin one after another, also where the clock says that two began at once.
    fn begin(&mut self, p: &Point, origin: Origin) {
        let after = self.versions.last().map_or(p.at, |before| BootNs(before.begun.0 + 1));
        let begun = p.at.max(after);
        let current = self.versions.len();
        // One who goes on reading while others write reads their versions too.
        let readers = self.long.iter().filter(|r| r.at < begun && r.until >= begun && r.who != p.who);
        self.reads.extend(readers.map(|r| (r.access, current)));
        let read = self.reads.last().is_some_and(|(_, v)| *v == current).then_some(BootNs(begun.0 + 1));
        let revision_of = current.checked_sub(1).filter(|_| origin == Origin::Revised);
        self.versions.push(Version { origin, begun, writer: Some(p.who), revision_of, read });
        self.writes.push((p.access, current));
    }

    /// The index of the current version; one that was there before, where nobody has begun any.
    fn current(&mut self, at: BootNs) -> usize {
        if self.versions.is_empty() {
            self.versions.push(Version {
                origin: Origin::Found,
                begun: at,
                writer: None,
                revision_of: None,
                read: None,
            });
        }
        self.versions.len() - 1
    }

    fn read(&mut self, p: &Point) {
        let current = self.current(p.at);
        let version = &mut self.versions[current];
        // What one has written oneself, one does not use by reading it back.
        if version.writer == Some(p.who) {
            self.rereads.push((p.access, current));
        } else {
            version.read.get_or_insert(p.at.max(version.begun));
            self.reads.push((p.access, current));
        }
    }

    fn write(&mut self, p: &Point) {
        let current = self.current(p.at);
        let version = &self.versions[current];
        let others = version.writer != Some(p.who);
        if others || version.read.is_some() {
            self.begin(p, Origin::Revised);
        } else {
            self.writes.push((p.access, current));
        }
        if others {
            self.revised.push((p.access, current));
        }
    }

    fn clear(&mut self) {
        self.versions.clear();
        self.long.clear();
        for list in [&mut self.reads, &mut self.rereads, &mut self.writes, &mut self.revised] {
            list.clear();
        }
    }
}

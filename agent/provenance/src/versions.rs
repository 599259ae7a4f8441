//! When a write makes a new version of a file; why the version graph has no cycle: versions of a file are begun in the
//! order of time and revise only the one before.

use crate::activity::ActivityNo;
use crate::entity::Origin;
use crate::quantity::BootNs;

/// Something that happened to the content of one file at a point of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at: BootNs,
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
}

impl Told {
    fn clear(&mut self) {
        self.versions.clear();
        for list in [&mut self.reads, &mut self.rereads, &mut self.writes, &mut self.revised] {
            list.clear();
        }
    }
}

/// Sweeps over the points of one file, into `told`, whatever that held. A version begins at creation, at truncation to nothing, at the first write by
/// another than the last writer, and at the first write after somebody else has read.
pub(crate) fn tell(points: &mut [Point], told: &mut Told) {
    points.sort_by_key(|p| (p.at, p.what));
    told.clear();
    let mut read_since = false;
    for p in points.iter() {
        let writer = told.versions.last().and_then(|v| v.writer);
        match p.what {
            What::Created | What::Truncated => {
                let origin = if p.what == What::Created { Origin::Created } else { Origin::Truncated };
                told.versions.push(Version { origin, begun: p.at, writer: Some(p.who), revision_of: None });
                told.writes.push((p.access, told.versions.len() - 1));
                read_since = false;
            }
            What::Read => {
                if told.versions.is_empty() {
                    told.versions.push(found(p.at));
                }
                // What one has written oneself, one does not use by reading it back.
                if writer != Some(p.who) {
                    told.reads.push((p.access, told.versions.len() - 1));
                    read_since = true;
                } else {
                    told.rereads.push((p.access, told.versions.len() - 1));
                }
            }
            What::Wrote => {
                if told.versions.is_empty() {
                    told.versions.push(found(p.at));
                }
                let current = told.versions.len() - 1;
                if writer != Some(p.who) || read_since {
                    let origin = Origin::Revised;
                    let revision_of = Some(current);
                    told.versions.push(Version { origin, begun: p.at, writer: Some(p.who), revision_of });
                    if writer != Some(p.who) {
                        told.revised.push((p.access, current));
                    }
                    read_since = false;
                }
                told.writes.push((p.access, told.versions.len() - 1));
            }
        }
    }
    // A first and a last write of one access are two points and one generation.
    told.writes.sort_unstable();
    told.writes.dedup();
}

fn found(begun: BootNs) -> Version {
    Version { origin: Origin::Found, begun, writer: None, revision_of: None }
}

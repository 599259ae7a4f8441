//! Gathers observations and tells what follows from them. It does not know how they were captured, stored or sent.
//!
//! [`Lineage::apply`] takes facts in about their order in time; [`Lineage::tell`] relates what is known so far. Telling
//! again later adds: versions are numbered in the order in which they begin, so that what was told stays.

mod images;
mod tasks;
mod tell;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::activity::{Activity, ActivityNo};
use crate::entity::{Entity, EntityNo};
use crate::identity::{FileKey, ImageNo};
use crate::lineage::images::Images;
use crate::node::Sample;
use crate::observation::{
    Access, Counted, FileKind, FileState, Left, Lost, Named, Observation, Settled, Summed, Touched,
};
use crate::quantity::{BootNs, ByteCount};
use crate::relation::{Gap, Generation, Informed, Move, Reread, Use};

/// What was told: activities, entities and the relations between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Tasks, by [`ActivityNo`], parents before children.
    pub activities: Vec<Activity>,
    /// File versions, by [`EntityNo`]; versions of a file in order.
    pub entities: Vec<Entity>,
    /// Who used what; one for each activity, entity and role.
    pub used: Vec<Use>,
    /// Who read back what it had written itself.
    pub reread: Vec<Reread>,
    /// Who generated what; one for each activity and entity.
    pub generated: Vec<Generation>,
    /// Who was informed by whom.
    pub informed: Vec<Informed>,
    /// Names given.
    pub moved: Vec<Move>,
    /// How the node was meanwhile, in order.
    pub samples: Vec<Sample>,
    /// What was not seen; empty is a claim.
    pub gaps: Vec<Gap>,
    /// Counters that balance where nothing was lost.
    pub books: Counted,
    /// The root of the workflow.
    pub root: Option<ActivityNo>,
}

impl Provenance {
    /// The activity of this number.
    pub fn activity(&self, no: ActivityNo) -> &Activity {
        &self.activities[no.0 as usize]
    }

    /// The entity of this number.
    pub fn entity(&self, no: EntityNo) -> &Entity {
        &self.entities[no.0 as usize]
    }
}

/// What an image did with a file in one direction, until the open file was closed for good.
#[derive(Clone, Debug)]
struct Seen {
    image: ImageNo,
    file: FileKey,
    kind: FileKind,
    access: Access,
    begun: BootNs,
    created: bool,
    truncated: bool,
    executable: bool,
    uncertain: bool,
    nameless: bool,
    open_file: u64,
    path: Option<Arc<str>>,
    /// First and last time that content moved; absent where only the open did something.
    moved: Option<(BootNs, BootNs)>,
    bytes: ByteCount,
    closed: Option<BootNs>,
    first_state: FileState,
    last_state: FileState,
}

/// Facts gathered so far.
#[derive(Debug, Default)]
pub struct Lineage {
    images: Images,
    seen: Vec<Seen>,
    /// The one that sums go to.
    open: FxHashMap<(ImageNo, FileKey, Access), usize>,
    named: Vec<Named>,
    settled: FxHashMap<(ImageNo, FileKey), Settled>,
    samples: Vec<Sample>,
    lost: Vec<Lost>,
    left: Option<Left>,
    counted: Counted,
}

impl Lineage {
    /// Where so many uses of files are to come.
    pub fn with_room(uses: usize) -> Self {
        Self { seen: Vec::with_capacity(uses), ..Self::default() }
    }

    /// Takes one fact in.
    pub fn apply(&mut self, observation: Observation) {
        match observation {
            Observation::Forked(o) => self.images.forked(&o),
            Observation::Execed(o) => self.images.execed(o),
            Observation::ExecFailed(o) => self.images.exec_failed(o),
            Observation::Ended(o) => self.images.ended(&o),
            Observation::Freed(o) => self.images.freed(&o),
            Observation::Unseen(o) => self.images.unseen(&o),
            Observation::Touched(o) => self.touched(*o),
            Observation::Summed(o) => self.summed(&o),
            Observation::Named(o) => self.named.push(*o),
            Observation::Settled(o) => drop(self.settled.insert((o.image, o.file), o)),
            Observation::Sampled(o) => self.samples.push(*o),
            Observation::Lost(o) => self.lost.push(o),
            Observation::Counted(o) => self.counted = o,
            Observation::Left(o) => self.left = Some(o),
        }
    }

    fn touched(&mut self, o: Touched) {
        let key = (o.image, o.file, o.access);
        let fresh = o.created || o.truncated;
        let moves = !fresh && o.access != Access::MapWrite;
        if let Some(seen) = self.open.get(&key).map(|i| &mut self.seen[*i])
            && !fresh
        {
            // The same again, after its sum was told: it only goes on.
            seen.executable |= o.executable;
            seen.moved = Some(seen.moved.map_or((o.at, o.at), |(f, l)| (f.min(o.at), l.max(o.at))));
            if seen.open_file != o.open_file && seen.bytes.0 == 0 && seen.created {
                seen.open_file = o.open_file;
            }
            return;
        }
        self.seen.push(Seen {
            image: o.image,
            file: o.file,
            kind: o.kind,
            access: o.access,
            begun: o.at,
            created: o.created,
            truncated: o.truncated,
            executable: o.executable,
            uncertain: o.uncertain,
            nameless: o.nameless,
            open_file: o.open_file,
            path: o.path,
            moved: moves.then_some((o.at, o.at)),
            bytes: ByteCount(0),
            closed: None,
            first_state: o.state,
            last_state: o.state,
        });
        self.open.insert(key, self.seen.len() - 1);
    }

    fn summed(&mut self, o: &Summed) {
        let key = (o.image, o.file, o.access);
        let Some(index) = self.open.get(&key).copied() else { return };
        let seen = &mut self.seen[index];
        if o.calls > 0 {
            let (first, last) = seen.moved.unwrap_or((o.first, o.last));
            seen.moved = Some((first.min(o.first), last.max(o.last)));
        }
        seen.bytes.0 += o.bytes.0;
        if o.state != FileState::default() {
            seen.last_state = o.state;
        }
        if o.last_close {
            seen.closed = Some(o.at);
            self.open.remove(&key);
        }
    }
}

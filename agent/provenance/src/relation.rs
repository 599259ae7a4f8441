//! The relations, spelt as PROV-DM has them where it has them.

use std::sync::Arc;

use crate::activity::ActivityNo;
use crate::entity::EntityNo;
use crate::quantity::{BootNs, ByteCount};
use crate::role::Role;

/// In what way an entity was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Manner {
    /// Read.
    Read,
    /// Mapped into memory.
    Mapped,
    /// Executed.
    Executed,
    /// Its successor was made from it.
    Revised,
}

/// `used(activity, entity)`: content of the entity could have influenced the activity.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// Who.
    pub activity: ActivityNo,
    /// What.
    pub entity: EntityNo,
    /// As what.
    pub role: Role,
    /// In what way.
    pub manner: Manner,
    /// The name at the first use.
    pub path: Arc<str>,
    /// First use.
    pub first: BootNs,
    /// Last use, or a bound not before it.
    pub last: BootNs,
    /// Bytes.
    pub bytes: ByteCount,
    /// Not beyond doubt.
    pub possible: bool,
}

/// The activity read back what it had written itself: no use, for nothing came from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Reread {
    /// Who.
    pub activity: ActivityNo,
    /// What.
    pub entity: EntityNo,
    /// The name at the first read.
    pub path: Arc<str>,
}

/// `wasGeneratedBy(entity, activity)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Who.
    pub activity: ActivityNo,
    /// What.
    pub entity: EntityNo,
    /// As what.
    pub role: Role,
    /// The name at the first write.
    pub path: Arc<str>,
    /// Begin of the version, or first write to it.
    pub first: BootNs,
    /// Last write, or a bound not before it.
    pub last: BootNs,
    /// Bytes.
    pub bytes: ByteCount,
    /// Not beyond doubt.
    pub possible: bool,
}

/// What bytes went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// An unnamed pipe.
    Pipe,
    /// A FIFO.
    Fifo,
    /// Memory copied by fork.
    Fork,
    /// Memory shared by CLONE_VM.
    Memory,
}

impl Via {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Fifo => "fifo",
            Self::Fork => "inherited",
            Self::Memory => "shared_memory",
        }
    }
}

/// `wasInformedBy(informed, informant)`: bytes went from one to the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Informed {
    /// Who received.
    pub informed: ActivityNo,
    /// Who sent.
    pub informant: ActivityNo,
    /// Through what.
    pub via: Via,
    /// The sender's first and last byte.
    pub sent: (BootNs, BootNs),
    /// The receiver's first and last byte.
    pub received: (BootNs, BootNs),
    /// Bytes that the receiver took from all senders through it.
    pub bytes: ByteCount,
    /// Not beyond doubt.
    pub possible: bool,
}

/// A name given by rename or link; generates nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// By whom.
    pub activity: ActivityNo,
    /// To what.
    pub entity: EntityNo,
    /// When.
    pub at: BootNs,
    /// The name before.
    pub old_path: Arc<str>,
    /// The name given.
    pub new_path: Arc<str>,
    /// The old name stays too.
    pub linked: bool,
    /// Found by name only.
    pub inferred: bool,
}

/// A gap or a loss: something that was not seen, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// A word, as `socket`, `ring_full`.
    pub kind: Arc<str>,
    /// Whom it concerns, where that is one.
    pub activity: Option<ActivityNo>,
    /// How often.
    pub count: u64,
    /// What it means.
    pub why: Arc<str>,
}

//! File versions. It does not know who used them.

use std::sync::Arc;

use crate::activity::ActivityNo;
use crate::identity::FileKey;
use crate::observation::{FileKind, FileState};
use crate::quantity::BootNs;

/// Index of an entity in [`crate::lineage::Provenance::entities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityNo(pub u32);

/// How a version began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was there before.
    Found,
    /// The file was created.
    Created,
    /// The file was cut to nothing.
    Truncated,
    /// Content was added to or changed in the version before.
    Revised,
}

/// A file at a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The file.
    pub file: FileKey,
    /// What it is.
    pub kind: FileKind,
    /// Counts from 0 within what was observed; the store adds what it knew before.
    pub version: u32,
    /// How it began.
    pub origin: Origin,
    /// When it began; for a found one, when it was first met.
    pub begun: BootNs,
    /// The version that it revises.
    pub revision_of: Option<EntityNo>,
    /// Its names, in order; the first is the one at its first use.
    pub names: Vec<Name>,
    /// Its state when last seen at this version.
    pub state: FileState,
    /// Its state when first seen at this version.
    pub first_state: FileState,
    /// Who took its last name or replaced it, and when.
    pub invalidated: Option<(ActivityNo, BootNs)>,
    /// It had no name when it was met.
    pub nameless: bool,
}

/// A name of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The path as the host sees it.
    pub path: Arc<str>,
    /// Since when it is known.
    pub at: BootNs,
    /// Who gave it, where that was seen.
    pub by: Option<ActivityNo>,
}

impl Entity {
    /// The name that it had last; a nameless thing is called by its file key.
    pub fn last_path(&self) -> Arc<str> {
        self.names.last().map_or_else(|| Arc::from(self.file.to_string()), |n| n.path.clone())
    }

    /// Still there at the end of what was observed.
    pub fn exists(&self) -> bool {
        self.invalidated.is_none() && !self.nameless
    }
}

//! A workflow's spool, where the library has left the segments of its images: how far the workflow is, and what was in it. It
//! does not know what follows from that.

mod images;
mod known;
mod taken;
mod volumes;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use flowcept_wire::segment::NoSegment;

use crate::store::IN_SPOOL;
use images::Image;
pub use known::Known;
pub use taken::Taken;

/// The workflow's document in it, where `flowcept run` has made it.
pub const DOCUMENT: &str = "workflow.json";
/// Samples of the node, a log of their own, where `flowcept run` has taken some.
pub const TELEMETRY: &str = "telemetry.log";

/// How far a workflow in a spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// One of its processes is there, or it has hardly begun.
    Running,
    /// All have ended.
    Finished,
    /// A library with another version of the records has written it, of this number.
    OtherVersion(u64),
    /// Nothing in it says what ran.
    Damaged,
}

/// A workflow's spool from outside.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// See [`Status`].
    pub status: Status,
    /// Segments that can be read.
    pub segments: usize,
    /// What its files take on the disk.
    pub bytes: u64,
}

/// A program that has made its folder has its first segment long before this has passed.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// The spool of a workflow, read once.
pub struct Spool<'a> {
    folder: &'a Path,
    found: images::Found,
}

impl<'a> Spool<'a> {
    /// Reads what is there now.
    pub fn open(folder: &'a Path) -> Self {
        Self { folder, found: images::read(folder) }
    }

    /// How far the workflow is, of which something is known already.
    pub fn look(&self, known: &Known) -> Look {
        let found = &self.found;
        let status = if found.images.iter().any(Image::is_alive) || known.is_alive() {
            Status::Running
        } else if !found.images.is_empty() || !known.is_empty() {
            Status::Finished
        } else if let Some(version) = found.unreadable.iter().find_map(|(_, why)| match why {
            NoSegment::Version(version) => Some(*version),
            NoSegment::Foreign => None,
        }) {
            Status::OtherVersion(version)
        } else {
            let changed = fs::symlink_metadata(self.folder).and_then(|m| m.modified()).ok();
            let young = changed.and_then(|t| t.elapsed().ok()).is_some_and(|age| age < BEGINS_WITHIN);
            if young && found.unreadable.is_empty() { Status::Running } else { Status::Damaged }
        };
        Look { status, segments: found.images.len(), bytes: found.bytes }
    }

    /// Segments that a library with another version of the records has written.
    pub fn of_another_version(&self) -> u64 {
        let of_another = |(_, why): &&(u64, NoSegment)| matches!(why, NoSegment::Version(_));
        self.found.unreadable.iter().filter(of_another).map(|(count, _)| count).sum()
    }

    /// What was in it, where all its processes have ended; none where nothing says what ran.
    pub fn taken(self, known: &Known) -> Option<Taken<'_>> {
        // They may have gone on after they were read.
        let found = if images::is_final(self.folder, &self.found) { self.found } else { images::read(self.folder) };
        Taken::of(found, known)
    }
}

/// The folders of workflows in a spool, as far as they are the caller's own: what others say of themselves is theirs to take.
pub fn workflows(spool: &Path) -> Vec<std::path::PathBuf> {
    let own = nix::unistd::geteuid().as_raw();
    let entries = fs::read_dir(spool).into_iter().flatten().flatten();
    // Never through a link: only what is a folder itself.
    let folders = entries.filter(|e| e.metadata().is_ok_and(|m| m.is_dir() && m.uid() == own)).map(|e| e.path());
    folders.filter(|p| workflow_id(p).is_some()).collect()
}

/// `w-` and the workflow's id.
pub fn workflow_id(folder: &Path) -> Option<uuid::Uuid> {
    uuid::Uuid::parse_str(folder.file_name()?.to_str()?.strip_prefix(IN_SPOOL)?).ok()
}

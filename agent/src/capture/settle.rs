//! How a file looks that somebody has had mapped shared and writable, when the mapper has ended. It decides nothing.

use std::os::unix::fs::MetadataExt;

use flowcept_provenance::identity::{FileKey, ImageNo};
use flowcept_provenance::observation::{FileState, Observation, Settled};
use flowcept_provenance::quantity::{ByteCount, UnixNs};

/// Looks at the file, by the path that it had.
pub fn look(image: ImageNo, file: FileKey, path: &str) -> Observation {
    let metadata = std::fs::metadata(path).ok().filter(|m| m.ino() == file.inode);
    let time = |s: i64, n: i64| UnixNs(s as u64 * 1_000_000_000 + n as u64);
    let state = metadata.map(|m| FileState {
        size: ByteCount(m.size()),
        mtime: time(m.mtime(), m.mtime_nsec()),
        ctime: time(m.ctime(), m.ctime_nsec()),
        links: m.nlink() as u32,
    });
    // tmpfs does not change mtime for writes through a mapping (mm/shmem.c has no page_mkwrite).
    let untold = file.filesystem.kind() == Some("tmpfs");
    Observation::Settled(Settled { image, file, state, untold })
}

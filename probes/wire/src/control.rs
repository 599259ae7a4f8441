//! The control word of a run that the kernel's probes and the library watch together: how long the library may leave all to
//! the kernel. It does not know who renews it.
//!
//! A file in the workflow's spool, whose path FLOWCEPT_SPOOL names. The tracer moves [`Control::until`] on as long as it
//! lives; once that has passed, whatever became of the tracer, the library records.

use crate::header::VERSION;

/// What the file begins with.
pub const MAGIC: [u8; 8] = *b"flowctl\n";
/// What it is called.
pub const NAME: &str = "control";
/// For [`Control::until`]: the kernel has seen all that there is to see of the run.
pub const FOR_GOOD: u64 = u64::MAX;

/// The file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`] of the tracer; a library of another one takes no notice of it, and records.
    pub version: u64,
    /// The lease: the library says nothing until then, in nanoseconds of CLOCK_BOOTTIME.
    pub until: u64,
}

impl Control {
    /// A lease until then.
    pub fn new(until: u64) -> Self {
        Self { magic: MAGIC, version: u64::from(VERSION), until }
    }

    /// Whether a library of this version is spoken to.
    pub fn is_ours(&self) -> bool {
        self.magic == MAGIC && self.version == u64::from(VERSION)
    }

    /// As it lies in the file.
    pub fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..16].copy_from_slice(&self.version.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.until.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_word_of_another_version_is_not_ours() {
        let ours = Control::new(7);
        assert!(ours.is_ours());
        assert!(!Control { version: u64::from(VERSION) + 1, ..ours }.is_ours());
        assert!(!Control { magic: *b"flowseg\n", ..ours }.is_ours());
        assert_eq!(ours.bytes()[core::mem::offset_of!(Control, until)..], 7_u64.to_ne_bytes());
        assert_eq!(size_of::<Control>(), ours.bytes().len());
    }
}

//! What every record begins with. It knows no kind by its content.

/// Version of all layouts in this crate; raised by any change of layout or meaning.
pub const VERSION: u16 = 1;

/// The kinds of records, as `Header::kind` has them.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`crate::process::Forked`]
    Forked = 1,
    /// [`crate::process::Execed`]
    Execed = 2,
    /// [`crate::process::ExecFailed`]
    ExecFailed = 3,
    /// [`crate::process::Ended`]
    Ended = 4,
    /// [`crate::process::Freed`]
    Freed = 5,
    /// [`crate::file::Touched`]
    Touched = 6,
    /// [`crate::file::Summed`]
    Summed = 7,
    /// [`crate::file::Named`]
    Named = 8,
    /// [`crate::gap::Unseen`]
    Unseen = 9,
    /// [`crate::library::Began`]
    Began = 16,
    /// [`crate::library::Used`]
    Used = 17,
    /// [`crate::library::Moved`]
    Moved = 18,
    /// [`crate::library::Renamed`]
    Renamed = 19,
    /// [`crate::library::Started`]
    Started = 20,
    /// [`crate::library::Waited`]
    Waited = 21,
    /// [`crate::library::Exited`]
    Exited = 22,
}

/// Begins every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`Kind`].
    pub kind: u16,
    /// [`VERSION`] of the writer.
    pub version: u16,
    /// Bytes of the whole record, header and text included.
    pub length: u32,
    /// The writer's number of the program image that did it; unique while the probes are loaded.
    pub image: u64,
    /// When, in nanoseconds of CLOCK_BOOTTIME: causes are stamped early, effects late.
    pub at: u64,
}

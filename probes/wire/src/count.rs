//! The counters that the kernel keeps a CPU: what the books of a workflow are balanced from. It does not know who adds them up.

/// Number of counters in the per-CPU array.
pub const COUNTERS: u32 = 32;
/// `WRITTEN + kind`: records of that kind that went into the ring.
pub const WRITTEN: u32 = 0;
/// `DROPPED + kind`: records of that kind for which the ring had no room.
pub const DROPPED: u32 = 10;
/// Sums told call by call because their map was full.
pub const SUMS_FULL: u32 = 20;
/// Forks whose child could not be given task storage.
pub const STORAGE_FAILED: u32 = 21;
/// Paths with more levels or bytes than the walk takes.
pub const PATHS_CUT: u32 = 22;
/// Calls whose file could not be decided beyond doubt.
pub const UNDECIDED: u32 = 23;
/// Processes forked inside the workflow, counted before anything can be lost.
pub const PROCESSES_FORKED: u32 = 24;
/// Processes of the workflow that ended.
pub const PROCESSES_ENDED: u32 = 25;
/// Names that unlink, rename or link took and that were not found in the directory's cache.
pub const NAMES_UNRESOLVED: u32 = 26;

//! Numbers with their unit. No arithmetic that could mix two of them.

use std::fmt;

/// Nanoseconds of CLOCK_BOOTTIME: comparable within one boot of one host only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNs(pub u64);

impl BootNs {
    /// Later than everything.
    pub const END: Self = Self(u64::MAX);
}

/// Nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNs(pub u64);

impl UnixNs {
    /// Seconds since 1970 as Flowcept's fields have them; exact to a quarter of a microsecond.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

/// Nanoseconds of a duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// A process id in the initial pid namespace: for people, never an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! The clocks of this host. It converts nothing by itself.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds of CLOCK_BOOTTIME.
pub fn boot_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    time.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// `/proc/sys/kernel/random/boot_id`, new at each boot.
pub fn boot_id() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).map_or(0, |u| u.as_u128())
}

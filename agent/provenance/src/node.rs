//! The node as a whole at one moment, as /proc tells it. It does not know who asked.

use crate::quantity::{BootNs, ByteCount};

/// Time of CPUs since boot, in ticks of 10 ms: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
/// (proc_stat(5)).
pub type CpuTimes = [u64; 10];

/// What a device has done since boot: reads, writes, bytes read, bytes written, ms of reads, ms of writes, merged reads, merged
/// writes, ms in which it was busy (Documentation/admin-guide/iostats.rst).
pub type DiskCounters = [u64; 9];

/// What went through an interface since boot: bytes sent, bytes received, packets sent, packets received, errors received,
/// errors sent, drops received, drops sent (proc_pid_net(5)).
pub type NetworkCounters = [u64; 8];

/// One sample. What was not asked for is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was whole.
    pub at: BootNs,
    /// All CPUs together.
    pub cpu: Option<CpuTimes>,
    /// Each CPU.
    pub each_cpu: Vec<CpuTimes>,
    /// Memory and swap.
    pub memory: Option<Memory>,
    /// The root filesystem and the disks.
    pub disk: Option<Disk>,
    /// The interfaces of whoever asked, but for those through which nothing ever went.
    pub network: Option<Vec<(Box<str>, NetworkCounters)>>,
}

/// See [`Sample::memory`], by /proc/meminfo's names and psutil's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `MemTotal`.
    pub total: ByteCount,
    /// `MemAvailable`.
    pub available: ByteCount,
    /// `MemFree`.
    pub free: ByteCount,
    /// `Active`.
    pub active: ByteCount,
    /// `Inactive`.
    pub inactive: ByteCount,
    /// `Buffers`.
    pub buffers: ByteCount,
    /// `Cached` and `SReclaimable`.
    pub cached: ByteCount,
    /// `Shmem`.
    pub shared: ByteCount,
    /// `Slab`.
    pub slab: ByteCount,
    /// `SwapTotal`.
    pub swap_total: ByteCount,
    /// `SwapFree`.
    pub swap_free: ByteCount,
    /// Swapped in since boot.
    pub swapped_in: ByteCount,
    /// Swapped out since boot.
    pub swapped_out: ByteCount,
}

/// See [`Sample::disk`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Size of the root filesystem.
    pub total: ByteCount,
    /// What is used of it.
    pub used: ByteCount,
    /// What a user can still use.
    pub free: ByteCount,
    /// Disks and partitions that have ever done something; a partition's work is its disk's, too.
    pub devices: Vec<Device>,
}

/// A disk or a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name, as `vda1`.
    pub name: Box<str>,
    /// It is no part of another.
    pub is_whole: bool,
    /// What it has done.
    pub counters: DiskCounters,
}

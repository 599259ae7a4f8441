//! What this host can do, as found: facts only. It decides nothing.

use std::fs;

/// Facts about the running kernel and about us on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Effective user id is 0.
    pub root: bool,
    /// The effective capabilities, as the bits of capabilities(7).
    pub capabilities: u64,
    /// `/sys/kernel/btf/vmlinux` is there.
    pub btf: bool,
    /// Kernel lockdown, as `/sys/kernel/security/lockdown` marks it; empty where it can't be read.
    pub lockdown: String,
    /// aya's own probing: programs of type tracing are known to the kernel; absent where it was not asked.
    pub tracing: Option<bool>,
    /// aya's own probing: ring buffers.
    pub ring_buffer: Option<bool>,
    /// aya's own probing: task storage.
    pub task_storage: Option<bool>,
}

/// capabilities(7).
pub const CAP_BPF: u64 = 1 << 39;
/// capabilities(7).
pub const CAP_PERFMON: u64 = 1 << 38;
/// capabilities(7).
pub const CAP_SYS_ADMIN: u64 = 1 << 21;

impl Facts {
    /// Looks, and asks aya to try each kind of program and map, which takes some 20 ms.
    pub fn probed() -> Self {
        Self {
            tracing: aya::sys::is_program_supported(aya::programs::ProgramType::Tracing).ok(),
            ring_buffer: aya::sys::is_map_supported(aya::maps::MapType::RingBuf).ok(),
            task_storage: aya::sys::is_map_supported(aya::maps::MapType::TaskStorage).ok(),
            ..Self::find()
        }
    }

    /// Looks only.
    pub fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let field =
            |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_string();
        let lockdown = read("/sys/kernel/security/lockdown");
        Self {
            release: read("/proc/sys/kernel/osrelease").trim().to_string(),
            root: field("Uid:").split_whitespace().nth(1) == Some("0"),
            capabilities: u64::from_str_radix(&field("CapEff:"), 16).unwrap_or(0),
            btf: fs::metadata("/sys/kernel/btf/vmlinux").is_ok(),
            lockdown: lockdown
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'))
                .map_or_else(String::new, |(mode, _)| mode.to_string()),
            tracing: None,
            ring_buffer: None,
            task_storage: None,
        }
    }

    /// Whether BPF programs may be loaded at all.
    pub fn may_load(&self) -> bool {
        self.capabilities & CAP_SYS_ADMIN != 0 || self.capabilities & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
    }
}

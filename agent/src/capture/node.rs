//! The node as a whole, from /proc: what Flowcept's telemetry says of it, in its numbers. It does not know of tasks.
//!
//! Names and sums are psutil's (7.2), which Flowcept asks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use flowcept_provenance::node::{CpuTimes, Device, Disk, Memory, Sample};
use flowcept_provenance::quantity::{BootNs, ByteCount};

use super::clock;
use crate::settings::Settings;

/// A sector of /proc/diskstats, whatever the device's own is.
const SECTOR: u64 = 512;
/// Pages of /proc/vmstat, as psutil takes them.
const PAGE: u64 = 4096;
/// Between two samples passes as much time at least, and as much at most is waited for one: what many short tasks cost is bounded by
/// that, and in a long run a thousandth of its time so far, so that not all of its log is samples.
const APART: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What of the node is asked for: `telemetry_capture` of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// All CPUs together.
    pub cpu: bool,
    /// Each CPU.
    pub each_cpu: bool,
    /// Memory and swap.
    pub memory: bool,
    /// Disks.
    pub disk: bool,
    /// Network interfaces.
    pub network: bool,
}

impl Parts {
    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Those of the settings.
    pub fn of(settings: &Settings) -> Self {
        let wants = |name| wants(settings, name);
        Self {
            cpu: wants("cpu"),
            each_cpu: wants("per_cpu"),
            memory: wants("mem"),
            disk: wants("disk"),
            network: wants("network"),
        }
    }
}

/// Whether the settings ask for a kind of telemetry, as `cpu`.
pub fn wants(settings: &Settings, kind: &str) -> bool {
    settings.is("telemetry_capture.enabled") && settings.is(&format!("telemetry_capture.{kind}"))
}

/// A file of /proc that is read again and again.
#[derive(Debug)]
struct Source(Option<File>);

impl Source {
    fn of(path: &str, is_wanted: bool) -> Self {
        Self(if is_wanted { File::open(path).ok() } else { None })
    }

    /// What it says now, in `buffer`; none where it was not opened.
    fn text<'a>(&self, buffer: &'a mut Vec<u8>) -> Option<&'a str> {
        let file = self.0.as_ref()?;
        let mut length = 0;
        loop {
            if buffer.len() - length < 4096 {
                buffer.resize(buffer.len() + (16 << 10), 0);
            }
            match file.read_at(&mut buffer[length..], length as u64).ok()? {
                0 => break,
                count => length += count,
            }
        }
        std::str::from_utf8(&buffer[..length]).ok()
    }
}

/// Takes samples, where any are asked for.
#[derive(Debug)]
pub struct Sampler {
    parts: Parts,
    stat: Source,
    meminfo: Source,
    vmstat: Source,
    diskstats: Source,
    network: Source,
    /// Disks that are no part of another.
    whole: HashSet<String>,
    buffer: Vec<u8>,
    begun: Instant,
    last: Option<Instant>,
    /// Something has begun or ended since the last one.
    is_due: bool,
}

impl Sampler {
    /// Takes these parts.
    pub fn new(parts: Parts) -> Self {
        let names = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        Self {
            parts,
            stat: Source::of("/proc/stat", parts.cpu || parts.each_cpu),
            meminfo: Source::of("/proc/meminfo", parts.memory),
            vmstat: Source::of("/proc/vmstat", parts.memory),
            diskstats: Source::of("/proc/diskstats", parts.disk),
            network: Source::of("/proc/self/net/dev", parts.network),
            whole: names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
            buffer: Vec::new(),
            begun: Instant::now(),
            last: None,
            is_due: !parts.is_none(),
        }
    }

    /// Something has begun or ended: the next sample is its.
    pub fn ask(&mut self) {
        self.is_due = !self.parts.is_none();
    }

    /// How long after one sample the next can be.
    pub fn apart(&self) -> Duration {
        (self.begun.elapsed() / 1000).clamp(APART.0, APART.1)
    }

    /// A sample, where one is due and the last one is not just taken.
    pub fn due(&mut self) -> Option<Sample> {
        (self.is_due && self.last.is_none_or(|last| last.elapsed() >= self.apart())).then(|| self.sample())
    }

    /// A sample for what the last one missed.
    pub fn rest(&mut self) -> Option<Sample> {
        self.is_due.then(|| self.sample())
    }

    /// How the node is now.
    pub fn sample(&mut self) -> Sample {
        (self.last, self.is_due) = (Some(Instant::now()), false);
        let (parts, buffer) = (self.parts, &mut self.buffer);
        let mut sample = Sample::default();
        if let Some(text) = self.stat.text(buffer) {
            let mut cpus = text.lines().map_while(cpu_times);
            sample.cpu = cpus.next().filter(|_| parts.cpu);
            sample.each_cpu = if parts.each_cpu { cpus.collect() } else { Vec::new() };
        }
        sample.memory = self.meminfo.text(buffer).map(memory);
        // That has many lines, and without swap nothing to say.
        if let Some(memory) = sample.memory.as_mut().filter(|memory| memory.swap_total.0 > 0)
            && let Some(text) = self.vmstat.text(buffer)
        {
            let pages = |name| ByteCount(number_of(text, name) * PAGE);
            (memory.swapped_in, memory.swapped_out) = (pages("pswpin "), pages("pswpout "));
        }
        sample.disk = self.diskstats.text(buffer).map(|text| disk(text, &self.whole));
        sample.network = self.network.text(buffer).map(|text| text.lines().filter_map(interface).collect());
        sample.at = BootNs(clock::boot_ns());
        sample
    }
}

fn number_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// So many numbers of a line, from one of its words on; what an older kernel lacks is 0.
fn numbers<const N: usize>(line: &str, from: usize) -> [u64; N] {
    let mut words = line.split_ascii_whitespace().skip(from);
    std::array::from_fn(|_| words.next().and_then(|word| word.parse().ok()).unwrap_or(0))
}

/// `cpu  1 2 …`, `cpu0 1 2 …`: they are the first lines.
fn cpu_times(line: &str) -> Option<CpuTimes> {
    line.starts_with("cpu").then(|| numbers(line, 1))
}

fn memory(text: &str) -> Memory {
    let mut memory = Memory::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = ByteCount(numbers::<1>(value, 0)[0] * 1024);
        match name {
            "MemTotal" => memory.total = value,
            "MemAvailable" => memory.available = value,
            "MemFree" => memory.free = value,
            "Active" => memory.active = value,
            "Inactive" => memory.inactive = value,
            "Buffers" => memory.buffers = value,
            "Cached" | "SReclaimable" => memory.cached.0 += value.0,
            "Shmem" => memory.shared = value,
            "Slab" => memory.slab = value,
            "SwapTotal" => memory.swap_total = value,
            "SwapFree" => memory.swap_free = value,
            _ => {}
        }
    }
    memory
}

fn disk(text: &str, whole: &HashSet<String>) -> Disk {
    let devices = text.lines().filter_map(|line| {
        let name = line.split_ascii_whitespace().nth(2)?;
        let [reads, merged_reads, read, read_ms, writes, merged_writes, written, write_ms, _, busy_ms] =
            numbers(line, 3);
        let counters =
            [reads, writes, read * SECTOR, written * SECTOR, read_ms, write_ms, merged_reads, merged_writes, busy_ms];
        // As /sys has it, where a name has a slash.
        let is_whole = whole.contains(&name.replace('/', "!"));
        (counters != [0; 9]).then(|| Device { name: name.into(), is_whole, counters })
    });
    let devices = devices.collect();
    let Ok(root) = nix::sys::statvfs::statvfs("/") else { return Disk { devices, ..Disk::default() } };
    let bytes = |blocks: u64| ByteCount(blocks.saturating_mul(root.fragment_size()));
    let used = bytes(root.blocks().saturating_sub(root.blocks_free()));
    Disk { total: bytes(root.blocks()), used, free: bytes(root.blocks_available()), devices }
}

/// `  eth0: …`: first what was received: bytes, packets, errors, drops and four more; then what was sent.
fn interface(line: &str) -> Option<(Box<str>, [u64; 8])> {
    let (name, counters) = line.split_once(':')?;
    let [got, packets_got, errors_got, dropped_got, _, _, _, _, sent, packets_sent, errors_sent, dropped_sent] =
        numbers(counters, 0);
    let counters = [sent, got, packets_sent, packets_got, errors_got, errors_sent, dropped_got, dropped_sent];
    (counters != [0; 8]).then(|| (name.trim().into(), counters))
}

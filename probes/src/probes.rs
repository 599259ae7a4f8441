//! The loaded and attached probes of one tracer. It does not interpret what it reads.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use flowcept_wire::{count, file};
use libbpf_rs::{
    Link, Map, MapCore, MapFlags, MapMut, Object, ObjectBuilder, ProgramInput, RingBuffer, RingBufferBuilder,
};

use crate::error::Error;
use crate::plan::Plan;

/// The object, at an alignment that libbpf's ELF reader is happy with.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/tracepoint.bpf.o")));

/// Bytes in the ring from which the reader is woken.
const WAKE_BYTES: u64 = 1 << 20;

/// A set of probes. Dropping it detaches them, in about a millisecond.
pub struct Probes {
    links: Vec<Link>,
    object: Object,
}

/// The kernel's counters ([`flowcept_wire::count`]), summed over CPUs.
pub type Counters = [u64; count::COUNTERS as usize];

/// What an image did with a file in one direction, as left in the map of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Bytes moved.
    pub bytes: u64,
    /// Calls.
    pub calls: u64,
    /// First use, ns of CLOCK_BOOTTIME.
    pub first: u64,
    /// Last use.
    pub last: u64,
    /// The open file, 0 where there were several.
    pub open_file: u64,
}

impl Probes {
    /// Loads and attaches what the plan says.
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        quiet();
        let mut open = ObjectBuilder::default().open_memory(&OBJECT.0).map_err(Error::Load)?;
        for mut map in open.maps_mut() {
            if map.name() == "ring" {
                map.set_max_entries(plan.ring_bytes).map_err(Error::Load)?;
            }
            if map.name() == ".rodata.settings" {
                let settings = [
                    &WAKE_BYTES.min(u64::from(plan.ring_bytes) / 4).to_ne_bytes()[..],
                    &plan.at_entry,
                    &plan.at_return,
                ];
                let settings = settings.concat();
                let value = map.initial_value_mut().ok_or(Error::Lacks("the section .rodata.settings"))?;
                if value.len() != settings.len() {
                    return Err(Error::Lacks("settings of this layout"));
                }
                value.copy_from_slice(&settings);
            }
        }
        for mut program in open.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            program.set_autoload(!plan.without.contains(&name));
        }
        let object = open.load().map_err(Error::Load)?;
        let mut probes = Self { links: Vec::new(), object };
        probes.set_tick()?;
        for program in probes.object.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            if name == "read_clock" || plan.without.contains(&name) {
                continue;
            }
            probes.links.push(program.attach().map_err(|e| Error::Attach(name, e))?);
        }
        Ok(probes)
    }

    fn map(&self, name: &'static str) -> Result<Map<'_>, Error> {
        self.object.maps().find(|m| m.name() == name).ok_or(Error::Lacks(name))
    }

    fn map_mut(&mut self, name: &'static str) -> Result<MapMut<'_>, Error> {
        self.object.maps_mut().find(|m| m.name() == name).ok_or(Error::Lacks(name))
    }

    /// Tells the kernel side how long a tick is. jiffies begin at -300 s (include/linux/jiffies.h, INITIAL_JIFFIES), so
    /// that one look at them beside the clock tells their rate.
    fn set_tick(&mut self) -> Result<(), Error> {
        let program = self.object.progs_mut().find(|p| p.name() == "read_clock").ok_or(Error::Lacks("read_clock"))?;
        program.test_run(ProgramInput::default()).map_err(Error::Load)?;
        let clock = self.map_mut(".data.clock")?;
        let key = 0_u32.to_ne_bytes();
        let value = clock.lookup(&key, MapFlags::ANY).map_err(|e| Error::Map("clock", e))?;
        let value = value.ok_or(Error::Lacks("the section .data.clock"))?;
        let number =
            |i: usize| value.get(i * 8..i * 8 + 8).map_or(0, |b| u64::from_ne_bytes(b.try_into().unwrap_or_default()));
        let tick = 1_000_000_000 / ticks_per_second(number(0), number(1));
        let new = [number(0), number(1), tick].map(u64::to_ne_bytes).concat();
        clock.update(&key, &new, MapFlags::ANY).map_err(|e| Error::Map("clock", e))
    }

    /// From now on the process `pid` is traced as program image `image`, and so is all that it forks. It must have one
    /// thread.
    pub fn watch(&mut self, pid: u32, image: u64) -> Result<(), Error> {
        let pidfd = pidfd_open(pid).map_err(|e| Error::Watch(pid, e))?;
        let tasks = self.map_mut("tasks")?;
        let mut value = vec![0; tasks.value_size() as usize];
        value[..8].copy_from_slice(&image.to_ne_bytes());
        tasks.update(&pidfd.as_raw_fd().to_ne_bytes(), &value, MapFlags::ANY).map_err(|e| Error::Map("tasks", e))
    }

    /// A reader of the ring; `take` sees each record in the order of the ring.
    pub fn ring<'a, F: FnMut(&[u8]) + 'a>(&self, mut take: F) -> Result<Ring<'a>, Error> {
        let mut builder = RingBufferBuilder::new();
        let map = self.map("ring")?;
        builder
            .add(&map, move |record| {
                take(record);
                0
            })
            .map_err(Error::Ring)?;
        Ok(Ring(builder.build().map_err(Error::Ring)?))
    }

    /// The sums that an image has left in the map, taken out of it.
    pub fn take_sum(&self, image: u64, of: file::File, access: u32) -> Result<Option<Sum>, Error> {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&image.to_ne_bytes());
        key[8..16].copy_from_slice(&of.inode.to_ne_bytes());
        key[16..20].copy_from_slice(&of.device.to_ne_bytes());
        key[20..24].copy_from_slice(&of.generation.to_ne_bytes());
        key[24..28].copy_from_slice(&access.to_ne_bytes());
        let value = self.map("sums")?.lookup_and_delete(&key).map_err(|e| Error::Map("sums", e))?;
        Ok(value.map(|v| {
            let number =
                |i: usize| v.get(i * 8..i * 8 + 8).map_or(0, |b| u64::from_ne_bytes(b.try_into().unwrap_or_default()));
            Sum { bytes: number(0), calls: number(1), first: number(2), last: number(3), open_file: number(4) }
        }))
    }

    /// The counters as they stand.
    pub fn counters(&self) -> Result<Counters, Error> {
        let map = self.map("counters")?;
        let mut sums = Counters::default();
        for (i, sum) in (0_u32..).zip(sums.iter_mut()) {
            let cpus = map.lookup_percpu(&i.to_ne_bytes(), MapFlags::ANY).map_err(|e| Error::Map("counters", e))?;
            *sum = cpus
                .iter()
                .flatten()
                .map(|v| v.get(..8).map_or(0, |b| u64::from_ne_bytes(b.try_into().unwrap_or_default())))
                .sum();
        }
        Ok(sums)
    }
}

/// The rate that fits both readings best; the kernel knows these four.
fn ticks_per_second(ticks: u64, monotonic_ns: u64) -> u64 {
    let seconds = monotonic_ns as f64 / 1e9;
    let off = |rate: u64| {
        let since_boot = ticks.wrapping_sub((1 << 32) - 300 * rate) as f64;
        (since_boot / rate as f64 - seconds).abs()
    };
    [100, 250, 300, 1000].into_iter().min_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(1000)
}

/// The reader's side of the ring.
pub struct Ring<'a>(RingBuffer<'a>);

impl Ring<'_> {
    /// Reads what is there; waits at most `timeout` for the kernel to say that much has come.
    pub fn poll(&self, timeout: Duration) -> Result<(), Error> {
        // A signal is no error: what is there is read all the same.
        if let Err(e) = self.0.poll(timeout)
            && e.kind() != libbpf_rs::ErrorKind::Interrupted
        {
            return Err(Error::Ring(e));
        }
        self.0.consume().map_err(Error::Ring)
    }
}

/// libbpf's own lines on stderr belong to nobody: what matters comes back as an error.
fn quiet() {
    libbpf_rs::set_print(None);
}

fn pidfd_open(pid: u32) -> std::io::Result<File> {
    #[expect(unsafe_code, reason = "pidfd_open(2) has no wrapper in libc")]
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(std::io::Error::last_os_error)?;
    #[expect(unsafe_code, reason = "the descriptor comes from a raw call")]
    // SAFETY: `fd` was just returned by the kernel and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_ticks_is_found_from_one_look() {
        for rate in [100, 250, 300, 1000] {
            for seconds in [1_u64, 3_600, 86_400 * 90] {
                let ticks = (1 << 32) - 300 * rate + seconds * rate;
                assert_eq!(ticks_per_second(ticks, seconds * 1_000_000_000), rate, "after {seconds} s");
            }
        }
    }
}
